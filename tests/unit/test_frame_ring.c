/* SPDX-License-Identifier: BSD-3-Clause */
/* frame/frame_ring.c: what comes out is what went in, in order, whatever the lengths and bounds. */
#include "frame/frame_ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define SMALL 65536u
#define LARGE (16u << 20)

/* A frame whose bytes follow from its number, in up to two pieces behind its head. */
struct sample {
	struct frame frame;
	struct view views[2];
	uint8_t bytes[FRAME_LENGTH_MAX];
};

static uint8_t byte_of(uint32_t number, uint32_t at)
{
	return (uint8_t)(number * 31 + at * 7 + (at >> 8));
}

static void make(struct sample *sample, uint32_t number, uint32_t length, uint16_t head)
{
	struct frame *frame = &sample->frame;
	uint32_t rest;

	memset(frame, 0, sizeof(*frame));
	for (uint32_t i = 0; i < length; i++)
		sample->bytes[i] = byte_of(number, i);
	frame->length = length;
	frame->head_length = length < head ? (uint16_t)length : head;
	frame->vnet.gso_size = (uint16_t)number;
	frame->needs = (uint8_t)(number % 7);
	frame->segments = (uint16_t)(1 + number % 45);
	frame->port = (uint16_t)(number % 1000);
	memcpy(frame->head, sample->bytes, frame->head_length);
	rest = length - frame->head_length;
	frame->views = sample->views;
	sample->views[0] = (struct view){ sample->bytes + frame->head_length, rest / 3 };
	sample->views[1] = (struct view){ sample->bytes + frame->head_length + rest / 3,
					  rest - rest / 3 };
	frame->view_count = rest > 0 ? 2 : 0;
}

static bool put(struct frame_ring *ring, uint32_t number, uint32_t length, uint32_t most)
{
	static struct sample sample;

	make(&sample, number, length, number % 2 ? FRAME_HEAD_PLAIN : FRAME_HEAD_MAX);
	return frame_ring_put(ring, &sample.frame, most, 1000 + number);
}

static void check(const struct frame *frame, uint32_t number, uint32_t length)
{
	uint32_t at = frame->head_length;

	assert_int_equal(frame->length, length);
	assert_int_equal(frame->vnet.gso_size, (uint16_t)number);
	assert_int_equal(frame->needs, number % 7);
	assert_int_equal(frame->segments, 1 + number % 45);
	assert_int_equal(frame->port, number % 1000);
	for (uint32_t i = 0; i < frame->head_length; i++)
		assert_int_equal(frame->head[i], byte_of(number, i));
	for (uint16_t v = 0; v < frame->view_count; v++)
		for (uint32_t i = 0; i < frame->views[v].length; i++, at++)
			assert_int_equal(frame->views[v].address[i], byte_of(number, at));
	assert_int_equal(at, length);
}

static uint32_t taken_by(uint32_t length)
{
	return (FRAME_RING_OVERHEAD + length + 63) / 64 * 64;
}

static void expect_empty(const struct frame_ring *ring)
{
	struct frame *frames[1];

	assert_int_equal(ring->count, 0);
	assert_int_equal(ring->used, 0);
	assert_int_equal(frame_ring_peek(ring, frames, 1), 0);
}

static void frames_come_out_as_they_went_in(void **state)
{
	static const uint32_t lengths[] = { 0, 1, 14, 127, 128, 129, 256, 257, 1514,
					    FRAME_LENGTH_MAX };
	const uint16_t count = sizeof(lengths) / sizeof(lengths[0]);
	struct frame *frames[BURST_MAX];
	struct frame_ring ring;
	uint32_t used = 0;

	(void)state;
	assert_int_equal(frame_ring_init(&ring, LARGE), 0);
	expect_empty(&ring);
	for (uint32_t i = 0; i < count; i++) {
		assert_true(put(&ring, i, lengths[i], LARGE));
		used += taken_by(lengths[i]);
		assert_int_equal(ring.used, used);
	}
	assert_int_equal(frame_ring_peek(&ring, frames, 3), 3);
	assert_int_equal(frame_ring_peek(&ring, frames, BURST_MAX), count);
	for (uint32_t i = 0; i < count; i++)
		check(frames[i], i, lengths[i]);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(frame_ring_since(&ring), 1000 + i);
		frame_ring_remove(&ring, 1);
	}
	expect_empty(&ring);
	frame_ring_fini(&ring);
	frame_ring_fini(&ring);
}

static void no_more_than_it_may(void **state)
{
	struct frame_ring ring;
	uint32_t count = 0;

	(void)state;
	assert_int_equal(frame_ring_init(&ring, LARGE), 0);
	/* An empty ring takes even the longest frame, another one only what is left. */
	assert_true(put(&ring, 1, FRAME_LENGTH_MAX, SMALL));
	assert_false(put(&ring, 2, 0, SMALL));
	frame_ring_remove(&ring, 1);
	assert_true(put(&ring, 1, SMALL - FRAME_RING_OVERHEAD, SMALL));
	assert_false(put(&ring, 2, 0, SMALL));
	frame_ring_remove(&ring, 1);
	while (put(&ring, count, 60, SMALL))
		count++;
	assert_int_equal(count, SMALL / taken_by(60));
	assert_int_equal(ring.used, count * taken_by(60));
	/* More is allowed, and then less than there is. */
	assert_true(put(&ring, count, 1000, 2 * SMALL));
	assert_false(put(&ring, count, 1000, SMALL));
	for (uint32_t i = 0; i < count; i++) {
		struct frame *frame;

		assert_int_equal(frame_ring_peek(&ring, &frame, 1), 1);
		check(frame, i, 60);
		frame_ring_remove(&ring, 1);
	}
	frame_ring_remove(&ring, 1);
	expect_empty(&ring);
	/* All of the largest. */
	for (count = 0; put(&ring, count, FRAME_LENGTH_MAX, LARGE); count++)
		;
	assert_int_equal(count, LARGE / taken_by(FRAME_LENGTH_MAX));
	frame_ring_fini(&ring);
}

/* Random lengths, bounds that change, round and round: always full is as good as it gets. */
static void round_and_round(void **state)
{
	enum { KNOWN = 4096 };
	static uint32_t lengths[KNOWN];
	uint32_t first = 0, next = 0, most = SMALL, turns = 0, full = 0, early = 0;
	struct frame_ring ring;

	(void)state;
	srand(4711);
	assert_int_equal(frame_ring_init(&ring, LARGE), 0);
	for (uint32_t i = 0; i < 400000; i++) {
		const uint32_t length = (uint32_t)rand() % (rand() % 8 == 0 ? 20000 : 300);
		const uint32_t before = ring.tail;
		struct frame *frame;

		if (rand() % 1000 == 0)
			most = SMALL << (rand() % 3);
		if (rand() % 2 == 0 && next - first < KNOWN) {
			if (put(&ring, next, length, most)) {
				assert_true(ring.used <= most);
				turns += ring.tail < before && ring.count > 1;
				lengths[next++ % KNOWN] = length;
			} else {
				early += ring.used + taken_by(length) <= most;
				full++;
			}
		} else if (first < next && rand() % 32 != 0) {
			assert_int_equal(frame_ring_peek(&ring, &frame, 1), 1);
			assert_int_equal(frame_ring_since(&ring), 1000 + first);
			check(frame, first, lengths[first % KNOWN]);
			frame_ring_remove(&ring, 1);
			first++;
		}
		assert_int_equal(ring.count, next - first);
	}
	assert_true(turns > 50);
	assert_true(full > 1000);
	/* Only as the bound has just grown. */
	assert_true(early < full / 10);
	frame_ring_fini(&ring);
}

/* With a bound that stays there is always room up to it. */
static void fragments_lose_nothing(void **state)
{
	struct frame_ring ring;

	(void)state;
	srand(42);
	assert_int_equal(frame_ring_init(&ring, LARGE), 0);
	for (uint32_t i = 0; i < 20000; i++) {
		const uint32_t length = (uint32_t)rand() % 40000;

		while (ring.used + taken_by(length) > SMALL)
			frame_ring_remove(&ring, 1);
		assert_true(put(&ring, i, length, SMALL));
	}
	frame_ring_fini(&ring);
}

/* Of 16 MiB only what a short ring needs is ever touched. */
static void little_is_touched(void **state)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *present;
	struct frame_ring ring;
	size_t pages, touched = 0;

	(void)state;
	assert_int_equal(frame_ring_init(&ring, LARGE), 0);
	for (uint32_t i = 0; i < 20000; i++) {
		while (!put(&ring, i, 1514, SMALL))
			frame_ring_remove(&ring, 1);
	}
	pages = ring.mapped / page;
	present = malloc(pages + 1);
	assert_int_equal(mincore(ring.bytes, ring.mapped, present), 0);
	for (size_t i = 0; i < pages; i++)
		touched += present[i] & 1;
	assert_true(touched > 0);
	assert_true(touched * page <= 3 * SMALL);
	free(present);
	frame_ring_fini(&ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_out_as_they_went_in),
		cmocka_unit_test(no_more_than_it_may),
		cmocka_unit_test(round_and_round),
		cmocka_unit_test(fragments_lose_nothing),
		cmocka_unit_test(little_is_touched),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
