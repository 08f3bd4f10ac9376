/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Why is this port slow? What its limits did in the last second, as the control thread finds it in
 * the counters once a second.
 *
 * Control thread.
 */
#pragma once

#include <stdint.h>

struct port;

/* Of one direction, between the last two looks. */
struct throttled {
	/*
	 * 0 to 1: how much of the time frames were held back. Of a port with several queues, of the
	 * one that was held the longest; on the way out, of the worker whose frames were.
	 */
	double share;
	uint64_t limit, queue_full, queue_timeout; /* frames that were dropped for these reasons */
};

/* All zero, but for `held`: nobody has looked. */
struct throttling {
	uint64_t since; /* of the last look, ns; 0: there was none */
	uint64_t *held; /* ns counted by then: by queue on the way in, by worker on the way out */
	struct throttled total_in, total_out; /* counted by then */
	struct throttled in, out;
};

/* Looks at the counters; `now`: limiter_now(). About once a second. */
void throttling_look(struct port *port, uint64_t now);
