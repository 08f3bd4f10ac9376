/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/units.c: what is taken, what is not, and that nothing is stored on a refusal.
 */
#include "base/units.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void mac_good(void **state)
{
	static const uint8_t expected[MAC_LENGTH] = { 0x52, 0x54, 0x00, 0xab, 0xCD, 0xff };
	uint8_t mac[MAC_LENGTH];
	char text[MAC_TEXT_SIZE];

	(void)state;
	assert_int_equal(mac_parse("52:54:00:aB:Cd:FF", mac), 0);
	assert_memory_equal(mac, expected, MAC_LENGTH);
	mac_format(mac, text);
	assert_string_equal(text, "52:54:00:ab:cd:ff");
}

static void mac_bad(void **state)
{
	static const char *const bad[] = {
		"", "52:54:00:00:00", "52:54:00:00:00:0", "52:54:00:00:00:011", "52-54-00-00-00-01",
		"52:54:00:00:00:0g", "5:254:00:00:00:01", "52:54:00:00:00:01:", " 2:54:00:00:00:01",
		"52:54:00:00:00 01", "+2:54:00:00:00:01", "0x:54:00:00:00:01",
	};
	uint8_t mac[MAC_LENGTH] = { 1, 2, 3, 4, 5, 6 };
	static const uint8_t untouched[MAC_LENGTH] = { 1, 2, 3, 4, 5, 6 };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (mac_parse(bad[i], mac) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_memory_equal(mac, untouched, MAC_LENGTH);
	}
}

static void names(void **state)
{
	static const char *const good[] = { "a", "vm1", "A-z_0.9:x", "-", "." };
	static const char *const bad[] = { "", "a b", "a/b", "a\n", "\xc3\xa4", "a,b", "a=b" };
	char text[65];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (name_check(good[i]) != 0)
			fail_msg("\"%s\" was refused", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (name_check(bad[i]) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	memset(text, 'n', 64);
	text[64] = '\0';
	assert_int_equal(name_check(text), -EINVAL);
	text[63] = '\0';
	assert_int_equal(name_check(text), 0);
}

static void modes(void **state)
{
	static const char *const bad[] = { "", "8", "0o60", "1000", "07777", "00660",
					   "-660", " 660", "660 ", "0x1b", "rw" };
	uint32_t mode = 1;

	(void)state;
	assert_int_equal(mode_parse("0660", &mode), 0);
	assert_int_equal(mode, 0660);
	assert_int_equal(mode_parse("640", &mode), 0);
	assert_int_equal(mode, 0640);
	assert_int_equal(mode_parse("0", &mode), 0);
	assert_int_equal(mode, 0);
	assert_int_equal(mode_parse("0777", &mode), 0);
	assert_int_equal(mode, 0777);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (mode_parse(bad[i], &mode) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_equal(mode, 0777);
	}
}

static void text_that_fits_is_whole(void **state)
{
	char text[6];

	(void)state;
	text_copy(text, sizeof(text), "");
	assert_string_equal(text, "");
	text_copy(text, sizeof(text), "12345");
	assert_string_equal(text, "12345");
	text_copy(text, sizeof(text), "123456");
	assert_string_equal(text, "12...");
	text_copy(text, 4, "12345");
	assert_string_equal(text, "...");
	text_copy(text, sizeof(text), "abcde");
	text_copy(text, sizeof(text), text + 2);
	assert_string_equal(text, "cde");
}

static void text_is_cut_between_characters(void **state)
{
	char text[8];

	(void)state;
	/* A euro sign has three bytes; the cut at 4 would leave one of them. */
	text_copy(text, sizeof(text), "abc\xe2\x82\xac" "defgh");
	assert_string_equal(text, "abc...");
	text_copy(text, sizeof(text), "a\xe2\x82\xac" "bcdefgh");
	assert_string_equal(text, "a\xe2\x82\xac...");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mac_good),
		cmocka_unit_test(mac_bad),
		cmocka_unit_test(names),
		cmocka_unit_test(modes),
		cmocka_unit_test(text_that_fits_is_whole),
		cmocka_unit_test(text_is_cut_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
