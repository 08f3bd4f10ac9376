/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every type of port has and may change while it runs.
 *
 * Values: the model has those that are wanted, a port those that hold (port_set of port/port.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bridge/vlan.h"
#include "policy/guard.h"
#include "policy/limits.h"
#include "rpc/param.h"

#define PORT_NAME_SIZE 64

/* The MTU of a port: bytes behind the Ethernet header; VLAN tags do not count. */
#define PORT_MTU_MIN 68 /* RFC 791 */
#define PORT_MTU_MAX 65535

/* The most of port_settings.retry: what a worker may stand still for the others, now and then. */
#define PORT_RETRY_MAX 1000

/* One direction's limits. */
struct port_limits {
	struct limit_settings bandwidth; /* bits a second, burst in bytes */
	struct limit_settings packets;
	uint32_t excess;                 /* enum limit_excess */
};

/* One value for each class that a switch or a storm limit is set for: bridge/forward.h. */
struct port_flood {
	bool unknown, broadcast, multicast; /* is it sent to the port? */
};
struct port_storm {
	uint64_t unknown, broadcast, multicast; /* packets a second from the port; 0: any number */
};

/* What may wait of what goes to a port: bytes of memory for each worker, and ms for each frame. */
#define EGRESS_QUEUE_MIN 65536
#define EGRESS_QUEUE_MAX (16 << 20)
#define EGRESS_QUEUE_TIME_MAX 10000

struct port_queue_limits {
	uint32_t bytes;
	uint32_t time; /* ms */
};

/* Where copies of a port's frames go. */
struct port_mirror {
	char to[PORT_NAME_SIZE]; /* "": nowhere */
	uint32_t direction;      /* enum mirror_direction */
};
enum mirror_direction { MIRROR_IN, MIRROR_OUT, MIRROR_BOTH };

/* What every type of port has and may change while it runs. */
struct port_settings {
	bool enabled;          /* false: rings are kept, frames dropped as `disabled` */
	struct param_mac mac;  /* the address that lives behind the port */
	uint32_t mtu;          /* PORT_MTU_MIN to PORT_MTU_MAX, enforced towards the port */
	struct port_limits ingress, egress;
	struct port_queue_limits queue; /* egress: where its excess waits */
	uint32_t retry;        /* us that a burst may wait for room: worker/egress.h */
	struct guard *guard;   /* of what comes from the port; NULL: none; a port uses its own */
	struct vlan_settings vlan;
	bool isolated;         /* nothing passes between two isolated ports */
	bool learning;
	bool link_local;       /* see bridge/forward.h */
	struct port_flood flood;
	struct port_storm storm;
	uint32_t max_addresses; /* that are learned; 0: any number */
	struct port_mirror mirror;
};

/* Those of a port of which nothing is said: the largest MTU, no VLANs, no limits. */
extern const struct port_settings port_default_settings;

/* The MTU that was asked for; 0: none was, as the largest stands for none in particular. */
static inline uint32_t port_wanted_mtu(const struct port_settings *settings)
{
	return settings->mtu == PORT_MTU_MAX ? 0 : settings->mtu;
}
