/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/error.c: what is filled, what is cleared, and what is cut.
 */
#include "base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void set_fills_and_clears(void **state)
{
	struct error err;

	(void)state;
	memset(&err, 'x', sizeof(err));
	assert_int_equal(error_set(&err, ERROR_SYSTEM, EACCES, "cannot open %s", "/x"), -EACCES);
	assert_int_equal(err.kind, ERROR_SYSTEM);
	assert_int_equal(err.errnum, EACCES);
	assert_string_equal(err.message, "cannot open /x");
	assert_string_equal(err.object, "");
	assert_string_equal(err.field, "");
	assert_string_equal(err.value, "");
	assert_string_equal(err.accepted, "");
}

static void set_without_errno_returns_einval(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(error_set(&err, ERROR_NOT_FOUND, 0, "no"), -EINVAL);
	assert_int_equal(err.errnum, 0);
}

static void set_may_wrap_its_own_message(void **state)
{
	struct error err;

	(void)state;
	error_set(&err, ERROR_BUSY, 0, "inner");
	error_set(&err, ERROR_BUSY, 0, "outer: %s", err.message);
	assert_string_equal(err.message, "outer: inner");
}

static void detail_leaves_what_is_null(void **state)
{
	struct error err;

	(void)state;
	error_set(&err, ERROR_INVALID, EINVAL, "m");
	error_detail(&err, "port vm1", "queues", "0", "1 to 128");
	error_detail(&err, NULL, "rings", NULL, NULL);
	assert_string_equal(err.message, "m");
	assert_string_equal(err.object, "port vm1");
	assert_string_equal(err.field, "rings");
	assert_string_equal(err.value, "0");
	assert_string_equal(err.accepted, "1 to 128");
}

static void long_text_is_cut_between_characters(void **state)
{
	char text[2048];
	struct error err;

	(void)state;
	/* Two bytes a character, at an odd and at an even distance from the place of the cut. */
	for (size_t shift = 0; shift < 2; shift++) {
		size_t length;

		memset(text, 'a', shift);
		for (size_t i = shift; i < sizeof(text) - 1; i++)
			text[i] = (i - shift) % 2 == 0 ? '\xc3' : '\xa4';
		text[sizeof(text) - 1] = '\0';
		error_set(&err, ERROR_INVALID, 0, "%s", text);
		length = strlen(err.message);
		assert_in_range(length, sizeof(err.message) - 2, sizeof(err.message) - 1);
		assert_string_equal(err.message + length - 3, "...");
		assert_int_equal((length - 3 - shift) % 2, 0);
		error_detail(&err, text, text, text, text);
		assert_string_equal(err.object + strlen(err.object) - 3, "...");
		assert_string_equal(err.accepted + strlen(err.accepted) - 3, "...");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_fills_and_clears),
		cmocka_unit_test(set_without_errno_returns_einval),
		cmocka_unit_test(set_may_wrap_its_own_message),
		cmocka_unit_test(detail_leaves_what_is_null),
		cmocka_unit_test(long_text_is_cut_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
