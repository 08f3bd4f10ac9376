/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtqueue/guest_memory.h: every edge of every region, at both ends of the address space, and
 * ranges that overflow.
 */
#include "virtqueue/guest_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

#include <cmocka.h>

static uint8_t first[0x1000], second[0x2000], last[0x100];

/* `second` follows `first` for the guest; `last` ends where addresses end. */
static const struct guest_memory memory = {
	.count = 3,
	.regions = { { 0x10000, sizeof(first), first },
		     { 0x11000, sizeof(second), second },
		     { UINT64_MAX - 0xff, sizeof(last), last } },
};

static void expect_part(uint64_t guest, uint32_t length, const uint8_t *host, uint32_t part)
{
	assert_ptr_equal(guest_memory_part(&memory, guest, &length), host);
	assert_int_equal(length, part);
}

static void parts(void **state)
{
	(void)state;
	expect_part(0x10000, 1, first, 1);
	expect_part(0x10000, 0x1000, first, 0x1000);
	expect_part(0x10000, 0x1001, first, 0x1000);
	expect_part(0x10000, UINT32_MAX, first, 0x1000);
	expect_part(0x10fff, 1, first + 0xfff, 1);
	expect_part(0x10fff, 2, first + 0xfff, 1);
	expect_part(0x11000, 2, second, 2);
	expect_part(0x12fff, UINT32_MAX, second + 0x1fff, 1);
	expect_part(UINT64_MAX, 1, last + 0xff, 1);
	expect_part(UINT64_MAX, UINT32_MAX, last + 0xff, 1);
	expect_part(UINT64_MAX - 0xff, 0x100, last, 0x100);
}

static void outside(void **state)
{
	static const uint64_t addresses[] = { 0, 0xffff, 0x13000, 0x8000000000000000,
					      UINT64_MAX - 0x100, 0x100010000, 0xffffffff00010000 };

	(void)state;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		uint32_t length = 1;

		assert_null(guest_memory_part(&memory, addresses[i], &length));
		assert_null(guest_memory_whole(&memory, addresses[i], 1));
	}
}

static void wholes(void **state)
{
	(void)state;
	assert_ptr_equal(guest_memory_whole(&memory, 0x10000, 0x1000), first);
	assert_null(guest_memory_whole(&memory, 0x10000, 0x1001));
	assert_ptr_equal(guest_memory_whole(&memory, 0x10fff, 1), first + 0xfff);
	assert_null(guest_memory_whole(&memory, 0x10fff, 2));
	assert_ptr_equal(guest_memory_whole(&memory, UINT64_MAX - 9, 10), last + 0xf6);
	assert_null(guest_memory_whole(&memory, UINT64_MAX - 9, 11));
	assert_null(guest_memory_whole(&memory, UINT64_MAX - 9, UINT32_MAX));
}

static void holds(void **state)
{
	(void)state;
	assert_true(guest_memory_holds(&memory, first, 0x1000));
	assert_false(guest_memory_holds(&memory, first, 0x1001));
	assert_true(guest_memory_holds(&memory, second + 0x1fff, 1));
	assert_false(guest_memory_holds(&memory, second + 0x1fff, 2));
	assert_false(guest_memory_holds(&memory, first, UINT64_MAX));
	assert_false(guest_memory_holds(&memory, first + 16, UINT64_MAX - 15));
	assert_false(guest_memory_holds(&memory, &memory, 1));
	assert_false(guest_memory_holds(&memory, NULL, 1));
}

/* The way back, for the dirty log. */
static void addresses(void **state)
{
	(void)state;
	assert_int_equal(guest_memory_address(&memory, first), 0x10000);
	assert_int_equal(guest_memory_address(&memory, first + 0xfff), 0x10fff);
	assert_int_equal(guest_memory_address(&memory, second), 0x11000);
	assert_int_equal(guest_memory_address(&memory, second + 0x1fff), 0x12fff);
	assert_int_equal(guest_memory_address(&memory, last + 0xff), UINT64_MAX);
	assert_int_equal(guest_memory_address(&memory, &memory), 0);
	assert_int_equal(guest_memory_address(&memory, NULL), 0);
}

/*
 * A region that starts below the end of addresses and goes on at 0 is the VMM's folly, yet no harm.
 */
static void wrapping_region(void **state)
{
	static uint8_t bytes[0x200];
	const struct guest_memory wrapping = {
		.count = 1, .regions = { { UINT64_MAX - 0xff, sizeof(bytes), bytes } }
	};
	uint32_t length = 0x1000;

	(void)state;
	assert_ptr_equal(guest_memory_part(&wrapping, 0x80, &length), bytes + 0x180);
	assert_int_equal(length, 0x80);
	assert_null(guest_memory_whole(&wrapping, 0x100, 1));
}

static void empty(void **state)
{
	const struct guest_memory none = { .count = 0 };
	const struct guest_memory nothing = { .count = 1, .regions = { { 0x1000, 0, first } } };
	uint32_t length = 1;

	(void)state;
	assert_null(guest_memory_part(&none, 0x10000, &length));
	assert_false(guest_memory_holds(&none, first, 1));
	assert_null(guest_memory_part(&nothing, 0x1000, &length));
	assert_false(guest_memory_holds(&nothing, first, 0));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts),           cmocka_unit_test(outside),
		cmocka_unit_test(wholes),          cmocka_unit_test(holds),
		cmocka_unit_test(addresses),       cmocka_unit_test(wrapping_region),
		cmocka_unit_test(empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
