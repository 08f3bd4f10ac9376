/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The snapshot: the immutable view of ports and queues that the workers use.
 *
 * The control thread builds one off to the side, publishes it with one release store, and retires
 * the old one. Workers load it once an iteration. Nothing in it changes afterwards but which of its
 * own queues each worker finds active, and what its pointers lead to (ports' counters, ages in the
 * fdb).
 */
#pragma once

#include <stdint.h>

#include "bridge/forward.h"
#include "port/port.h"

/*
 * The queues whose rx side one worker polls; once published, the worker's own. It visits the active
 * ones in every round, of the idle ones those that were visited longest ago.
 */
struct snapshot_worker {
	uint16_t queue_count;
	uint16_t active;
	uint16_t credit; /* of visits of idle queues, in parts of IDLE_ROUNDS */
	struct port_queue **queues; /* the active ones; room for all */
	struct port_queue *idle_first, *idle_last; /* by their last visits, oldest first */
};

/* A port as egress and the workers see it. */
struct snapshot_port {
	struct port *port;    /* NULL: the number is free */
	uint32_t max_length;  /* of an untagged frame to it: MTU and Ethernet header */
	uint32_t retry;       /* us */
	uint16_t tags;        /* vlan_accepts of its membership */
	struct vlan_membership vlan;
	uint32_t vlans_set;   /* of the port */
	bool enabled;
	bool is_limited;      /* it has limits on the way out, or frames may wait for it */
	bool queues;          /* what is over these limits waits */
	uint8_t excess;       /* enum drop, why it is dropped if it does not */
	bool pauses;          /* what is over the limit on the way in waits */
	uint32_t queue_bytes; /* of what waits, for each worker */
	uint64_t queue_time;  /* ns */
	struct port_waiting *waiting; /* by worker; NULL: nothing ever waited */
	const struct snapshot_taps *taps; /* NULL: nobody watches the port */
};

/* Who watches a port: worker/watch.h. */
struct snapshot_taps {
	const struct capture_set *captures;     /* NULL: none */
	const struct snapshot_port *mirror_in;  /* gets what comes from the port; NULL: nobody */
	const struct snapshot_port *mirror_out; /* gets what is offered to it */
	struct snapshot_port views[2];          /* of the mirror's target, with the port's tags */
};

struct snapshot {
	struct forward_table table;
	uint16_t port_count;  /* slots, as in table */
	struct snapshot_port *ports; /* by number */
	struct vlan_set *trunks;     /* what the memberships of trunks point to */
	struct snapshot_taps *taps;  /* of the ports that are watched */
	uint16_t worker_count;
	struct snapshot_worker workers[];
};

/*
 * Builds the view of `ports` (`count` slots by number, NULL where free; borrowed) and of their
 * settings for `workers` workers. Each queue goes to its queue->worker, or to none. Returns NULL
 * without memory. Control thread.
 */
struct snapshot *snapshot_new(struct port *const *ports, uint16_t count, uint16_t workers,
			      struct fdb *fdb);
void snapshot_free(struct snapshot *snapshot);

/*
 * Has requests for known neighbours (bridge/neighbours.h) not be flooded in these VLANs. Before it
 * is published. Returns 0 or -ENOMEM. Control thread.
 */
int snapshot_suppress(struct snapshot *snapshot, const struct vlan_set *vlans);
