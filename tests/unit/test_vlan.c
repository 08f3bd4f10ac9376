/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge/vlan.c: which VLAN a frame is in by the port that it came from, with each kind of tag;
 * what becomes of the tag on each kind of port; sets of VLANs.
 */
#include "bridge/vlan.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "packets.h"

#define FORBIDDEN 0xffff /* stands for a VLAN: the frame is a drop */

static struct vlan_set trunk_set; /* 10, 20 to 30, 4094 */

static const struct vlan_membership transparent = { .mode = VLAN_TRANSPARENT };
static const struct vlan_membership access_10 = { .mode = VLAN_ACCESS, .native = 10 };
static const struct vlan_membership trunk = { .mode = VLAN_TRUNK, .trunk = &trunk_set };
static const struct vlan_membership native_10 = { .mode = VLAN_TRUNK, .native = 10,
						  .trunk = &trunk_set };
static const struct vlan_membership native_tagged = { .mode = VLAN_TRUNK, .native = 10,
						      .native_tagged = true, .trunk = &trunk_set };

static int setup(void **state)
{
	(void)state;
	memset(&trunk_set, 0, sizeof(trunk_set));
	vlan_set_add(&trunk_set, 10, 10);
	vlan_set_add(&trunk_set, 20, 30);
	vlan_set_add(&trunk_set, 4094, 4094);
	return 0;
}

/* A frame whose words behind the addresses are these (up to 0), and so long. */
static struct frame frame_of(const uint16_t *words, uint32_t length)
{
	struct frame frame = { .length = length, .head_length = (uint16_t)length, .segments = 1 };

	packet_ethernet(frame.head, 0x525400000002, 0x525400000001, length > 14 ? length : 14);
	for (unsigned int i = 0; words[i] != 0; i++)
		packet_put16(frame.head + 12 + 2 * i, words[i] == 0xf000 ? 0 : words[i]);
	frame_drop(&frame, DROP_NO_DESTINATION);
	return frame;
}

#define ZERO 0xf000 /* stands for a word of 0, a priority tag without priority */

struct arrival {
	uint16_t words[6];
	uint32_t length;
	/* By port: the VLAN, or FORBIDDEN. */
	uint16_t in_access, in_trunk, in_native;
	uint16_t needs;
	enum drop reason;
};

static const struct arrival arrivals[] = {
	/* no tag: that of the port, if it has one for such frames */
	{ { 0x0800 }, 60, 10, FORBIDDEN, 10, NEEDS_UNTAGGED, DROP_VLAN },
	{ { 0x0800 }, 14, 10, FORBIDDEN, 10, NEEDS_UNTAGGED, DROP_VLAN },
	/* other types of tags are payload */
	{ { 0x88a8, 20, 0x0800 }, 60, 10, FORBIDDEN, 10, NEEDS_UNTAGGED, DROP_VLAN },
	{ { 0x9100, 20, 0x8100, 20 }, 60, 10, FORBIDDEN, 10, NEEDS_UNTAGGED, DROP_VLAN },
	/* the access port's own VLAN, with any priority, and the trunk's */
	{ { 0x8100, 10, 0x0800 }, 60, FORBIDDEN, 10, 10, NEEDS_TAGGED, DROP_VLAN },
	{ { 0x8100, 0xe000 | 10, 0x0800 }, 60, FORBIDDEN, 10, 10, NEEDS_TAGGED, DROP_VLAN },
	{ { 0x8100, 20, 0x0800 }, 60, FORBIDDEN, 20, 20, NEEDS_TAGGED, DROP_VLAN },
	{ { 0x8100, 0x1000 | 30, 0x0800 }, 18, FORBIDDEN, 30, 30, NEEDS_TAGGED, DROP_VLAN },
	{ { 0x8100, 4094, 0x0800 }, 60, FORBIDDEN, 4094, 4094, NEEDS_TAGGED, DROP_VLAN },
	/* a second tag is payload of the first */
	{ { 0x8100, 20, 0x8100, 99, 0x0800 }, 60, FORBIDDEN, 20, 20, NEEDS_TAGGED, DROP_VLAN },
	{ { 0x8100, 10, 0x8100, 20, 0x0800 }, 60, FORBIDDEN, 10, 10, NEEDS_TAGGED, DROP_VLAN },
	/* foreign VLANs, reserved ones */
	{ { 0x8100, 11, 0x0800 }, 60, FORBIDDEN, FORBIDDEN, FORBIDDEN, 0, DROP_VLAN },
	{ { 0x8100, 19, 0x0800 }, 60, FORBIDDEN, FORBIDDEN, FORBIDDEN, 0, DROP_VLAN },
	{ { 0x8100, 31, 0x0800 }, 60, FORBIDDEN, FORBIDDEN, FORBIDDEN, 0, DROP_VLAN },
	{ { 0x8100, 11, 0x8100, 10 }, 60, FORBIDDEN, FORBIDDEN, FORBIDDEN, 0, DROP_VLAN },
	{ { 0x8100, 4095, 0x0800 }, 60, FORBIDDEN, FORBIDDEN, FORBIDDEN, 0, DROP_VLAN },
	{ { 0x8100, 0xffff, 0x0800 }, 60, FORBIDDEN, FORBIDDEN, FORBIDDEN, 0, DROP_VLAN },
	/* tags of priority alone, but not to hide another one */
	{ { 0x8100, ZERO, 0x0800 }, 60, 10, FORBIDDEN, 10, NEEDS_TAGS, DROP_VLAN },
	{ { 0x8100, 0xe000, 0x0800 }, 18, 10, FORBIDDEN, 10, NEEDS_TAGS, DROP_VLAN },
	{ { 0x8100, 0x6000, 0x88a8, 20 }, 60, 10, FORBIDDEN, 10, NEEDS_TAGS, DROP_VLAN },
	{ { 0x8100, 0xe000, 0x8100, 10 }, 60, FORBIDDEN, FORBIDDEN, FORBIDDEN, 0, DROP_VLAN },
	{ { 0x8100, ZERO, 0x8100, 20 }, 60, FORBIDDEN, FORBIDDEN, FORBIDDEN, 0, DROP_VLAN },
	/* a tag that is not there in full */
	{ { 0x8100, 10 }, 14, FORBIDDEN, FORBIDDEN, FORBIDDEN, 0, DROP_TOO_SHORT },
	{ { 0x8100, 10 }, 16, FORBIDDEN, FORBIDDEN, FORBIDDEN, 0, DROP_TOO_SHORT },
	{ { 0x8100, 10, 0x0800 }, 17, FORBIDDEN, FORBIDDEN, FORBIDDEN, 0, DROP_TOO_SHORT },
};

static void check_arrival(const struct arrival *arrival, const struct vlan_membership *port,
			  uint16_t vlan)
{
	struct frame frame = frame_of(arrival->words, arrival->length);
	const struct frame before = frame;

	/* What a burst before left there means nothing; offloads that it needs stay. */
	frame.vlan = 999;
	frame.needs = NEEDS_CHECKSUM;
	if (vlan == FORBIDDEN) {
		assert_false(vlan_enter(port, &frame));
		assert_int_equal(frame.drop, arrival->reason);
		assert_int_equal(frame.verdict, VERDICT_DROP);
		return;
	}
	assert_true(vlan_enter(port, &frame));
	assert_int_equal(frame.vlan, vlan);
	assert_int_equal(frame.needs, NEEDS_CHECKSUM | arrival->needs);
	assert_memory_equal(frame.head, before.head, arrival->length);
	assert_int_equal(frame.drop, DROP_NO_DESTINATION);
}

static void enters(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < sizeof(arrivals) / sizeof(arrivals[0]); i++) {
		check_arrival(&arrivals[i], &access_10, arrivals[i].in_access);
		check_arrival(&arrivals[i], &trunk, arrivals[i].in_trunk);
		check_arrival(&arrivals[i], &native_10, arrivals[i].in_native);
		check_arrival(&arrivals[i], &native_tagged, arrivals[i].in_native);
	}
}

/* Whatever becomes of the tag, a checksum must not be written over addresses, or tags. */
static void checksums_begin_behind_the_header(void **state)
{
	static const uint16_t plain[] = { 0x0800, 0 }, tagged[] = { 0x8100, 20, 0x0800, 0 },
			      priority[] = { 0x8100, 0xe000, 0x0800, 0 };
	static const struct {
		const uint16_t *words;
		uint16_t start;
		bool fine;
	} rows[] = {
		{ plain, 13, false }, { plain, 14, true }, { plain, 34, true },
		{ plain, 65531, true }, { plain, 65532, false }, { plain, 65535, false },
		{ tagged, 14, false }, { tagged, 17, false }, { tagged, 18, true },
		{ tagged, 65531, true }, { tagged, 65532, false },
		{ priority, 17, false }, { priority, 18, true },
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct frame frame = frame_of(rows[i].words, 60);

		frame.vnet.csum_start = rows[i].start;
		assert_true(vlan_enter(&native_10, &frame)); /* nothing is asked for */
		frame.vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		assert_int_equal(vlan_enter(&native_10, &frame), rows[i].fine);
		assert_int_equal(frame.drop,
				 rows[i].fine ? DROP_NO_DESTINATION : DROP_BAD_OFFLOAD);
	}
}

struct departure {
	uint16_t words[6];
	uint16_t vlan;
	/* By port. */
	enum tag_change access, trunk, native, native_tagged;
};

static const struct departure departures[] = {
	{ { 0x0800 }, 10, TAG_KEEP, TAG_INSERT, TAG_KEEP, TAG_INSERT },
	{ { 0x88a8, 20 }, 10, TAG_KEEP, TAG_INSERT, TAG_KEEP, TAG_INSERT },
	{ { 0x8100, 10, 0x0800 }, 10, TAG_REMOVE, TAG_KEEP, TAG_REMOVE, TAG_KEEP },
	{ { 0x8100, ZERO, 0x0800 }, 10, TAG_REMOVE, TAG_REWRITE, TAG_REMOVE, TAG_REWRITE },
	{ { 0x8100, 0xe000, 0x88a8 }, 10, TAG_REMOVE, TAG_REWRITE, TAG_REMOVE, TAG_REWRITE },
	/* The inner tag must not count for whoever is behind a trunk. */
	{ { 0x8100, 10, 0x8100, 20 }, 10, TAG_REMOVE, TAG_KEEP, TAG_KEEP, TAG_KEEP },
	{ { 0x8100, 10, 0x88a8, 20 }, 10, TAG_REMOVE, TAG_KEEP, TAG_REMOVE, TAG_KEEP },
	/* Another VLAN than the native one. */
	{ { 0x8100, 20, 0x0800 }, 20, TAG_REMOVE, TAG_KEEP, TAG_KEEP, TAG_KEEP },
	{ { 0x0800 }, 20, TAG_KEEP, TAG_INSERT, TAG_INSERT, TAG_INSERT },
	{ { 0x8100, ZERO, 0x0800 }, 20, TAG_REMOVE, TAG_REWRITE, TAG_REWRITE, TAG_REWRITE },
};

/* As it came from a port whose native VLAN is that of the frame. */
static struct frame entered(const struct departure *departure)
{
	const struct vlan_membership from = { .mode = VLAN_TRUNK, .native = departure->vlan,
					      .trunk = &trunk_set };
	struct frame frame = frame_of(departure->words, 60);

	assert_true(vlan_enter(&from, &frame));
	assert_int_equal(frame.vlan, departure->vlan);
	return frame;
}

/* Whoever is not asked what to do gets the frame as it is: that must be the same. */
static void check_departure(const struct departure *departure, const struct vlan_membership *port,
			    enum tag_change expected)
{
	struct frame frame = entered(departure);

	assert_int_equal(vlan_leave(port, &frame), expected);
	if ((frame.needs & ~vlan_accepts(port) & NEEDS_TAGS) == 0)
		assert_int_equal(expected, TAG_KEEP);
}

static void leaves(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < sizeof(departures) / sizeof(departures[0]); i++) {
		const struct vlan_membership access = { .mode = VLAN_ACCESS,
							.native = departures[i].vlan };
		struct frame frame = entered(&departures[i]);

		check_departure(&departures[i], &access, departures[i].access);
		check_departure(&departures[i], &trunk, departures[i].trunk);
		check_departure(&departures[i], &native_10, departures[i].native);
		check_departure(&departures[i], &native_tagged, departures[i].native_tagged);
		assert_int_equal(vlan_leave(&transparent, &frame), TAG_KEEP);
	}
}

/* A head that ends with the tag shows no second one. */
static void leaves_with_a_short_head(void **state)
{
	static const uint16_t words[] = { 0x8100, 10, 0x8100, 0 };
	struct frame frame = frame_of(words, 18);

	(void)state;
	assert_true(vlan_enter(&native_10, &frame));
	assert_int_equal(vlan_leave(&native_10, &frame), TAG_KEEP);
	frame.head_length = 17;
	assert_int_equal(vlan_leave(&native_10, &frame), TAG_REMOVE);
}

static void accepts(void **state)
{
	(void)state;
	assert_int_equal(vlan_accepts(&transparent), NEEDS_TAGS);
	assert_int_equal(vlan_accepts(&access_10), NEEDS_UNTAGGED);
	assert_int_equal(vlan_accepts(&trunk), NEEDS_TAGGED);
	assert_int_equal(vlan_accepts(&native_10), 0);
	assert_int_equal(vlan_accepts(&native_tagged), NEEDS_TAGGED);
}

static void sets(void **state)
{
	struct vlan_set set = { { 0 } };

	(void)state;
	for (unsigned int vlan = 0; vlan < 4096; vlan++)
		assert_int_equal(vlan_set_has(&trunk_set, (uint16_t)vlan),
				 vlan == 10 || (vlan >= 20 && vlan <= 30) || vlan == 4094);
	/* The edges of words, and twice the same. */
	vlan_set_add(&set, 63, 64);
	vlan_set_add(&set, 64, 128);
	for (unsigned int vlan = 0; vlan < 4096; vlan++)
		assert_int_equal(vlan_set_has(&set, (uint16_t)vlan), vlan >= 63 && vlan <= 128);
	vlan_set_add(&set, VLAN_FIRST, VLAN_LAST);
	assert_false(vlan_set_has(&set, 0));
	assert_false(vlan_set_has(&set, 4095));
	for (unsigned int vlan = VLAN_FIRST; vlan <= VLAN_LAST; vlan++)
		assert_true(vlan_set_has(&set, (uint16_t)vlan));
}

static void memberships(void **state)
{
	(void)state;
	for (unsigned int vlan = 0; vlan <= VLAN_LAST; vlan++) {
		assert_int_equal(vlan_is_member(&transparent, (uint16_t)vlan), vlan == 0);
		assert_int_equal(vlan_is_member(&access_10, (uint16_t)vlan), vlan == 10);
		assert_int_equal(vlan_is_member(&trunk, (uint16_t)vlan),
				 vlan_set_has(&trunk_set, (uint16_t)vlan));
	}
}

static struct vlan_settings trunk_of(uint16_t first, uint16_t last)
{
	struct vlan_settings settings = { .mode = VLAN_TRUNK };

	vlan_set_add(&settings.trunk, first, last);
	return settings;
}

static void check_meet(const struct vlan_settings *left, const struct vlan_settings *right,
		       bool expected)
{
	assert_int_equal(vlan_meet(left, right), expected);
	assert_int_equal(vlan_meet(right, left), expected);
}

static void who_meets_whom(void **state)
{
	const struct vlan_settings none = { .mode = VLAN_TRANSPARENT };
	const struct vlan_settings ten = { .mode = VLAN_ACCESS, .native = 10 };
	const struct vlan_settings eleven = { .mode = VLAN_ACCESS, .native = 11 };
	const struct vlan_settings low = trunk_of(1, 10), high = trunk_of(11, VLAN_LAST);
	const struct vlan_settings all = trunk_of(VLAN_FIRST, VLAN_LAST);

	(void)state;
	check_meet(&none, &none, true);
	check_meet(&none, &ten, false);
	check_meet(&none, &all, false);
	check_meet(&ten, &ten, true);
	check_meet(&ten, &eleven, false);
	check_meet(&low, &ten, true);
	check_meet(&low, &eleven, false);
	check_meet(&high, &eleven, true);
	check_meet(&low, &high, false);
	check_meet(&low, &all, true);
	check_meet(&high, &all, true);
	assert_true(vlan_contains(&none, 0));
	assert_false(vlan_contains(&none, 1));
	assert_false(vlan_contains(&all, 0));
	assert_false(vlan_contains(&ten, 0));
	assert_true(vlan_contains(&ten, 10));
	assert_true(vlan_contains(&low, 10));
	assert_false(vlan_contains(&low, 11));
}

static void what_is_the_same(void **state)
{
	const struct vlan_settings base = trunk_of(10, 20);
	struct vlan_settings other = base;

	(void)state;
	assert_true(vlan_same(&base, &other));
	other.native = 10;
	assert_false(vlan_same(&base, &other));
	other = base;
	other.native_tagged = true;
	assert_false(vlan_same(&base, &other));
	other = trunk_of(10, 21);
	assert_false(vlan_same(&base, &other));
	other = base;
	other.mode = VLAN_ACCESS;
	assert_false(vlan_same(&base, &other));
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(enters),
		TEST(checksums_begin_behind_the_header),
		TEST(leaves),
		TEST(leaves_with_a_short_head),
		TEST(accepts),
		TEST(sets),
		TEST(memberships),
		TEST(who_meets_whom),
		TEST(what_is_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
