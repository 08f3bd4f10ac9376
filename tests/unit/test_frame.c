/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frame/frame.h: the copy of short lengths, what a plain header is, and the memory of a burst.
 */
#include "frame/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* Every length, from and to memory of exactly that size, at every alignment to a cache line. */
static void copies(void **state)
{
	(void)state;
	for (uint32_t length = 0; length <= FRAME_HEAD_MAX + 64; length++) {
		for (uint32_t shift = 0; shift < 64; shift += 7) {
			uint8_t *from = malloc(length + shift), *to = malloc(length + shift);

			assert_true((from != NULL && to != NULL) || length + shift == 0);
			for (uint32_t i = 0; i < length; i++)
				from[shift + i] = (uint8_t)(i * 31 + length);
			if (length + shift > 0)
				memset(to, 0xc5, length + shift);
			copy_short(to + shift, from + shift, length);
			for (uint32_t i = 0; i < shift; i++)
				assert_int_equal(to[i], 0xc5);
			for (uint32_t i = 0; i < length; i++)
				assert_int_equal(to[shift + i], (uint8_t)(i * 31 + length));
			free(from);
			free(to);
		}
	}
}

/* Without a sanitizer too: bytes on both sides of the destination stay. */
static void copies_between_canaries(void **state)
{
	uint8_t from[FRAME_HEAD_MAX], to[FRAME_HEAD_MAX + 128];

	(void)state;
	for (uint32_t i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i + 1);
	for (uint32_t length = 0; length <= FRAME_HEAD_MAX; length++) {
		memset(to, 0xc5, sizeof(to));
		copy_short(to + 64, from, length);
		assert_memory_equal(to + 64, from, length);
		for (uint32_t i = 0; i < 64; i++) {
			assert_int_equal(to[i], 0xc5);
			assert_int_equal(to[64 + length + i], 0xc5);
		}
	}
}

static void plain_headers(void **state)
{
	(void)state;
	assert_true(vnet_is_plain(&(struct virtio_net_hdr){ 0 }));
	assert_true(vnet_is_plain(&(struct virtio_net_hdr){ .gso_size = 1, .csum_start = 2 }));
	for (int bit = 0; bit < 8; bit++) {
		const struct virtio_net_hdr flag = { .flags = (uint8_t)(1 << bit) };
		const struct virtio_net_hdr type = { .gso_type = (uint8_t)(1 << bit) };

		assert_false(vnet_is_plain(&flag));
		assert_false(vnet_is_plain(&type));
	}
}

static void bursts(void **state)
{
	struct burst *burst = burst_new();

	(void)state;
	assert_non_null(burst);
	assert_int_equal(burst->count, 0);
	for (int i = 0; i < BURST_MAX; i++)
		assert_int_equal((uintptr_t)burst->frames[i].head % 64, 0);
	memset(burst->scratch, 0xc5, BURST_SCRATCH);
	burst->count = 3;
	burst->view_count = 4;
	burst->scratch_used = 5;
	burst_reset(burst);
	assert_int_equal(burst->count, 0);
	assert_int_equal(burst->view_count, 0);
	assert_int_equal(burst->scratch_used, 0);
	burst_free(burst);
	burst_free(NULL);
}

/* The payload in pieces of all sizes: none of it is lost, or there twice. */
static void heads_are_extended(void **state)
{
	static uint8_t bytes[400];

	(void)state;
	for (uint32_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i ^ i >> 8);
	for (uint32_t length = 0; length <= sizeof(bytes); length += 8) {
		for (uint32_t piece = 1; piece < 300; piece += 7) {
			const uint32_t head = length < FRAME_HEAD_PLAIN ? length : FRAME_HEAD_PLAIN;
			const uint32_t wanted = length < FRAME_HEAD_MAX ? length : FRAME_HEAD_MAX;
			struct frame frame = { .head_length = (uint16_t)head, .length = length };
			struct view views[300];
			uint32_t at = head;

			memcpy(frame.head, bytes, head);
			frame.views = views;
			for (; at < length; at += piece)
				views[frame.view_count++] =
					(struct view){ bytes + at,
						       length - at < piece ? length - at : piece };
			assert_int_equal(frame_extend_head(&frame), length > head);
			assert_int_equal(frame.head_length, wanted);
			assert_memory_equal(frame.head, bytes, wanted);
			at = wanted;
			for (uint16_t i = 0; i < frame.view_count; i++) {
				assert_true(frame.views[i].length > 0);
				assert_ptr_equal(frame.views[i].address, bytes + at);
				at += frame.views[i].length;
			}
			assert_int_equal(at, length);
			assert_false(frame_extend_head(&frame));
		}
	}
}

static void drops(void **state)
{
	struct frame frame = { .verdict = VERDICT_FLOOD };

	(void)state;
	frame_drop(&frame, DROP_GUARD);
	assert_int_equal(frame.verdict, VERDICT_DROP);
	assert_int_equal(frame.drop, DROP_GUARD);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies),        cmocka_unit_test(copies_between_canaries),
		cmocka_unit_test(plain_headers), cmocka_unit_test(bursts),
		cmocka_unit_test(heads_are_extended),
		cmocka_unit_test(drops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
