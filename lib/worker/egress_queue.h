/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Limits on the way out: what may go to a port, and what becomes of the rest.
 *
 * Tokens are taken for a burst as it was staged, what they admit is delivered in the usual way
 * (worker/egress.h), and what was really delivered is charged: a frame that found no room in the
 * receiver's ring, or that is too long for it, costs nothing.
 *
 * What is over the limits is dropped, or copied into a ring of frames (frame/frame_ring.h). Each
 * worker has its own for each port, and so needs no lock; the tokens they share. While a ring has
 * frames, whatever comes for the port goes behind them, so nothing is reordered. They leave as the
 * tokens come, at most a burst in each iteration and with each burst that comes, and wait no longer
 * than they may. If nobody is connected any more, or the port is switched off, they are dropped;
 * if the limit or the queue is taken away, they all go at once, in order. What is on its way to a
 * port that is removed goes with it.
 *
 * Worker.
 */
#pragma once

#include "worker/worker.h"

/* A burst for a port that has limits, or may have frames waiting. Uses the array up. */
void egress_limit(struct worker *worker, const struct snapshot_port *to, struct stage *stage);

/*
 * Sends what waits for its tokens, of all ports. Lowers worker->wait to when the next may go, or
 * has waited too long. Returns whether there was anything to do.
 */
bool egress_drain(struct worker *worker, const struct snapshot *snapshot);
