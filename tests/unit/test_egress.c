/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker/egress.c: what keeps a staged frame from its receiver and how that is counted, the
 * spreading of flows over queues, and who is told.
 */
#include "worker/egress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rig.h"
#include "stage.h"

static void delivers(void **state)
{
	struct rig *rig = rig_new(3, 1);
	struct tx_counters counters;

	(void)state;
	send_marked(rig, 1, 'a', 60);
	send_marked(rig, 2, 'b', 1514)->segments = 4;
	send_marked(rig, 1, 'c', 64);
	send_burst(rig);
	check_marks(rig, 0, "");
	check_marks(rig, 1, "ac");
	check_marks(rig, 2, "b");
	assert_int_equal(memory_sent(rig->ports[2], 0, 0)->length, 1514);
	assert_memory_equal(memory_sent(rig->ports[2], 0, 0)->bytes + 64, rig->bytes + 64,
			    1514 - 64);
	counters = counters_of(rig, 1);
	assert_int_equal(counters.packets, 2);
	assert_int_equal(counters.bytes, 124);
	assert_int_equal(counters.segments, 2);
	counters = counters_of(rig, 2);
	assert_int_equal(counters.packets, 1);
	assert_int_equal(counters.segments, 4);
	assert_int_equal(counters_of(rig, 0).offered, 0);
	rig_free(rig);
}

static void not_connected(void **state)
{
	struct rig *rig = rig_new(2, 3);

	(void)state;
	memory_connect(rig->ports[0], NULL, 0, 0);
	send_marked(rig, 0, 'a', 60);
	/* Nobody has refused this offload: nobody is there. */
	send_marked(rig, 0, 'b', 60)->needs = NEEDS_CHECKSUM;
	send_marked(rig, 1, 'c', 60);
	send_burst(rig);
	assert_int_equal(counters_of(rig, 0).offered, 2);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_NOT_CONNECTED], 2);
	assert_int_equal(counters_of(rig, 1).packets, 1);
	/* Nobody is told of nothing. */
	worker_notify(rig->worker);
	for (uint16_t queue = 0; queue < 3; queue++)
		assert_int_equal(memory_counts(rig->ports[0], queue).notified[PORT_TX], 0);
	rig_free(rig);
}

/* A ring that goes away while the worker still believes in it. */
static void connection_is_lost(void **state)
{
	static const uint16_t queues[] = { 0, 1 };
	struct rig *rig = rig_new(1, 2);

	(void)state;
	memory_connect(rig->ports[0], NULL, 0, 0);
	port_set_tx(rig->ports[0], queues, 1, NEEDS_ALL);
	send_marked(rig, 0, 'a', 60);
	send_burst(rig);
	port_set_tx(rig->ports[0], queues, 2, NEEDS_ALL);
	send_marked(rig, 0, 'b', 60);
	send_marked(rig, 0, 'c', 60)->needs = NEEDS_CHECKSUM;
	send_burst(rig);
	assert_int_equal(counters_of(rig, 0).offered, 3);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_NOT_CONNECTED], 3);
	assert_int_equal(rig->worker->notice_count, 0);
	rig_free(rig);
}

static void ring_full(void **state)
{
	struct rig *rig = rig_new(1, 1);
	struct tx_counters counters;

	(void)state;
	memory_set_room(rig->ports[0], 0, 3);
	for (unsigned int i = 0; i < 5; i++)
		send_marked(rig, 0, (uint8_t)('a' + i), 100);
	send_burst(rig);
	/* The first ones find room, in order. */
	check_marks(rig, 0, "abc");
	counters = counters_of(rig, 0);
	assert_int_equal(counters.packets, 3);
	assert_int_equal(counters.bytes, 300);
	assert_int_equal(counters.dropped[DROP_RING_FULL], 2);
	rig_free(rig);
}

static void too_long(void **state)
{
	struct rig *rig = rig_new(1, 1);
	struct tx_counters counters;

	(void)state;
	memory_set_longest(rig->ports[0], 100);
	memory_set_room(rig->ports[0], 0, 3);
	send_marked(rig, 0, 'a', 100);
	send_marked(rig, 0, 'b', 101);
	send_marked(rig, 0, 'c', 60);
	send_marked(rig, 0, 'd', 1000);
	send_marked(rig, 0, 'e', 60);
	send_marked(rig, 0, 'f', 60);
	send_marked(rig, 0, 'g', 1000);
	send_burst(rig);
	/* Neither hinders the other: what lies behind the full ring was not looked at. */
	check_marks(rig, 0, "ace");
	counters = counters_of(rig, 0);
	assert_int_equal(counters.packets, 3);
	assert_int_equal(counters.dropped[DROP_TOO_LONG], 2);
	assert_int_equal(counters.dropped[DROP_RING_FULL], 2);
	rig_free(rig);
}

/* A port that is switched off gets nothing, whether or not anybody is there. */
static void switched_off(void **state)
{
	struct rig *rig = rig_new(2, 1);

	(void)state;
	rig->snapshot->ports[0].enabled = false;
	send_marked(rig, 0, 'a', 60);
	send_marked(rig, 0, 'b', 60)->needs = NEEDS_UFO;
	send_marked(rig, 1, 'c', 60);
	send_burst(rig);
	memory_connect(rig->ports[0], NULL, 0, 0);
	send_marked(rig, 0, 'd', 60);
	send_burst(rig);
	check_marks(rig, 0, "");
	check_marks(rig, 1, "c");
	assert_int_equal(counters_of(rig, 0).offered, 3);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_DISABLED], 3);
	rig_free(rig);
}

/* ---- MTU ---- */

static void mtu(void **state)
{
	static const struct {
		uint16_t tags[3];
		uint32_t length;
		bool passes;
	} cases[] = {
		{ { 0 }, 60, true },
		{ { 0 }, 1514, true },
		{ { 0 }, 1515, false },
		{ { 0 }, 9000, false },
		{ { 0x8100 }, 1518, true },
		{ { 0x8100 }, 1519, false },
		{ { 0x88a8 }, 1518, true },
		{ { 0x88a8, 0x8100 }, 1522, true },
		{ { 0x8100, 0x8100 }, 1522, true },
		{ { 0x88a8, 0x8100 }, 1523, false },
		/* The third is payload, and so is what only looks like a tag further in. */
		{ { 0x88a8, 0x8100, 0x8100 }, 1522, true },
		{ { 0x88a8, 0x8100, 0x8100 }, 1526, false },
		{ { 0x0800, 0x8100 }, 1515, false },
		{ { 0x9100 }, 1515, false },
	};
	struct rig *rig = rig_new(2, 1);
	uint64_t passed = 0, dropped = 0;

	(void)state;
	rig->snapshot->ports[0].max_length = 1514;
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct frame *frame;

		packet_ethernet(rig->bytes, rig_mac(0), rig_mac(1), cases[i].length);
		for (unsigned int tag = 0; tag < 3 && cases[i].tags[tag] != 0; tag++)
			packet_put16(rig->bytes + 12 + 4 * tag, cases[i].tags[tag]);
		frame = add(rig, rig->bytes, cases[i].length);
		stage(rig, frame, 0);
		stage(rig, frame, 1); /* the limit is port 0's alone */
		send_burst(rig);
		passed += cases[i].passes;
		dropped += !cases[i].passes;
		assert_int_equal(counters_of(rig, 0).packets, passed);
		assert_int_equal(counters_of(rig, 0).dropped[DROP_MTU], dropped);
		assert_int_equal(counters_of(rig, 1).packets, passed + dropped);
	}
	/* One that is too large does not hold up its neighbours. */
	send_marked(rig, 0, 'x', 60);
	send_marked(rig, 0, 'y', 1515);
	send_marked(rig, 0, 'z', 60);
	send_burst(rig);
	assert_int_equal(counters_of(rig, 0).packets, passed + 2);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_MTU], dropped + 1);
	rig_free(rig);
}

/* ---- several queues ---- */

#define QUEUES 8

static void send_flow(struct rig *rig, const struct packet_flow *flow, uint32_t mark)
{
	packet_udp(rig->bytes, flow, 60);
	packet_put32(rig->bytes + 42, mark);
	stage(rig, add(rig, rig->bytes, 60), 0);
}

static uint32_t mark_of(const struct memory_frame *frame)
{
	return (uint32_t)frame->bytes[42] << 24 | (uint32_t)frame->bytes[43] << 16 |
	       (uint32_t)frame->bytes[44] << 8 | frame->bytes[45];
}

static struct packet_flow flow_of(unsigned int number)
{
	return (struct packet_flow){ .to = rig_mac(0), .from = rig_mac(1), .ip_from = 0x0a000001,
				     .ip_to = 0x0a000002 + number % 7,
				     .port_from = (uint16_t)(40000 + number), .port_to = 5001 };
}

static struct packet_flow reversed(const struct packet_flow *flow)
{
	return (struct packet_flow){ .to = flow->from, .from = flow->to, .ip_from = flow->ip_to,
				     .ip_to = flow->ip_from, .port_from = flow->port_to,
				     .port_to = flow->port_from };
}

/* 200 flows, three frames each in rising order and some the other way round, in bursts of 60. */
static void a_flow_has_one_queue(void **state)
{
	int queue_of[200];
	struct rig *rig = rig_new(1, QUEUES);
	uint32_t sum = 0;

	(void)state;
	for (uint32_t i = 0; i < 600; i++) {
		struct packet_flow flow = flow_of(i % 200), back = reversed(&flow);

		send_flow(rig, i / 200 == 1 ? &back : &flow, i);
		if (i % 60 == 59)
			send_burst(rig);
	}
	memset(queue_of, 0xff, sizeof(queue_of));
	for (uint16_t queue = 0; queue < QUEUES; queue++) {
		uint32_t count = memory_counts(rig->ports[0], queue).kept;
		uint32_t last = 0;

		/* None is silent, and none has more than twice its share. */
		assert_in_range(count, 600 / QUEUES / 2, 600 / QUEUES * 2);
		sum += count;
		for (uint32_t i = 0; i < count; i++) {
			uint32_t mark = mark_of(memory_sent(rig->ports[0], queue, i));

			assert_true(i == 0 || mark > last);
			last = mark;
			if (queue_of[mark % 200] < 0)
				queue_of[mark % 200] = queue;
			assert_int_equal(queue_of[mark % 200], queue);
		}
	}
	assert_int_equal(sum, 600);
	assert_int_equal(counters_of(rig, 0).packets, 600);
	rig_free(rig);
}

/* A guest that has enabled queues 1 and 6 alone gets everything there. */
static void only_enabled_queues(void **state)
{
	static const uint16_t enabled[] = { 6, 1 };
	struct rig *rig = rig_new(1, QUEUES);

	(void)state;
	memory_connect(rig->ports[0], enabled, 2, NEEDS_ALL);
	for (uint32_t i = 0; i < 60; i++) {
		struct packet_flow flow = flow_of(i);

		send_flow(rig, &flow, i);
	}
	send_burst(rig);
	assert_int_equal(memory_counts(rig->ports[0], 1).sent +
			 memory_counts(rig->ports[0], 6).sent, 60);
	assert_in_range(memory_counts(rig->ports[0], 1).sent, 10, 50);
	/* And with one alone, that one, wherever it is. */
	memory_connect(rig->ports[0], enabled, 1, NEEDS_ALL);
	memory_forget(rig->ports[0], 6);
	for (uint32_t i = 0; i < 60; i++) {
		struct packet_flow flow = flow_of(i);

		send_flow(rig, &flow, i);
	}
	send_burst(rig);
	assert_int_equal(memory_counts(rig->ports[0], 6).kept, 60);
	assert_int_equal(counters_of(rig, 0).packets, 120);
	rig_free(rig);
}

/* One queue that is full costs its own flows only. */
static void a_full_queue_is_alone(void **state)
{
	struct rig *rig = rig_new(1, QUEUES);
	uint32_t expected;

	(void)state;
	for (uint32_t i = 0; i < 64; i++) {
		struct packet_flow flow = flow_of(i);

		send_flow(rig, &flow, i);
	}
	send_burst(rig);
	expected = memory_counts(rig->ports[0], 3).sent;
	assert_true(expected > 0);
	memory_set_room(rig->ports[0], 3, 0);
	for (uint32_t i = 0; i < 64; i++) {
		struct packet_flow flow = flow_of(i);

		send_flow(rig, &flow, i);
	}
	send_burst(rig);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_RING_FULL], expected);
	assert_int_equal(rig->ports[0]->queues[3].counters[0].tx.dropped[DROP_RING_FULL], expected);
	rig_free(rig);
}

/* ---- notices ---- */

static void each_queue_is_told_once_a_burst(void **state)
{
	struct rig *rig = rig_new(2, 1);

	(void)state;
	memory_set_wants(rig->ports[1], PORT_TX, true);
	for (unsigned int i = 0; i < 10; i++) {
		send_marked(rig, 0, 'a', 60);
		send_marked(rig, 1, 'b', 60);
	}
	send_burst(rig);
	assert_int_equal(memory_counts(rig->ports[0], 0).notified[PORT_TX], 0);
	worker_notify(rig->worker);
	assert_int_equal(memory_counts(rig->ports[0], 0).notified[PORT_TX], 1);
	assert_int_equal(memory_counts(rig->ports[1], 0).notified[PORT_TX], 1);
	/* Only who wanted it counts as told. */
	assert_int_equal(counters_of(rig, 0).notifications, 0);
	assert_int_equal(counters_of(rig, 1).notifications, 1);
	worker_notify(rig->worker);
	assert_int_equal(memory_counts(rig->ports[1], 0).notified[PORT_TX], 1);
	rig_free(rig);
}

/* A burst that is flooded to more queues than the list of notices holds. */
static void floods_tell_everybody(void **state)
{
	struct rig *rig = rig_new(20, 32);
	uint32_t sent = 0, told = 0;

	(void)state;
	for (uint32_t i = 0; i < BURST_MAX; i++) {
		struct packet_flow flow = flow_of(i);
		struct frame *frame;

		packet_udp(rig->bytes, &flow, 60);
		frame = add(rig, rig->bytes, 60);
		for (uint16_t port = 0; port < 20; port++)
			stage(rig, frame, port);
	}
	send_burst(rig);
	/* One is left for the receiving queue. */
	assert_true(rig->worker->notice_count < NOTICES_MAX);
	worker_notify(rig->worker);
	for (uint16_t port = 0; port < 20; port++) {
		assert_int_equal(counters_of(rig, port).packets, BURST_MAX);
		for (uint16_t queue = 0; queue < 32; queue++) {
			struct memory_counts counts = memory_counts(rig->ports[port], queue);

			sent += counts.sent > 0;
			told += counts.notified[PORT_TX];
			assert_int_equal(counts.notified[PORT_TX], counts.sent > 0);
		}
	}
	assert_int_equal(told, sent);
	assert_true(sent > NOTICES_MAX);
	rig_free(rig);
}

/* ---- retries ---- */

/* A clock on which microseconds take hours, or no time at all. */
#define SLOW_CLOCK (1ull << 40)
#define STOPPED_CLOCK 0

static void retries_until_there_is_room(void **state)
{
	struct rig *rig = rig_new(1, 1);

	(void)state;
	rig->worker->cycles_per_us = SLOW_CLOCK;
	rig->snapshot->ports[0].retry = 1;
	memory_set_busy(rig->ports[0], 0, 5);
	send_marked(rig, 0, 'a', 60);
	send_marked(rig, 0, 'b', 60);
	send_burst(rig);
	check_marks(rig, 0, "ab");
	assert_int_equal(counters_of(rig, 0).retries, 5);
	assert_int_equal(counters_of(rig, 0).packets, 2);
	assert_int_equal(rig_dropped(counters_of(rig, 0).dropped), 0);
	/* It was told of what it had before the first retry, and is to be told of the rest. */
	assert_int_equal(memory_counts(rig->ports[0], 0).notified[PORT_TX], 1);
	assert_int_equal(rig->worker->notice_count, 1);
	rig_free(rig);
}

static void no_retry_unless_asked_for(void **state)
{
	struct rig *rig = rig_new(1, 1);

	(void)state;
	rig->worker->cycles_per_us = SLOW_CLOCK;
	memory_set_busy(rig->ports[0], 0, 1);
	send_marked(rig, 0, 'a', 60);
	send_burst(rig);
	check_marks(rig, 0, "");
	assert_int_equal(counters_of(rig, 0).retries, 0);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_RING_FULL], 1);
	/* Nor when the time is over at once. */
	rig->worker->cycles_per_us = STOPPED_CLOCK;
	rig->snapshot->ports[0].retry = 1000;
	memory_set_busy(rig->ports[0], 0, 1);
	send_marked(rig, 0, 'a', 60);
	send_burst(rig);
	assert_int_equal(counters_of(rig, 0).retries, 0);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_RING_FULL], 2);
	rig_free(rig);
}

/* Several receivers that take nothing more cost a burst one time, not one each. */
static void retries_end(void **state)
{
	struct rig *rig = rig_new(3, 1);
	struct tx_counters first;

	(void)state;
	for (uint16_t port = 0; port < 3; port++) {
		rig->snapshot->ports[port].retry = port < 2 ? 500 : 0;
		memory_set_room(rig->ports[port], 0, 1);
		send_marked(rig, port, 'a', 60);
		send_marked(rig, port, 'b', 60);
		send_marked(rig, port, 'c', 60);
	}
	rig->worker->cycles_per_us = 1000;
	send_burst(rig);
	for (uint16_t port = 0; port < 3; port++) {
		check_marks(rig, port, "a");
		assert_int_equal(counters_of(rig, port).dropped[DROP_RING_FULL], 2);
	}
	first = counters_of(rig, 0);
	assert_true(first.retries > 0);
	assert_int_equal(counters_of(rig, 1).retries, 0);
	assert_int_equal(counters_of(rig, 2).retries, 0);
	/* The next burst has a time of its own. */
	send_marked(rig, 1, 'd', 60);
	send_burst(rig);
	assert_true(counters_of(rig, 1).retries > 0);
	assert_int_equal(counters_of(rig, 1).dropped[DROP_RING_FULL], 3);
	rig_free(rig);
}

/* Frames that are too long, or are taken one by one, are counted once. */
static void retries_count_each_frame_once(void **state)
{
	struct rig *rig = rig_new(1, 1);
	struct tx_counters counters;

	(void)state;
	rig->worker->cycles_per_us = SLOW_CLOCK;
	rig->snapshot->ports[0].retry = 1;
	memory_set_longest(rig->ports[0], 100);
	memory_set_busy(rig->ports[0], 0, 1);
	send_marked(rig, 0, 'a', 101);
	send_marked(rig, 0, 'b', 60);
	send_marked(rig, 0, 'c', 101);
	send_burst(rig);
	counters = counters_of(rig, 0);
	check_marks(rig, 0, "b");
	assert_int_equal(counters.offered, 3);
	assert_int_equal(counters.retries, 1);
	assert_int_equal(counters.bytes, 60);
	assert_int_equal(counters.dropped[DROP_TOO_LONG], 2);
	assert_int_equal(counters.dropped[DROP_RING_FULL], 0);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(delivers),
		cmocka_unit_test(switched_off),
		cmocka_unit_test(mtu),
		cmocka_unit_test(not_connected),
		cmocka_unit_test(connection_is_lost),
		cmocka_unit_test(ring_full),
		cmocka_unit_test(too_long),
		cmocka_unit_test(a_flow_has_one_queue),
		cmocka_unit_test(only_enabled_queues),
		cmocka_unit_test(a_full_queue_is_alone),
		cmocka_unit_test(each_queue_is_told_once_a_burst),
		cmocka_unit_test(floods_tell_everybody),
		cmocka_unit_test(retries_until_there_is_room),
		cmocka_unit_test(no_retry_unless_asked_for),
		cmocka_unit_test(retries_end),
		cmocka_unit_test(retries_count_each_frame_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
