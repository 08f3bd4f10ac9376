/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frame/drop.c: names and sentences of the drop reasons are complete, fit for all outputs, and
 * unlike.
 */
#include "frame/drop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void names_are_fit_for_outputs(void **state)
{
	(void)state;
	for (int reason = 0; reason < DROP_COUNT; reason++) {
		const char *name = drop_name((enum drop)reason);
		const char *text = drop_text((enum drop)reason);

		/* A label value, a JSON key and a word of the client alike. */
		assert_true(strlen(name) > 0);
		assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name));
		assert_true(strlen(text) > strlen("none"));
		assert_int_not_equal(text[strlen(text) - 1], '.');
		for (int other = 0; other < reason; other++) {
			assert_string_not_equal(name, drop_name((enum drop)other));
			assert_string_not_equal(text, drop_text((enum drop)other));
		}
	}
}

/* Dashboards depend on them, and a zeroed frame is a drop without a destination. */
static void names_are_the_published_ones(void **state)
{
	static const char *const published[] = {
		"ring_full", "not_connected", "disabled", "mtu", "too_long", "too_short", "limit",
		"queue_full", "queue_timeout", "vlan", "guard", "bad_source", "isolated",
		"flood_off", "storm", "blackhole", "link_local", "hairpin", "no_destination",
		"malformed", "bad_offload", "no_buffer", "no_memory", "device",
	};

	(void)state;
	assert_int_equal(DROP_COUNT, sizeof(published) / sizeof(published[0]));
	for (size_t i = 0; i < sizeof(published) / sizeof(published[0]); i++) {
		int found = 0;

		for (int reason = 0; reason < DROP_COUNT; reason++)
			found += strcmp(drop_name((enum drop)reason), published[i]) == 0;
		if (found != 1)
			fail_msg("%s is there %d times", published[i], found);
	}
	assert_string_equal(drop_name(DROP_RING_FULL), "ring_full");
	assert_string_equal(drop_name(DROP_DEVICE), "device");
	assert_string_equal(drop_name((enum drop)0), "no_destination");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_fit_for_outputs),
		cmocka_unit_test(names_are_the_published_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
