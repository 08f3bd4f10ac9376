/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An interface of the host's kernel: its MTU, addresses and state, whatever made it. Of the network
 * namespace that the calling thread is in. All functions may wait for the kernel's own lock of
 * network configuration; none is for workers. They return 0, or -errno with err filled.
 *
 * Source: netdevice(7), rtnetlink(7).
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "rpc/param.h"

/* With which an interface is addressed: bytes and the bits of the network's prefix. */
struct interface_address {
	uint8_t family; /* AF_INET, AF_INET6 */
	uint8_t prefix; /* bits */
	uint8_t bytes[sizeof(struct in6_addr)];
};

struct interface_facts {
	uint32_t mtu;
	uint8_t mac[6];
};

/* For a parameter's row: 1 to 15 bytes, as the kernel takes names (dev_valid_name). */
int interface_check_name(const void *value, struct error *err);

/* "192.0.2.1/24" or "2001:db8::1/64". Returns 0 or -EINVAL. */
int interface_parse_address(const char *text, struct interface_address *address);

/* Sets what is given of MTU (0: as it is) and MAC. */
int interface_set(const char *interface, uint32_t mtu, const struct param_mac *mac,
		  struct error *err);

int interface_add_address(const char *interface, const struct interface_address *address,
			  struct error *err);

/* Makes it a port of this kernel bridge. */
int interface_join(const char *interface, const char *bridge, struct error *err);

int interface_bring_up(const char *interface, struct error *err);

/* How many queues of a TAP interface are open, by whomever; 0 where it is none, or unknown. */
uint32_t interface_tap_queues(const char *interface);

/* Does the kernel write packet information before the frames of a TAP interface? */
bool interface_tap_has_info(const char *interface);

/* What the interface has now. */
int interface_find(const char *interface, struct interface_facts *facts, struct error *err);

/*
 * Fills err with a sentence: what of the interface cannot be set, and why. field: the parameter
 * that asked for it, or NULL. Returns -errnum.
 */
int interface_refuse(const char *interface, const char *what, const char *field, int errnum,
		     struct error *err);
