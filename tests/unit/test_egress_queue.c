/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker/egress_queue.c: limits on what goes to a port, over memory ports, with a clock of the
 * test's own.
 */
#include "worker/egress_queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "rig.h"
#include "stage.h"

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define MBIT UINT64_C(1000000)
#define GBIT UINT64_C(1000000000)

static const uint16_t all[] = { 0, 1, 2, 3 };
static uint64_t now = 12345 * SECOND;

/* In place of the library's. */
uint64_t limiter_now(void)
{
	return now;
}

static void republish(struct rig *rig)
{
	snapshot_free(rig->snapshot);
	rig->snapshot = snapshot_new(rig->ports, rig->port_count, 1, rig->fdb);
	assert_non_null(rig->snapshot);
}

static struct port_settings settings_of(uint64_t rate, uint64_t burst, enum limit_excess excess)
{
	struct port_settings settings = port_default_settings;

	settings.egress = (struct port_limits){
		.bandwidth = { .rate = rate, .burst = burst }, .excess = excess };
	settings.queue = (struct port_queue_limits){ .bytes = EGRESS_QUEUE_MIN, .time = 50 };
	return settings;
}

static void set(struct rig *rig, const struct port_settings *settings)
{
	port_set(rig->ports[0], settings);
	republish(rig);
}

/* What goes to port 0 is limited. */
static struct rig *limited_rig(uint64_t rate, uint64_t burst, enum limit_excess excess)
{
	struct rig *rig = rig_new(3, 4);
	const struct port_settings settings = settings_of(rate, burst, excess);

	memory_connect(rig->ports[0], all, 1, NEEDS_ALL);
	set(rig, &settings);
	return rig;
}

static void iterate(struct rig *rig)
{
	worker_iterate(rig->worker);
	counters_of(rig, 0);
}

static int64_t tokens(struct rig *rig)
{
	return limiter_tokens(&rig->ports[0]->egress.bandwidth, now);
}

/* So many frames of one length with the marks from `mark` on, in bursts of up to 64. */
static void send(struct rig *rig, uint8_t mark, uint32_t length, int count)
{
	for (int i = 0; i < count; i++) {
		/* Their bytes must last until the burst is sent. */
		static uint8_t bytes[BURST_MAX][FRAME_LENGTH_MAX];
		uint8_t *own = bytes[i % BURST_MAX];

		packet_ethernet(own, rig_mac(0), rig_mac(99), length);
		own[14] = (uint8_t)(mark + i);
		stage(rig, add(rig, own, length), 0);
		if (i % BURST_MAX == BURST_MAX - 1 || i == count - 1)
			send_burst(rig);
	}
	counters_of(rig, 0);
}

static void expect_marks(struct rig *rig, uint8_t first, uint32_t count)
{
	assert_int_equal(memory_counts(rig->ports[0], 0).kept, count);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(memory_sent(rig->ports[0], 0, i)->bytes[14],
				 (uint8_t)(first + i));
}

/* ---- dropping ---- */

static void excess_is_dropped(void **state)
{
	struct rig *rig = limited_rig(8 * MBIT, 3000, EXCESS_DROP);
	struct tx_counters counters;

	(void)state;
	send(rig, 0, 1000, 5);
	counters = counters_of(rig, 0);
	assert_int_equal(counters.offered, 5);
	assert_int_equal(counters.packets, 3);
	assert_int_equal(counters.dropped[DROP_LIMIT], 2);
	assert_int_equal(counters.limited_bytes, 2000);
	assert_int_equal(tokens(rig), 0);
	/* A byte a microsecond; a first one passes on anything, and is owed. */
	now += 100 * US;
	send(rig, 0, 1000, 2);
	assert_int_equal(counters_of(rig, 0).packets, 4);
	assert_int_equal(tokens(rig), -900);
	now += 900 * US;
	send(rig, 0, 60, 1);
	assert_int_equal(counters_of(rig, 0).packets, 4);
	now += 500 * US;
	/* One that fits behind some that do not is let in. */
	send(rig, 0, 300, 1);
	stage(rig, add(rig, rig->bytes, 60), 0);
	stage(rig, add(rig, rig->bytes, 300), 0);
	stage(rig, add(rig, rig->bytes, 60), 0);
	send_burst(rig);
	assert_int_equal(counters_of(rig, 0).packets, 7);
	assert_int_equal(tokens(rig), 80);
	/* Nothing of it was ever to wait. */
	assert_null(rig->ports[0]->waiting);
	assert_int_equal(rig->worker->waiting_count, 0);
	assert_int_equal(counters_of(rig, 0).throttled, 0);
	rig_free(rig);
}

/* What did not find room, is too long for the receiver or its MTU, costs nothing. */
static void what_is_not_delivered_is_free(void **state)
{
	struct rig *rig = limited_rig(8 * MBIT, 10000, EXCESS_DROP);
	struct port_settings settings = settings_of(8 * MBIT, 10000, EXCESS_DROP);

	(void)state;
	memory_set_room(rig->ports[0], 0, 2);
	send(rig, 0, 1000, 5);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_RING_FULL], 3);
	assert_int_equal(tokens(rig), 8000);
	memory_set_room(rig->ports[0], 0, UINT32_MAX);
	memory_set_longest(rig->ports[0], 1500);
	send(rig, 0, 2000, 1);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_TOO_LONG], 1);
	assert_int_equal(tokens(rig), 8000);
	memory_set_longest(rig->ports[0], UINT32_MAX);
	settings.mtu = 1500;
	set(rig, &settings);
	/* Nor does it take others' place in the burst. */
	send(rig, 0, 9000, 3);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_MTU], 3);
	stage(rig, add(rig, rig->bytes, 9000), 0);
	stage(rig, add(rig, rig->bytes, 1000), 0);
	send_burst(rig);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_MTU], 4);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_LIMIT], 0);
	assert_int_equal(tokens(rig), 7000);
	memory_connect(rig->ports[0], all, 0, NEEDS_ALL);
	send(rig, 0, 1000, 3);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_NOT_CONNECTED], 3);
	assert_int_equal(tokens(rig), 7000);
	rig_free(rig);
}

static struct frame *add_tso(struct rig *rig, uint32_t segments)
{
	const struct packet_flow flow = { rig_mac(0), rig_mac(1), 0x0a000001, 0x0a000002, 40000,
					  80 };
	struct frame *frame;

	packet_tcp(rig->bytes, &flow, 54 + segments * 1000);
	frame = add(rig, rig->bytes, 54 + segments * 1000);
	frame->vnet = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1000, .hdr_len = 54 };
	frame->segments = (uint16_t)segments;
	frame->needs = NEEDS_CHECKSUM | NEEDS_TSO4;
	return frame;
}

/* Whole or cut: what is charged is the same. */
static void segments_are_charged(void **state)
{
	static const uint8_t accepts[] = { NEEDS_ALL, NEEDS_CHECKSUM, 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(accepts); i++) {
		struct rig *rig = limited_rig(8 * MBIT, 100000, EXCESS_DROP);
		struct port_settings settings = settings_of(8 * MBIT, 100000, EXCESS_DROP);

		memory_connect(rig->ports[0], all, 1, accepts[i]);
		settings.egress.packets = (struct limit_settings){ .rate = 1000, .burst = 100 };
		set(rig, &settings);
		stage(rig, add_tso(rig, 40), 0);
		stage(rig, add(rig, rig->bytes, 60), 0);
		send_burst(rig);
		assert_int_equal(counters_of(rig, 0).segments, 41);
		assert_int_equal(tokens(rig), 100000 - 40 * 1054 - 60);
		assert_int_equal(limiter_tokens(&rig->ports[0]->egress.packets, now), 59);
		/* Half of the segments find room. */
		if (accepts[i] != NEEDS_ALL) {
			memory_set_room(rig->ports[0], 0, 20);
			stage(rig, add_tso(rig, 40), 0);
			send_burst(rig);
			assert_int_equal(tokens(rig), 100000 - 60 * 1054 - 60);
			assert_int_equal(limiter_tokens(&rig->ports[0]->egress.packets, now), 39);
		}
		rig_free(rig);
	}
}

static void each_copy_of_a_flooded_frame_is_charged(void **state)
{
	struct rig *rig = limited_rig(8 * MBIT, 1000, EXCESS_DROP);
	struct port_settings settings = settings_of(8 * MBIT, 2000, EXCESS_DROP);

	(void)state;
	port_set(rig->ports[1], &settings);
	republish(rig);
	for (int i = 0; i < 5; i++)
		rig_inject(rig, 2, 0xffffffffffff, 500);
	worker_iterate(rig->worker);
	assert_int_equal(counters_of(rig, 0).packets, 2);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_LIMIT], 3);
	assert_int_equal(counters_of(rig, 1).packets, 4);
	assert_int_equal(counters_of(rig, 1).dropped[DROP_LIMIT], 1);
	rig_check_ledgers(rig);
	rig_free(rig);
}

/* ---- queueing ---- */

static void excess_waits_in_order(void **state)
{
	struct rig *rig = limited_rig(8 * MBIT, 3000, EXCESS_WAIT);
	struct tx_counters counters;

	(void)state;
	send(rig, 0, 1000, 10);
	counters = counters_of(rig, 0);
	assert_int_equal(counters.offered, 10);
	assert_int_equal(counters.packets, 3);
	assert_int_equal(counters.queued, 7);
	assert_int_equal(counters.queued_bytes, 7 * 1152);
	assert_int_equal(counters.throttled, 1);
	/* What comes now goes behind, though it would be small enough. */
	now += 200 * US;
	send(rig, 10, 60, 2);
	assert_int_equal(counters_of(rig, 0).queued, 8);
	assert_int_equal(tokens(rig), -800);
	for (int i = 0; i < 200 && counters_of(rig, 0).queued > 0; i++) {
		iterate(rig);
		if (counters_of(rig, 0).queued > 0)
			assert_in_range(rig->worker->wait, 0, 1000 * US);
		now += 100 * US;
	}
	iterate(rig);
	expect_marks(rig, 0, 12);
	counters = counters_of(rig, 0);
	assert_int_equal(counters.packets, 12);
	assert_int_equal(counters.queued, 0);
	assert_int_equal(counters.queued_bytes, 0);
	assert_int_equal(counters.delayed, 9);
	assert_int_equal(counters.throttled, 1);
	assert_in_range(counters.throttled_ns, 6 * MS, 8 * MS);
	/* Nobody waits, nothing is due. */
	assert_int_equal(rig->worker->waiting_count, 0);
	assert_true(rig->worker->wait == UINT64_MAX);
	assert_true(rig->worker->counters.busy_cycles > 0);
	rig_free(rig);
}

/* A short frame that would fit does not overtake a long one of its burst. */
static void nobody_overtakes_in_a_burst(void **state)
{
	static const uint32_t lengths[] = { 600, 600, 60, 60 };
	static uint8_t bytes[4][600];
	struct rig *rig = limited_rig(8 * MBIT, 1000, EXCESS_WAIT);

	(void)state;
	for (uint8_t i = 0; i < 4; i++) {
		packet_ethernet(bytes[i], rig_mac(0), rig_mac(99), lengths[i]);
		bytes[i][14] = i;
		stage(rig, add(rig, bytes[i], lengths[i]), 0);
	}
	send_burst(rig);
	assert_int_equal(counters_of(rig, 0).packets, 1);
	assert_int_equal(counters_of(rig, 0).queued, 3);
	for (int i = 0; i < 20; i++) {
		now += 100 * US;
		iterate(rig);
	}
	expect_marks(rig, 0, 4);
	rig_free(rig);
}

static void a_queue_has_an_end(void **state)
{
	struct rig *rig = limited_rig(8 * MBIT, 1000, EXCESS_WAIT);
	const uint32_t room = EGRESS_QUEUE_MIN / 1152;

	(void)state;
	send(rig, 0, 1000, 1 + (int)room + 5);
	assert_int_equal(counters_of(rig, 0).packets, 1);
	assert_int_equal(counters_of(rig, 0).queued, room);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_QUEUE_FULL], 5);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_LIMIT], 0);
	for (int i = 0; i < 11; i++) {
		now += MS;
		iterate(rig);
	}
	expect_marks(rig, 0, 12);
	/* There is room again, at the end. */
	send(rig, (uint8_t)(1 + room), 1000, 1);
	assert_int_equal(counters_of(rig, 0).queued, room - 10);
	rig_free(rig);
}

static void nobody_waits_for_ever(void **state)
{
	struct rig *rig = limited_rig(8 * MBIT, 1000, EXCESS_WAIT);

	(void)state;
	/* A debt that takes a second. */
	limiter_settle(&rig->ports[0]->egress.bandwidth, (struct limit_grant){ 0 }, 1001000);
	send(rig, 0, 1000, 5);
	now += 20 * MS;
	send(rig, 5, 1000, 5);
	assert_int_equal(counters_of(rig, 0).queued, 10);
	now += 20 * MS;
	iterate(rig);
	/* The first has 10 ms left. */
	assert_in_range(rig->worker->wait, 10 * MS, 10 * MS + 1);
	now += rig->worker->wait;
	iterate(rig);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_QUEUE_TIMEOUT], 5);
	assert_int_equal(counters_of(rig, 0).queued, 5);
	now += 20 * MS + 1;
	iterate(rig);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_QUEUE_TIMEOUT], 10);
	assert_int_equal(counters_of(rig, 0).queued, 0);
	assert_true(rig->worker->wait == UINT64_MAX);
	/* A worker that was away sends what the tokens admit by then, late as it is. */
	now += 2 * SECOND;
	send(rig, 0, 500, 4);
	assert_int_equal(counters_of(rig, 0).queued, 2);
	now += 60 * MS;
	iterate(rig);
	assert_int_equal(counters_of(rig, 0).packets, 4);
	rig_free(rig);
}

/* With every burst that comes one goes: a queue that is not empty holds nobody below the rate. */
static void a_queue_keeps_up(void **state)
{
	struct rig *rig = limited_rig(8 * GBIT, 1000000, EXCESS_WAIT);
	struct port_settings settings = settings_of(8 * GBIT, 1000000, EXCESS_WAIT);
	uint64_t begin, before;

	(void)state;
	settings.queue.bytes = 1 << 20;
	set(rig, &settings);
	memory_connect(rig->ports[0], all, 4, NEEDS_ALL);
	send(rig, 0, 1500, 640);
	send(rig, 0, 1500, 640);
	assert_true(counters_of(rig, 0).queued > 0);
	before = counters_of(rig, 0).bytes;
	begin = now;
	/* 8 bursts an iteration where the rate has 5. */
	for (int i = 0; i < 100; i++) {
		for (int burst = 0; burst < 8; burst++) {
			now += 60 * US;
			send(rig, 0, 1500, BURST_MAX);
			for (uint16_t q = 0; q < 4; q++)
				memory_forget(rig->ports[0], q);
		}
		iterate(rig);
	}
	before = counters_of(rig, 0).bytes - before;
	assert_in_range(before, (now - begin) - 100000, (now - begin) + 100000);
	assert_true(counters_of(rig, 0).dropped[DROP_QUEUE_FULL] > 0);
	rig_free(rig);
}

static void who_is_gone_gets_nothing(void **state)
{
	struct rig *rig = limited_rig(8 * MBIT, 1000, EXCESS_WAIT);
	struct port_settings settings = settings_of(8 * MBIT, 1000, EXCESS_WAIT);
	struct port *gone = rig->ports[0];

	(void)state;
	send(rig, 0, 1000, 5);
	memory_connect(rig->ports[0], all, 0, NEEDS_ALL);
	iterate(rig);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_NOT_CONNECTED], 4);
	memory_connect(rig->ports[0], all, 1, NEEDS_ALL);
	send(rig, 0, 1000, 5);
	assert_int_equal(counters_of(rig, 0).queued, 5);
	settings.enabled = false;
	set(rig, &settings);
	iterate(rig);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_DISABLED], 5);
	settings.enabled = true;
	set(rig, &settings);
	send(rig, 0, 1000, 5);
	assert_int_equal(rig->worker->waiting_count, 1);
	/* A port that goes takes its memory with it; another one has its number. */
	rig->ports[0] = memory_port_new("new", 0, 1, 1, NULL);
	worker_notify(rig->worker);
	republish(rig);
	memory_port_free(gone);
	iterate(rig);
	assert_int_equal(rig->worker->waiting_count, 0);
	assert_int_equal(memory_counts(rig->ports[0], 0).sent, 0);
	gone = rig->ports[0];
	set(rig, &settings);
	send(rig, 0, 1000, 5);
	assert_int_equal(counters_of(rig, 0).queued, 4);
	rig->ports[0] = NULL;
	worker_notify(rig->worker);
	republish(rig);
	memory_port_free(gone);
	worker_iterate(rig->worker);
	assert_int_equal(rig->worker->waiting_count, 0);
	assert_true(rig->worker->wait == UINT64_MAX);
	rig->ports[0] = memory_port_new("last", 0, 1, 1, NULL);
	republish(rig);
	rig_free(rig);
}

/* If the limit goes, or the queue, or both: all that waits goes at once, and later ones behind. */
/* What waits for a port is of VLANs that it was in; whoever comes to others must not get it. */
static void who_is_in_another_vlan_gets_nothing(void **state)
{
	struct rig *rig = limited_rig(8 * MBIT, 1000, EXCESS_WAIT);
	struct port_settings settings = settings_of(8 * MBIT, 1000, EXCESS_WAIT);

	(void)state;
	for (uint16_t vlan = 10; vlan <= 11; vlan++) {
		memory_forget(rig->ports[0], 0);
		send(rig, 0, 1000, 5);
		assert_int_equal(counters_of(rig, 0).queued, 4);
		now += MS;
		/* The same ones as before keep what waits. */
		set(rig, &settings);
		iterate(rig);
		expect_marks(rig, 0, 2);
		settings.vlan = (struct vlan_settings){ .mode = VLAN_ACCESS, .native = vlan };
		set(rig, &settings);
		now += 10 * MS;
		iterate(rig);
		assert_int_equal(counters_of(rig, 0).queued, 0);
		assert_int_equal(counters_of(rig, 0).dropped[DROP_VLAN], 3 * (vlan - 9));
		expect_marks(rig, 0, 2);
	}
	rig_free(rig);
}

static void a_queue_that_is_taken_away(void **state)
{
	static const struct {
		uint64_t rate;
		enum limit_excess excess;
	} cases[] = { { 0, EXCESS_WAIT }, { 8 * MBIT, EXCESS_DROP }, { 0, EXCESS_DROP } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *rig = limited_rig(8 * MBIT, 1000, EXCESS_WAIT);
		struct port_settings settings = settings_of(8 * MBIT, 1000, EXCESS_WAIT);
		const struct port_settings after = settings_of(cases[i].rate, 1000,
							       cases[i].excess);

		settings.queue.bytes = 1 << 20;
		set(rig, &settings);
		send(rig, 0, 1000, 1 + 100);
		assert_int_equal(counters_of(rig, 0).queued, 100);
		set(rig, &after);
		/* A burst in each iteration, and with each burst that comes. */
		iterate(rig);
		assert_int_equal(counters_of(rig, 0).queued, 100 - BURST_MAX);
		assert_int_equal(rig->worker->wait, 0);
		send(rig, 101, 1000, 1);
		assert_int_equal(counters_of(rig, 0).queued, 0);
		expect_marks(rig, 0, 102);
		if (cases[i].rate != 0)
			assert_int_equal(tokens(rig), -101000);
		iterate(rig);
		send(rig, 102, 1000, 1);
		assert_int_equal(counters_of(rig, 0).packets, cases[i].rate == 0 ? 103 : 102);
		assert_int_equal(counters_of(rig, 0).delayed, 101);
		rig_free(rig);
	}
}

/* A 64 KiB frame is kept whole, offload header and all, in the smallest queue, and is cut later. */
static void large_frames_wait_whole(void **state)
{
	struct rig *rig = limited_rig(80 * MBIT, 1000, EXCESS_WAIT);
	uint8_t expected[54 + 60 * 1000];

	(void)state;
	send(rig, 0, 1000, 1);
	stage(rig, add_tso(rig, 60), 0);
	memcpy(expected, rig->bytes, sizeof(expected));
	send_burst(rig);
	memset(rig->bytes, 0xee, sizeof(expected));
	assert_int_equal(counters_of(rig, 0).queued, 1);
	now += MS;
	iterate(rig);
	assert_int_equal(memory_counts(rig->ports[0], 0).kept, 2);
	assert_int_equal(memory_sent(rig->ports[0], 0, 1)->length, sizeof(expected));
	assert_int_equal(memory_sent(rig->ports[0], 0, 1)->vnet.gso_size, 1000);
	assert_memory_equal(memory_sent(rig->ports[0], 0, 1)->bytes, expected, sizeof(expected));
	assert_int_equal(tokens(rig), 1000 - 60 * 1054);
	/* For one who can only take segments by then. */
	stage(rig, add_tso(rig, 60), 0);
	send_burst(rig);
	assert_int_equal(counters_of(rig, 0).queued, 1);
	memory_connect(rig->ports[0], all, 1, 0);
	now += 10 * MS;
	iterate(rig);
	assert_int_equal(counters_of(rig, 0).cut, 59);
	assert_int_equal(memory_counts(rig->ports[0], 0).kept, 62);
	rig_free(rig);
}

/* Packets and bytes, in every window: what two workers deliver of one port's tokens, together. */
static void workers_share_the_tokens(void **state)
{
	struct rig *rig = rig_new(2, 2);
	struct port_settings settings = settings_of(400 * MBIT, 10000, EXCESS_WAIT);
	struct port *port = memory_port_new("shared", 0, 2, 2, NULL);
	struct worker *second;
	uint64_t begin, bytes = 0, waits = 0;
	int64_t least = 0;

	(void)state;
	memory_port_free(rig->ports[0]);
	rig->ports[0] = port;
	settings.queue.bytes = 1 << 20;
	port_set(port, &settings);
	snapshot_free(rig->snapshot);
	rig->snapshot = snapshot_new(rig->ports, 2, 2, rig->fdb);
	second = worker_new(1, 0, IDLE_ADAPTIVE, 2, rig->retire, &rig->snapshot);
	assert_non_null(second);
	begin = now;
	for (int i = 0; i < 4000; i++) {
		struct worker *first = rig->worker;
		uint64_t before = bytes;
		struct port_counters sum;

		now += 5 * US; /* 250 bytes */
		if (i % 2 == 0)
			rig->worker = second;
		if (i % 16 < 2)
			send(rig, (uint8_t)i, 1000, 3);
		else
			worker_iterate(rig->worker);
		rig->worker = first;
		port_sum_counters(port, &sum);
		bytes = sum.tx.bytes;
		waits += sum.tx.queued > 0;
		{
			int64_t excess = (int64_t)bytes - (int64_t)((now - begin) / 20);

			assert_true(excess - least <= 10000 + 2 * 1000);
			excess -= (int64_t)(bytes - before);
			least = excess < least ? excess : least;
		}
	}
	assert_true(waits > 1000);
	assert_in_range(bytes, (now - begin) / 20 - 2000, (now - begin) / 20 + 12000);
	for (uint16_t w = 0; w < 2; w++)
		assert_true(port->queues[0].counters[w].tx.delayed > 100);
	worker_free(second);
	rig_free(rig);
}

/* A limit that changes a thousand times a second: the mean is the mean of the rates. */
static void changes_under_traffic(void **state)
{
	struct rig *rig = limited_rig(400 * MBIT, 10000, EXCESS_WAIT);
	struct port_settings settings = settings_of(400 * MBIT, 10000, EXCESS_WAIT);
	uint64_t earned = 0, bytes;

	(void)state;
	settings.queue.bytes = 1 << 20;
	for (uint64_t i = 0; i < 1000; i++) {
		settings.egress.bandwidth.rate = (100 + i % 7 * 100) * MBIT;
		settings.queue.bytes = i % 3 == 0 ? 1 << 20 : 1 << 19;
		set(rig, &settings);
		for (int j = 0; j < 10; j++) {
			now += 100 * US;
			send(rig, 0, 1000, 16);
			iterate(rig);
			memory_forget(rig->ports[0], 0);
		}
		earned += settings.egress.bandwidth.rate / 8 / 1000;
	}
	bytes = counters_of(rig, 0).bytes;
	assert_in_range(bytes, earned - earned / 1000, earned + earned / 1000 + 10000);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(excess_is_dropped),
		cmocka_unit_test(what_is_not_delivered_is_free),
		cmocka_unit_test(segments_are_charged),
		cmocka_unit_test(each_copy_of_a_flooded_frame_is_charged),
		cmocka_unit_test(excess_waits_in_order),
		cmocka_unit_test(nobody_overtakes_in_a_burst),
		cmocka_unit_test(a_queue_has_an_end),
		cmocka_unit_test(nobody_waits_for_ever),
		cmocka_unit_test(a_queue_keeps_up),
		cmocka_unit_test(who_is_gone_gets_nothing),
		cmocka_unit_test(who_is_in_another_vlan_gets_nothing),
		cmocka_unit_test(a_queue_that_is_taken_away),
		cmocka_unit_test(large_frames_wait_whole),
		cmocka_unit_test(workers_share_the_tokens),
		cmocka_unit_test(changes_under_traffic),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
