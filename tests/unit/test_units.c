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

struct number {
	const char *text;
	uint64_t value;
};

static void check_numbers(int (*parse)(const char *, uint64_t *), const struct number *good,
			  const char *const *bad)
{
	uint64_t value;

	for (; good->text != NULL; good++) {
		value = 1;
		if (parse(good->text, &value) != 0)
			fail_msg("\"%s\" was refused", good->text);
		if (value != good->value)
			fail_msg("\"%s\" is %llu", good->text, (unsigned long long)value);
	}
	value = 7;
	for (; *bad != NULL; bad++) {
		if (parse(*bad, &value) != -EINVAL)
			fail_msg("\"%s\" was taken", *bad);
		assert_int_equal(value, 7);
	}
}

static void rates(void **state)
{
	static const struct number good[] = {
		{ "0", 0 },
		{ "64000", 64000 },
		{ "007", 7 },
		{ "64k", 64000 },
		{ "64kbit", 64000 },
		{ "64kbit/s", 64000 },
		{ "10Mbps", 10000000 },
		{ "1.5G", 1500000000 },
		{ "1Gbit", 1000000000 },
		{ "1T", 1000000000000 },
		{ "1k/s", 1000 },
		{ "0.001k", 1 },
		{ "1.0", 1 },
		{ "1.234567891G", 1234567891 },
		{ "9223372036854775.807k", INT64_MAX },
		{ "999999999999999999", 999999999999999999 },
		{ NULL, 0 },
	};
	static const char *const bad[] = {
		"", "k", "bit", "-1", "+1", " 1", "1 ", "1 k", "1e3", "0x10", ".5", "1.", "1.k",
		"1.5", "1.0005k", "1Ki", "1K", "1m", "1g", "1Gbits", "1Gbit/", "1GB", "1kk",
		"1,5k", "9223372036854775.808k", "9223372036854775808", "1000000000000000000",
		"100000000000T", "1.0000000001T", "nan", "inf", "1\xc2\xb5", NULL,
	};

	(void)state;
	check_numbers(rate_parse, good, bad);
}

static void sizes(void **state)
{
	static const struct number good[] = {
		{ "0", 0 },
		{ "1500", 1500 },
		{ "1500B", 1500 },
		{ "64Ki", 65536 },
		{ "64KiB", 65536 },
		{ "1.5Mi", 1572864 },
		{ "1MiB", 1048576 },
		{ "2Gi", 2147483648 },
		{ "1k", 1000 },
		{ "1kB", 1000 },
		{ "1M", 1000000 },
		{ "3GB", 3000000000 },
		{ "0.5Ki", 512 },
		{ NULL, 0 },
	};
	static const char *const bad[] = {
		"", "B", "Ki", "-1", "1 KiB", "1K", "1KB", "1ki", "1mi", "1Kib", "1KiBB", "1bit",
		"1Ti", "0.3Ki", "1.5", "8589934592Gi", "1B/s", NULL,
	};

	(void)state;
	check_numbers(size_parse, good, bad);
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

static void ranges(void **state)
{
	static const struct {
		const char *text;
		uint32_t first, last;
	} good[] = {
		{ "0", 0, 0 }, { "30", 30, 30 }, { "10-20", 10, 20 }, { "7-7", 7, 7 },
		{ "007-0010", 7, 10 }, { "0-999999999", 0, 999999999 },
	};
	static const char *const bad[] = {
		"", "-", "10-", "-20", "20-10", "10-20-30", "10--20", " 10", "10 ", "10 -20",
		"10- 20", "+10", "0x10", "1.0", "a", "10-b", "1000000000", "1-1000000000",
		"4294967297", "10,20", "10\n",
	};
	uint32_t first, last;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(range_parse(good[i].text, &first, &last), 0);
		assert_int_equal(first, good[i].first);
		assert_int_equal(last, good[i].last);
	}
	first = last = 77;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (range_parse(bad[i], &first, &last) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_equal(first, 77);
		assert_int_equal(last, 77);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mac_good),
		cmocka_unit_test(mac_bad),
		cmocka_unit_test(names),
		cmocka_unit_test(modes),
		cmocka_unit_test(rates),
		cmocka_unit_test(sizes),
		cmocka_unit_test(ranges),
		cmocka_unit_test(text_that_fits_is_whole),
		cmocka_unit_test(text_is_cut_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
