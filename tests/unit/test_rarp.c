/* SPDX-License-Identifier: BSD-3-Clause */
/* frame/rarp.c: every byte of a request, and whose address it may be. */
#include "frame/rarp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void bytes_of_a_request(void **state)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
	static const uint8_t expected[RARP_LENGTH] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* to everybody */
		0x52, 0x54, 0x00, 0x12, 0x34, 0x56, /* from the station */
		0x80, 0x35,                         /* RARP */
		0x00, 0x01, 0x08, 0x00,             /* Ethernet and IPv4, */
		0x06, 0x04,                         /* the lengths of their addresses */
		0x00, 0x03,                         /* request reverse */
		0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x00, 0x00, 0x00, 0x00, /* sender */
		0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x00, 0x00, 0x00, 0x00, /* target: the same */
	};
	uint8_t frame[RARP_LENGTH + 1];

	(void)state;
	memset(frame, 0xa5, sizeof(frame));
	rarp_request(frame, mac);
	assert_memory_equal(frame, expected, RARP_LENGTH);
	assert_int_equal(frame[RARP_LENGTH], 0xa5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_of_a_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
