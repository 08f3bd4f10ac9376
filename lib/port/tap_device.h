/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A TAP interface of the kernel: made or taken over, set up, and described. tap.c moves frames.
 *
 * The kernel's contract is Documentation/networking/tuntap.rst and the header linux/if_tun.h. Every
 * descriptor speaks the 10-byte virtio-net header, is non-blocking and close-on-exec. All functions
 * may wait for the kernel's own lock of network configuration; none is for workers.
 */
#pragma once

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "port/offloads.h"
#include "rpc/param.h"

#define TAP_ADDRESSES_MAX 16

struct tap_address {
	uint8_t family; /* AF_INET, AF_INET6 */
	uint8_t prefix; /* bits */
	uint8_t bytes[sizeof(struct in6_addr)];
};

struct tap_wish {
	char interface[IFNAMSIZ]; /* "": the kernel chooses */
	bool persist;             /* it stays when the last descriptor is closed */
	uint32_t mtu;             /* 0: as the interface has it */
	struct param_mac mac;
	struct offload_switches offloads;
	uint32_t address_count;
	struct tap_address addresses[TAP_ADDRESSES_MAX];
};

struct tap_facts {
	char interface[IFNAMSIZ];
	uint32_t mtu;
	uint8_t mac[6];
	bool made; /* by us: there was none of this name */
};

/* "192.0.2.1/24" or "2001:db8::1/64". Returns 0 or -EINVAL. */
int tap_address_parse(const char *text, struct tap_address *address);

/*
 * Opens `count` queues of the interface, brings it up and says what became of it. On failure
 * nothing is left: no descriptor, and no interface that was not there before. Returns 0, or -errno
 * with err filled.
 */
int tap_device_open(const struct tap_wish *wish, int *fds, uint16_t count, struct tap_facts *facts,
		    struct error *err);

/*
 * Tells the kernel which offloads may come from it; UFO only where it knows of it. Returns 0 or
 * -errno.
 */
int tap_device_offload(int fd, const struct offload_switches *offloads);

/* Sets what is given of MTU and MAC. Returns 0, or -errno with err filled. */
int tap_device_set(const char *interface, uint32_t mtu, const struct param_mac *mac,
		   struct error *err);

/* Is the interface still there, wherever it may have been moved? Its name now goes to `name`. */
bool tap_device_is_there(int fd, char name[IFNAMSIZ]);
