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

/* ---- tags ---- */

enum { TO_ACCESS, TO_TRUNK, TO_NATIVE, TO_NATIVE_TAGGED, TO_KINDS };

static struct vlan_set all_vlans;
static uint32_t max_length = UINT32_MAX; /* of receivers */

/* The receiver is in the VLAN, in this way. */
static void put_in_vlan(struct rig *rig, unsigned int kind, uint16_t vlan)
{
	struct snapshot_port *to = &rig->snapshot->ports[0];

	vlan_set_add(&all_vlans, VLAN_FIRST, VLAN_LAST);
	to->vlan = (struct vlan_membership){ .mode = kind == TO_ACCESS ? VLAN_ACCESS : VLAN_TRUNK,
					     .native = kind == TO_TRUNK ? 0 : vlan,
					     .native_tagged = kind == TO_NATIVE_TAGGED,
					     .trunk = kind == TO_ACCESS ? NULL : &all_vlans };
	to->tags = vlan_accepts(&to->vlan);
	to->max_length = max_length;
}

/* Moves all but the addresses by so many bytes, and with them what the sample knows of itself. */
static void reference_move(struct sample *sample, int bytes)
{
	memmove(sample->bytes + 12 + (bytes > 0 ? bytes : 0),
		sample->bytes + 12 + (bytes < 0 ? -bytes : 0),
		sample->length - 12 - (bytes < 0 ? (uint32_t)-bytes : 0));
	sample->length += (uint32_t)bytes;
	sample->network += (uint32_t)bytes;
	sample->transport += (uint32_t)bytes;
	sample->headers += (uint32_t)bytes;
	sample->next_header += (uint32_t)bytes;
	if (sample->vnet.flags != 0)
		sample->vnet.csum_start = (uint16_t)(sample->vnet.csum_start + bytes);
}

static bool is_tagged(const struct sample *sample, uint32_t at)
{
	return get16(sample->bytes + at) == 0x8100;
}

/* What such a receiver has to find (802.1Q-2018, 6.9 and 8.8). Returns how many tags. */
static int reference_tag(struct sample *sample, unsigned int kind, uint16_t vlan)
{
	const bool tagged = is_tagged(sample, 12);
	bool leaves_tagged = kind == TO_TRUNK || kind == TO_NATIVE_TAGGED;

	if (kind == TO_NATIVE && tagged && is_tagged(sample, 16))
		leaves_tagged = true;
	if (leaves_tagged && !tagged)
		reference_move(sample, 4);
	if (!leaves_tagged && tagged)
		reference_move(sample, -4);
	if (leaves_tagged) {
		packet_put16(sample->bytes + 12, 0x8100);
		packet_put16(sample->bytes + 14,
			     (tagged ? get16(sample->bytes + 14) & 0xf000 : 0) | vlan);
	}
	return (int)(sample->network - 14) / 4;
}

/* The sample comes from a trunk with a native VLAN, sometimes with a tag of priority alone. */
static struct frame *send_in_vlan(struct rig *rig, struct entropy *entropy, unsigned int index)
{
	static const struct vlan_membership from = { .mode = VLAN_TRUNK, .native = 10,
						     .trunk = &all_vlans };
	uint8_t *bytes = samples[index].bytes;
	struct frame *frame;

	if (is_tagged(&samples[index], 12)) {
		bytes[14] = (uint8_t)(bytes[14] | entropy_below(entropy, 16) << 4);
		if (!is_tagged(&samples[index], 16) && entropy_chance(entropy, 2))
			packet_put16(bytes + 14, bytes[14] << 8 & 0xf000);
	}
	frame = send_sample(rig, entropy, index);
	assert_true(vlan_enter(&from, frame));
	return frame;
}

/* One frame, and what comes of it. Returns the next index. */
static uint32_t check_in_vlan(struct rig *rig, uint32_t index, unsigned int number,
			      unsigned int kind, uint16_t vlan, uint8_t needs, uint8_t accepts,
			      uint64_t dropped[2])
{
	const uint8_t cut = NEEDS_TSO4 | NEEDS_TSO6 | NEEDS_UFO | NEEDS_USO;
	static struct sample known;
	int tags;

	known = samples[number];
	if (known.length + 4 > FRAME_LENGTH_MAX && !is_tagged(&known, 12) &&
	    (kind == TO_TRUNK || kind == TO_NATIVE_TAGGED)) {
		dropped[0]++;
		return index;
	}
	tags = reference_tag(&known, kind, vlan);
	/* What has three tags is not looked into. */
	if (tags > 2 && needs & ~accepts && needs & cut) {
		dropped[1]++;
		return index;
	}
	return check_arrived(rig, 0, 0, index, &known, needs, accepts);
}

/* All kinds of frames to all kinds of receivers: tags change, offsets move, checksums are right. */
static void tags_and_offloads(void **state)
{
	static const uint16_t only[] = { 0 };
	struct rig *rig = rig_new(1, 1);
	uint64_t dropped[2] = { 0 };
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 20, NULL, 0);
	for (int round = 0; round < 400; round++) {
		unsigned int count = 1 + entropy_below(&entropy, 6), kind = (unsigned int)round % 4;
		uint16_t vlan = round % 3 == 0 ? 10 : (uint16_t)(1 + entropy_below(&entropy, 4094));
		uint8_t accepts = 0, needs[SAMPLES];
		uint16_t vlans[SAMPLES];
		uint32_t index = 0;

		if (!entropy_chance(&entropy, 3))
			accepts = (uint8_t)(NEEDS_CHECKSUM | entropy_below(&entropy, NEEDS_ALL));
		memory_connect(rig->ports[0], only, 1, accepts);
		put_in_vlan(rig, kind, vlan);
		for (unsigned int i = 0; i < count; i++) {
			const struct frame *frame;

			sample_make(&entropy, &samples[i],
				    (enum sample_kind)entropy_below(&entropy, 4));
			if (entropy_chance(&entropy, 3))
				memset(&samples[i].vnet, 0, sizeof(samples[i].vnet));
			/* Forwarding gives the port only what is in its VLANs. */
			if (is_tagged(&samples[i], 12) && kind != TO_TRUNK)
				packet_put16(samples[i].bytes + 14, vlan);
			frame = send_in_vlan(rig, &entropy, i);
			needs[i] = (uint8_t)frame->needs;
			vlans[i] = frame->vlan;
		}
		/* An access port is in one VLAN: the frames that are in another are left out. */
		for (unsigned int i = 0; i < count && kind == TO_ACCESS; i++)
			rig->worker->burst->frames[i].vlan = vlan;
		send_samples(rig);
		for (unsigned int i = 0; i < count; i++) {
			/* Others than the native VLAN leave with a tag. */
			unsigned int own = kind >= TO_NATIVE && vlans[i] != vlan ? TO_TRUNK : kind;

			index = check_in_vlan(rig, index, i, own, vlans[i], needs[i], accepts,
					      dropped);
		}
		assert_int_equal(memory_counts(rig->ports[0], 0).kept, index);
		worker_notify(rig->worker);
		memory_forget(rig->ports[0], 0);
	}
	assert_int_equal(counters_of(rig, 0).dropped[DROP_TOO_LONG], dropped[0]);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_BAD_OFFLOAD], dropped[1]);
	assert_int_equal(rig_dropped(counters_of(rig, 0).dropped), dropped[0] + dropped[1]);
	assert_true(dropped[1] > 0);
	rig_free(rig);
}

/* A plain frame of this length, with or without a tag of VLAN 10. */
static void send_length(struct rig *rig, struct entropy *entropy, uint32_t length, bool tagged)
{
	memset(&samples[0], 0, offsetof(struct sample, bytes));
	memset(&samples[0].vnet, 0, sizeof(samples[0].vnet));
	packet_ethernet(samples[0].bytes, rig_mac(0), rig_mac(1), length);
	samples[0].length = length;
	if (tagged) {
		packet_put16(samples[0].bytes + 12, 0x8100);
		packet_put16(samples[0].bytes + 14, 10);
	}
	send_in_vlan(rig, entropy, 0);
	send_samples(rig);
}

static void tags_and_lengths(void **state)
{
	struct rig *rig = rig_new(1, 1);
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 21, NULL, 0);
	put_in_vlan(rig, TO_TRUNK, 10);
	send_length(rig, &entropy, FRAME_LENGTH_MAX - 4, false);
	assert_int_equal(memory_sent(rig->ports[0], 0, 0)->length, FRAME_LENGTH_MAX);
	send_length(rig, &entropy, FRAME_LENGTH_MAX - 3, false);
	send_length(rig, &entropy, FRAME_LENGTH_MAX, false);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_TOO_LONG], 2);
	send_length(rig, &entropy, FRAME_LENGTH_MAX, true);
	assert_int_equal(counters_of(rig, 0).packets, 2);
	/* The shortest ones. */
	send_length(rig, &entropy, 14, false);
	assert_int_equal(memory_sent(rig->ports[0], 0, 2)->length, 18);
	put_in_vlan(rig, TO_ACCESS, 10);
	send_length(rig, &entropy, 18, true);
	assert_int_equal(memory_sent(rig->ports[0], 0, 3)->length, 14);
	/* The MTU is that of the packet, with a tag or without, on either side. */
	max_length = 1514;
	put_in_vlan(rig, TO_ACCESS, 10);
	send_length(rig, &entropy, 1514, false);
	send_length(rig, &entropy, 1518, true);
	put_in_vlan(rig, TO_TRUNK, 10);
	send_length(rig, &entropy, 1514, false);
	send_length(rig, &entropy, 1518, true);
	assert_int_equal(counters_of(rig, 0).packets, 8);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_MTU], 0);
	for (unsigned int kind = 0; kind < TO_KINDS; kind++) {
		put_in_vlan(rig, kind, 10);
		send_length(rig, &entropy, 1515, false);
		send_length(rig, &entropy, 1519, true);
		assert_int_equal(counters_of(rig, 0).dropped[DROP_MTU], 2 * (kind + 1));
	}
	max_length = UINT32_MAX;
	rig_free(rig);
}

/* A burst in which each frame gets a tag, as large as bursts are, for a ring with little room. */
static void many_tags(void **state)
{
	struct rig *rig = rig_new(1, 1);
	struct vlan_membership from = { .mode = VLAN_ACCESS, .native = 77 };

	(void)state;
	put_in_vlan(rig, TO_TRUNK, 0);
	memory_set_room(rig->ports[0], 0, 50);
	for (int i = 0; i < BURST_MAX; i++) {
		struct frame *frame = send_marked(rig, 0, (uint8_t)('0' + i), 60);

		assert_true(vlan_enter(&from, frame));
	}
	send_burst(rig);
	assert_int_equal(counters_of(rig, 0).packets, 50);
	assert_int_equal(counters_of(rig, 0).dropped[DROP_RING_FULL], BURST_MAX - 50);
	for (uint32_t i = 0; i < 50; i++) {
		const struct memory_frame *sent = memory_sent(rig->ports[0], 0, i);

		assert_int_equal(sent->length, 64);
		assert_memory_equal(sent->bytes + 12, "\x81\0\0\x4d\x88\xb5", 6);
		assert_int_equal(sent->bytes[18], '0' + i);
	}
	/* One notice for all of them. */
	assert_int_equal(rig->worker->notice_count, 1);
	rig_free(rig);
}

/* One frame to receivers of all kinds: each gets its own, and the frame stays as it was. */
static void flooded_to_all_kinds(void **state)
{
	static const uint16_t only[] = { 0 };
	struct rig *rig = rig_new(TO_KINDS, 1);
	struct entropy entropy;
	struct frame *frame, before;

	(void)state;
	entropy_init(&entropy, 22, NULL, 0);
	for (unsigned int kind = TO_KINDS; kind-- > 0;) {
		put_in_vlan(rig, kind, 10);
		rig->snapshot->ports[kind] = rig->snapshot->ports[0];
		rig->snapshot->ports[kind].port = rig->ports[kind];
		memory_connect(rig->ports[kind], only, 1, kind % 2 ? NEEDS_ALL : 0);
	}
	put_in_vlan(rig, TO_ACCESS, 10);
	make_tso(&samples[0], 3);
	frame = send_in_vlan(rig, &entropy, 0);
	for (uint16_t i = 1; i < TO_KINDS; i++)
		stage(rig, frame, i);
	before = *frame;
	egress_burst(rig->worker, rig->snapshot);
	assert_memory_equal(frame, &before, sizeof(before));
	for (uint16_t i = 0; i < TO_KINDS; i++) {
		static struct sample known;

		known = samples[0];
		reference_tag(&known, i, 10);
		check_arrived(rig, i, 0, 0, &known, (uint8_t)before.needs, i % 2 ? NEEDS_ALL : 0);
		assert_int_equal(counters_of(rig, i).packets, i % 2 ? 1 : 3);
	}
	sample_release(frame);
	burst_reset(rig->worker->burst);
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
		cmocka_unit_test(tags_and_offloads),
		cmocka_unit_test(tags_and_lengths),
		cmocka_unit_test(many_tags),
		cmocka_unit_test(flooded_to_all_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
