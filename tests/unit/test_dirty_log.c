/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtqueue/dirty_log.h: exactly the pages that were written, and never a byte outside of the log.
 */
#include "virtqueue/dirty_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGES 64

/* Marks a range in an empty log for PAGES pages: [first, end) is what it says. */
static void expect_pages(uint64_t guest, uint64_t length, uint64_t first, uint64_t end)
{
	/* An allocation of its exact size: what is written behind it is found by sanitizers. */
	uint8_t *bits = calloc(1, PAGES / 8);
	const struct dirty_log log = { .base = bits, .size = PAGES / 8 };

	assert_non_null(bits);
	dirty_log_mark(&log, guest, length);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_int_equal(bits[page / 8] >> page % 8 & 1, page >= first && page < end);
	free(bits);
}

static void ranges(void **state)
{
	(void)state;
	expect_pages(0, 1, 0, 1);
	expect_pages(4095, 1, 0, 1);
	expect_pages(4095, 2, 0, 2);
	expect_pages(4096, 4096, 1, 2);
	expect_pages(4096, 4097, 1, 3);
	expect_pages(7 * 4096 + 1, 4096, 7, 9);
	expect_pages(0, PAGES * 4096, 0, PAGES);
	expect_pages((PAGES - 1) * 4096, 4096, PAGES - 1, PAGES);
	expect_pages(0, 0, 0, 0);
	expect_pages(5 * 4096, 0, 0, 0);
}

/* Pages that the log has no bit for are left out, those before them are not. */
static void beyond(void **state)
{
	(void)state;
	expect_pages(PAGES * 4096, 1, 0, 0);
	expect_pages((PAGES - 2) * 4096, 100 * 4096, PAGES - 2, PAGES);
	expect_pages(UINT64_MAX, 1, 0, 0);
	expect_pages(UINT64_MAX - 4095, 4096, 0, 0);
	/* A range that goes on at 0. */
	expect_pages(UINT64_MAX - 4095, 8192, 0, 0);
	expect_pages(0, UINT64_MAX, 0, PAGES);
}

/* What others marked stays. */
static void added(void **state)
{
	uint8_t bits[2] = { 0x81, 0x01 };
	const struct dirty_log log = { .base = bits, .size = sizeof(bits) };
	const struct dirty_log none = { .base = NULL, .size = 0 };

	(void)state;
	dirty_log_mark(&log, 3 * DIRTY_PAGE, 1);
	dirty_log_mark(&log, 7 * DIRTY_PAGE, 2 * DIRTY_PAGE);
	dirty_log_mark(&log, 15 * DIRTY_PAGE, DIRTY_PAGE);
	assert_int_equal(bits[0], 0x89);
	assert_int_equal(bits[1], 0x81);
	dirty_log_mark(&none, 0, DIRTY_PAGE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges),
		cmocka_unit_test(beyond),
		cmocka_unit_test(added),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
