/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The limits of one direction of a port: a limiter of bandwidth and one of packets. What passes
 * must have both, and while one has nothing to give the other is not touched either. Where only one
 * of them is set, the other gives all that is wanted.
 *
 *     grant = limits_take(limits, now, wanted);    none of either: nothing may pass now
 *     ... let pass at most that, but one frame in any case ...
 *     limits_settle(limits, &grant, passed);
 *
 * Threads are as for limiters (policy/limiter.h), and the bound there holds for each of the two.
 */
#pragma once

#include "frame/frame.h"
#include "policy/limiter.h"

/* All zero: no limits. */
struct limits {
	bool on; /* one of them is; w: control, r: workers */
	struct limiter bandwidth, packets;
};

struct limits_grant {
	struct limit_grant bandwidth, packets;
};

/* Do these ask for a limit? */
static inline bool limits_are_set(const struct limit_settings *bandwidth,
				  const struct limit_settings *packets)
{
	return bandwidth->rate != 0 || packets->rate != 0;
}

/* Sets, changes or removes both, as limiter_set does. Control thread. */
void limits_set(struct limits *limits, const struct limit_settings *bandwidth,
		const struct limit_settings *packets, uint64_t now);

static inline bool limits_are_on(const struct limits *limits)
{
	return __atomic_load_n(&limits->on, __ATOMIC_ACQUIRE);
}

/* Reserves up to what is wanted of both; of neither if one of them gives none. Worker. */
struct limits_grant limits_take(struct limits *limits, uint64_t now, struct charge wanted);

static inline struct charge limits_granted(const struct limits_grant *grant)
{
	return (struct charge){ grant->bandwidth.tokens, grant->packets.tokens };
}

/* Gives back what was not used of a grant, or charges what was used beyond. Worker. */
void limits_settle(struct limits *limits, const struct limits_grant *grant, struct charge used);

/* Nanoseconds until limits_take gives anything; 0: now. Any thread. */
uint64_t limits_wait(const struct limits *limits, uint64_t now);
