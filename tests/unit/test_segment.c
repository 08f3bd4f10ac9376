/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frame/segment.c: segments of random frames against a slow reference, and the edges one by one.
 */
#include "frame/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "frame/checksum.h"
#include "frame/vnet.h"
#include "offload.h"

static uint8_t buffer[FRAME_LENGTH_MAX], datagram[FRAME_LENGTH_MAX], got[FRAME_LENGTH_MAX];
static uint8_t expected[FRAME_LENGTH_MAX];
static struct sample sample;

/* The next segment is the reference's number `index`, partial and then filled. */
static void check_segment(struct frame *segment, struct view *views, uint32_t index)
{
	uint32_t length = reference_segment(&sample, index, false, expected);

	assert_int_not_equal(length, 0);
	assert_int_equal(segment->length, length);
	assert_int_equal(frame_bytes(segment, got), length);
	assert_memory_equal(got, expected, length);
	assert_in_range(segment->view_count, 0, FRAME_VIEWS_MAX);
	assert_int_equal(segment->segments, 1);
	assert_int_equal(segment->port, 77);
	assert_int_equal(segment->vnet.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	assert_int_equal(segment->vnet.gso_size, 0);
	assert_int_equal(segment->vnet.hdr_len, 0);
	if (sample.kind == SAMPLE_UFO) {
		assert_int_equal(segment->needs, 0);
		assert_int_equal(segment->vnet.flags, 0);
		return;
	}
	assert_int_equal(segment->needs, NEEDS_CHECKSUM);
	assert_int_equal(segment->vnet.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);

	checksum_fill(segment, segment, views, buffer);
	reference_segment(&sample, index, true, expected);
	assert_int_equal(frame_bytes(segment, got), length);
	assert_memory_equal(got, expected, length);
}

/* Cuts the sample and compares all of it. Returns how many segments there were. */
static uint32_t check_sample(struct entropy *entropy, uint16_t most_views)
{
	struct view views[FRAME_VIEWS_MAX], parts[FRAME_VIEWS_MAX];
	struct segmenter segmenter;
	struct frame frame, segment;
	uint32_t count = 0, view_count = 0;

	sample_to_frame(entropy, &sample, most_views, &frame, views);
	assert_int_equal(vnet_check(&frame, NEEDS_ALL), 0);
	frame.port = 77;
	segment_begin(&segmenter, &frame, datagram, sample.identification);
	while (segment_next(&segmenter, &segment, parts)) {
		view_count += segment.view_count;
		check_segment(&segment, parts, count++);
	}
	assert_int_equal(reference_segment(&sample, count, false, expected), 0);
	assert_int_equal(count, frame.segments);
	if (sample.kind == SAMPLE_UFO) /* of the datagram's copy */
		assert_int_equal(view_count, count);
	else
		assert_in_range(view_count, frame.view_count, frame.view_count + count);
	assert_false(segment_next(&segmenter, &segment, parts));
	sample_release(&frame);
	return count;
}

static void random_frames(void **state)
{
	uint32_t segments = 0, kinds[4][2] = { 0 };
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 1, NULL, 0);
	for (int i = 0; i < 3000; i++) {
		sample_make(&entropy, &sample, sample_gso(&entropy));
		kinds[sample.kind][sample.six]++;
		segments += check_sample(&entropy, i % 2 == 0 ? 20 : FRAME_VIEWS_MAX);
	}
	assert_true(segments > 20000);
	for (int kind = SAMPLE_TSO; kind <= SAMPLE_UFO; kind++)
		assert_true(kinds[kind][0] > 300 && kinds[kind][1] > 300);
}

/* A frame without anything special: 10 segments. */
static void make_simple(bool six)
{
	struct entropy entropy;

	/* Some seed has neither tags nor options. */
	for (uint64_t seed = 1;; seed++) {
		entropy_init(&entropy, seed, NULL, 0);
		sample_make(&entropy, &sample, SAMPLE_TSO);
		if (sample.six == six && sample.headers == (six ? 74u : 54u))
			break;
	}
	sample.vnet.gso_size = 1000;
	sample.length = sample.headers + 10000;
	packet_put16(sample.bytes + sample.transport + 16,
		     reference_pseudo(&sample, sample.length - sample.transport));
}

/* With so much payload, the pseudo-header's sum made anew. */
static void resize(uint32_t payload)
{
	sample.length = sample.headers + payload;
	packet_put16(sample.bytes + sample.transport + 16,
		     reference_pseudo(&sample, sample.length - sample.transport));
}

static void lengths(void **state)
{
	static const struct {
		uint32_t payload;
		uint16_t size;
		uint32_t segments;
	} cases[] = {
		{ 10000, 1000, 10 }, { 10001, 1000, 11 }, { 9999, 1000, 10 },  { 1001, 1000, 2 },
		{ 2000, 1000, 2 },   { 2001, 1000, 3 },   { 49, 48, 2 },       { 96, 48, 2 },
		{ 97, 48, 3 },       { 202, 48, 5 },      { 65483, 48, 1365 }, { 65483, 1448, 46 },
		{ 65483, 65482, 2 }, { 203, 202, 2 },     { 250, 101, 3 },
	};
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 2, NULL, 0);
	for (int six = 0; six < 2; six++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			make_simple(six);
			sample.vnet.gso_size = cases[i].size;
			resize(cases[i].payload);
			assert_int_equal(check_sample(&entropy, 20), cases[i].segments);
			assert_int_equal(check_sample(&entropy, 1), cases[i].segments);
		}
	}
}

/* Each combination of TCP flags: the reference knows where each may stand. */
static void flags(void **state)
{
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 3, NULL, 0);
	for (uint32_t value = 0; value < 256; value++) {
		make_simple(false);
		sample.vnet.gso_size = 5000;
		sample.bytes[sample.transport + 13] = (uint8_t)value;
		assert_int_equal(check_sample(&entropy, 4), 2);
		assert_int_equal(sample.bytes[sample.transport + 13], value);
	}
}

static void numbers_wrap(void **state)
{
	struct entropy entropy;

	(void)state;
	entropy_init(&entropy, 4, NULL, 0);
	make_simple(false);
	packet_put16(sample.bytes + sample.network + 4, 0xfffb);
	packet_put32(sample.bytes + sample.transport + 4, 0xfffffff0);
	check_sample(&entropy, 20);
	/* 0xfffb + 9 */
	reference_segment(&sample, 9, true, expected);
	assert_int_equal(get16(expected + sample.network + 4), 4);
	assert_int_equal(get16(expected + sample.transport + 4), 0);
}

/* Cutting reads no payload: it need not even be there. */
static void payload_is_not_read(void **state)
{
	struct view views[FRAME_VIEWS_MAX], parts[FRAME_VIEWS_MAX];
	struct entropy entropy;
	struct segmenter segmenter;
	struct frame frame, segment;
	const uint8_t *nowhere = (const uint8_t *)(uintptr_t)4096;
	uint32_t at = 0;

	(void)state;
	entropy_init(&entropy, 5, NULL, 0);
	make_simple(true);
	sample_to_frame(&entropy, &sample, 1, &frame, views);
	sample_release(&frame);
	views[0].address = nowhere;
	assert_int_equal(vnet_check(&frame, NEEDS_ALL), 0);
	segment_begin(&segmenter, &frame, datagram, sample.identification);
	while (segment_next(&segmenter, &segment, parts)) {
		assert_int_equal(segment.view_count, 1);
		assert_ptr_equal(parts[0].address, nowhere + at);
		at += parts[0].length;
	}
	assert_int_equal(at, views[0].length);
}

/* Sixty-four views of one byte, then sixty-three and the rest in the last. */
static void views_are_bounded(void **state)
{
	struct view views[FRAME_VIEWS_MAX], parts[FRAME_VIEWS_MAX];
	struct entropy entropy;
	struct segmenter segmenter;
	struct frame frame, segment;
	uint32_t count = 0;

	(void)state;
	entropy_init(&entropy, 6, NULL, 0);
	for (uint16_t size = 48; size < 300; size++) {
		make_simple(false);
		sample.vnet.gso_size = size;
		resize(FRAME_HEAD_MAX - sample.headers + FRAME_VIEWS_MAX);
		if (sample.length - sample.headers <= size)
			break;
		sample_to_frame(&entropy, &sample, FRAME_VIEWS_MAX, &frame, views);
		sample_release(&frame);
		frame.view_count = FRAME_VIEWS_MAX;
		for (uint16_t i = 0; i < FRAME_VIEWS_MAX; i++)
			views[i] = (struct view){ sample.bytes + FRAME_HEAD_MAX + i, 1 };
		assert_int_equal(vnet_check(&frame, NEEDS_ALL), 0);
		frame.port = 77;
		segment_begin(&segmenter, &frame, datagram, sample.identification);
		for (count = 0; segment_next(&segmenter, &segment, parts); count++)
			check_segment(&segment, parts, count);
		assert_int_equal(count, frame.segments);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_frames),
		cmocka_unit_test(lengths),
		cmocka_unit_test(flags),
		cmocka_unit_test(numbers_wrap),
		cmocka_unit_test(payload_is_not_read),
		cmocka_unit_test(views_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
