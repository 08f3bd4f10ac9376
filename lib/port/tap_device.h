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
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "port/interface.h"
#include "port/offloads.h"
#include "rpc/param.h"

#define TAP_ADDRESSES_MAX 16

struct tap_wish {
	char interface[IFNAMSIZ]; /* "": the kernel chooses */
	bool persist;             /* it stays when the last descriptor is closed */
	uint32_t mtu;             /* 0: as the interface has it */
	struct param_mac mac;
	struct offload_switches offloads;
	uint32_t address_count;
	struct interface_address addresses[TAP_ADDRESSES_MAX];
};

struct tap_facts {
	char interface[IFNAMSIZ];
	struct interface_facts found;
	bool made; /* by us: there was none of this name */
};

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

/* Is the interface still there, wherever it may have been moved? Its name now goes to `name`. */
bool tap_device_is_there(int fd, char name[IFNAMSIZ]);
