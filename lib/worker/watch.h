/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Watching ports: what a worker does for captures, traces and mirrors. Only for ports that have
 * some (snapshot_port.taps); for all others the question is one predictable test a burst.
 *
 *     captures   copy frames into rings: those from the port once they have their verdict, those to
 *                it as they are sent, both also where they are dropped (worker/capture.h)
 *     traces     are captures that note each step of a frame from the port as well
 *     mirrors    send another copy of each frame to another port: as it came in, or as it was
 *                offered, with the tags that it has on the mirrored port. The receiver's MTU,
 *                offloads and state count as ever, and its own frames do not come back to it
 *
 * Called by a worker, in the middle of a burst.
 */
#pragma once

#include "worker/worker.h"

/* A port's frames have their verdicts and have not left yet. */
void watch_received(struct worker *worker, const struct snapshot_port *from,
		    const struct port_queue *queue);

/* And now they have left: sends the copies of a mirror, and ends what was begun for the burst. */
void watch_forwarded(struct worker *worker, const struct snapshot_port *from);

/* Frames are about to leave for a port that may be mirrored. */
void watch_offered(struct worker *worker, const struct snapshot_port *to,
		   struct frame *const *frames, uint16_t count);

/* Does anybody look at what becomes of frames to this port? */
static inline bool watch_is_on(const struct worker *worker, const struct snapshot_port *to)
{
	return to->taps != NULL || worker->traced != NULL;
}

/* So many frames were taken by a port, but for those of outcome->lost. */
void watch_sent(struct worker *worker, const struct snapshot_port *to,
		const struct port_queue *queue, struct frame *const *frames, uint16_t count,
		const struct tx_outcome *outcome);

/* Frames that were meant for a port were dropped. */
void watch_dropped(struct worker *worker, const struct snapshot_port *to,
		   const struct port_queue *queue, struct frame *const *frames, uint16_t count,
		   enum drop reason);

/* A frame that is traced waits for the receiver's limits. */
void watch_queued(struct worker *worker, const struct snapshot_port *to, const struct frame *frame);

/* A frame is made into what the receiver takes; needs: enum frame_needs that it did not. */
void watch_adapted(struct worker *worker, const struct snapshot_port *to,
		   const struct frame *frame, uint16_t needs);
