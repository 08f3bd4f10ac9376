/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Forwarding: gives each frame of a burst a verdict and stages it by destination. It transmits
 * nothing, allocates nothing, and sees ports only as an array of facts (forward_port) that is part
 * of the snapshot.
 *
 * The burst is worked on in passes: first all keys are made and their buckets asked for, then all
 * lookups are done. Learning uses the table as it was at the start of the burst.
 *
 * Called by a worker on its own burst; the table is read-only, the fdb is read and its ages
 * refreshed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bridge/fdb.h"
#include "bridge/neighbours.h"
#include "bridge/vlan.h"
#include "frame/frame.h"
#include "policy/guard.h"
#include "policy/limiter.h"

/*
 * Why a frame goes to more than one port. Link-local groups (IEEE 802.1Q-2018, table 8-1: LACP,
 * LLDP, spanning trees) go from ports that ask for them to others that do, and nowhere else; the
 * address of PAUSE frames never does (IEEE 802.3, 31A).
 */
enum flood_class { FLOOD_UNKNOWN, FLOOD_BROADCAST, FLOOD_MULTICAST, FLOOD_LINK_LOCAL };

/* Of the classes: those that a storm limit may be set for. */
#define STORM_CLASSES 3

/* What forwarding must know of a port. Built by apply, immutable. */
struct forward_port {
	bool present;    /* the slot is in use */
	bool enabled;    /* false: what comes from it is dropped as `disabled` */
	bool learning;   /* source addresses are learned */
	bool isolated;   /* nothing goes from here to another isolated port */
	bool link_local; /* frames to link-local groups pass */
	struct vlan_membership vlan;
	struct guard *guard; /* what comes from the port must pass; NULL: none */
	struct limiter *storm; /* packets of STORM_CLASSES from the port; NULL: none is limited */
};

/* A port that frames may be flooded to. */
struct flood_target {
	uint16_t port;
	uint8_t classes; /* bits, by enum flood_class, of what it gets */
	bool isolated;
};

/* Part of the snapshot. Ports are indexed by number. */
struct forward_table {
	uint16_t port_count;
	const struct forward_port *ports;
	struct fdb *fdb;
	/* The ports that are no trunks, by VLAN: flood[first[vlan]] to before first[vlan + 1]. */
	const struct flood_target *flood;
	uint16_t first[VLAN_COUNT + 1];
	uint16_t trunk_count;
	const struct flood_target *trunks;
	const struct neighbours *neighbours; /* NULL: address resolution is flooded like all else */
};

/* Frames on their way to one port. */
struct stage {
	uint16_t count;
	struct charge charge; /* of all together, where it counts as many packets as frames */
	struct frame *frames[BURST_MAX];
};

/* The first ledger: each received frame gets one verdict. w: worker, r: anyone. */
struct rx_counters {
	uint64_t packets; /* = forwarded + flooded + all of dropped */
	uint64_t bytes;
	uint64_t segments;
	uint64_t forwarded;
	uint64_t flooded;
	uint64_t copies; /* of flooded frames */
	uint64_t suppressed; /* of forwarded: requests that went to one neighbour alone */
	uint64_t notifications;
	uint64_t throttled;     /* times that the port's limit began to hold frames back */
	uint64_t throttled_ns;  /* and for how long it did */
	uint64_t limited_bytes; /* of frames that it dropped */
	uint64_t dropped[DROP_COUNT];
};

/* A worker's own. */
struct forward {
	const struct forward_table *table;
	struct learner *learner;
	uint16_t now;           /* seconds, modulo 65,536 */
	uint16_t staged_count;  /* ports with a stage that is not empty */
	uint16_t *staged;       /* their numbers */
	struct stage *stages;   /* by port number, all empty between bursts */
};

/*
 * Decides on all frames of the burst, which came from port `from` and passed vnet_check or are
 * drops already, and counts them. Afterwards the stages name who gets what.
 */
void forward_burst(struct forward *forward, struct burst *burst, uint16_t from,
		   struct rx_counters *counters);
