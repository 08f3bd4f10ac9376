/* SPDX-License-Identifier: BSD-3-Clause */
/* What a VMM may take of the ring entries of all, and that it gives back what it took. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "port/vhost_entries.h"

#define LARGEST 32768
#define ALL (4u << 20)

/* Two of the largest, however few rings the port has. */
static void few_rings(void **state)
{
	struct entries own = { 0 };

	(void)state;
	assert_null(entries_charge(&own, 2, 0, LARGEST));
	assert_null(entries_charge(&own, 2, 1, LARGEST));
	entries_release(&own);

	memset(&own, 0, sizeof(own));
	assert_null(entries_charge(&own, 32, 0, LARGEST));
	assert_null(entries_charge(&own, 32, 1, LARGEST));
	assert_non_null(strstr(entries_charge(&own, 32, 2, 1), "a port"));
	/* What is asked for anew takes the place of what was had. */
	assert_null(entries_charge(&own, 32, 0, LARGEST - 1));
	assert_null(entries_charge(&own, 32, 2, 1));
	assert_int_equal(own.sum, 2 * LARGEST);
	entries_release(&own);
}

static void many_rings(void **state)
{
	struct entries own = { 0 };

	(void)state;
	for (uint32_t i = 0; i < 128; i++)
		assert_null(entries_charge(&own, 128, i, 2048));
	assert_non_null(entries_charge(&own, 128, 0, 2049));
	assert_int_equal(own.of[0], 2048);
	entries_release(&own);
}

/* One that would take the last of all is refused until another gives back. */
static void all_of_them(void **state)
{
	static struct entries owns[ALL / (2 * LARGEST)], late;
	const size_t count = sizeof(owns) / sizeof(owns[0]);

	(void)state;
	memset(owns, 0, sizeof(owns));
	memset(&late, 0, sizeof(late));
	for (size_t i = 0; i < count; i++)
		for (uint32_t ring = 0; ring < 2; ring++)
			assert_null(entries_charge(&owns[i], 2, ring, LARGEST));
	assert_non_null(strstr(entries_charge(&late, 2, 0, 1), "all ports"));
	assert_int_equal(late.sum, 0);
	entries_release(&owns[0]);
	assert_null(entries_charge(&late, 2, 0, LARGEST));
	assert_null(entries_charge(&late, 2, 1, LARGEST));
	entries_release(&late);
	for (size_t i = 1; i < count; i++)
		entries_release(&owns[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(few_rings),
		cmocka_unit_test(many_rings),
		cmocka_unit_test(all_of_them),
		cmocka_unit_test(all_of_them), /* nothing was kept */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
