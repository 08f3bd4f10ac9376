/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge/forward.c: each verdict and each reason to drop, what is staged for whom, and that the
 * ledger balances after each burst.
 */
#include "bridge/forward.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "forward_rig.h"

static void known_destination(void **state)
{
	struct fixture *fixture = *state;
	struct frame *frame = add(fixture, host(2), host(1));

	fdb_learn(fixture->fdb, key_of(host(2), 0), 2, 0);
	forward(fixture, 1);
	assert_int_equal(frame->verdict, VERDICT_FORWARD);
	assert_int_equal(frame->destination, 2);
	assert_int_equal(frame->port, 1);
	assert_int_equal(fixture->counters.forwarded, 1);
	assert_int_equal(fixture->forward.staged_count, 1);
	assert_int_equal(fixture->staged[0], 2);
	assert_int_equal(fixture->stages[2].count, 1);
	assert_ptr_equal(fixture->stages[2].frames[0], frame);
	assert_int_equal(fixture->counters.copies, 0);
}

/* All ports but the one it came from, each once. */
static void check_flooded(struct fixture *fixture, const struct frame *frame, uint16_t from)
{
	assert_int_equal(frame->verdict, VERDICT_FLOOD);
	assert_int_equal(fixture->counters.flooded, 1);
	assert_int_equal(fixture->counters.copies, PORTS - 2);
	for (uint16_t i = 0; i < PORTS; i++) {
		assert_int_equal(fixture->stages[i].count, i != from && i != 5);
		if (fixture->stages[i].count > 0)
			assert_ptr_equal(fixture->stages[i].frames[0], frame);
	}
}

static void unknown_destination(void **state)
{
	struct fixture *fixture = *state;
	struct frame *frame = add(fixture, host(77), host(1));

	forward(fixture, 1);
	check_flooded(fixture, frame, 1);
}

static void broadcast_and_multicast(void **state)
{
	static const uint64_t groups[] = { BROADCAST, 0x01005e000001, 0x333300000001,
					   /* close to the link-local groups, but none */
					   0x0180c2000010, 0x0180c2000100, 0x0180c3000000,
					   0x0380c2000000 };
	struct fixture *fixture = *state;

	for (unsigned int i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		struct frame *frame = add(fixture, groups[i], host(3));

		/* Even if somebody were to claim the address. */
		fdb_learn(fixture->fdb, key_of(groups[i], 0), 2, 0);
		memset(&fixture->counters, 0, sizeof(fixture->counters));
		forward(fixture, 3);
		check_flooded(fixture, frame, 3);
		next_burst(fixture);
	}
}

static void number_without_port(void **state)
{
	static const uint16_t numbers[] = { 5, PORTS - 1, PORTS, FDB_PORT_MAX };
	struct fixture *fixture = *state;

	/*
	 * The table may know a number for a while whose port is gone, or is not in this snapshot
	 * yet.
	 */
	fixture->table.port_count = PORTS - 1;
	for (unsigned int i = 0; i < 4; i++) {
		struct frame *frame = add(fixture, host(9), host(1));

		fdb_learn(fixture->fdb, key_of(host(9), 0), numbers[i], 0);
		memset(&fixture->counters, 0, sizeof(fixture->counters));
		forward(fixture, 1);
		check_flooded(fixture, frame, 1);
		next_burst(fixture);
	}
}

static void hairpin(void **state)
{
	struct fixture *fixture = *state;
	struct frame *frame = add(fixture, host(2), host(1));

	fdb_learn(fixture->fdb, key_of(host(2), 0), 1, 0);
	forward(fixture, 1);
	check_dropped(fixture, frame, DROP_HAIRPIN);
}

static void link_local(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned int last = 0; last <= 0x0f; last++) {
		struct frame *frame = add(fixture, 0x0180c2000000 + last, host(1));

		memset(&fixture->counters, 0, sizeof(fixture->counters));
		forward(fixture, 1);
		check_dropped(fixture, frame, DROP_LINK_LOCAL);
		next_burst(fixture);
	}
}

static void bad_source(void **state)
{
	static const uint64_t sources[] = { 0, BROADCAST, 0x010000000000, 0x333300000001 };
	struct fixture *fixture = *state;

	fdb_learn(fixture->fdb, key_of(host(2), 0), 2, 0);
	for (unsigned int i = 0; i < 4; i++) {
		struct frame *frame = add(fixture, host(2), sources[i]);

		memset(&fixture->counters, 0, sizeof(fixture->counters));
		forward(fixture, 1);
		check_dropped(fixture, frame, DROP_BAD_SOURCE);
		next_burst(fixture);
	}
	/* And it is not learned: a group as a source would catch that group's frames. */
	assert_int_equal(fixture->learner->head, 0);
}

static void too_short(void **state)
{
	static const uint16_t lengths[] = { 0, 1, 6, 13 };
	struct fixture *fixture = *state;
	struct frame *frame;

	fdb_learn(fixture->fdb, key_of(host(2), 0), 2, 0);
	for (unsigned int i = 0; i < 4; i++) {
		frame = add(fixture, host(2), host(1));
		frame->length = lengths[i];
		frame->head_length = lengths[i];
		memset(&fixture->counters, 0, sizeof(fixture->counters));
		forward(fixture, 1);
		check_dropped(fixture, frame, DROP_TOO_SHORT);
		next_burst(fixture);
	}
	assert_int_equal(fixture->learner->head, 0);
	/* A bare header is a frame. */
	frame = add(fixture, host(2), host(1));
	frame->length = ETHERNET_HEADER;
	frame->head_length = ETHERNET_HEADER;
	forward(fixture, 1);
	assert_int_equal(frame->verdict, VERDICT_FORWARD);
}

/* What the port or the offload check dropped keeps its reason, whatever its bytes say. */
static void dropped_before(void **state)
{
	static const enum drop reasons[] = { DROP_MALFORMED, DROP_TOO_LONG, DROP_BAD_OFFLOAD };
	struct fixture *fixture = *state;

	fdb_learn(fixture->fdb, key_of(host(2), 0), 2, 0);
	for (unsigned int i = 0; i < 3; i++) {
		struct frame *frame = add(fixture, host(2), host(1));

		frame_drop(frame, reasons[i]);
		memset(&fixture->counters, 0, sizeof(fixture->counters));
		forward(fixture, 1);
		check_dropped(fixture, frame, reasons[i]);
		next_burst(fixture);
	}
	assert_int_equal(fixture->learner->head, 0);
}

/* What is refused goes nowhere and teaches nothing; its neighbours in the burst are untouched. */
static void guarded(void **state)
{
	static const uint8_t macs[][6] = { { 0x52, 0x54, 0, 0, 0, 1 },
					   { 0x52, 0x54, 0, 0, 0, 3 } };
	struct guard_addresses addresses = { .mac_count = 2 };
	struct fixture *fixture = *state;
	struct frame *frames[6];

	memcpy(addresses.macs, macs, sizeof(macs));
	fixture->facts[1].guard = guard_new(GUARD_MAC, &addresses);
	fdb_learn(fixture->fdb, key_of(host(2), 0), 2, 0);
	frames[0] = add(fixture, host(2), host(1));
	frames[1] = add(fixture, host(2), host(4));
	frames[2] = add(fixture, host(2), host(4));
	frames[3] = add(fixture, host(2), host(1));
	frames[4] = add(fixture, host(2), host(3));
	frames[5] = add(fixture, BROADCAST, host(4));
	forward(fixture, 1);
	for (int i = 0; i < 6; i++) {
		const bool passes = i == 0 || i == 3 || i == 4;

		assert_int_equal(frames[i]->verdict, passes ? VERDICT_FORWARD : VERDICT_DROP);
		if (!passes)
			assert_int_equal(frames[i]->drop, DROP_GUARD);
	}
	assert_int_equal(fixture->counters.dropped[DROP_GUARD], 3);
	assert_int_equal(fixture->learner->head, 2);
	for (uint32_t i = 0; i < fixture->learner->head; i++)
		assert_int_not_equal(fixture->learner->items[i].key, key_of(host(4), 0));
	next_burst(fixture);
	/* What is wrong with any port's frames has its own reason. */
	add(fixture, host(2), BROADCAST);
	add(fixture, host(2), 0);
	frames[0] = add(fixture, host(2), host(4));
	frames[0]->length = 13;
	frames[1] = add(fixture, host(2), host(4));
	frame_drop(frames[1], DROP_MALFORMED);
	forward(fixture, 1);
	assert_int_equal(fixture->counters.dropped[DROP_BAD_SOURCE], 2);
	assert_int_equal(fixture->counters.dropped[DROP_TOO_SHORT], 1);
	assert_int_equal(fixture->counters.dropped[DROP_MALFORMED], 1);
	assert_int_equal(fixture->counters.dropped[DROP_GUARD], 3);
	next_burst(fixture);
	/* Other ports are their own. */
	frames[0] = add(fixture, host(2), host(4));
	forward(fixture, 3);
	assert_int_equal(frames[0]->verdict, VERDICT_FORWARD);
	guard_release(fixture->facts[1].guard);
}

/* A router advertisement that is longer than what was copied aside: its last option counts. */
static void guarded_beyond_the_head(void **state)
{
	static const uint8_t start[] = { 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 58, 255 };
	struct guard_addresses addresses = { .mac_count = 1,
					     .macs = { { 0x52, 0x54, 0, 0, 0, 1 } } };
	struct fixture *fixture = *state;
	uint8_t bytes[14 + 40 + 16 + 11 * 8] = { 0 };
	uint8_t *option = bytes + sizeof(bytes) - 8;

	fixture->facts[1].guard = guard_new(GUARD_ARP, &addresses);
	packet_mac(bytes, BROADCAST);
	packet_mac(bytes + 6, host(1));
	memcpy(bytes + 12, start, sizeof(start));
	packet_put16(bytes + 18, sizeof(bytes) - 54);
	bytes[54] = 134;
	for (uint8_t *at = bytes + 70; at < option; at += 8)
		memcpy(at, "\5\1\0\0\0\0\5\xdc", 8);
	memcpy(option, "\1\1", 2);
	for (int i = 0; i < 2; i++) {
		struct frame *frame = add(fixture, 0, 0);
		struct view views[2] = { { bytes + FRAME_HEAD_PLAIN, 10 },
					 { bytes + FRAME_HEAD_PLAIN + 10,
					   sizeof(bytes) - FRAME_HEAD_PLAIN - 10 } };

		packet_mac(option + 2, host(i == 0 ? 1 : 4));
		frame->length = sizeof(bytes);
		frame->head_length = FRAME_HEAD_PLAIN;
		memcpy(frame->head, bytes, FRAME_HEAD_PLAIN);
		frame->views = views;
		frame->view_count = 2;
		forward(fixture, 1);
		assert_int_equal(frame->verdict, i == 0 ? VERDICT_FLOOD : VERDICT_DROP);
		assert_int_equal(fixture->counters.dropped[DROP_GUARD], i);
		assert_int_equal(frame->head_length, sizeof(bytes));
		assert_int_equal(frame->view_count, 0);
		next_burst(fixture);
	}
	guard_release(fixture->facts[1].guard);
}

/* Nothing is sent and nothing is learned; what was wrong before keeps its reason. */
static void from_a_disabled_port(void **state)
{
	struct fixture *fixture = *state;
	struct frame *wrong;

	fdb_learn(fixture->fdb, key_of(host(2), 0), 2, 0);
	fixture->facts[1].enabled = false;
	add(fixture, host(2), host(1));
	add(fixture, BROADCAST, host(3));
	wrong = add(fixture, host(2), host(1));
	frame_drop(wrong, DROP_MALFORMED);
	forward(fixture, 1);
	assert_int_equal(fixture->counters.dropped[DROP_DISABLED], 2);
	assert_int_equal(fixture->counters.dropped[DROP_MALFORMED], 1);
	assert_int_equal(fixture->forward.staged_count, 0);
	assert_int_equal(fixture->learner->head, 0);
	next_burst(fixture);
	/* Others may send to it: what becomes of that is egress's matter. */
	add(fixture, BROADCAST, host(2));
	forward(fixture, 2);
	assert_int_equal(fixture->stages[1].count, 1);
}

static void nobody_else(void **state)
{
	struct fixture *fixture = *state;
	struct frame *frame = add(fixture, BROADCAST, host(1));

	for (uint16_t i = 1; i < PORTS; i++)
		fixture->facts[i].present = false;
	arrange(fixture);
	forward(fixture, 0);
	check_dropped(fixture, frame, DROP_NO_DESTINATION);
}

static void learns(void **state)
{
	struct fixture *fixture = *state;

	fixture->forward.now = 50;
	fdb_learn(fixture->fdb, key_of(host(1), 0), 1, 10);
	fdb_learn(fixture->fdb, key_of(host(2), 0), 2, 10);
	/* Known there: refreshed, nothing to say. */
	add(fixture, BROADCAST, host(1));
	forward(fixture, 1);
	assert_int_equal(fixture->learner->head, 0);
	fdb_age(fixture->fdb, 320, fixture->fdb->mask + 1);
	assert_int_equal(fdb_lookup(fixture->fdb, key_of(host(1), 0)), 1);
	assert_int_equal(fdb_lookup(fixture->fdb, key_of(host(2), 0)), FDB_NO_PORT);
	next_burst(fixture);
	/*
	 * New, and moved. Frames that are dropped for their destination tell of their source too.
	 */
	add(fixture, BROADCAST, host(3));
	add(fixture, host(1), host(1));
	forward(fixture, 4);
	assert_int_equal(fixture->learner->head, 2);
	assert_int_equal(learner_drain(fixture->learner, fixture->fdb, 60), 2);
	assert_int_equal(fdb_lookup(fixture->fdb, key_of(host(3), 0)), 4);
	assert_int_equal(fdb_lookup(fixture->fdb, key_of(host(1), 0)), 4);
}

/*
 * Frames of one flow are answered alike; one of another flow in between changes nothing for them.
 */
static void neighbours(void **state)
{
	struct fixture *fixture = *state;
	struct frame *frames[BURST_MAX];

	for (uint16_t i = 1; i < 5; i++)
		fdb_learn(fixture->fdb, key_of(host(i), 0), i, 0);
	frames[0] = add(fixture, host(2), host(1));
	frames[1] = add(fixture, host(2), host(1));
	frames[2] = add(fixture, BROADCAST, host(1));
	frames[3] = add(fixture, host(2), host(1));
	frames[4] = add(fixture, host(1), host(1)); /* hairpin */
	frames[5] = add(fixture, host(2), 0);       /* bad source */
	frames[6] = add(fixture, host(3), host(9)); /* another source */
	frames[7] = add(fixture, host(9), host(1)); /* unknown */
	frames[8] = add(fixture, host(4), host(1));
	frames[9] = add(fixture, host(4), host(8));
	frames[10] = add(fixture, host(2), host(1));
	forward(fixture, 1);
	assert_int_equal(fixture->counters.forwarded, 7);
	assert_int_equal(fixture->counters.flooded, 2);
	assert_int_equal(fixture->counters.dropped[DROP_HAIRPIN], 1);
	assert_int_equal(fixture->counters.dropped[DROP_BAD_SOURCE], 1);
	/* In order, the flooded ones among them. */
	assert_int_equal(fixture->stages[2].count, 6);
	assert_ptr_equal(fixture->stages[2].frames[0], frames[0]);
	assert_ptr_equal(fixture->stages[2].frames[1], frames[1]);
	assert_ptr_equal(fixture->stages[2].frames[2], frames[2]);
	assert_ptr_equal(fixture->stages[2].frames[3], frames[3]);
	assert_ptr_equal(fixture->stages[2].frames[4], frames[7]);
	assert_ptr_equal(fixture->stages[2].frames[5], frames[10]);
	assert_int_equal(fixture->stages[3].count, 3);
	assert_ptr_equal(fixture->stages[3].frames[1], frames[6]);
	assert_int_equal(fixture->stages[4].count, 4);
	assert_ptr_equal(fixture->stages[4].frames[2], frames[8]);
	assert_ptr_equal(fixture->stages[4].frames[3], frames[9]);
	/* The two new sources, once each. */
	assert_int_equal(fixture->learner->head, 2);
}

/* The last burst's answers are not this one's: the table may have changed in between. */
static void bursts_do_not_remember(void **state)
{
	struct fixture *fixture = *state;
	struct frame *frame;

	fdb_learn(fixture->fdb, key_of(host(2), 0), 2, 0);
	add(fixture, host(2), host(1));
	forward(fixture, 1);
	next_burst(fixture);
	fdb_learn(fixture->fdb, key_of(host(2), 0), 3, 0);
	frame = add(fixture, host(2), host(1));
	forward(fixture, 1);
	assert_int_equal(frame->destination, 3);
}

static void full_burst_is_flooded(void **state)
{
	struct fixture *fixture = *state;

	for (int i = 0; i < BURST_MAX; i++)
		add(fixture, BROADCAST, host(1))->segments = 3;
	forward(fixture, 1);
	assert_int_equal(fixture->counters.flooded, BURST_MAX);
	assert_int_equal(fixture->counters.copies, BURST_MAX * (PORTS - 2));
	assert_int_equal(fixture->counters.segments, BURST_MAX * 3);
	for (uint16_t port = 0; port < PORTS; port++) {
		if (port == 1 || port == 5)
			continue;
		assert_int_equal(fixture->stages[port].count, BURST_MAX);
		for (int i = 0; i < BURST_MAX; i++)
			assert_ptr_equal(fixture->stages[port].frames[i],
					 &fixture->burst->frames[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(known_destination),
		TEST(unknown_destination),
		TEST(broadcast_and_multicast),
		TEST(number_without_port),
		TEST(hairpin),
		TEST(link_local),
		TEST(bad_source),
		TEST(too_short),
		TEST(dropped_before),
		TEST(guarded),
		TEST(guarded_beyond_the_head),
		TEST(from_a_disabled_port),
		TEST(nobody_else),
		TEST(learns),
		TEST(neighbours),
		TEST(bursts_do_not_remember),
		TEST(full_burst_is_flooded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
