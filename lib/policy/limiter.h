/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A limiter: a token bucket. A token is a byte or a packet.
 *
 * It is written as in GCRA (the generic cell rate algorithm, ITU-T I.371, annex A), with the one
 * difference that its clock counts tokens instead of time: the clock says what the rate has earned
 * since the limiter began, `arrival` what the clock will say when all that was charged is paid. The
 * bucket holds the difference, at most `burst`; below zero it is a debt. Debts are allowed, so that
 * a 64 KiB frame passes a small bucket and is paid back.
 *
 * So charges are whole numbers, the clock is worked out anew from the time at each look, and
 * nothing is ever rounded away. A change of the rate goes on from where the clock stands: what is
 * owed and what is in the bucket stay, and the debt is paid at the new rate. All is modulo 2^64
 * tokens: 4.6 years at 1 Tbit/s without a single use. After that the bucket may seem to be in debt,
 * for 9 s at most.
 *
 * The one-time burst is a counter of its own, spent first and never refilled.
 *
 * Several workers may share a limiter, without a lock. Each takes tokens before a burst and settles
 * afterwards what it really used. So in any time, together, they use no more than
 * burst + rate x time + one frame each (and the one-time burst, once):
 *
 *     grant = limiter_take(limiter, now, wanted);    no tokens: nothing may be used now
 *     ... use at most grant.tokens, but one frame in any case ...
 *     limiter_settle(limiter, grant, used);
 *
 * The control thread sets, changes and removes the rate at any moment, in place.
 *
 * Where there is but one worker, plain loads and stores do. Should a limit begin anew while that
 * worker charges what the last one granted, the bucket begins as it was instead of full.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Bits a second of a bandwidth, and packets a second: the smallest and largest rates. */
#define LIMIT_BANDWIDTH_MIN UINT64_C(64000)
#define LIMIT_BANDWIDTH_MAX UINT64_C(1000000000000)
#define LIMIT_PACKETS_MIN 1
#define LIMIT_PACKETS_MAX UINT64_C(1000000000)

/* Of the burst and the one-time burst, bytes or packets. */
#define LIMIT_BURST_MIN 1
#define LIMIT_BURST_MAX (UINT64_C(1) << 32)

/* The default burst: this much of the rate, but at least so many bytes or packets. */
#define LIMIT_BURST_DEFAULT_MS 10
/*
 * Where the excess is dropped: a TCP sender notices late, and stands still for 200 ms after what it
 * takes for congestion, so that a smaller bucket keeps it far below the rate.
 */
#define LIMIT_BURST_DROP_MS 250
#define LIMIT_BURST_DEFAULT 65536
#define LIMIT_BURST_DEFAULT_PACKETS 64

/* What becomes of frames over the limit. */
enum limit_excess {
	EXCESS_WAIT, /* on the way in they stay where they are; on the way out they queue */
	EXCESS_DROP, /* they are dropped and counted */
};

/* As the operator asked for it. */
struct limit_settings {
	uint64_t rate;           /* bits or packets a second; 0: no limit */
	uint64_t burst;          /* bytes or packets; 0: the default */
	uint64_t one_time_burst; /* bytes or packets, spent first */
};

/* What a rate counts: 8 bits are one token, or a packet is one. */
enum limit_unit { LIMIT_BITS, LIMIT_PACKETS };

/* The clock from one change of the rate to the next: `earned` at `since`, and `rate` from there. */
struct limiter_clock {
	uint64_t since;  /* ns */
	uint64_t earned; /* tokens */
	uint64_t part;   /* of a token, in units of 2^-56 */
	uint64_t rate;   /* tokens a ns, in units of 2^-56 */
	uint64_t burst;  /* tokens */
};

/* All zero: no limit. */
struct limiter {
	/* w: control; r: workers */
	uint64_t version;               /* the clock in use is clocks[version % 2] */
	struct limiter_clock clocks[2];
	uint64_t one_time_set;          /* the one-time burst as it was last set; control's own */
	bool on;
	bool sole; /* one worker uses it and no more; set before any does */

	/* w: workers, and control when the limit begins */
	uint64_t arrival __attribute__((aligned(64))); /* tokens, of the clock */
	uint64_t one_time;                             /* tokens left of the one-time burst */
};

/* What limiter_take reserved. */
struct limit_grant {
	uint64_t tokens;
	uint64_t one_time; /* of these, from the one-time burst */
};

/*
 * Sets, changes or removes (settings->rate 0) the limit. It begins with a full bucket. The one-time
 * burst begins with the limit, and again when it is set to another value. Control thread.
 */
void limiter_set(struct limiter *limiter, const struct limit_settings *settings,
		 enum limit_unit unit, uint64_t now);

/* So many milliseconds of a rate, in tokens, within the bounds of a default burst. Any thread. */
uint64_t limiter_default_burst(uint64_t rate, enum limit_unit unit, unsigned int milliseconds);

/* The time for the functions here: ns. Any thread. */
uint64_t limiter_now(void);

static inline bool limiter_is_on(const struct limiter *limiter)
{
	return __atomic_load_n(&limiter->on, __ATOMIC_ACQUIRE);
}

/*
 * Reserves up to `wanted` tokens: none while the bucket is empty or in debt, all that is wanted
 * where there is no limit. Worker.
 */
struct limit_grant limiter_take(struct limiter *limiter, uint64_t now, uint64_t wanted);

/* Gives back what was not used of a grant, or charges what was used beyond. Worker. */
void limiter_settle(struct limiter *limiter, struct limit_grant grant, uint64_t used);

/* Nanoseconds until limiter_take gives anything; 0: now. Any thread. */
uint64_t limiter_wait(const struct limiter *limiter, uint64_t now);

/* Tokens in the bucket, the one-time burst apart; negative in debt. Any thread. */
int64_t limiter_tokens(const struct limiter *limiter, uint64_t now);

/* What the bucket holds when it is full: as set, or the default. Control thread. */
static inline uint64_t limiter_burst(const struct limiter *limiter)
{
	return limiter->clocks[limiter->version % 2].burst;
}

/* Tokens that are left of the one-time burst. Any thread. */
static inline uint64_t limiter_one_time(const struct limiter *limiter)
{
	return __atomic_load_n(&limiter->one_time, __ATOMIC_RELAXED);
}
