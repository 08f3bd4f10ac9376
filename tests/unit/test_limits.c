/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy/limits.c with a clock of the test's own: both limits bind at once, the one that refuses
 * costs the other nothing, and the bound of each holds in every window, for several workers too.
 */
#include "policy/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define START (77 * SECOND + 123456789)
#define MBIT UINT64_C(1000000)
#define GBIT UINT64_C(1000000000)

__extension__ typedef __int128 wide;

static void set(struct limits *limits, uint64_t rate, uint64_t burst, uint64_t packets,
		uint64_t packet_burst, uint64_t now)
{
	const struct limit_settings bandwidth = { rate, burst, 0 };
	const struct limit_settings both = { packets, packet_burst, 0 };

	limits_set(limits, &bandwidth, &both, now);
}

static struct charge take(struct limits *limits, uint64_t bytes, uint64_t packets)
{
	struct limits_grant grant =
		limits_take(limits, START, (struct charge){ bytes, packets });
	const struct charge granted = limits_granted(&grant);

	limits_settle(limits, &grant, granted);
	return granted;
}

static void expect(struct charge granted, uint64_t bytes, uint64_t packets)
{
	assert_int_equal(granted.bytes, bytes);
	assert_int_equal(granted.packets, packets);
}

static void none_is_no_limit(void **state)
{
	struct limits limits = { 0 };

	(void)state;
	assert_false(limits_are_on(&limits));
	expect(take(&limits, 12345, 6), 12345, 6);
	assert_int_equal(limits_wait(&limits, START), 0);
	set(&limits, 0, 0, 1000, 10, START);
	assert_true(limits_are_on(&limits));
	expect(take(&limits, 1 << 30, 20), 1 << 30, 10);
	expect(take(&limits, 1 << 30, 20), 0, 0);
	assert_int_equal(limits_wait(&limits, START), MS);
	set(&limits, 8 * MBIT, 1000, 0, 0, START);
	expect(take(&limits, 2000, 1 << 20), 1000, 1 << 20);
	expect(take(&limits, 2000, 1), 0, 0);
	assert_int_equal(limits_wait(&limits, START), 1000);
	set(&limits, 0, 0, 0, 0, START);
	assert_false(limits_are_on(&limits));
}

/* Whichever of them is empty: the other one keeps all that it has. */
static void who_is_refused_is_not_charged(void **state)
{
	struct limits limits = { 0 };
	uint64_t wait;

	(void)state;
	set(&limits, 8 * MBIT, 5000, 1000, 3, START);
	expect(take(&limits, 100, 3), 100, 3);
	for (int i = 0; i < 100; i++)
		expect(take(&limits, 1000, 1), 0, 0);
	assert_int_equal(limiter_tokens(&limits.bandwidth, START), 4900);
	assert_int_equal(limiter_tokens(&limits.packets, START), 0);
	set(&limits, 0, 0, 0, 0, START);
	set(&limits, 8 * MBIT, 5000, 1000, 300, START);
	expect(take(&limits, 9000, 5), 5000, 5);
	for (int i = 0; i < 100; i++)
		expect(take(&limits, 1000, 1), 0, 0);
	assert_int_equal(limiter_tokens(&limits.packets, START), 295);
	/* Whichever takes longer is what is waited for. */
	limiter_settle(&limits.packets, (struct limit_grant){ 0 }, 300);
	wait = limiter_wait(&limits.packets, START);
	assert_true(wait > limiter_wait(&limits.bandwidth, START));
	assert_int_equal(limits_wait(&limits, START), wait);
}

/* What a worker has on its way between limits_take and limits_settle. */
struct worker {
	struct limits_grant grant;
	struct charge used;
	bool busy;
};

/*
 * Workers that take and settle in any order, each letting pass what its grant admits, and a first
 * frame in any case, at the time of its grant. From any moment to any later one neither bytes nor
 * packets exceed the burst, the rate and one frame of each worker.
 */
static void hold(uint64_t rate, uint64_t packets, struct charge frame, unsigned int workers)
{
	/* What is earned while nobody happens to take anything must find room. */
	const uint64_t burst = 256 * frame.bytes, packet_burst = 256 * frame.packets;
	const uint64_t by_rate = rate == 0 ? 0 : frame.bytes * 8 * SECOND / rate;
	const uint64_t by_packets = packets == 0 ? 0 : frame.packets * SECOND / packets;
	/* Four frames are earned each time, where up to 32 may be sent. */
	const uint64_t step = 8 * (by_rate > by_packets ? by_rate : by_packets);
	struct limits limits = { 0 };
	struct worker all[8] = { 0 };
	uint64_t now = START, bytes = 0, count = 0, passed = 0, began = 0;
	wide least_bytes = 0, least_count = 0;

	set(&limits, rate, burst, packets, packet_burst, now);
	for (unsigned int i = 0; i < 40000; i++) {
		struct worker *worker = &all[(unsigned int)rand() % workers];

		now += (uint64_t)rand() % step;
		if (!worker->busy) {
			const struct charge wanted = { 64 * frame.bytes, 64 * frame.packets };
			struct charge budget;

			worker->grant = limits_take(&limits, now, wanted);
			worker->used = (struct charge){ 0 };
			worker->busy = true;
			budget = limits_granted(&worker->grant);
			for (int f = 0; f < 64 && budget_admits(&budget, frame, f == 0); f++) {
				worker->used.bytes += frame.bytes;
				worker->used.packets += frame.packets;
			}
		} else {
			worker->busy = false;
			limits_settle(&limits, &worker->grant, worker->used);
			continue;
		}
		bytes += worker->used.bytes;
		count += worker->used.packets;
		passed += worker->used.packets / frame.packets;
		if (rate != 0) {
			wide excess = (wide)bytes * 8 * SECOND - (wide)(now - START) * rate;

			assert_true(excess - least_bytes <=
				    (wide)(burst + workers * frame.bytes + 1) * 8 * SECOND);
			least_bytes = excess < least_bytes ? excess : least_bytes;
		}
		if (packets != 0) {
			wide excess = (wide)count * SECOND - (wide)(now - START) * packets;

			assert_true(excess - least_count <=
				    (wide)(packet_burst + workers * frame.packets + 1) * SECOND);
			least_count = excess < least_count ? excess : least_count;
		}
		if (began == 0 && limits_wait(&limits, now) > 0)
			began = now;
	}
	assert_true(passed > 100);
	assert_true(began != 0);
	/* The slower of the two is met. */
	{
		const double time = (double)(now - START) / (double)SECOND;
		const double by_bytes = rate == 0 ? 1e30
						  : (time * (double)rate / 8 + (double)burst) /
							    (double)frame.bytes;
		const double by_count = packets == 0 ? 1e30
						     : (time * (double)packets +
							(double)packet_burst) /
							       (double)frame.packets;
		const double most = by_bytes < by_count ? by_bytes : by_count;

		assert_true((double)passed <= most + workers + 1);
		assert_true((double)passed >= 0.98 * most - 64.0 * workers);
	}
}

static void both_bounds_hold(void **state)
{
	static const struct charge frames[] = { { 60, 1 }, { 1514, 1 }, { 67930, 46 } };
	static const struct {
		uint64_t rate, packets;
	} cases[] = {
		{ 10 * MBIT, 0 },    { 0, 1000 },    { 10 * MBIT, 1000 },    { 40 * GBIT, 5000000 },
		{ 40 * GBIT, 0 },    { 0, 5000000 }, { 1000 * GBIT, 1000000 },
	};

	(void)state;
	srand(4711);
	for (size_t f = 0; f < sizeof(frames) / sizeof(frames[0]); f++)
		for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
			for (unsigned int workers = 1; workers <= 8; workers *= 2)
				hold(cases[c].rate, cases[c].packets, frames[f], workers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_is_no_limit),
		cmocka_unit_test(who_is_refused_is_not_charged),
		cmocka_unit_test(both_bounds_hold),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
