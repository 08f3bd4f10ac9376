/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A TAP interface of the kernel: made, taken over, adopted or fetched from a helper program; set
 * up, changed and described. tap.c moves frames.
 *
 * The kernel's contract is Documentation/networking/tuntap.rst and the header linux/if_tun.h. Every
 * descriptor is non-blocking and close-on-exec. All functions may wait for the kernel's own lock of
 * network configuration; none is for workers.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "port/interface.h"
#include "port/tap_config.h"

struct tap_wish {
	struct tap_config config; /* `addresses` apart, which are here: */
	uint32_t address_count;
	struct interface_address addresses[TAP_ADDRESSES_MAX];
	uint32_t mtu;             /* 0: as the interface has it */
	struct param_mac mac;
	bool mtu_left, mac_left;  /* it was given before, and is not any more */
};

struct tap_facts {
	char interface[IFNAMSIZ]; /* when it was opened */
	const char *origin;       /* "made", "taken over", "descriptors", "helper" */
	struct interface_facts first; /* MTU and address before we set any */
	struct interface_facts found; /* and behind that */
	bool persists;            /* as far as we have said so */
	uint32_t header;          /* bytes of the offload header before each frame: 0, 10, 12 */
	bool uso;                 /* the kernel knows of USO, and `offloads` has it on */
	bool swap;                /* its fields have the other byte order than this host */
};

/*
 * Opens `count` queues of the interface, sets up what is wished for and says what became of it.
 * With config.place.fds they are in fds already and are taken over. On failure nothing is left: no
 * descriptor (fds are -1), no process, and no interface that was not there before. Returns 0, or
 * -errno with err filled.
 */
int tap_device_open(const struct tap_wish *wish, int *fds, uint16_t count, struct tap_facts *facts,
		    struct error *err);

/* Runs the down script and closes all queues. A script that fails is logged. fds become -1. */
void tap_device_close(const struct tap_wish *wish, int *fds, uint16_t count);

/*
 * Changes what can change on open queues: offloads, sndbuf, steering, which queues are active, MTU
 * and MAC; *facts follow. Returns 0, or -errno with err filled, the rest being done all the same.
 */
int tap_device_change(const struct tap_wish *wish, const int *fds, uint16_t count,
		      struct tap_facts *facts, struct error *err);

/* Would tap_device_change find what it needs? Returns 0, or -errno with err filled. */
int tap_device_check(const struct tap_config *config, uint32_t mtu, struct error *err);

/* The MTU that the interface has now, wherever it is; 0: unknown. */
uint32_t tap_device_mtu(int fd);

/* Is the interface still there, wherever it may have been moved? Its name now goes to `name`. */
bool tap_device_is_there(int fd, char name[IFNAMSIZ]);
