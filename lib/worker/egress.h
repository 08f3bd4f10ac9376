/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Egress: brings staged frames to their ports. It spreads flows over the receiver's queues, keeps
 * away from the receiver what is larger than its MTU, transmits, and closes the second ledger.
 *
 * A frame that needs what the receiver did not negotiate is adapted: its partial checksum is filled
 * (frame/checksum.h), or it is cut into segments (frame/segment.h), whose checksums stay partial
 * for a receiver that takes such, or it loses the mark that its checksum is good. They leave in
 * batches of at most BURST_MAX; what is left of a frame when the ring is full is not cut any more,
 * and a burst is not cut into more than 8,192 segments in all: the frames behind them are dropped
 * as `no_buffer`.
 *
 * Frames that find no room are dropped as `ring_full`, unless the port has a `retry`: then the
 * receiver is told at once of what it has got and asked again. The time counts from the first full
 * ring of the burst, whatever port it was, so that a burst to many slow ones waits no longer than
 * the longest of their times.
 */
#pragma once

#include "worker/worker.h"

/* A worker's memory for adapted frames, for free(); NULL without memory. Control thread. */
struct outgoing *outgoing_new(struct worker *worker);

/* Is the frame, or what it would be cut into, longer than this? VLAN tags do not count. Worker. */
bool egress_is_too_long(const struct frame *frame, uint32_t max_length);

/* Whatever is done for single bursts begins anew: time to retry, segments to cut. Worker. */
void egress_begin(struct worker *worker);

/*
 * Brings frames to a port, for worker/egress_queue.h: spreads, adapts and transmits. Uses the array
 * up. `counted`: they are in `offered` already. What was delivered is added to *delivered, as
 * vnet_charge counts; NULL: nobody asks. Adds to worker->notices, for which it makes room. Worker.
 */
void egress_deliver(struct worker *worker, const struct snapshot_port *to, struct frame **frames,
		    uint16_t count, bool counted, struct charge *delivered);

/* Empties all stages of the worker's last forward_burst. Adds to worker->notices. Worker. */
void egress_burst(struct worker *worker, const struct snapshot *snapshot);

/*
 * Sends copies of frames to a mirror's target, beside those that were staged. Part of the same
 * burst. Worker.
 */
void egress_mirror(struct worker *worker, const struct snapshot_port *to, struct stage *stage);
