/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker/egress.c: what becomes of frames that their receiver cannot take as they are.
 */
#include "worker/egress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "frame/vnet.h"
#include "offload.h"
#include "rig.h"
#include "stage.h"

#define SAMPLES 16

static struct sample samples[SAMPLES];
static struct view sample_views[SAMPLES][FRAME_VIEWS_MAX];
static uint8_t wanted[FRAME_LENGTH_MAX];

/* The sample as a frame of the worker's burst that passed vnet_check. */
static struct frame *add_sample(struct rig *rig, struct entropy *entropy, unsigned int index)
{
	struct burst *burst = rig->worker->burst;
	struct frame *frame = &burst->frames[burst->count++];

	sample_to_frame(entropy, &samples[index], 40, frame, sample_views[index]);
	if (!vnet_is_plain(&frame->vnet))
		assert_int_equal(vnet_check(frame, NEEDS_ALL), 0);
	return frame;
}

static struct frame *send_sample(struct rig *rig, struct entropy *entropy, unsigned int index)
{
	struct frame *frame = add_sample(rig, entropy, index);

	stage(rig, frame, 0);
	return frame;
}

/* The burst consists of samples, which give their memory back. */
static void send_samples(struct rig *rig)
{
	egress_burst(rig->worker, rig->snapshot);
	for (uint16_t i = 0; i < rig->worker->burst->count; i++)
		sample_release(&rig->worker->burst->frames[i]);
	burst_reset(rig->worker->burst);
}

/* One TCP segmentation frame of so many segments of 1,000 bytes, without anything special. */
static void make_tso(struct sample *sample, uint32_t segments)
{
	struct entropy entropy;

	for (uint64_t seed = 1;; seed++) {
		entropy_init(&entropy, seed, NULL, 0);
		sample_make(&entropy, sample, SAMPLE_TSO);
		if (!sample->six && sample->headers == 54)
			break;
	}
	sample->vnet.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	sample->vnet.gso_size = 1000;
	sample->length = 54 + 1000 * segments;
	packet_put16(sample->bytes + 50, reference_pseudo(sample, sample->length - 34));
}

static void check_frame(struct rig *rig, uint16_t port, uint16_t queue, uint32_t index,
			const uint8_t *bytes, uint32_t length, uint8_t needs)
{
	const struct memory_frame *sent = memory_sent(rig->ports[port], queue, index);

	assert_non_null(sent);
	assert_int_equal(sent->length, length);
	assert_memory_equal(sent->bytes, bytes, length);
	assert_int_equal(sent->needs, needs);
	assert_int_equal(sent->vnet.flags, needs ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0);
}

/*
 * What must have arrived of a sample at a receiver like this, from the copy number `index` on.
 * Returns the number of the next.
 */
static uint32_t check_arrived(struct rig *rig, uint16_t port, uint16_t queue, uint32_t index,
			      const struct sample *sample, uint8_t needs, uint8_t accepts)
{
	uint8_t checksum = sample->kind == SAMPLE_UFO ? 0 : accepts & NEEDS_CHECKSUM;
	const struct memory_frame *first = memory_sent(rig->ports[port], queue, index);
	struct sample known;
	uint32_t length;

	if ((needs & ~accepts) == 0) {
		check_frame(rig, port, queue, index, sample->bytes, sample->length, needs);
		assert_int_equal(first->vnet.gso_size, reference_size(sample));
		return index + 1;
	}
	if ((needs & (NEEDS_TSO4 | NEEDS_TSO6 | NEEDS_UFO | NEEDS_USO)) == 0) {
		memcpy(wanted, sample->bytes, sample->length);
		reference_fill(wanted, sample->length, sample->vnet.csum_start,
			       sample->vnet.csum_offset);
		check_frame(rig, port, queue, index, wanted, sample->length, 0);
		return index + 1;
	}
	/* Fragments over IPv6 have a random identification, all of them the same. */
	known = *sample;
	assert_non_null(first);
	if (sample->kind == SAMPLE_UFO && sample->six)
		memcpy(&known.identification, first->bytes + sample->transport + 4, 4);
	for (uint32_t i = 0; (length = reference_segment(&known, i, !checksum, wanted)) > 0; i++) {
		check_frame(rig, port, queue, index, wanted, length, checksum);
		assert_int_equal(memory_sent(rig->ports[port], queue, index)->vnet.gso_type, 0);
		assert_int_equal(memory_sent(rig->ports[port], queue, index)->segments, 1);
		index++;
	}
	return index;
}

/* A flooded burst meets one that takes everything, one that takes checksums, and one nothing. */
static void receivers_that_differ(void **state)
{
	static const uint8_t accepts[] = { NEEDS_ALL, NEEDS_CHECKSUM, 0 };
	static const uint32_t segments[] = { 1, 2, 3, 2, 1 };
	static const uint16_t only[] = { 0 };
	struct rig *rig = rig_new(3, 1);
	uint8_t needs[5];
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 1, NULL, 0);
	for (unsigned int i = 0; i < 5; i++) {
		struct frame *frame;

		make_tso(&samples[i], segments[i]);
		if (i == 0 || i == 4) /* plain */
			memset(&samples[i].vnet, 0, sizeof(samples[i].vnet));
		frame = add_sample(rig, &entropy, i);
		needs[i] = frame->needs;
		for (uint16_t port = 0; port < 3; port++)
			stage(rig, frame, port);
	}
	for (uint16_t port = 0; port < 3; port++)
		memory_connect(rig->ports[port], only, 1, accepts[port]);
	send_samples(rig);
	for (uint16_t port = 0; port < 3; port++) {
		struct tx_counters counters = counters_of(rig, port);
		uint32_t index = 0;

		for (unsigned int i = 0; i < 5; i++)
			index = check_arrived(rig, port, 0, index, &samples[i], needs[i],
					      accepts[port]);
		assert_int_equal(memory_counts(rig->ports[port], 0).sent, index);
		assert_int_equal(counters.offered, 5);
		assert_int_equal(counters.packets, index);
		assert_int_equal(counters.segments, 9);
		assert_int_equal(counters.cut, port == 0 ? 0 : 1 + 2 + 1);
		assert_int_equal(rig_dropped(counters.dropped), 0);
	}
	/* Each is told once, however many batches there were. */
	assert_int_equal(rig->worker->notice_count, 3);
	rig_free(rig);
}

/* Whatever one receiver lacks. */
static void each_offload_by_itself(void **state)
{
	static const uint16_t only[] = { 0 };
	struct rig *rig = rig_new(1, 1);
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 2, NULL, 0);
	for (int i = 0; i < 400; i++) {
		uint8_t lacks = (uint8_t)(1u << entropy_below(&entropy, 6)), needs;

		memory_connect(rig->ports[0], only, 1, (uint8_t)(NEEDS_ALL & ~lacks));
		sample_make(&entropy, &samples[0], (enum sample_kind)(i % 4));
		needs = send_sample(rig, &entropy, 0)->needs;
		send_samples(rig);
		check_arrived(rig, 0, 0, 0, &samples[0], needs, (uint8_t)(NEEDS_ALL & ~lacks));
		worker_notify(rig->worker);
		memory_forget(rig->ports[0], 0);
	}
	assert_int_equal(rig_dropped(counters_of(rig, 0).dropped), 0);
	rig_free(rig);
}

/* Mixtures of all kinds for all kinds of receivers: everything arrives, in order, as it must be. */
static void random_bursts(void **state)
{
	static const uint16_t only[] = { 0 };
	struct rig *rig = rig_new(1, 1);
	struct entropy entropy;
	uint64_t offered = 0;

	(void)state;
	entropy_init(&entropy, 3, NULL, 0);
	for (int round = 0; round < 150; round++) {
		uint8_t accepts = 0, needs[SAMPLES];
		unsigned int count = 1 + entropy_below(&entropy, SAMPLES);
		uint32_t index = 0;

		if (!entropy_chance(&entropy, 3))
			accepts = (uint8_t)(NEEDS_CHECKSUM | entropy_below(&entropy, NEEDS_ALL));
		memory_connect(rig->ports[0], only, 1, accepts);
		for (unsigned int i = 0; i < count; i++) {
			sample_make(&entropy, &samples[i],
				    (enum sample_kind)entropy_below(&entropy, 4));
			if (entropy_chance(&entropy, 3))
				memset(&samples[i].vnet, 0, sizeof(samples[i].vnet));
			needs[i] = send_sample(rig, &entropy, i)->needs;
		}
		rig->worker->notice_count = 0;
		send_samples(rig);
		assert_int_equal(rig->worker->notice_count, 1);
		for (unsigned int i = 0; i < count; i++)
			index = check_arrived(rig, 0, 0, index, &samples[i], needs[i], accepts);
		assert_int_equal(memory_counts(rig->ports[0], 0).kept, index);
		memory_forget(rig->ports[0], 0);
		offered += count;
	}
	assert_int_equal(counters_of(rig, 0).offered, offered);
	assert_int_equal(rig_dropped(counters_of(rig, 0).dropped), 0);
	assert_true(counters_of(rig, 0).cut > 5000);
	rig_free(rig);
}

/* All segments of a frame go where its flow goes. */
static void flows_that_are_cut_stay_in_order(void **state)
{
	uint16_t queues[] = { 0, 1, 2, 3 };
	uint32_t index[4] = { 0 };
	struct rig *rig = rig_new(1, 4);
	struct entropy entropy;
	int used = 0;

	(void)state;
	entropy_init(&entropy, 4, NULL, 0);
	memory_connect(rig->ports[0], queues, 4, NEEDS_CHECKSUM);
	for (unsigned int i = 0; i < SAMPLES; i++) {
		sample_make(&entropy, &samples[i], SAMPLE_TSO);
		send_sample(rig, &entropy, i);
	}
	send_samples(rig);
	for (unsigned int i = 0; i < SAMPLES; i++) {
		uint32_t length = reference_segment(&samples[i], 0, false, wanted);

		for (uint16_t queue = 0; queue < 4; queue++) {
			const struct memory_frame *next =
				memory_sent(rig->ports[0], queue, index[queue]);

			if (next == NULL || next->length != length ||
			    memcmp(next->bytes, wanted, length) != 0)
				continue;
			index[queue] = check_arrived(rig, 0, queue, index[queue], &samples[i],
						     NEEDS_TSO4, NEEDS_CHECKSUM);
			break;
		}
	}
	for (uint16_t queue = 0; queue < 4; queue++) {
		assert_int_equal(memory_counts(rig->ports[0], queue).sent, index[queue]);
		used += index[queue] > 0;
	}
	assert_true(used > 1);
	assert_int_equal(rig->worker->notice_count, used);
	rig_free(rig);
}

static void dhcp_is_filled_for_everybody(void **state)
{
	const struct packet_flow flow = { .to = rig_mac(0), .from = rig_mac(1), .ip_from = 1,
					  .ip_to = 2, .port_from = 67, .port_to = 68 };
	struct rig *rig = rig_new(1, 1);
	struct sample *sample = &samples[0];
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 5, NULL, 0);
	memset(sample, 0, sizeof(*sample));
	sample->length = 342;
	packet_udp(sample->bytes, &flow, sample->length);
	sample->vnet = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						.csum_start = 34, .csum_offset = 6 };
	send_sample(rig, &entropy, 0);
	send_samples(rig);
	reference_fill(sample->bytes, sample->length, 34, 6);
	check_frame(rig, 0, 0, 0, sample->bytes, sample->length, 0);
	rig_free(rig);
}

/* Frames in many pieces, cut for one who takes checksums, behind one that had to be filled. */
static void many_views(void **state)
{
	static const uint16_t only[] = { 0 };
	struct rig *rig = rig_new(1, 1);
	struct entropy entropy;
	uint32_t index = 1;

	(void)state;
	entropy_init(&entropy, 10, NULL, 0);
	memory_connect(rig->ports[0], only, 1, NEEDS_CHECKSUM);
	for (unsigned int i = 0; i < SAMPLES; i++) {
		make_tso(&samples[i], 2);
		if (i == 0)
			samples[i].vnet.gso_type = VIRTIO_NET_HDR_GSO_NONE;
		send_sample(rig, &entropy, i)->needs |= i == 0 ? NEEDS_FILL : 0;
	}
	send_samples(rig);
	reference_fill(samples[0].bytes, samples[0].length, 34, 16);
	check_frame(rig, 0, 0, 0, samples[0].bytes, samples[0].length, 0);
	for (unsigned int i = 1; i < SAMPLES; i++)
		index = check_arrived(rig, 0, 0, index, &samples[i], NEEDS_TSO4, NEEDS_CHECKSUM);
	assert_int_equal(memory_counts(rig->ports[0], 0).sent, index);
	rig_free(rig);
}

/* What does not get through of a frame that was cut is counted as what it would have been. */
static void ring_full_while_cutting(void **state)
{
	static const uint8_t accepts[] = { NEEDS_CHECKSUM, 0 };
	static const uint16_t only[] = { 0 };
	static const uint32_t rooms[] = { 0, 1, 9, 10, 40, 41, 50, 63, 64, 65, 73, 74 };
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 6, NULL, 0);
	for (unsigned int i = 0; i < sizeof(rooms) / sizeof(rooms[0]) * 2; i++) {
		struct rig *rig = rig_new(1, 1);
		uint32_t room = rooms[i / 2], length;
		struct tx_counters counters;

		memory_connect(rig->ports[0], only, 1, accepts[i % 2]);
		memory_set_room(rig->ports[0], 0, room);
		for (unsigned int n = 0; n < 3; n++)
			make_tso(&samples[n], n == 1 ? 60 : 10);
		send_sample(rig, &entropy, 0);
		send_sample(rig, &entropy, 1);
		memset(&samples[2].vnet, 0, sizeof(samples[2].vnet));
		send_sample(rig, &entropy, 2);
		send_samples(rig);
		counters = counters_of(rig, 0);
		assert_int_equal(counters.offered, 3);
		assert_int_equal(counters.cut, 9 + 59);
		assert_int_equal(counters.packets, room < 71 ? room : 71);
		assert_int_equal(counters.dropped[DROP_RING_FULL], 71 - counters.packets);
		for (uint32_t n = 0; n < counters.packets && n < 70; n++) {
			length = reference_segment(&samples[n >= 10], n < 10 ? n : n - 10,
						   i % 2 == 1, wanted);
			check_frame(rig, 0, 0, n, wanted, length, accepts[i % 2]);
		}
		rig_free(rig);
	}
}

/* With a retry nothing is lost, and what is cut is cut once. */
static void retries_while_cutting(void **state)
{
	static const uint16_t only[] = { 0 };
	struct rig *rig = rig_new(1, 1);
	struct entropy entropy;
	uint8_t needs[SAMPLES];
	uint32_t index = 0;

	(void)state;
	entropy_init(&entropy, 11, NULL, 0);
	rig->worker->cycles_per_us = 1ull << 40;
	rig->snapshot->ports[0].retry = 1;
	memory_connect(rig->ports[0], only, 1, 0);
	for (unsigned int i = 0; i < SAMPLES; i++) {
		sample_make(&entropy, &samples[i], (enum sample_kind)(i % 4));
		needs[i] = send_sample(rig, &entropy, i)->needs;
	}
	memory_set_busy(rig->ports[0], 0, 3);
	send_samples(rig);
	for (unsigned int i = 0; i < SAMPLES; i++)
		index = check_arrived(rig, 0, 0, index, &samples[i], needs[i], 0);
	assert_int_equal(counters_of(rig, 0).packets, index);
	assert_int_equal(counters_of(rig, 0).retries, 3);
	assert_int_equal(rig_dropped(counters_of(rig, 0).dropped), 0);
	rig_free(rig);
}

static void connection_is_lost_while_cutting(void **state)
{
	static const uint16_t queues[] = { 0, 1 };
	struct rig *rig = rig_new(1, 2);
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 7, NULL, 0);
	memory_connect(rig->ports[0], NULL, 0, 0);
	port_set_tx(rig->ports[0], queues, 1, 0);
	make_tso(&samples[0], 60);
	make_tso(&samples[1], 60);
	send_sample(rig, &entropy, 0);
	send_sample(rig, &entropy, 1);
	send_samples(rig);
	assert_int_equal(counters_of(rig, 0).offered, 2);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_NOT_CONNECTED], 120);
	assert_int_equal(rig->worker->notice_count, 0);
	rig_free(rig);
}

static void segments_that_are_too_long(void **state)
{
	static const uint16_t only[] = { 0 };
	struct rig *rig = rig_new(1, 1);
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 8, NULL, 0);
	memory_connect(rig->ports[0], only, 1, 0);
	memory_set_longest(rig->ports[0], 1053);
	make_tso(&samples[0], 10);
	samples[0].length--; /* the last is one byte shorter */
	send_sample(rig, &entropy, 0);
	send_samples(rig);
	assert_int_equal(counters_of(rig, 0).packets, 1);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_TOO_LONG], 9);
	rig_free(rig);
}

/* Tiny segments without end would hold up everybody else: a burst has a budget of 8,192. */
static void a_burst_is_not_cut_without_end(void **state)
{
	static const uint16_t only[] = { 0 };
	struct rig *rig = rig_new(1, 1);
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 10, NULL, 0);
	memory_connect(rig->ports[0], only, 1, 0);
	for (unsigned int n = 0; n < 7; n++) {
		make_tso(&samples[n], 60);
		samples[n].vnet.gso_size = 48;
		samples[n].length = 54 + 48 * 1250;
		packet_put16(samples[n].bytes + 50,
			     reference_pseudo(&samples[n], samples[n].length - 34));
		send_sample(rig, &entropy, n);
	}
	send_samples(rig);
	assert_int_equal(counters_of(rig, 0).packets, 6 * 1250);
	assert_int_equal(counters_of(rig, 0).cut, 6 * 1249);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_NO_BUFFER], 1);
	/* The next burst has a new one. */
	send_sample(rig, &entropy, 0);
	send_samples(rig);
	assert_int_equal(counters_of(rig, 0).packets, 7 * 1250);
	rig_free(rig);
}

/* A frame that stands for many is as long as its longest segment. */
static void mtu_and_segments(void **state)
{
	static const uint16_t only[] = { 0 };
	struct rig *rig = rig_new(1, 1);
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 9, NULL, 0);
	for (int i = 0; i < 4; i++) {
		uint64_t packets, dropped;

		memory_connect(rig->ports[0], only, 1, i < 2 ? NEEDS_ALL : 0);
		make_tso(&samples[0], 40);
		rig->snapshot->ports[0].max_length = 54 + 1000 - i % 2;
		packets = counters_of(rig, 0).packets;
		dropped = counters_of(rig, 0).dropped[DROP_MTU];
		send_sample(rig, &entropy, 0);
		send_samples(rig);
		assert_int_equal(counters_of(rig, 0).packets - packets,
				 i % 2 == 1 ? 0 : i < 2 ? 1 : 40);
		assert_int_equal(counters_of(rig, 0).dropped[DROP_MTU] - dropped, i % 2);
	}
	/* With a tag it may be four bytes longer. */
	memory_connect(rig->ports[0], only, 1, NEEDS_ALL);
	make_tso(&samples[0], 40);
	memmove(samples[0].bytes + 16, samples[0].bytes + 12, FRAME_LENGTH_MAX - 16);
	packet_put16(samples[0].bytes + 12, 0x8100);
	samples[0].length += 4;
	samples[0].vnet.csum_start += 4;
	rig->snapshot->ports[0].max_length = 1054;
	send_sample(rig, &entropy, 0);
	send_samples(rig);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_MTU], 2);
	rig->snapshot->ports[0].max_length = 1053;
	send_sample(rig, &entropy, 0);
	send_samples(rig);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_MTU], 3);

	/* The UDP header is in the first fragment of UFO, not in each. */
	for (int i = 0; i < 2; i++) {
		const struct packet_flow flow = { .to = rig_mac(0), .from = rig_mac(1) };

		memset(&samples[0], 0, sizeof(samples[0]));
		samples[0].length = 5000;
		packet_udp(samples[0].bytes, &flow, 5000);
		samples[0].vnet = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
							   .csum_start = 34, .csum_offset = 6,
							   .gso_type = VIRTIO_NET_HDR_GSO_UDP,
							   .gso_size = 1480 };
		rig->snapshot->ports[0].max_length = 1514 - (uint32_t)i;
		send_sample(rig, &entropy, 0);
		send_samples(rig);
		assert_int_equal(counters_of(rig, 0).dropped[DROP_MTU], 3 + i);
	}
	rig_free(rig);
}

/* Of IPv6, each fragment has a header of its own beyond that. */
static void mtu_and_fragments(void **state)
{
	static const uint16_t only[] = { 0 };
	struct rig *rig = rig_new(1, 1);
	struct entropy entropy;
	uint32_t longest;

	(void)state;
	entropy_init(&entropy, 12, NULL, 0);
	for (int i = 0; i < 100; i++) {
		struct tx_counters before = counters_of(rig, 0), after;
		struct sample *sample = &samples[0];

		memory_connect(rig->ports[0], only, 1, i % 2 ? NEEDS_ALL : 0);
		sample_make(&entropy, sample, SAMPLE_UFO);
		if (sample->length - sample->transport <= reference_size(sample))
			continue;
		longest = sample->transport + reference_size(sample) + (sample->six ? 8 : 0);
		longest -= sample->network - 14; /* tags */
		rig->snapshot->ports[0].max_length = longest - (i / 2 % 2);
		send_sample(rig, &entropy, 0);
		send_samples(rig);
		after = counters_of(rig, 0);
		assert_int_equal(after.dropped[DROP_MTU] - before.dropped[DROP_MTU], i / 2 % 2);
		worker_notify(rig->worker);
		memory_forget(rig->ports[0], 0);
	}
	rig_free(rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(receivers_that_differ),
		cmocka_unit_test(each_offload_by_itself),
		cmocka_unit_test(random_bursts),
		cmocka_unit_test(flows_that_are_cut_stay_in_order),
		cmocka_unit_test(dhcp_is_filled_for_everybody),
		cmocka_unit_test(many_views),
		cmocka_unit_test(ring_full_while_cutting),
		cmocka_unit_test(retries_while_cutting),
		cmocka_unit_test(connection_is_lost_while_cutting),
		cmocka_unit_test(segments_that_are_too_long),
		cmocka_unit_test(a_burst_is_not_cut_without_end),
		cmocka_unit_test(mtu_and_segments),
		cmocka_unit_test(mtu_and_fragments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
