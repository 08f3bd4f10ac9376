/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker/ingress.c: the ingress limits of a port, and ports that are switched off, over memory
 * ports. The time is real: where a test counts, the rate is so low and the frames are so long that
 * nothing to speak of is earned while it runs.
 */
#include "worker/worker.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_cycles.h>

#include "frame/vnet.h"
#include "rig.h"

#define SLOWEST LIMIT_BANDWIDTH_MIN /* 8 bytes a millisecond */
#define EARNED 4000                 /* bytes, at that rate, in the longest of these tests: 0.5 s */
#define LONG 60000                  /* a frame that takes 7.5 s at that rate */
#define MBIT UINT64_C(1000000)
#define PATIENCE_S 20

static void republish(struct rig *rig)
{
	snapshot_free(rig->snapshot);
	rig->snapshot = snapshot_new(rig->ports, rig->port_count, 1, rig->fdb);
	assert_non_null(rig->snapshot);
}

/* Two ports that know each other's hosts; what port 0 sends is limited. */
static struct rig *limited_rig(uint64_t rate, uint64_t burst, enum limit_excess excess)
{
	struct rig *rig = rig_new(2, 1);
	struct port_settings settings = rig->ports[0]->settings;

	settings.ingress.bandwidth.rate = rate;
	settings.ingress.bandwidth.burst = burst;
	settings.ingress.excess = excess;
	port_set(rig->ports[0], &settings);
	republish(rig);
	rig_learn_hosts(rig);
	return rig;
}

static void set_rate(struct rig *rig, uint64_t rate)
{
	struct port_settings settings = rig->ports[0]->settings;

	settings.ingress.bandwidth.rate = rate;
	port_set(rig->ports[0], &settings);
}

static uint16_t visit(struct rig *rig)
{
	struct port_queue *queue = &rig->ports[0]->queues[0];
	uint16_t count;

	rig->worker->wait = UINT64_MAX;
	count = worker_visit(rig->worker, rig->snapshot, queue, NULL);
	worker_notify(rig->worker);
	rig_check_ledgers(rig);
	assert_int_equal(memory_counts(rig->ports[0], 0).unreleased, 0);
	/* Whoever comes next finds the burst without a budget. */
	assert_true(rig->worker->burst->budget.bytes == BURST_UNLIMITED &&
		    rig->worker->burst->budget.packets == BURST_UNLIMITED);
	return count;
}

static struct rx_counters counters_of(struct rig *rig)
{
	struct port_counters sum;

	port_sum_counters(rig->ports[0], &sum);
	return sum.rx;
}

static void inject(struct rig *rig, uint32_t length, int count)
{
	for (int i = 0; i < count; i++)
		rig_inject(rig, 0, rig_mac(1), length);
}

static int64_t tokens(struct rig *rig)
{
	return limiter_tokens(&rig->ports[0]->ingress.bandwidth, limiter_now());
}

static void expect_tokens(struct rig *rig, int64_t expected)
{
	assert_in_range(tokens(rig) - expected, 0, EARNED);
}

/* ---- pause ---- */

static void stops_before_the_frame_that_exceeds(void **state)
{
	struct rig *rig = limited_rig(SLOWEST, 2 * LONG + LONG / 2, EXCESS_WAIT);

	(void)state;
	inject(rig, LONG, 6);
	assert_int_equal(visit(rig), 2);
	expect_tokens(rig, LONG / 2);
	assert_int_equal(counters_of(rig).throttled, 1);
	assert_int_equal(rig->worker->wait, 0);
	/* The first of a burst passes on anything, and is paid back. */
	assert_int_equal(visit(rig), 1);
	expect_tokens(rig, -LONG / 2);
	assert_in_range(rig->worker->wait, 3750000000 - 1000000000, 3750000000 + 1000000);
	/* To be refused again and again is one long wait. */
	for (int i = 0; i < 100; i++) {
		assert_int_equal(visit(rig), 0);
		assert_true(rig->worker->wait < 3750000000 + 1000000);
	}
	assert_int_equal(counters_of(rig).throttled, 2);
	assert_int_equal(counters_of(rig).packets, 3);
	assert_int_equal(memory_counts(rig->ports[0], 0).waiting, 3);
	rig_free(rig);
}

static void a_long_frame_passes_a_small_bucket(void **state)
{
	struct rig *rig = limited_rig(SLOWEST, 1, EXCESS_WAIT);

	(void)state;
	inject(rig, ETHERNET_HEADER + PORT_MTU_MAX, 2);
	assert_int_equal(visit(rig), 1);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 1);
	expect_tokens(rig, 1 - (ETHERNET_HEADER + PORT_MTU_MAX));
	assert_int_equal(visit(rig), 0);
	rig_free(rig);
}

static void nothing_waits_nothing_is_counted(void **state)
{
	struct rig *rig = limited_rig(SLOWEST, 2 * LONG, EXCESS_WAIT);

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(visit(rig), 0);
	inject(rig, LONG, 1);
	assert_int_equal(visit(rig), 1);
	assert_int_equal(visit(rig), 0);
	expect_tokens(rig, LONG);
	/* In debt, too. */
	inject(rig, LONG, 1);
	assert_int_equal(visit(rig), 1);
	limiter_settle(&rig->ports[0]->ingress.bandwidth, (struct limit_grant){ 0 }, LONG);
	assert_int_equal(visit(rig), 0);
	assert_int_equal(counters_of(rig).throttled, 0);
	assert_int_equal(counters_of(rig).throttled_ns, 0);
	assert_true(rig->worker->wait == UINT64_MAX);
	/* Until something comes. */
	inject(rig, LONG, 1);
	assert_int_equal(visit(rig), 0);
	assert_int_equal(counters_of(rig).throttled, 1);
	assert_true(rig->worker->wait < UINT64_MAX);
	rig_free(rig);
}

/* A long queue and room for little: frames that must wait are not even looked at. */
static void bursts_are_as_long_as_the_budget(void **state)
{
	struct rig *rig = limited_rig(SLOWEST, 10 * LONG, EXCESS_WAIT);
	struct port_queue *queue = &rig->ports[0]->queues[0];

	(void)state;
	inject(rig, LONG, 1);
	assert_int_equal(visit(rig), 1);
	assert_int_equal(queue->typical.bytes, LONG);
	/* Short ones after long ones: what is expected is wrong once. */
	inject(rig, 60, 100);
	assert_int_equal(visit(rig), 11);
	assert_int_equal(visit(rig), BURST_MAX);
	assert_int_equal(visit(rig), 25);
	/* And the other way round, while there is still something in the bucket. */
	inject(rig, LONG, 5);
	assert_int_equal(visit(rig), 1);
	assert_int_equal(visit(rig), 4);
	assert_int_equal(counters_of(rig).throttled, 0);
	rig_free(rig);
}

/* Nothing is lost, all in order, at the rate, and the time is accounted for. */
static void pausing_loses_nothing(void **state)
{
	const uint32_t count = 300;
	struct rig *rig = limited_rig(80 * MBIT, 3000, EXCESS_WAIT); /* 10 bytes a us */
	const uint64_t begin = limiter_now();
	struct rx_counters counters;
	uint64_t taken, bytes = 0;

	(void)state;
	for (uint32_t i = 0; i < count; i++) {
		inject(rig, 60 + i, 1);
		bytes += 60 + i;
	}
	while (memory_counts(rig->ports[1], 0).sent < count) {
		visit(rig);
		assert_true(limiter_now() - begin < PATIENCE_S * UINT64_C(1000000000));
	}
	taken = limiter_now() - begin;
	counters = counters_of(rig);
	assert_true(taken >= (bytes - 3000 - 60 - count) * 100);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(memory_sent(rig->ports[1], 0, i)->length, 60 + i);
	assert_int_equal(counters.packets, count);
	assert_int_equal(counters.forwarded, count);
	assert_true(counters.throttled > 1);
	assert_in_range(counters.throttled_ns, (bytes - 2 * 3000 - 60 - count) * 100, taken);
	rig_free(rig);
}

static void segments_are_charged(void **state)
{
	const struct packet_flow flow = { rig_mac(1), rig_mac(0), 0x0a000001, 0x0a000002, 40000,
					  80 };
	struct rig *rig = limited_rig(SLOWEST, 200000, EXCESS_WAIT);
	struct memory_frame frame = {
		.vnet = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16,
			  .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 536, .hdr_len = 9999 },
		.bytes = rig->bytes, .length = 54 + 100 * 536, .pieces = 2,
	};

	(void)state;
	packet_tcp(rig->bytes, &flow, frame.length);
	assert_int_equal(memory_inject(rig->ports[0], 0, &frame), 0);
	assert_int_equal(visit(rig), 1);
	assert_int_equal(counters_of(rig).segments, 100);
	expect_tokens(rig, 200000 - 100 * (54 + 536));
	/* Sizes that are refused are charged as they are, and so is what the port found wrong. */
	frame.vnet.gso_size = 1;
	assert_int_equal(memory_inject(rig->ports[0], 0, &frame), 0);
	frame.vnet = (struct virtio_net_hdr){ 0 };
	frame.length = 20000;
	frame.drop = DROP_MALFORMED;
	assert_int_equal(memory_inject(rig->ports[0], 0, &frame), 0);
	assert_int_equal(visit(rig), 2);
	assert_int_equal(counters_of(rig).dropped[DROP_BAD_OFFLOAD], 1);
	assert_int_equal(counters_of(rig).dropped[DROP_MALFORMED], 1);
	expect_tokens(rig, 200000 - 100 * (54 + 536) - (54 + 100 * 536) - 20000);
	rig_free(rig);
}

/* Whatever a header says before it is checked, what it is charged then is no more. */
static void the_bound_is_one(void **state)
{
	static const uint8_t types[] = { VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4,
					 VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_HDR_GSO_TCPV6, 0x77 };
	static const uint32_t lengths[] = { 60, 102, 103, 1514, 9000, 65549, FRAME_LENGTH_MAX };
	const struct packet_flow flow = { rig_mac(1), rig_mac(0), 1, 2, 3, 4 };
	struct burst *burst = burst_new();
	struct frame *frame = &burst->frames[0];
	uint8_t *bytes = malloc(PACKET_SIZE_MAX);
	unsigned int segmented = 0;

	(void)state;
	for (unsigned int i = 0; i < 5 * 7 * 400; i++) {
		const uint32_t size = i / 35;
		struct charge bound;

		memset(frame, 0, offsetof(struct frame, head));
		frame->length = lengths[i % 7];
		frame->head_length = frame->length < FRAME_HEAD_MAX ? (uint16_t)frame->length
								    : FRAME_HEAD_MAX;
		frame->vnet = (struct virtio_net_hdr){
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = types[i / 7 % 5],
			.gso_size = (uint16_t)(size < 200 ? size : size * 163),
			.csum_start = 34, .csum_offset = 16, .hdr_len = 0xffff };
		packet_tcp(bytes, &flow, frame->length);
		if (frame->vnet.gso_type == VIRTIO_NET_HDR_GSO_UDP) {
			packet_udp(bytes, &flow, frame->length);
			frame->vnet.csum_offset = 6;
		}
		memcpy(frame->head, bytes, frame->head_length);
		bound = vnet_charge_bound(frame);
		if (vnet_check(frame, NEEDS_ALL) != 0 || frame->segments == 1) {
			assert_int_equal(vnet_charge(frame).bytes, frame->length);
		} else {
			/* Only the first of UDP's fragments has its header. */
			uint32_t headers = types[i / 7 % 5] == VIRTIO_NET_HDR_GSO_UDP ? 34 : 54;

			segmented++;
			assert_int_equal(vnet_charge(frame).bytes,
					 frame->length + (frame->segments - 1) * headers);
		}
		assert_int_equal(vnet_charge(frame).packets, frame->segments);
		assert_true(vnet_charge(frame).bytes <= bound.bytes);
		assert_true(frame->segments <= bound.packets);
	}
	assert_true(segmented > 1000);
	free(bytes);
	burst_free(burst);
}

/* Both limits must let a frame in, and the one that refuses costs the other nothing. */
static void packets_are_limited(void **state)
{
	struct rig *rig = limited_rig(0, 0, EXCESS_WAIT);
	struct port_settings settings = rig->ports[0]->settings;
	struct limits *limits = &rig->ports[0]->ingress;

	(void)state;
	settings.ingress.packets = (struct limit_settings){ .rate = 1, .burst = 100 };
	port_set(rig->ports[0], &settings);
	inject(rig, 60, 130);
	assert_int_equal(visit(rig), BURST_MAX);
	assert_int_equal(visit(rig), 100 - BURST_MAX);
	assert_int_equal(visit(rig), 0);
	assert_int_equal(counters_of(rig).throttled, 1);
	assert_in_range(rig->worker->wait, 1, 1000000000);
	assert_int_equal(memory_counts(rig->ports[0], 0).waiting, 30);
	/* Both: bytes for two, packets for more. */
	settings.ingress.bandwidth = (struct limit_settings){ SLOWEST, 2 * LONG, 0 };
	settings.ingress.packets = (struct limit_settings){ 0 };
	port_set(rig->ports[0], &settings);
	memory_forget(rig->ports[1], 0);
	assert_int_equal(visit(rig), 30);
	settings.ingress.packets = (struct limit_settings){ .rate = 1, .burst = 5 };
	port_set(rig->ports[0], &settings);
	inject(rig, LONG, 4);
	while (visit(rig) > 0)
		;
	assert_int_equal(memory_counts(rig->ports[0], 0).waiting, 2);
	assert_in_range(limiter_tokens(&limits->packets, limiter_now()), 3, 4);
	inject(rig, 60, 10);
	for (int i = 0; i < 100; i++)
		assert_int_equal(visit(rig), 0);
	assert_in_range(limiter_tokens(&limits->packets, limiter_now()), 3, 4);
	/* And the other way round. */
	settings.ingress.bandwidth = (struct limit_settings){ 1000 * MBIT, 100 * LONG, 0 };
	port_set(rig->ports[0], &settings);
	usleep(2000);
	while (visit(rig) > 0)
		;
	assert_true(memory_counts(rig->ports[0], 0).waiting >= 7);
	assert_true(limiter_tokens(&limits->packets, limiter_now()) <= 0);
	usleep(20000);
	assert_true(tokens(rig) > 0);
	rig_free(rig);
}

static void segments_are_packets(void **state)
{
	const struct packet_flow flow = { rig_mac(1), rig_mac(0), 0x0a000001, 0x0a000002, 40000,
					  80 };
	struct rig *rig = limited_rig(0, 0, EXCESS_DROP);
	struct port_settings settings = rig->ports[0]->settings;
	struct memory_frame frame = {
		.vnet = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16,
			  .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1000 },
		.bytes = rig->bytes, .length = 54 + 40 * 1000, .pieces = 2,
	};

	(void)state;
	settings.ingress.packets = (struct limit_settings){ .rate = 1, .burst = 100 };
	port_set(rig->ports[0], &settings);
	packet_tcp(rig->bytes, &flow, frame.length);
	for (int i = 0; i < 3; i++)
		assert_int_equal(memory_inject(rig->ports[0], 0, &frame), 0);
	inject(rig, 60, 30);
	assert_int_equal(visit(rig), 33);
	/* The third has no room, twenty of the short ones have. */
	assert_int_equal(counters_of(rig).dropped[DROP_LIMIT], 11);
	assert_int_equal(counters_of(rig).limited_bytes, frame.length + 10 * 60);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 22);
	assert_in_range(limiter_tokens(&rig->ports[0]->ingress.packets, limiter_now()), 0, 1);
	/* More segments than the bucket holds pass it full, and are owed. */
	settings.ingress.packets.rate = 0;
	port_set(rig->ports[0], &settings);
	settings.ingress.excess = EXCESS_WAIT;
	settings.ingress.packets = (struct limit_settings){ .rate = 1, .burst = 3 };
	port_set(rig->ports[0], &settings);
	republish(rig);
	packet_tcp(rig->bytes, &flow, frame.length);
	for (int i = 0; i < 3; i++)
		assert_int_equal(memory_inject(rig->ports[0], 0, &frame), 0);
	assert_int_equal(visit(rig), 1);
	assert_int_equal(visit(rig), 0);
	assert_in_range(limiter_tokens(&rig->ports[0]->ingress.packets, limiter_now()) + 37, 0, 1);
	rig_free(rig);
}

/* A limit that is taken away lets go of what it held. */
static void a_limit_goes(void **state)
{
	struct rig *rig = limited_rig(SLOWEST, 1, EXCESS_WAIT);
	uint64_t held;

	(void)state;
	inject(rig, LONG, 5);
	assert_int_equal(visit(rig), 1);
	assert_int_equal(visit(rig), 0);
	set_rate(rig, 0);
	assert_int_equal(visit(rig), 4);
	held = counters_of(rig).throttled_ns;
	assert_true(held > 0);
	assert_true(rig->worker->wait == UINT64_MAX);
	/* When it comes back, the time in between was nobody's. */
	usleep(20000);
	set_rate(rig, 1000 * MBIT);
	assert_int_equal(visit(rig), 0);
	assert_int_equal(counters_of(rig).throttled_ns, held);
	inject(rig, LONG, 70);
	set_rate(rig, 0);
	assert_int_equal(visit(rig), BURST_MAX);
	rig_free(rig);
}

static void a_faster_rate_holds_from_the_next_burst(void **state)
{
	struct rig *rig = limited_rig(SLOWEST, LONG + 1000, EXCESS_WAIT);

	(void)state;
	inject(rig, LONG, 3);
	assert_int_equal(visit(rig), 1);
	assert_int_equal(visit(rig), 1);
	assert_int_equal(visit(rig), 0);
	set_rate(rig, LIMIT_BANDWIDTH_MAX);
	usleep(10);
	assert_int_equal(visit(rig), 1);
	rig_free(rig);
}

/* One with a frame for another queue. Its clock is so slow that it never is time for idle ones. */
static void iterate_slowly(struct rig *rig)
{
	rig->worker->cycles_per_us = UINT64_C(1) << 40;
	/* It asks for the time all the same. */
	rig->worker->asked = rte_rdtsc() - ((WORKER_LATE_US + UINT64_C(1)) << 40);
	rig_inject(rig, 1, rig_mac(0), 60);
	worker_iterate(rig->worker);
}

/* Frames wait there, and only the limiter knows for how long. */
static void who_is_held_back_is_not_idle(void **state)
{
	struct rig *rig = limited_rig(SLOWEST, 1, EXCESS_WAIT);
	uint32_t before;

	(void)state;
	inject(rig, LONG, 2);
	for (int i = 0; i < 2 * IDLE_VISITS; i++) {
		iterate_slowly(rig);
		assert_true(i == 0 || rig->worker->wait < UINT64_MAX);
	}
	assert_int_equal(memory_counts(rig->ports[0], 0).polled, 2 * IDLE_VISITS);
	/* One that was idle is found to be held back when frames come. */
	memory_forget(rig->ports[1], 0);
	set_rate(rig, LIMIT_BANDWIDTH_MAX);
	for (int i = 0; i < 2 * IDLE_VISITS; i++)
		iterate_slowly(rig);
	assert_int_equal(memory_counts(rig->ports[0], 0).waiting, 0);
	set_rate(rig, SLOWEST);
	inject(rig, LONG, 3);
	for (int i = 0; i < 2 * IDLE_VISITS; i++)
		iterate_slowly(rig);
	before = memory_counts(rig->ports[0], 0).polled;
	iterate_slowly(rig);
	assert_int_equal(memory_counts(rig->ports[0], 0).polled - before, 1);
	rig_free(rig);
}

/* ---- drop ---- */

static void excess_is_dropped_and_counted(void **state)
{
	struct rig *rig = limited_rig(SLOWEST, 2 * LONG + LONG / 2, EXCESS_DROP);
	const struct memory_frame own = { .bytes = rig->bytes, .length = LONG,
					  .drop = DROP_MALFORMED };

	(void)state;
	inject(rig, LONG, 2);
	inject(rig, LONG + 1, 3);
	assert_int_equal(memory_inject(rig->ports[0], 0, &own), 0);
	assert_int_equal(visit(rig), 6);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 2);
	assert_int_equal(counters_of(rig).dropped[DROP_LIMIT], 3);
	assert_int_equal(counters_of(rig).limited_bytes, 3 * (LONG + 1));
	/* What was wrong anyway keeps its reason. */
	assert_int_equal(counters_of(rig).dropped[DROP_MALFORMED], 1);
	expect_tokens(rig, LONG / 2);
	/* One that fits behind some that do not is let in; a first one is in any case. */
	inject(rig, LONG, 1);
	inject(rig, 100, 1);
	assert_int_equal(visit(rig), 2);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 3);
	expect_tokens(rig, -LONG / 2);
	assert_int_equal(counters_of(rig).dropped[DROP_LIMIT], 4);
	inject(rig, 60, BURST_MAX);
	assert_int_equal(visit(rig), BURST_MAX);
	assert_int_equal(counters_of(rig).dropped[DROP_LIMIT], 4 + BURST_MAX);
	assert_int_equal(counters_of(rig).limited_bytes, 3 * (LONG + 1) + 100 + 60 * BURST_MAX);
	expect_tokens(rig, -LONG / 2);
	assert_int_equal(counters_of(rig).throttled, 0);
	assert_true(rig->worker->wait == UINT64_MAX);
	rig_free(rig);
}

static void short_frames_fit_where_long_ones_do_not(void **state)
{
	struct rig *rig = limited_rig(SLOWEST, LONG + 1000, EXCESS_DROP);

	(void)state;
	inject(rig, LONG, 2);
	inject(rig, 500, 2);
	inject(rig, LONG, 1);
	assert_int_equal(visit(rig), 5);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 3);
	assert_int_equal(counters_of(rig).dropped[DROP_LIMIT], 2);
	expect_tokens(rig, 0);
	rig_free(rig);
}

static void from_pause_to_drop(void **state)
{
	struct rig *rig = limited_rig(SLOWEST, 1, EXCESS_WAIT);
	struct port_settings settings = rig->ports[0]->settings;
	uint64_t held;

	(void)state;
	inject(rig, LONG, 4);
	assert_int_equal(visit(rig), 1);
	assert_int_equal(visit(rig), 0);
	settings.ingress.excess = EXCESS_DROP;
	port_set(rig->ports[0], &settings);
	republish(rig);
	held = counters_of(rig).throttled_ns;
	assert_int_equal(visit(rig), 3);
	assert_int_equal(counters_of(rig).dropped[DROP_LIMIT], 3);
	assert_true(counters_of(rig).throttled_ns > held);
	held = counters_of(rig).throttled_ns;
	assert_int_equal(visit(rig), 0);
	assert_int_equal(counters_of(rig).throttled_ns, held);
	rig_free(rig);
}

/* ---- ports that are switched off ---- */

static void disabled_ports_are_emptied(void **state)
{
	struct rig *rig = limited_rig(SLOWEST, 4 * LONG, EXCESS_WAIT);

	(void)state;
	rig->ports[0]->settings.enabled = false;
	republish(rig);
	inject(rig, LONG, 3);
	packet_ethernet(rig->bytes, rig_mac(1), rig_mac(77), 60);
	assert_int_equal(memory_inject(rig->ports[0], 0, &(struct memory_frame){
		.bytes = rig->bytes, .length = 60 }), 0);
	assert_int_equal(visit(rig), 4);
	assert_int_equal(counters_of(rig).dropped[DROP_DISABLED], 4);
	assert_int_equal(counters_of(rig).bytes, 3 * LONG + 60);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 0);
	assert_int_equal(learner_drain(&rig->worker->learner, rig->fdb, 0), 0);
	expect_tokens(rig, LONG - 60);
	rig->ports[0]->settings.enabled = true;
	republish(rig);
	inject(rig, 60, 1);
	assert_int_equal(visit(rig), 1);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 1);
	rig_free(rig);
}

/* ---- sleep ---- */

static const struct worker *sleeper; /* may be NULL */
static int naps_before_due, naps_too_long;
static long longest_nap;

/* In place of the C library's: does the worker mean to sleep beyond what it waits for? */
int nanosleep(const struct timespec *length, struct timespec *rest)
{
	if (sleeper != NULL && sleeper->wait < 100000) {
		naps_before_due++;
		naps_too_long += (uint64_t)length->tv_nsec > sleeper->wait;
	}
	if (length->tv_nsec > longest_nap)
		longest_nap = length->tv_nsec;
	return clock_nanosleep(CLOCK_MONOTONIC, 0, length, rest);
}

static void *run(void *argument)
{
	return worker_run(argument) == 0 ? NULL : argument;
}

/* One frame a millisecond: the worker sleeps in between, but never beyond the next. */
static void sleepers_wake_in_time(void **state)
{
	struct rig *rig = limited_rig(8 * MBIT, 1, EXCESS_WAIT);
	const uint64_t begin = limiter_now();
	pthread_t thread;

	(void)state;
	rig->worker->cycles_per_us = 1000;
	inject(rig, 1000, 60);
	sleeper = rig->worker;
	assert_int_equal(pthread_create(&thread, NULL, run, rig->worker), 0);
	/* With nothing left to wait for, it sleeps as ever. */
	while (memory_counts(rig->ports[1], 0).sent < 60 || longest_nap < 100000) {
		assert_true(limiter_now() - begin < PATIENCE_S * UINT64_C(1000000000));
		if (memory_counts(rig->ports[1], 0).sent < 60)
			longest_nap = 0;
		usleep(1000);
	}
	worker_stop(rig->worker);
	pthread_join(thread, NULL);
	sleeper = NULL;
	rig_check_ledgers(rig);
	assert_true(naps_before_due > 0);
	assert_int_equal(naps_too_long, 0);
	assert_true(rig->worker->counters.sleep_ns > 0);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stops_before_the_frame_that_exceeds),
		cmocka_unit_test(a_long_frame_passes_a_small_bucket),
		cmocka_unit_test(nothing_waits_nothing_is_counted),
		cmocka_unit_test(bursts_are_as_long_as_the_budget),
		cmocka_unit_test(pausing_loses_nothing),
		cmocka_unit_test(segments_are_charged),
		cmocka_unit_test(the_bound_is_one),
		cmocka_unit_test(packets_are_limited),
		cmocka_unit_test(segments_are_packets),
		cmocka_unit_test(a_limit_goes),
		cmocka_unit_test(a_faster_rate_holds_from_the_next_burst),
		cmocka_unit_test(who_is_held_back_is_not_idle),
		cmocka_unit_test(excess_is_dropped_and_counted),
		cmocka_unit_test(short_frames_fit_where_long_ones_do_not),
		cmocka_unit_test(from_pause_to_drop),
		cmocka_unit_test(disabled_ports_are_emptied),
		cmocka_unit_test(sleepers_wake_in_time),
	};

	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
