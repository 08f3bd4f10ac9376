/* SPDX-License-Identifier: BSD-3-Clause */
/* The token bucket; policy/limiter.h is the contract. */
#include "policy/limiter.h"

#define FRACTION_BITS 56
#define NS_PER_S UINT64_C(1000000000)

/*
 * No debt is as large: workers may owe a frame each. What seems to be more is an idle time that has
 * gone half round the clock.
 */
#define DEBT_MAX (UINT64_C(1) << 40)

/* 292 years at the highest rate. */
__extension__ typedef __int128 wide;

/*
 * The clock in use. The control thread writes the other one before it changes the version, so a
 * copy is whole if the version is still the same afterwards; no worker ever waits for another
 * thread to go on.
 */
static inline __attribute__((always_inline)) struct limiter_clock
read_clock(const struct limiter *limiter)
{
	struct limiter_clock copy;
	uint64_t version;

	do {
		const struct limiter_clock *clock;

		version = __atomic_load_n(&limiter->version, __ATOMIC_ACQUIRE);
		clock = &limiter->clocks[version % 2];
		copy.since = __atomic_load_n(&clock->since, __ATOMIC_ACQUIRE);
		copy.earned = __atomic_load_n(&clock->earned, __ATOMIC_ACQUIRE);
		copy.part = __atomic_load_n(&clock->part, __ATOMIC_ACQUIRE);
		copy.rate = __atomic_load_n(&clock->rate, __ATOMIC_ACQUIRE);
		copy.burst = __atomic_load_n(&clock->burst, __ATOMIC_ACQUIRE);
	} while (__atomic_load_n(&limiter->version, __ATOMIC_ACQUIRE) != version);
	return copy;
}

/* Stores that release: whoever sees one of them sees the version that made this clock free. */
static void write_clock(struct limiter *limiter, const struct limiter_clock *from)
{
	uint64_t version = limiter->version + 1;
	struct limiter_clock *clock = &limiter->clocks[version % 2];

	__atomic_store_n(&clock->since, from->since, __ATOMIC_RELEASE);
	__atomic_store_n(&clock->earned, from->earned, __ATOMIC_RELEASE);
	__atomic_store_n(&clock->part, from->part, __ATOMIC_RELEASE);
	__atomic_store_n(&clock->rate, from->rate, __ATOMIC_RELEASE);
	__atomic_store_n(&clock->burst, from->burst, __ATOMIC_RELEASE);
	__atomic_store_n(&limiter->version, version, __ATOMIC_RELEASE);
}

/* Sets a clock forward, or a little back: another worker's time may be behind. */
static inline void advance(struct limiter_clock *clock, uint64_t now)
{
	wide earned = (wide)(int64_t)(now - clock->since) * (wide)clock->rate + (wide)clock->part;

	clock->since = now;
	clock->earned += (uint64_t)(earned >> FRACTION_BITS);
	clock->part = (uint64_t)earned & ((UINT64_C(1) << FRACTION_BITS) - 1);
}

static inline __attribute__((always_inline)) struct limiter_clock
clock_at(const struct limiter *limiter, uint64_t now)
{
	struct limiter_clock clock = read_clock(limiter);

	advance(&clock, now);
	return clock;
}

/* Tokens in the bucket; negative in debt. */
static inline int64_t level(const struct limiter_clock *clock, uint64_t arrival)
{
	uint64_t debt = arrival - clock->earned;
	uint64_t kept = clock->earned - arrival;

	if (debt != 0 && debt <= DEBT_MAX)
		return -(int64_t)debt;
	return (int64_t)(kept < clock->burst ? kept : clock->burst);
}

uint64_t limiter_default_burst(uint64_t rate, enum limit_unit unit, unsigned int milliseconds)
{
	const uint64_t least =
		unit == LIMIT_BITS ? LIMIT_BURST_DEFAULT : LIMIT_BURST_DEFAULT_PACKETS;
	const uint64_t burst = (unit == LIMIT_BITS ? rate / 8 : rate) * milliseconds / 1000;

	if (burst > LIMIT_BURST_MAX)
		return LIMIT_BURST_MAX;
	return burst > least ? burst : least;
}

void limiter_set(struct limiter *limiter, const struct limit_settings *settings,
		 enum limit_unit unit, uint64_t now)
{
	const uint64_t second = NS_PER_S * (unit == LIMIT_BITS ? 8 : 1);
	const bool begins = !limiter->on;
	struct limiter_clock clock;

	if (settings->rate == 0) {
		__atomic_store_n(&limiter->on, false, __ATOMIC_RELEASE);
		return;
	}
	clock = clock_at(limiter, now);
	clock.rate = (uint64_t)((((wide)settings->rate << FRACTION_BITS) + second / 2) / second);
	clock.burst = settings->burst;
	if (clock.burst == 0)
		clock.burst = limiter_default_burst(settings->rate, unit, LIMIT_BURST_DEFAULT_MS);
	if (begins)
		__atomic_store_n(&limiter->arrival, clock.earned - clock.burst, __ATOMIC_RELAXED);
	if (begins || settings->one_time_burst != limiter->one_time_set)
		__atomic_store_n(&limiter->one_time, settings->one_time_burst, __ATOMIC_RELAXED);
	limiter->one_time_set = settings->one_time_burst;
	write_clock(limiter, &clock);
	__atomic_store_n(&limiter->on, true, __ATOMIC_RELEASE);
}

/* Replaces the arrival that was read, unless another worker was faster. */
static inline bool replace_arrival(struct limiter *limiter, uint64_t *read, uint64_t next)
{
	if (limiter->sole) {
		__atomic_store_n(&limiter->arrival, next, __ATOMIC_RELAXED);
		return true;
	}
	return __atomic_compare_exchange_n(&limiter->arrival, read, next, true, __ATOMIC_RELAXED,
					   __ATOMIC_RELAXED);
}

static inline void add_arrival(struct limiter *limiter, uint64_t tokens)
{
	if (limiter->sole)
		__atomic_store_n(&limiter->arrival,
				 __atomic_load_n(&limiter->arrival, __ATOMIC_RELAXED) + tokens,
				 __ATOMIC_RELAXED);
	else
		__atomic_fetch_add(&limiter->arrival, tokens, __ATOMIC_RELAXED);
}

static uint64_t take_one_time(struct limiter *limiter, uint64_t wanted)
{
	uint64_t left = __atomic_load_n(&limiter->one_time, __ATOMIC_RELAXED);
	uint64_t taken;

	do {
		taken = left < wanted ? left : wanted;
		if (taken == 0)
			return 0;
	} while (!__atomic_compare_exchange_n(&limiter->one_time, &left, left - taken, true,
					      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return taken;
}

static uint64_t take_from_bucket(struct limiter *limiter, uint64_t now, uint64_t wanted)
{
	const struct limiter_clock clock = clock_at(limiter, now);
	uint64_t arrival = __atomic_load_n(&limiter->arrival, __ATOMIC_RELAXED);
	uint64_t taken, next;

	do {
		int64_t tokens = level(&clock, arrival);

		if (tokens <= 0)
			return 0;
		taken = (uint64_t)tokens < wanted ? (uint64_t)tokens : wanted;
		next = clock.earned - (uint64_t)tokens + taken;
	} while (!replace_arrival(limiter, &arrival, next));
	return taken;
}

struct limit_grant limiter_take(struct limiter *limiter, uint64_t now, uint64_t wanted)
{
	struct limit_grant grant = { .tokens = wanted };

	if (!limiter_is_on(limiter))
		return grant;
	grant.one_time = take_one_time(limiter, wanted);
	grant.tokens = grant.one_time;
	if (grant.tokens < wanted)
		grant.tokens += take_from_bucket(limiter, now, wanted - grant.tokens);
	return grant;
}

void limiter_settle(struct limiter *limiter, struct limit_grant grant, uint64_t used)
{
	uint64_t from_one_time = used < grant.one_time ? used : grant.one_time;

	if (from_one_time < grant.one_time)
		__atomic_fetch_add(&limiter->one_time, grant.one_time - from_one_time,
				   __ATOMIC_RELAXED);
	if (used != grant.tokens)
		add_arrival(limiter, used - from_one_time - (grant.tokens - grant.one_time));
}

uint64_t limiter_wait(const struct limiter *limiter, uint64_t now)
{
	struct limiter_clock clock;
	int64_t tokens;
	wide missing;

	if (!limiter_is_on(limiter) || limiter_one_time(limiter) > 0)
		return 0;
	clock = clock_at(limiter, now);
	tokens = level(&clock, __atomic_load_n(&limiter->arrival, __ATOMIC_RELAXED));
	if (tokens > 0)
		return 0;
	missing = ((wide)(1 - tokens) << FRACTION_BITS) - (wide)clock.part;
	return (uint64_t)((missing + (wide)clock.rate - 1) / (wide)clock.rate);
}

int64_t limiter_tokens(const struct limiter *limiter, uint64_t now)
{
	const struct limiter_clock clock = clock_at(limiter, now);

	return level(&clock, __atomic_load_n(&limiter->arrival, __ATOMIC_RELAXED));
}
