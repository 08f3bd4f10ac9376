/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Limits on the way in: what a visit of a queue may take, what it is charged, and what becomes of
 * the rest.
 *
 * Where the excess waits, tokens are taken before the burst and the burst gets them as its budget;
 * rx_burst stops at the frame that exceeds it. A frame is held against the budget by a bound, as
 * its offload header is not checked yet, and charged exactly afterwards. Where the excess is
 * dropped, all frames are taken, and the tokens after that.
 *
 * Worker.
 */
#pragma once

#include "worker/worker.h"

/* One visit's account. */
struct ingress_visit {
	bool pauses; /* the excess waits */
	bool begins; /* nothing was held back before */
	bool ample;  /* the limits gave all that was wanted */
	struct limits_grant grant;
};

/* Has the queue's port a limit, or had it one that held frames back at the last visit? */
static inline bool ingress_is_limited(const struct port_queue *queue)
{
	return limits_are_on(&queue->port->ingress) || queue->held_since != 0;
}

/* Gives the burst its budget. Returns how many frames to ask for. */
uint16_t ingress_begin(struct worker *worker, struct port_queue *queue, bool pauses,
		       struct ingress_visit *visit);

/*
 * Charges what the burst took, makes drops of what the limits do not admit, and takes the budget
 * away again. Lowers worker->wait to when frames that were left behind may go on.
 */
void ingress_end(struct worker *worker, struct port_queue *queue,
		 const struct ingress_visit *visit, uint16_t count);
