/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * port/features.c: what virtio's feature bits (virtio 1.2, 5.1.3 and 6) allow of frames, which ones
 * a switch takes away, and their names.
 */
#include "port/features.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame/frame.h"

/* Numbers as the specification has them, not as the headers that the code uses. */
enum bit {
	CSUM = 0, GUEST_CSUM = 1, LEGACY_GSO = 6, GUEST_TSO4 = 7, GUEST_TSO6 = 8, GUEST_ECN = 9,
	GUEST_UFO = 10, HOST_TSO4 = 11, HOST_TSO6 = 12, HOST_ECN = 13, HOST_UFO = 14,
	MRG_RXBUF = 15, MQ = 22, INDIRECT = 28, EVENT_IDX = 29, VERSION_1 = 32, PACKED = 34,
	IN_ORDER = 35, GUEST_USO4 = 54, GUEST_USO6 = 55, HOST_USO = 56,
};

#define BIT(number) (1ull << (number))

struct row {
	uint64_t features;
	uint8_t needs;
};

static void what_a_driver_may_send(void **state)
{
	static const struct row rows[] = {
		{ 0, 0 },
		{ BIT(CSUM), NEEDS_CHECKSUM },
		{ BIT(CSUM) | BIT(HOST_TSO4), NEEDS_CHECKSUM | NEEDS_TSO4 },
		{ BIT(CSUM) | BIT(HOST_TSO6), NEEDS_CHECKSUM | NEEDS_TSO6 },
		{ BIT(CSUM) | BIT(HOST_TSO4) | BIT(HOST_ECN),
		  NEEDS_CHECKSUM | NEEDS_TSO4 | NEEDS_ECN },
		{ BIT(CSUM) | BIT(HOST_UFO), NEEDS_CHECKSUM | NEEDS_UFO },
		{ BIT(CSUM) | BIT(HOST_USO), NEEDS_CHECKSUM | NEEDS_USO },
		{ BIT(CSUM) | BIT(LEGACY_GSO),
		  NEEDS_CHECKSUM | NEEDS_TSO4 | NEEDS_TSO6 | NEEDS_ECN },
		/* Without checksums no segmentation. */
		{ BIT(HOST_TSO4) | BIT(HOST_TSO6) | BIT(HOST_ECN) | BIT(HOST_UFO) | BIT(HOST_USO) |
		  BIT(LEGACY_GSO), 0 },
		/* What it accepts says nothing of what it sends. */
		{ BIT(GUEST_CSUM) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6) | BIT(GUEST_UFO), 0 },
		{ BIT(VERSION_1) | BIT(MRG_RXBUF) | BIT(EVENT_IDX) | BIT(MQ) | BIT(PACKED), 0 },
		/* Never that it may vouch for its frames. */
		{ UINT64_MAX, NEEDS_ALL & ~NEEDS_VALID },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(features_sends(rows[i].features), rows[i].needs);
}

static void what_a_driver_accepts(void **state)
{
	static const uint8_t checksum = NEEDS_CHECKSUM | NEEDS_VALID;
	const struct row rows[] = {
		{ 0, 0 },
		{ BIT(GUEST_CSUM), checksum },
		{ BIT(GUEST_CSUM) | BIT(GUEST_TSO4), checksum | NEEDS_TSO4 },
		{ BIT(GUEST_CSUM) | BIT(GUEST_TSO6), checksum | NEEDS_TSO6 },
		{ BIT(GUEST_CSUM) | BIT(GUEST_ECN) | BIT(GUEST_TSO6),
		  checksum | NEEDS_TSO6 | NEEDS_ECN },
		{ BIT(GUEST_CSUM) | BIT(GUEST_UFO), checksum | NEEDS_UFO },
		/* Both, as one frame need does for both. */
		{ BIT(GUEST_CSUM) | BIT(GUEST_USO4), checksum },
		{ BIT(GUEST_CSUM) | BIT(GUEST_USO6), checksum },
		{ BIT(GUEST_CSUM) | BIT(GUEST_USO4) | BIT(GUEST_USO6), checksum | NEEDS_USO },
		{ BIT(GUEST_TSO4) | BIT(GUEST_TSO6) | BIT(GUEST_ECN) | BIT(GUEST_UFO), 0 },
		{ BIT(CSUM) | BIT(HOST_TSO4) | BIT(HOST_UFO) | BIT(LEGACY_GSO), 0 },
		{ UINT64_MAX, NEEDS_ALL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(features_accepts(rows[i].features), rows[i].needs);
}

static void switches_take_bits_away(void **state)
{
	static const uint64_t tso = BIT(LEGACY_GSO) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6) |
				    BIT(HOST_TSO4) | BIT(HOST_TSO6);
	static const uint64_t ecn = BIT(GUEST_ECN) | BIT(HOST_ECN);
	static const uint64_t ufo = BIT(GUEST_UFO) | BIT(HOST_UFO) | BIT(GUEST_USO4) |
				    BIT(GUEST_USO6) | BIT(HOST_USO);
	static const struct feature_switches on = { { true, true, true, true },
						     true, true, true, true, true };
	struct feature_switches off = on;

	(void)state;
	assert_int_equal(features_switched_off(&on), 0);
	off.offloads.checksum = false;
	assert_int_equal(features_switched_off(&off),
			 BIT(CSUM) | BIT(GUEST_CSUM) | tso | ecn | ufo);
	off = on;
	off.offloads.tso = false;
	assert_int_equal(features_switched_off(&off), tso | ecn);
	off = on;
	off.offloads.ufo = false;
	assert_int_equal(features_switched_off(&off), ufo);
	off = on;
	off.offloads.ecn = false;
	assert_int_equal(features_switched_off(&off), ecn);
	off = on;
	off.mergeable = false;
	assert_int_equal(features_switched_off(&off), BIT(MRG_RXBUF));
	off = on;
	off.event_index = false;
	assert_int_equal(features_switched_off(&off), BIT(EVENT_IDX));
	off = on;
	off.indirect = false;
	assert_int_equal(features_switched_off(&off), BIT(INDIRECT));
	off = on;
	off.packed = false;
	assert_int_equal(features_switched_off(&off), BIT(PACKED));
	off = on;
	off.in_order = false;
	assert_int_equal(features_switched_off(&off), BIT(IN_ORDER));
}

static void bits_have_names(void **state)
{
	json_t *list = features_to_json(BIT(CSUM) | BIT(MRG_RXBUF) | BIT(MQ) | BIT(VERSION_1) |
					BIT(PACKED) | BIT(47) | BIT(63));
	static const char *const expected[] = {
		"VIRTIO_NET_F_CSUM", "VIRTIO_NET_F_MRG_RXBUF", "VIRTIO_NET_F_MQ",
		"VIRTIO_F_VERSION_1", "VIRTIO_F_RING_PACKED", "bit 47", "bit 63",
	};

	(void)state;
	assert_int_equal(json_array_size(list), 7);
	for (size_t i = 0; i < 7; i++)
		assert_string_equal(json_string_value(json_array_get(list, i)), expected[i]);
	json_decref(list);
	list = features_to_json(0);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	list = features_to_json(UINT64_MAX);
	assert_int_equal(json_array_size(list), 64);
	for (size_t i = 0; i < 64; i++)
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(json_string_value(json_array_get(list, i)),
						json_string_value(json_array_get(list, j)));
	json_decref(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_driver_may_send),
		cmocka_unit_test(what_a_driver_accepts),
		cmocka_unit_test(switches_take_bits_away),
		cmocka_unit_test(bits_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
