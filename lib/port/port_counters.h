/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is counted of a port: one ledger for each direction, by worker and queue pair.
 */
#pragma once

#include <stdint.h>

#include "bridge/forward.h"
#include "frame/drop.h"

/*
 * The second ledger: each copy that is offered to a port gets one end, and so does each segment of
 * one that was cut for it: offered + cut = packets + queued + all of dropped. What never came to a
 * queue, or waits, is counted with the first one. w: a worker, r: anyone.
 */
struct tx_counters {
	uint64_t offered;
	uint64_t mirrored; /* of offered: copies of the frames of a mirrored port */
	uint64_t cut; /* frames that cutting made, beyond those that were cut */
	uint64_t packets;
	uint64_t bytes;
	uint64_t segments;
	uint64_t notifications;
	uint64_t retries; /* of tx_burst, for frames that had found no room */
	uint64_t queued;  /* frames that wait for the port's limits now: a gauge */
	uint64_t queued_bytes;  /* and the memory that they take: a gauge */
	uint64_t delayed;       /* frames that waited and went on */
	uint64_t throttled;     /* times that the limits began to hold frames back */
	uint64_t throttled_ns;  /* and for how long they did */
	uint64_t limited_bytes; /* of frames over the limits that were dropped */
	uint64_t dropped[DROP_COUNT];
};

/* What one worker counted of one queue pair. */
struct port_counters {
	struct rx_counters rx;
	struct tx_counters tx;
} __attribute__((aligned(64)));
