/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy/limiter.c with a clock of the test's own: rates are met exactly, bounds hold in every
 * window, whatever the charges, the changes and the threads.
 */
#include "policy/limiter.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define DAY (86400 * SECOND)
#define START (7 * DAY + 123456789) /* a host is never just started */

#define KBIT UINT64_C(1000)
#define MBIT UINT64_C(1000000)
#define GBIT UINT64_C(1000000000)

__extension__ typedef __int128 wide;

static void set(struct limiter *limiter, uint64_t rate, uint64_t burst, uint64_t now)
{
	const struct limit_settings settings = { .rate = rate, .burst = burst };

	limiter_set(limiter, &settings, LIMIT_BITS, now);
}

/* Charges this much if there is anything at all. */
static bool charge(struct limiter *limiter, uint64_t now, uint64_t amount)
{
	struct limit_grant grant = limiter_take(limiter, now, UINT64_MAX);

	limiter_settle(limiter, grant, grant.tokens > 0 ? amount : 0);
	return grant.tokens > 0;
}

static void no_limit(void **state)
{
	struct limiter limiter = { 0 };
	struct limit_grant grant;

	(void)state;
	assert_false(limiter_is_on(&limiter));
	assert_int_equal(limiter_wait(&limiter, START), 0);
	grant = limiter_take(&limiter, START, 12345);
	assert_int_equal(grant.tokens, 12345);
	limiter_settle(&limiter, grant, 99999);
	set(&limiter, MBIT, 1000, START);
	assert_true(limiter_is_on(&limiter));
	assert_int_equal(limiter_tokens(&limiter, START), 1000);
	assert_true(charge(&limiter, START, 5000));
	assert_int_equal(limiter_take(&limiter, START, 1).tokens, 0);
	/* Removed, and then it begins again as if new. */
	set(&limiter, 0, 0, START);
	assert_false(limiter_is_on(&limiter));
	assert_int_equal(limiter_take(&limiter, START, 7).tokens, 7);
	set(&limiter, MBIT, 1000, START + DAY);
	assert_int_equal(limiter_tokens(&limiter, START + DAY), 1000);
}

static void default_bursts(void **state)
{
	static const struct {
		uint64_t rate;
		enum limit_unit unit;
		int64_t burst;
	} cases[] = {
		{ LIMIT_BANDWIDTH_MIN, LIMIT_BITS, 65536 },
		{ 52 * MBIT, LIMIT_BITS, 65536 },
		{ 1 * GBIT, LIMIT_BITS, 1250000 },
		{ LIMIT_BANDWIDTH_MAX, LIMIT_BITS, 1250000000 },
		{ 1, LIMIT_PACKETS, 64 },
		{ 6400, LIMIT_PACKETS, 64 },
		{ 10000, LIMIT_PACKETS, 100 },
		{ LIMIT_PACKETS_MAX, LIMIT_PACKETS, 10000000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct limit_settings settings = { .rate = cases[i].rate };
		struct limiter limiter = { 0 };

		limiter_set(&limiter, &settings, cases[i].unit, START);
		assert_int_equal(limiter_tokens(&limiter, START), cases[i].burst);
		assert_int_equal(limiter_burst(&limiter), cases[i].burst);
		assert_int_equal(limiter_tokens(&limiter, START + DAY), cases[i].burst);
	}
}

/*
 * Saturates a limiter with charges of one size, as soon as it lets any in. What was charged beyond
 * the rate may never have grown, from any moment to any later one, by more than the burst and one
 * charge; and over the whole time it is the rate.
 */
static void saturate(uint64_t rate, enum limit_unit unit, uint64_t burst, uint64_t amount,
		     uint32_t count)
{
	const struct limit_settings settings = { .rate = rate, .burst = burst };
	const wide second = (wide)SECOND * (unit == LIMIT_BITS ? 8 : 1);
	struct limiter limiter = { 0 };
	uint64_t now = START, begin = 0, charged = 0, total = 0;
	wide least = 0;

	limiter_set(&limiter, &settings, unit, now);
	for (uint32_t i = 0; i < count; i++) {
		const uint64_t wait = limiter_wait(&limiter, now);
		wide excess;

		if (wait > 0) {
			assert_true(limiter_tokens(&limiter, now + wait - 1) <= 0);
			now += wait;
			/* From the first time that it had to wait, the burst plays no part. */
			if (begin == 0) {
				begin = now;
				charged = 0;
			}
		}
		excess = (wide)total * second - (wide)(now - START) * rate;
		if (excess < least)
			least = excess;
		assert_true(charge(&limiter, now, amount));
		charged += amount;
		total += amount;
		excess += (wide)amount * second;
		assert_true(excess - least <= (wide)(burst + amount + 1) * second);
	}
	assert_true(begin != 0 && now > begin);
	{
		const double earned = (double)rate * (double)(now - begin) / (double)second;
		/* The last charge is not paid yet, and time comes in whole nanoseconds. */
		const double slack = (double)amount + 2 + (double)rate / (double)second;

		assert_true((double)charged >= earned - slack);
		assert_true((double)charged <= earned + slack);
		assert_true((double)charged < 1.001 * earned + (double)amount);
	}
}

static void rates_are_met(void **state)
{
	static const uint64_t bandwidths[] = { LIMIT_BANDWIDTH_MIN, 999999, 10 * MBIT, 333333333,
					       GBIT, 25 * GBIT, 400 * GBIT, LIMIT_BANDWIDTH_MAX };
	static const uint64_t charges[] = { 1, 60, 1514, 65550 };
	static const uint64_t rates[] = { 1, 3, 1000, 14880952, LIMIT_PACKETS_MAX };

	(void)state;
	for (size_t r = 0; r < sizeof(bandwidths) / sizeof(bandwidths[0]); r++)
		for (size_t c = 0; c < sizeof(charges) / sizeof(charges[0]); c++)
			saturate(bandwidths[r], LIMIT_BITS, 4000, charges[c],
				 charges[c] == 1 ? 300000 : 20000);
	for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
		saturate(rates[r], LIMIT_PACKETS, 64, 1, 20000);
		saturate(rates[r], LIMIT_PACKETS, 1, 46, 20000);
	}
}

/* Long enough to show an error of one part in 100 million of the rate itself. */
static void nothing_is_rounded_away(void **state)
{
	static const uint64_t rates[] = { LIMIT_BANDWIDTH_MIN, 999999, 123456789, 7 * GBIT + 7 };

	(void)state;
	for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
		const uint64_t burst = LIMIT_BURST_MAX;
		struct limiter limiter = { 0 };
		uint64_t now = START, earned = 0;
		double ratio;

		set(&limiter, rates[r], burst, now);
		assert_true(charge(&limiter, now, burst));
		while (now < START + 100 * SECOND) {
			struct limit_grant grant;

			now += 10007;
			grant = limiter_take(&limiter, now, 1 + now % 97700);
			earned += grant.tokens;
			limiter_settle(&limiter, grant, grant.tokens);
		}
		earned += (uint64_t)limiter_tokens(&limiter, now);
		ratio = (double)earned * 8e9 / (double)(now - START) / (double)rates[r];
		assert_true(ratio > 1 - 1e-7 && ratio < 1 + 1e-7);
	}
}

static void takes_what_there_is(void **state)
{
	struct limiter limiter = { 0 };
	struct limit_grant grant, other;

	(void)state;
	set(&limiter, 8 * MBIT, 10000, START);
	grant = limiter_take(&limiter, START, 4000);
	assert_int_equal(grant.tokens, 4000);
	other = limiter_take(&limiter, START, 9000);
	assert_int_equal(other.tokens, 6000);
	assert_int_equal(limiter_take(&limiter, START, 1).tokens, 0);
	limiter_settle(&limiter, grant, 1000);
	assert_int_equal(limiter_tokens(&limiter, START), 3000);
	limiter_settle(&limiter, other, 6000);
	assert_int_equal(limiter_tokens(&limiter, START), 3000);
	/* One token a microsecond. */
	assert_int_equal(limiter_tokens(&limiter, START + 500 * US), 3500);
	assert_int_equal(limiter_tokens(&limiter, START + SECOND), 10000);
	/* A grant that is given back late does not make more of the bucket than it holds. */
	grant = limiter_take(&limiter, START + SECOND, 10000);
	limiter_settle(&limiter, grant, 0);
	assert_int_equal(limiter_tokens(&limiter, START + 2 * SECOND), 10000);
}

static void debts_are_paid_back(void **state)
{
	struct limiter limiter = { 0 };
	struct limit_grant grant;

	(void)state;
	set(&limiter, MBIT, 1000, START);
	grant = limiter_take(&limiter, START, UINT64_MAX);
	assert_int_equal(grant.tokens, 1000);
	limiter_settle(&limiter, grant, 68000);
	assert_int_equal(limiter_tokens(&limiter, START), -67000);
	assert_int_equal(limiter_take(&limiter, START, 1).tokens, 0);
	assert_int_equal(limiter_wait(&limiter, START), 67001 * 8 * US);
	assert_int_equal(limiter_tokens(&limiter, START + 67000 * 8 * US), 0);
	assert_int_equal(limiter_take(&limiter, START + 67001 * 8 * US - 1, 5).tokens, 0);
	assert_int_equal(limiter_wait(&limiter, START + 67001 * 8 * US - 1), 1);
	assert_int_equal(limiter_take(&limiter, START + 67001 * 8 * US, 5).tokens, 1);
}

static void the_one_time_burst_comes_once(void **state)
{
	struct limit_settings settings = { .rate = MBIT, .burst = 1000, .one_time_burst = 5000 };
	struct limiter limiter = { 0 };
	struct limit_grant grant;

	(void)state;
	limiter_set(&limiter, &settings, LIMIT_BITS, START);
	/* Looking costs nothing, however often. */
	for (int i = 0; i < 1000; i++)
		limiter_settle(&limiter, limiter_take(&limiter, START, UINT64_MAX), 0);
	assert_int_equal(limiter_one_time(&limiter), 5000);
	assert_int_equal(limiter_tokens(&limiter, START), 1000);
	/* Spent before the bucket is touched. */
	assert_true(charge(&limiter, START, 2000));
	assert_int_equal(limiter_one_time(&limiter), 3000);
	assert_int_equal(limiter_tokens(&limiter, START), 1000);
	grant = limiter_take(&limiter, START, UINT64_MAX);
	assert_int_equal(grant.tokens, 4000);
	limiter_settle(&limiter, grant, 3100);
	assert_int_equal(limiter_one_time(&limiter), 0);
	assert_int_equal(limiter_tokens(&limiter, START), 900);
	/* Neither time nor another rate brings it back. */
	settings.rate = 2 * MBIT;
	limiter_set(&limiter, &settings, LIMIT_BITS, START + DAY);
	assert_int_equal(limiter_take(&limiter, START + DAY, UINT64_MAX).tokens, 1000);
	assert_int_equal(limiter_one_time(&limiter), 0);
	/* Another one-time burst does, even while the bucket is in debt. */
	settings.one_time_burst = 700;
	limiter_set(&limiter, &settings, LIMIT_BITS, START + DAY);
	assert_int_equal(limiter_wait(&limiter, START + DAY), 0);
	grant = limiter_take(&limiter, START + DAY, UINT64_MAX);
	assert_int_equal(grant.tokens, 700);
	limiter_settle(&limiter, grant, 900);
	assert_int_equal(limiter_one_time(&limiter), 0);
	assert_int_equal(limiter_tokens(&limiter, START + DAY), -200);
}

/* The rate is rounded, by far less than a nanosecond in these times. */
static void expect_wait(const struct limiter *limiter, uint64_t now, uint64_t wait)
{
	assert_in_range(limiter_wait(limiter, now), wait, wait + 1);
}

static void a_debt_is_paid_at_the_new_rate(void **state)
{
	struct limiter limiter = { 0 };
	const uint64_t later = START + SECOND;

	(void)state;
	set(&limiter, 64 * KBIT, 1000, START);
	assert_true(charge(&limiter, START, 65000));
	expect_wait(&limiter, START, 64001 * 125 * US);
	assert_int_equal(limiter_tokens(&limiter, later + 1), -56000);
	set(&limiter, 64 * MBIT, 1000, later + 1);
	assert_int_equal(limiter_tokens(&limiter, later + 1), -56000);
	expect_wait(&limiter, later + 1, 56001 * 125 - 1);
	set(&limiter, 640 * KBIT, 1000, later + MS + 1);
	assert_int_equal(limiter_tokens(&limiter, later + MS + 1), -48000);
	expect_wait(&limiter, later + MS + 1, 48001 * 12500 - 1);
}

static void the_bucket_fits_the_new_burst(void **state)
{
	struct limiter limiter = { 0 };

	(void)state;
	set(&limiter, 8 * MBIT, 100000, START);
	set(&limiter, 8 * MBIT, 1000, START);
	assert_int_equal(limiter_tokens(&limiter, START), 1000);
	assert_true(charge(&limiter, START, 400));
	/* A larger one fills by and by. */
	set(&limiter, 8 * MBIT, 5000, START);
	assert_int_equal(limiter_tokens(&limiter, START), 600);
	assert_int_equal(limiter_tokens(&limiter, START + MS), 1600);
	assert_int_equal(limiter_tokens(&limiter, START + SECOND), 5000);
}

static void idleness_never_wraps(void **state)
{
	static const uint64_t rates[] = { LIMIT_BANDWIDTH_MIN, GBIT, LIMIT_BANDWIDTH_MAX };

	(void)state;
	for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
		struct limiter limiter = { 0 };
		uint64_t now = START;

		set(&limiter, rates[r], 9000, now);
		for (int i = 0; i < 20; i++) {
			now += 200 * DAY;
			assert_int_equal(limiter_tokens(&limiter, now), 9000);
			assert_int_equal(limiter_take(&limiter, now, UINT64_MAX).tokens, 9000);
		}
	}
	/* Once round the clock, without a single use. */
	for (uint64_t years = 1; years < 200; years++) {
		struct limiter limiter = { 0 };
		uint64_t now = START + years * 365 * DAY;

		set(&limiter, LIMIT_BANDWIDTH_MAX, 9000, START);
		if (limiter_tokens(&limiter, now) != 9000)
			now += 9 * SECOND;
		assert_int_equal(limiter_tokens(&limiter, now), 9000);
	}
}

/* Another worker's time may be a little behind, or behind the last change. */
static void time_may_step_back(void **state)
{
	struct limiter limiter = { 0 };
	uint64_t charged = 0;

	(void)state;
	set(&limiter, 4 * GBIT, 10000, START);
	assert_int_equal(limiter_tokens(&limiter, START - US), 9500);
	for (uint64_t i = 0; i < 100000; i++) {
		uint64_t now = START + i * 100 - (i % 3) * 5 * US;
		struct limit_grant grant = limiter_take(&limiter, now, 2000);

		charged += grant.tokens;
		limiter_settle(&limiter, grant, grant.tokens);
	}
	/* Half a byte a nanosecond, and the time ended 100 ns and at most 10 us before. */
	assert_in_range(charged, 5000 * US - 10 * US, 5000 * US + 10000);
}

/* A thousand changes a second that change nothing, at rates that earn less than one in between. */
static void changes_do_not_bias(void **state)
{
	static const struct {
		uint64_t rate;
		enum limit_unit unit;
		int64_t earned; /* in 5 s */
	} cases[] = {
		{ LIMIT_BANDWIDTH_MIN, LIMIT_BITS, 40000 },
		{ LIMIT_BANDWIDTH_MIN + 2, LIMIT_BITS, 40001 },
		{ 1, LIMIT_PACKETS, 5 },
		{ 7, LIMIT_PACKETS, 35 },
		{ LIMIT_BANDWIDTH_MAX, LIMIT_BITS, 625000000000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct limit_settings settings = { .rate = cases[i].rate, .burst = 1 };
		struct limiter limiter = { 0 };
		uint64_t now = START;

		limiter_set(&limiter, &settings, cases[i].unit, now);
		/* So much in debt that nothing overflows the bucket. */
		assert_true(charge(&limiter, now, 1 + (uint64_t)cases[i].earned));
		for (int change = 0; change < 5000; change++) {
			now += MS;
			limiter_set(&limiter, &settings, cases[i].unit, now);
		}
		/* The rate itself is exact to 1 in 100 million. */
		assert_in_range(limiter_tokens(&limiter, now) + 1 + cases[i].earned / 100000000, 0,
				1 + cases[i].earned / 50000000);
	}
}

/* ---- several workers ---- */

#define WORKERS 3
#define VISITS 2000000
#define CHANGES 3000
#define FRAME 65550

static struct limiter shared;
static uint64_t shared_now;
static bool over;

struct hammer {
	pthread_t thread;
	unsigned int seed;
	unsigned int most; /* that is taken at a time, and used beyond that */
	uint64_t charged;
};

/* Takes, and settles for less, the same, or a frame more. */
static void *hammer(void *argument)
{
	struct hammer *self = argument;

	for (int i = 0; i < VISITS; i++) {
		uint64_t now = __atomic_load_n(&shared_now, __ATOMIC_RELAXED);
		unsigned int dice = (unsigned int)rand_r(&self->seed);
		struct limit_grant grant = limiter_take(&shared, now, dice % self->most);
		uint64_t used = 0;

		if (grant.tokens > 0)
			used = dice & 0x10000 ? (dice >> 4) % (grant.tokens + 1)
					      : grant.tokens + dice % self->most;
		limiter_settle(&shared, grant, used);
		self->charged += used;
	}
	return NULL;
}

/*
 * Meanwhile the control thread changes the rate once a millisecond of the fake time, which goes on
 * under the workers' hands. Returns what they charged; *earned is in units of 1/8 billion bytes.
 */
static uint64_t hammer_all(const struct limit_settings *settings, unsigned int most, wide *earned)
{
	struct hammer hammers[WORKERS] = { 0 };
	uint64_t charged = 0;

	*earned = 0;
	for (unsigned int i = 0; i < WORKERS; i++) {
		hammers[i].seed = i + 1;
		hammers[i].most = most;
		assert_int_equal(pthread_create(&hammers[i].thread, NULL, hammer, &hammers[i]), 0);
	}
	for (int i = 0; i < CHANGES; i++) {
		struct limit_settings now = *settings;

		now.rate = i % 3 == 0 ? now.rate : i % 3 == 1 ? now.rate * 10 : now.rate / 7;
		limiter_set(&shared, &now, LIMIT_BITS, shared_now);
		*earned += (wide)now.rate * MS;
		for (int step = 0; step < 10; step++) {
			__atomic_fetch_add(&shared_now, MS / 10, __ATOMIC_RELAXED);
			sched_yield();
		}
	}
	for (unsigned int i = 0; i < WORKERS; i++) {
		pthread_join(hammers[i].thread, NULL);
		charged += hammers[i].charged;
	}
	return charged;
}

/*
 * With a bucket that neither overflows nor is ever empty, all are busy and every token is accounted
 * for.
 */
static void workers_lose_nothing(void **state)
{
	const struct limit_settings settings = { .rate = GBIT, .burst = LIMIT_BURST_MAX,
						 .one_time_burst = 100000000 };
	const uint64_t half = settings.burst / 2;
	uint64_t charged, left;
	wide earned;

	(void)state;
	shared_now = START;
	set(&shared, settings.rate, settings.burst, shared_now);
	assert_true(charge(&shared, shared_now, half));
	limiter_set(&shared, &settings, LIMIT_BITS, shared_now);
	charged = hammer_all(&settings, 300, &earned);
	assert_in_range(charged, settings.one_time_burst, settings.one_time_burst + half);
	left = (uint64_t)limiter_tokens(&shared, shared_now) + limiter_one_time(&shared);
	/* A rate is exact to 1 in 100 million, and the clock shows whole tokens. */
	assert_in_range(100 + charged + left - settings.one_time_burst - half -
			(uint64_t)(earned / 8 / SECOND), 0, 200);
	set(&shared, 0, 0, shared_now);
}

static void workers_are_bounded(void **state)
{
	const struct limit_settings settings = { .rate = GBIT, .burst = 100000 };
	uint64_t charged;
	wide earned;

	(void)state;
	shared_now = START;
	limiter_set(&shared, &settings, LIMIT_BITS, shared_now);
	charged = hammer_all(&settings, FRAME, &earned);
	assert_true((wide)charged * 8 * SECOND <=
		    earned + (wide)(settings.burst + WORKERS * FRAME) * 8 * SECOND);
	assert_true(charged > settings.burst);
	set(&shared, 0, 0, shared_now);
}

static void *change_always(void *argument)
{
	const struct limit_settings settings = { .rate = 8 * GBIT, .burst = 1000 };

	(void)argument;
	for (uint64_t i = 0; i < 3000000; i++)
		limiter_set(&shared, &settings, LIMIT_BITS, START + i * US);
	__atomic_store_n(&over, true, __ATOMIC_RELEASE);
	return NULL;
}

/* At one and the same time there is the same in the bucket, whatever change a reader comes upon. */
static void changes_are_seen_whole(void **state)
{
	pthread_t thread;

	(void)state;
	set(&shared, 8 * GBIT, 1000, START);
	assert_true(charge(&shared, START, 1000000000));
	over = false;
	assert_int_equal(pthread_create(&thread, NULL, change_always, NULL), 0);
	while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE))
		assert_int_equal(limiter_tokens(&shared, START), 1000 - 1000000000);
	pthread_join(thread, NULL);
	set(&shared, 0, 0, START);
}

static void the_clock_runs(void **state)
{
	struct timespec before, after;
	uint64_t now;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &before);
	now = limiter_now();
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_in_range(now, (uint64_t)before.tv_sec * SECOND + (uint64_t)before.tv_nsec,
			(uint64_t)after.tv_sec * SECOND + (uint64_t)after.tv_nsec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_limit),
		cmocka_unit_test(default_bursts),
		cmocka_unit_test(rates_are_met),
		cmocka_unit_test(nothing_is_rounded_away),
		cmocka_unit_test(takes_what_there_is),
		cmocka_unit_test(debts_are_paid_back),
		cmocka_unit_test(the_one_time_burst_comes_once),
		cmocka_unit_test(a_debt_is_paid_at_the_new_rate),
		cmocka_unit_test(the_bucket_fits_the_new_burst),
		cmocka_unit_test(idleness_never_wraps),
		cmocka_unit_test(time_may_step_back),
		cmocka_unit_test(changes_do_not_bias),
		cmocka_unit_test(workers_lose_nothing),
		cmocka_unit_test(workers_are_bounded),
		cmocka_unit_test(changes_are_seen_whole),
		cmocka_unit_test(the_clock_runs),
	};

	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
