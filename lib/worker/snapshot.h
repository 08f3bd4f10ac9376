/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The snapshot: the immutable view of ports and queues that the workers use.
 *
 * The control thread builds one off to the side, publishes it with one release store, and retires
 * the old one. Workers load it once an iteration. Nothing in it changes afterwards but what its
 * pointers lead to (ports' counters, ages in the fdb).
 */
#pragma once

#include <stdint.h>

#include "bridge/forward.h"
#include "port/port.h"

/* The queues whose rx side one worker polls. */
struct snapshot_worker {
	uint16_t queue_count;
	struct port_queue **queues;
};

struct snapshot {
	struct forward_table table;
	uint16_t port_count;  /* slots, as in table */
	struct port **ports;  /* by number; NULL where a number is free */
	uint16_t worker_count;
	struct snapshot_worker workers[];
};

/*
 * Builds the view of `ports` (`count` slots by number, NULL where free; borrowed) for `workers`
 * workers, over whom the queues are spread in turn. Returns NULL without memory. Control thread.
 */
struct snapshot *snapshot_new(struct port *const *ports, uint16_t count, uint16_t workers,
			      struct fdb *fdb);
void snapshot_free(struct snapshot *snapshot);
