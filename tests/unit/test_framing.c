/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rpc/framing.c: every stream is scanned whole, byte by byte, and in each possible pair of pieces;
 * the values found must be the same.
 */
#include "rpc/framing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_LENGTH 64
#define MAX_DEPTH 4
#define FOUND_SIZE 512

static const char *const status_names[] = { "MORE", "VALUE", "BAD", "TOO_LONG", "TOO_DEEP" };

static void append(char *found, const char *before, const char *text, size_t length,
		   const char *behind)
{
	size_t used = strlen(found);

	snprintf(found + used, FOUND_SIZE - used, "%s%.*s%s", before, (int)length, text, behind);
}

/*
 * Scans a stream that arrives in pieces which end at `cuts`, and writes down what was found: each
 * value in <>, then how the stream ended.
 */
static void scan(const char *stream, const size_t *cuts, size_t cut_count, char *found)
{
	enum framing_status status = FRAMING_MORE;
	struct framing framing;
	size_t value_start = 0;
	size_t position = 0;

	found[0] = '\0';
	framing_init(&framing, MAX_LENGTH, MAX_DEPTH);
	for (size_t i = 0; i < cut_count; i++) {
		while (position < cuts[i]) {
			size_t used;

			status = framing_scan(&framing, stream + position, cuts[i] - position,
					      &used);
			assert_true(used <= cuts[i] - position);
			position += used;
			if (status == FRAMING_VALUE) {
				append(found, "<", stream + value_start + framing.skipped,
				       framing.length, ">");
				value_start += framing.skipped + framing.length;
				assert_true(value_start <= position);
				framing_reset(&framing);
				position = value_start;
				continue;
			}
			if (status != FRAMING_MORE) {
				append(found, "", "", 0, status_names[status]);
				return;
			}
			assert_int_equal(position, cuts[i]);
			assert_int_equal(value_start + framing.skipped + framing.length, position);
		}
	}
	status = framing_end(&framing);
	if (status == FRAMING_VALUE)
		append(found, "<", stream + value_start + framing.skipped, framing.length, ">");
	append(found, "", "", 0, status == FRAMING_VALUE ? "MORE" : status_names[status]);
}

static void check(const char *stream, const char *expected)
{
	size_t length = strlen(stream);
	char found[FOUND_SIZE];
	size_t cuts[256];

	assert_true(length < 256);
	for (size_t i = 0; i < length; i++)
		cuts[i] = i + 1;
	scan(stream, cuts, length, found);
	assert_string_equal(found, expected);
	for (size_t i = 0; i <= length; i++) {
		size_t pair[2] = { i, length };

		scan(stream, pair, 2, found);
		assert_string_equal(found, expected);
	}
}

static void values_back_to_back(void **state)
{
	(void)state;
	check("", "MORE");
	check(" \t\r\n", "MORE");
	check("{}", "<{}>MORE");
	check("{}[]{}", "<{}><[]><{}>MORE");
	check(" {} \n [1,2]\n", "<{}><[1,2]>MORE");
	check("{\"a\":{\"b\":[{}]}}{}", "<{\"a\":{\"b\":[{}]}}><{}>MORE");
}

static void strings_hide_brackets(void **state)
{
	(void)state;
	check("{\"}\":\"]\"}", "<{\"}\":\"]\"}>MORE");
	check("[\"\\\"]\"]1 ", "<[\"\\\"]\"]><1>MORE");
	check("[\"\\\\\"]{}", "<[\"\\\\\"]><{}>MORE");
	check("[\"\\\\\\\"]\"]", "<[\"\\\\\\\"]\"]>MORE");
	check("\"a b\"\"\\\"\"", "<\"a b\"><\"\\\"\">MORE");
}

static void scalars_end_at_the_next_byte(void **state)
{
	(void)state;
	check("1", "<1>MORE");
	check("-1.5e+3 true{}", "<-1.5e+3><true><{}>MORE");
	check("null\"x\"false", "<null><\"x\"><false>MORE");
	check("12[", "<12>BAD");
	/* Nonsense, but the parser is the one to say so. */
	check("truefalse ", "<truefalse>MORE");
}

static void cut_off_is_bad(void **state)
{
	(void)state;
	check("{", "BAD");
	check("{}[1,", "<{}>BAD");
	check("\"abc", "BAD");
	check("[\"\\", "BAD");
}

static void garbage_is_bad(void **state)
{
	(void)state;
	check("GET / HTTP/1.1\r\n", "BAD");
	check("}", "BAD");
	check("{}]", "<{}>BAD");
	check("{},{}", "<{}>BAD");
	check("\x01", "BAD");
	check("\xef\xbb\xbf{}", "BAD");
	check("+1", "BAD");
	/* Which bracket closes which is left to the parser. */
	check("{]{}", "<{]><{}>MORE");
}

static void depth_is_limited(void **state)
{
	(void)state;
	check("[[[[]]]]", "<[[[[]]]]>MORE");
	check("[[[{}],[{}]]]", "<[[[{}],[{}]]]>MORE");
	check("[[[[[]]]]]", "TOO_DEEP");
	check("{\"a\":[[[{", "TOO_DEEP");
	check("[[[[\"[[[\"]]]]", "<[[[[\"[[[\"]]]]>MORE");
}

static void length_is_limited(void **state)
{
	static const char *const kinds[] = { "[]", "\"\"", "11", "{}" };
	char stream[128];
	char expected[160];

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		bool scalar = kinds[i][0] == '1';

		/* Just fits, with white space around it that does not count. */
		memset(stream, scalar ? '1' : 'x', sizeof(stream));
		stream[0] = ' ';
		stream[1] = kinds[i][0];
		stream[MAX_LENGTH] = kinds[i][1];
		memcpy(stream + MAX_LENGTH + 1, " ", 2);
		snprintf(expected, sizeof(expected), "<%.*s>MORE", MAX_LENGTH, stream + 1);
		check(stream, expected);
		/* One byte more does not. */
		stream[MAX_LENGTH] = scalar ? '1' : 'x';
		stream[MAX_LENGTH + 1] = kinds[i][1];
		memcpy(stream + MAX_LENGTH + 2, " ", 2);
		check(stream, "TOO_LONG");
	}
}

static void no_byte_is_used_twice(void **state)
{
	struct framing framing;
	size_t total = 0;
	size_t used;

	(void)state;
	framing_init(&framing, 1 << 20, MAX_DEPTH);
	assert_int_equal(framing_scan(&framing, " [\"", 3, &used), FRAMING_MORE);
	assert_int_equal(used, 3);
	for (unsigned int i = 0; i < 1000; i++) {
		assert_int_equal(framing_scan(&framing, "abcdefg", 7, &used), FRAMING_MORE);
		total += used;
	}
	assert_int_equal(total, 7000);
	assert_int_equal(framing_scan(&framing, "\"]{}", 4, &used), FRAMING_VALUE);
	assert_int_equal(used, 2);
	assert_int_equal(framing.skipped, 1);
	assert_int_equal(framing.length, 7000 + 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_back_to_back),
		cmocka_unit_test(strings_hide_brackets),
		cmocka_unit_test(scalars_end_at_the_next_byte),
		cmocka_unit_test(cut_off_is_bad),
		cmocka_unit_test(garbage_is_bad),
		cmocka_unit_test(depth_is_limited),
		cmocka_unit_test(length_is_limited),
		cmocka_unit_test(no_byte_is_used_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
