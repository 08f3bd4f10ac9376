/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frame/checksum.c: sums against a slow reference, and partial checksums that lie anywhere in
 * frames of any shape.
 */
#include "frame/checksum.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "frame/vnet.h"
#include "offload.h"

static uint8_t bytes[FRAME_LENGTH_MAX + 64], buffer[FRAME_LENGTH_MAX], got[FRAME_LENGTH_MAX];
static struct sample sample;

static uint32_t sum_of(const uint8_t *at, uint32_t length)
{
	return ntohs(checksum_fold(checksum_add(0, at, length)));
}

/* The example of RFC 1071, 3. */
static void the_rfc_agrees(void **state)
{
	static const uint8_t example[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };

	(void)state;
	assert_int_equal(sum_of(example, 8), 0xddf2);
	assert_int_equal(sum_of(example, 7), 0xdcfb);
	assert_int_equal(sum_of(example, 0), 0);
}

static void sums(void **state)
{
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 1, NULL, 0);
	for (uint32_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)entropy_below(&entropy, 256);
	for (uint32_t i = 0; i < 3000; i++) {
		uint32_t offset = entropy_below(&entropy, 64);
		uint32_t length = i < 200 ? i : entropy_below(&entropy, i < 2900 ? 3000 : 65557);
		uint32_t first = entropy_below(&entropy, length + 1) & ~1u;
		uint32_t expected = reference_sum(0, bytes + offset, length);
		uint64_t sum;

		assert_int_equal(sum_of(bytes + offset, length), expected);
		sum = checksum_add(0, bytes + offset, first);
		sum = checksum_add(sum, bytes + offset + first, length - first);
		assert_int_equal(ntohs(checksum_fold(sum)), expected);
	}
}

static void sums_do_not_overflow(void **state)
{
	static const uint64_t values[] = { 0, 1, 0xffff, 0x10000, 0xffffffff, 0x100000000,
					   0xffffffff00000000, 0xfffffffffffffffe, UINT64_MAX,
					   0xffff0000ffff0001, 0x00010000ffffffff };
	uint64_t sum = 0;

	(void)state;
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(sum_of(bytes, FRAME_LENGTH_MAX - 1), 0xffff);
	assert_int_equal(sum_of(bytes, FRAME_LENGTH_MAX), 0xff00);
	for (int i = 0; i < 1000; i++)
		sum = checksum_add(sum, bytes, 65536);
	assert_int_equal(checksum_fold(sum), 0xffff);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		uint16_t folded = checksum_fold(values[i]);

		assert_int_equal(folded % 0xffff, values[i] % 0xffff);
		assert_int_equal(folded == 0, values[i] == 0);
	}
}

/* Fills and compares with the reference over the whole frame. */
static void check_fill(struct entropy *entropy, uint16_t most_views)
{
	struct view views[FRAME_VIEWS_MAX], view;
	struct frame frame, out;

	sample_to_frame(entropy, &sample, most_views, &frame, views);
	assert_int_equal(vnet_check(&frame, NEEDS_ALL), 0);
	assert_true(frame.needs & NEEDS_CHECKSUM);
	reference_fill(sample.bytes, sample.length, sample.vnet.csum_start,
		       sample.vnet.csum_offset);

	memset(&out, 0xee, sizeof(out));
	frame.port = 77;
	checksum_fill(&frame, &out, &view, buffer);
	assert_int_equal(out.length, sample.length);
	assert_int_equal(frame_bytes(&out, got), sample.length);
	assert_memory_equal(got, sample.bytes, sample.length);
	assert_int_equal(out.needs, 0);
	assert_int_equal(out.segments, 1);
	assert_int_equal(out.port, 77);
	assert_true(vnet_is_plain(&out.vnet));
	assert_int_equal(out.vnet.csum_start, 0);
	assert_int_equal(out.head_length, frame.head_length);
	/* The sender's memory is read, never written. */
	sample_release(&frame);
}

static void ordinary_frames(void **state)
{
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 2, NULL, 0);
	for (int i = 0; i < 3000; i++) {
		sample_make(&entropy, &sample, false);
		check_fill(&entropy, i % 2 == 0 ? 1 : FRAME_VIEWS_MAX);
	}
}

/* An inner header's checksum, or nobody's: start and field in the head, behind it, across it. */
static void anywhere(void **state)
{
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 3, NULL, 0);
	for (int i = 0; i < 4000; i++) {
		uint32_t start, offset, near = FRAME_HEAD_MAX - 8;

		sample_make(&entropy, &sample, false);
		start = ETHERNET_HEADER + entropy_below(&entropy, sample.length - 15);
		if (i % 2 == 0 && sample.length > near + 20)
			start = near + entropy_below(&entropy, 16);
		if (start > UINT16_MAX)
			start = UINT16_MAX;
		offset = entropy_below(&entropy, sample.length - start - 1);
		if (i % 3 == 0 && offset > 10)
			offset = entropy_below(&entropy, 10);
		if (i % 5 == 0 && start < near && sample.length > near + 20)
			offset = near - start + entropy_below(&entropy, 16);
		sample.vnet.csum_start = (uint16_t)start;
		sample.vnet.csum_offset = (uint16_t)offset;
		check_fill(&entropy, FRAME_VIEWS_MAX);
	}
}

/* What sums up to 0xffff has a checksum of 0, which says that there is none. */
static void zero_is_never_written(void **state)
{
	struct view view;
	struct frame frame, out;

	(void)state;
	memset(&frame, 0, sizeof(frame));
	frame.length = frame.head_length = 60;
	frame.vnet = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					      .csum_start = 34, .csum_offset = 6 };
	packet_put16(frame.head + 34, 0xfffe);
	packet_put16(frame.head + 40, 0x0001);
	checksum_fill(&frame, &out, &view, buffer);
	assert_int_equal(get16(out.head + 40), 0xffff);
	assert_int_equal(out.view_count, 0);
}

static void in_place(void **state)
{
	struct view views[FRAME_VIEWS_MAX], memory[FRAME_VIEWS_MAX];
	struct frame frame, kept;
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 4, NULL, 0);
	for (int i = 0; i < 200; i++) {
		sample_make(&entropy, &sample, false);
		sample_to_frame(&entropy, &sample, FRAME_VIEWS_MAX, &frame, views);
		kept = frame;
		memcpy(memory, views, sizeof(memory));
		reference_fill(sample.bytes, sample.length, sample.vnet.csum_start,
			       sample.vnet.csum_offset);
		checksum_fill(&frame, &frame, &views[0], buffer);
		assert_int_equal(frame_bytes(&frame, got), sample.length);
		assert_memory_equal(got, sample.bytes, sample.length);
		kept.views = memory;
		sample_release(&kept);
	}
}

static bool stop;

static void *poke(void *argument)
{
	volatile uint8_t *memory = argument;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		for (uint32_t i = 0; i < 8000; i += 3)
			memory[i]++;
	return NULL;
}

/* A guest changes its payload meanwhile: what is sent is what was summed, as it is read once. */
static void memory_that_changes(void **state)
{
	static uint8_t memory[8000];
	struct view view = { memory, sizeof(memory) }, made;
	struct frame frame = { .length = 8034 + FRAME_HEAD_MAX, .head_length = FRAME_HEAD_MAX,
			       .views = &view, .view_count = 1 };
	struct frame out;
	pthread_t thread;

	(void)state;
	frame.length = FRAME_HEAD_MAX + sizeof(memory);
	frame.vnet = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					      .csum_start = 34, .csum_offset = 16 };
	stop = false;
	assert_int_equal(pthread_create(&thread, NULL, poke, memory), 0);
	for (int i = 0; i < 3000; i++) {
		uint32_t length;

		checksum_fill(&frame, &out, &made, buffer);
		length = frame_bytes(&out, got);
		assert_int_equal(reference_sum(0, got + 34, length - 34), 0xffff);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_rfc_agrees),
		cmocka_unit_test(sums),
		cmocka_unit_test(sums_do_not_overflow),
		cmocka_unit_test(ordinary_frames),
		cmocka_unit_test(anywhere),
		cmocka_unit_test(zero_is_never_written),
		cmocka_unit_test(in_place),
		cmocka_unit_test(memory_that_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
