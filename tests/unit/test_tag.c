/* SPDX-License-Identifier: BSD-3-Clause */
/* frame/tag.c: tags that are inserted, removed and rewritten in a copy of the head. */
#include "frame/tag.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "packets.h"

#define FIRST 16 /* behind the addresses and one tag */

static const uint8_t behind[100];
static const struct view views[2] = { { behind, 60 }, { behind + 60, 40 } };

/* With a head of so many bytes that differ, a tag of priority 5 first among them, and two views. */
static struct frame frame_with(uint16_t head_length)
{
	struct frame frame = { .needs = NEEDS_TSO4 | NEEDS_TAGS, .head_length = head_length,
			       .length = head_length + 100u, .segments = 3, .port = 7,
			       .vlan = 0xabc, .view_count = 2, .views = views };

	for (unsigned int i = 0; i < sizeof(frame.head); i++)
		frame.head[i] = (uint8_t)(i * 3 + 1);
	packet_put16(frame.head + 12, 0x8100);
	packet_put16(frame.head + 14, 0xb123);
	return frame;
}

/* What every change leaves alone. */
static void check_rest(const struct frame *frame, const struct frame *out, int added)
{
	assert_memory_equal(out->head, frame->head, 12);
	assert_int_equal(out->length, (int)frame->length + added);
	assert_int_equal(out->head_length, frame->head_length + added);
	assert_int_equal(out->needs, NEEDS_TSO4);
	assert_int_equal(out->segments, 3);
	assert_int_equal(out->port, 7);
	assert_int_equal(out->vlan, 0xabc);
	assert_int_equal(out->view_count, 2);
	assert_ptr_equal(out->views, views);
}

/* Makes the change, and looks whether anything was written outside of the copy's head. */
static struct frame change(const struct frame *frame, enum tag_change kind)
{
	struct {
		struct frame out;
		uint8_t guard[64];
	} memory;
	const struct frame before = *frame;

	memset(&memory, 0xee, sizeof(memory));
	tag_change(frame, kind, &memory.out);
	for (unsigned int i = 0; i < sizeof(memory.guard); i++)
		assert_int_equal(memory.guard[i], 0xee);
	/* A short head is copied with what stands behind it. */
	for (unsigned int i = memory.out.head_length < 128 ? 128 : memory.out.head_length;
	     i < FRAME_HEAD_ROOM; i++)
		assert_int_equal(memory.out.head[i], 0xee);
	assert_memory_equal(frame, &before, sizeof(before));
	return memory.out;
}

/* Heads of every length, up to the longest that there are. */
static void every_length(void **state)
{
	(void)state;
	for (uint16_t length = 14; length <= FRAME_HEAD_MAX; length++) {
		struct frame frame = frame_with(length), out;

		out = change(&frame, TAG_INSERT);
		check_rest(&frame, &out, 4);
		assert_memory_equal(out.head + 12, "\x81\x00\x0a\xbc", 4);
		assert_memory_equal(out.head + FIRST, frame.head + 12, length - 12u);

		out = change(&frame, TAG_KEEP);
		check_rest(&frame, &out, 0);
		assert_memory_equal(out.head, frame.head, length);

		if (length < 18)
			continue;
		out = change(&frame, TAG_REMOVE);
		check_rest(&frame, &out, -4);
		assert_memory_equal(out.head + 12, frame.head + FIRST, length - 16u);

		out = change(&frame, TAG_REWRITE);
		check_rest(&frame, &out, 0);
		assert_memory_equal(out.head + 12, "\x81\x00\xba\xbc", 4);
		assert_memory_equal(out.head + FIRST, frame.head + FIRST, length - 16u);
	}
}

/* The longest head with a tag more fills the room that there is. */
static void room(void **state)
{
	struct frame frame = frame_with(FRAME_HEAD_MAX);
	struct frame out = change(&frame, TAG_INSERT);

	(void)state;
	assert_int_equal(out.head_length, FRAME_HEAD_ROOM);
	assert_int_equal(out.head[FRAME_HEAD_ROOM - 1], frame.head[FRAME_HEAD_MAX - 1]);
}

static void priorities_stay(void **state)
{
	(void)state;
	for (unsigned int bits = 0; bits < 16; bits++) {
		struct frame frame = frame_with(60), out;

		packet_put16(frame.head + 14, bits << 12 | 0x321);
		out = change(&frame, TAG_REWRITE);
		assert_int_equal(out.head[14] << 8 | out.head[15], bits << 12 | 0xabc);
	}
}

/* Offsets move with what they point at; those that mean nothing stay nothing. */
static void offsets(void **state)
{
	static const enum tag_change changes[] = { TAG_KEEP, TAG_INSERT, TAG_REMOVE, TAG_REWRITE };
	static const int added[] = { 0, 4, -4, 0 };

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct frame frame = frame_with(100), out;

		out = change(&frame, changes[i]);
		assert_int_equal(out.vnet.csum_start, 0);
		assert_int_equal(out.vnet.hdr_len, 0);

		frame.vnet = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						      .csum_start = 38, .csum_offset = 16 };
		out = change(&frame, changes[i]);
		assert_int_equal(out.vnet.csum_start, 38 + added[i]);
		assert_int_equal(out.vnet.csum_offset, 16);
		assert_int_equal(out.vnet.hdr_len, 0);
		assert_int_equal(out.vnet.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);

		frame.vnet.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		frame.vnet.gso_size = 1448;
		frame.vnet.hdr_len = 58;
		out = change(&frame, changes[i]);
		assert_int_equal(out.vnet.csum_start, 38 + added[i]);
		assert_int_equal(out.vnet.hdr_len, 58 + added[i]);
		assert_int_equal(out.vnet.gso_size, 1448);
		assert_int_equal(out.vnet.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_length),
		cmocka_unit_test(room),
		cmocka_unit_test(priorities_stay),
		cmocka_unit_test(offsets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
