/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge/forward.c: who meets whom in VLANs, isolated ports, what is not flooded and how much,
 * groups of the link.
 */
#include "bridge/forward.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "forward_rig.h"

#define LLDP 0x0180c200000e
#define PAUSE 0x0180c2000001
#define GROUP 0x01005e000001

enum { A10, B10, A20, B20, ALL, FREE, NATIVE, PLAIN };

static struct vlan_set all_vlans, only_ten;

/* Two access ports in VLAN 10 and two in 20, a trunk of all, one of 10 as native, one without. */
static void arrange_vlans(struct fixture *fixture)
{
	static const uint16_t natives[PORTS] = { 10, 10, 20, 20, 0, 0, 10, 0 };

	vlan_set_add(&all_vlans, VLAN_FIRST, VLAN_LAST);
	vlan_set_add(&only_ten, 10, 10);
	for (uint16_t i = 0; i < PORTS; i++)
		fixture->facts[i].vlan = (struct vlan_membership){
			.mode = i < ALL ? VLAN_ACCESS : VLAN_TRUNK, .native = natives[i]
		};
	fixture->facts[PLAIN].vlan.mode = VLAN_TRANSPARENT;
	fixture->facts[ALL].vlan.trunk = &all_vlans;
	fixture->facts[NATIVE].vlan.trunk = &only_ten;
	arrange(fixture);
}

static struct frame *add_tagged(struct fixture *fixture, uint64_t to, uint64_t from, uint16_t tag)
{
	struct frame *frame = add(fixture, to, from);

	packet_put16(frame->head + 12, ETHERTYPE_VLAN);
	packet_put16(frame->head + 14, tag);
	return frame;
}

/* A digit for each port: how many frames are staged there. Begins anew. */
static void check_stages(struct fixture *fixture, const char *counts)
{
	for (uint16_t i = 0; i < PORTS; i++)
		if (fixture->stages[i].count != counts[i] - '0')
			fail_msg("port %u: %u frames, not %c", i, fixture->stages[i].count,
				 counts[i]);
	next_burst(fixture);
}

static void check_drops(struct fixture *fixture, enum drop reason, uint64_t count)
{
	assert_int_equal(fixture->counters.dropped[reason], count);
	assert_int_equal(dropped(fixture), count);
	memset(&fixture->counters, 0, sizeof(fixture->counters));
}

static void floods_stay_in_their_vlan(void **state)
{
	static const uint64_t destinations[] = { BROADCAST, GROUP, 0x525400000077 };
	struct fixture *fixture = *state;

	arrange_vlans(fixture);
	for (unsigned int i = 0; i < 3; i++) {
		add(fixture, destinations[i], host(1));
		forward(fixture, A10);
		check_stages(fixture, "01001010");
		add(fixture, destinations[i], host(1));
		forward(fixture, B20);
		check_stages(fixture, "00101000");
		add_tagged(fixture, destinations[i], host(1), 10);
		forward(fixture, ALL);
		check_stages(fixture, "11000010");
		add_tagged(fixture, destinations[i], host(1), 20);
		forward(fixture, ALL);
		check_stages(fixture, "00110000");
		/* Nobody else is in this one, but trunks that have all. */
		add_tagged(fixture, destinations[i], host(1), 30);
		forward(fixture, ALL);
		check_stages(fixture, "00000000");
		check_drops(fixture, DROP_NO_DESTINATION, 1);
		add(fixture, destinations[i], host(1));
		forward(fixture, NATIVE);
		check_stages(fixture, "11001000");
		add_tagged(fixture, destinations[i], host(1), 10);
		forward(fixture, NATIVE);
		check_stages(fixture, "11001000");
		/* A port without VLANs meets nobody, whatever tags it sends. */
		add_tagged(fixture, destinations[i], host(1), 10);
		add(fixture, destinations[i], host(1));
		forward(fixture, PLAIN);
		check_stages(fixture, "00000000");
		check_drops(fixture, DROP_NO_DESTINATION, 2);
	}
}

static void addresses_are_those_of_a_vlan(void **state)
{
	struct fixture *fixture = *state;

	arrange_vlans(fixture);
	fdb_learn(fixture->fdb, key_of(host(9), 10), B10, 0);
	fdb_learn(fixture->fdb, key_of(host(9), 20), B20, 0);
	fdb_learn(fixture->fdb, key_of(host(9), 0), PLAIN, 0);
	add(fixture, host(9), host(1));
	forward(fixture, A10);
	check_stages(fixture, "01000000");
	add(fixture, host(9), host(1));
	forward(fixture, A20);
	check_stages(fixture, "00010000");
	add_tagged(fixture, host(9), host(1), 20);
	forward(fixture, ALL);
	check_stages(fixture, "00010000");
	/* In a third one it is not known. */
	add_tagged(fixture, host(9), host(1), 30);
	forward(fixture, ALL);
	check_stages(fixture, "00000000");
	check_drops(fixture, DROP_NO_DESTINATION, 1);
	/* And learned in that of the frame. */
	learner_drain(fixture->learner, fixture->fdb, 0);
	assert_int_equal(fdb_lookup(fixture->fdb, key_of(host(1), 0)), FDB_NO_PORT);
	assert_int_equal(fdb_lookup(fixture->fdb, key_of(host(1), 10)), A10);
	assert_int_equal(fdb_lookup(fixture->fdb, key_of(host(1), 20)), ALL);
	assert_int_equal(fdb_lookup(fixture->fdb, key_of(host(1), 30)), ALL);
}

/* What is known of a port that has left the VLAN means nothing. */
static void a_port_that_left_its_vlan(void **state)
{
	struct fixture *fixture = *state;

	arrange_vlans(fixture);
	fdb_learn(fixture->fdb, key_of(host(9), 10), A20, 0);
	fdb_learn(fixture->fdb, key_of(host(8), 20), NATIVE, 0);
	fdb_learn(fixture->fdb, key_of(host(7), 10), PLAIN, 0);
	add(fixture, host(9), host(1));
	add(fixture, host(7), host(1));
	forward(fixture, A10);
	check_stages(fixture, "02002020");
	add(fixture, host(8), host(1));
	forward(fixture, B20);
	check_stages(fixture, "00101000");
	assert_int_equal(fixture->counters.flooded, 3);
}

static void wrong_tags_are_drops(void **state)
{
	struct fixture *fixture = *state;

	arrange_vlans(fixture);
	add_tagged(fixture, BROADCAST, host(1), 10);
	add_tagged(fixture, BROADCAST, host(1), 20);
	forward(fixture, A10);
	check_stages(fixture, "00000000");
	check_drops(fixture, DROP_VLAN, 2);
	add(fixture, BROADCAST, host(1));
	forward(fixture, ALL);
	check_stages(fixture, "00000000");
	check_drops(fixture, DROP_VLAN, 1);
	/* Nothing is learned of them. */
	assert_int_equal(fixture->learner->head, 0);
	/* What is wrong in the addresses comes first, and what was a drop before stays one. */
	add_tagged(fixture, BROADCAST, 0, 20);
	forward(fixture, A10);
	check_stages(fixture, "00000000");
	check_drops(fixture, DROP_BAD_SOURCE, 1);
	frame_drop(add_tagged(fixture, BROADCAST, host(1), 20), DROP_MALFORMED);
	forward(fixture, A10);
	check_drops(fixture, DROP_MALFORMED, 1);
}

/* Frames with the same addresses in one burst, each in the VLAN that its own tag says. */
static void vlans_alternate(void **state)
{
	struct fixture *fixture = *state;
	static const uint16_t tags[] = { 10, 10, 20, 10, 99, 20, 20, 4095, 10 };

	arrange_vlans(fixture);
	fixture->facts[ALL].vlan.trunk = &only_ten;
	memset(&only_ten, 0, sizeof(only_ten));
	vlan_set_add(&only_ten, 10, 20);
	fdb_learn(fixture->fdb, key_of(host(9), 10), B10, 0);
	fdb_learn(fixture->fdb, key_of(host(9), 20), B20, 0);
	for (unsigned int i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
		add_tagged(fixture, host(9), host(1), tags[i]);
	forward(fixture, ALL);
	for (unsigned int i = 0, ten = 0, twenty = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
		struct frame *frame = &fixture->burst->frames[i];

		if (tags[i] == 10)
			assert_ptr_equal(fixture->stages[B10].frames[ten++], frame);
		else if (tags[i] == 20)
			assert_ptr_equal(fixture->stages[B20].frames[twenty++], frame);
		else
			assert_int_equal(frame->drop, DROP_VLAN);
	}
	check_stages(fixture, "04030000");
	check_drops(fixture, DROP_VLAN, 2);
	assert_int_equal(fixture->learner->head, 2);
	memset(&only_ten, 0, sizeof(only_ten));
}

/* The needs of egress: of each frame of a run, not of its first alone. */
static void needs_are_each_frames_own(void **state)
{
	struct fixture *fixture = *state;

	arrange_vlans(fixture);
	add(fixture, BROADCAST, host(1));
	add_tagged(fixture, BROADCAST, host(1), 10);
	add_tagged(fixture, BROADCAST, host(1), 0xe000);
	forward(fixture, NATIVE);
	assert_int_equal(fixture->burst->frames[0].needs, NEEDS_UNTAGGED);
	assert_int_equal(fixture->burst->frames[1].needs, NEEDS_TAGGED);
	assert_int_equal(fixture->burst->frames[2].needs, NEEDS_TAGS);
	for (int i = 0; i < 3; i++)
		assert_int_equal(fixture->burst->frames[i].vlan, 10);
	check_stages(fixture, "33003000");
}

/* ---- neighbours in a burst ---- */

static void set_partial(struct frame *frame, uint16_t start, uint16_t offset)
{
	frame->vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	frame->vnet.csum_start = start;
	frame->vnet.csum_offset = offset;
	frame->needs = NEEDS_CHECKSUM;
}

/* IPv4 from 10.0.0.1, with one thing or another that a guard or a VLAN asks about. */
static struct frame *add_odd(struct fixture *fixture, unsigned int kind)
{
	struct frame *frame = add(fixture, host(9), host(1));
	uint8_t *ip = frame->head + 14;

	memcpy(ip - 2, "\x08\x00\x45\0\0\x2e\0\0\0\0\x40\x06\0\0\x0a\0\0\x01", 18);
	switch (kind) {
	case 1:
		ip[15] = 2; /* another's address */
		break;
	case 2:
		memset(ip + 12, 0, 4);
		break;
	case 3:
		ip[9] = 17;
		packet_put16(ip + 22, 68);
		break;
	case 4:
		ip[9] = 17;
		packet_put16(ip + 2, 27);
		break;
	case 5:
		ip[0] = 0x46;
		break;
	case 6:
		packet_put16(ip - 2, ETHERTYPE_ARP);
		break;
	case 7:
		memmove(ip + 4, ip, 30);
		memcpy(ip - 2, "\x81\0\0\0\x08", 5); /* a priority tag */
		break;
	case 8:
		memcpy(ip - 2, "\x81\0\0\0\x81\0\0\x0a", 8);
		break;
	case 9:
		memcpy(ip - 2, "\x81\0\0\x0a\x08", 5);
		break;
	case 10:
		set_partial(frame, 12, 30);
		break;
	case 11:
		set_partial(frame, 34, 2);
		break;
	case 12:
		frame->length = frame->head_length = 34;
		break;
	case 13:
		frame->length = frame->head_length = 13;
		break;
	case 14:
		frame_drop(frame, DROP_MALFORMED);
		break;
	case 15:
		ip[1] = 0x10; /* a class of service */
		break;
	case 16:
		packet_mac(frame->head + 6, host(4));
		break;
	case 17:
		ip[9] = 17;
		break;
	case 18:
		ip[0] = 0x46;
		ip[9] = 17;
		packet_put16(ip + 26, 68); /* behind an option */
		break;
	}
	return frame;
}

/*
 * However alike the frames of a burst are, each is judged as it would be alone. A guard of each
 * level, and of none, on a port of each kind.
 */
static void nobody_vouches_for_another(void **state)
{
	static const uint16_t ports[] = { PLAIN, A10, NATIVE, ALL };
	struct guard_addresses addresses = {
		.mac_count = 1, .macs = { { 0x52, 0x54, 0, 0, 0, 1 } },
		.ip_count = 1, .ips = { { .length = 32, .address = { 10, 0, 0, 1 } } }
	};
	enum { KINDS = 19, KEPT = 5 };
	struct fixture *fixture = *state;
	uint16_t expected[KINDS][KEPT];
	uint64_t dice = 1, refused = 0;

	arrange_vlans(fixture);
	for (int turn = 0; turn < 16 * 50; turn++) {
		const uint16_t port = ports[turn % 4];
		const enum guard_level level = turn / 4 % 4;
		unsigned int kinds[BURST_MAX];
		struct guard *guard = NULL;

		if (level != GUARD_OFF)
			guard = guard_new(level, &addresses);
		fixture->facts[port].guard = guard;
		for (unsigned int i = 0; i < KINDS + BURST_MAX; i++) {
			const bool alone = i < KINDS;

			if (!alone) {
				dice = dice * 6364136223846793005 + 1442695040888963407;
				/* Mostly the usual ones. */
				kinds[i - KINDS] = dice >> 60 < 8 ? 0 : dice >> 33 & 31;
				if (kinds[i - KINDS] >= KINDS)
					kinds[i - KINDS] = 0;
			}
			add_odd(fixture, alone ? i : kinds[i - KINDS]);
			if (!alone && i < KINDS + BURST_MAX - 1)
				continue;
			forward(fixture, port);
			for (uint16_t n = 0; n < fixture->burst->count; n++) {
				const struct frame *frame = &fixture->burst->frames[n];
				const uint16_t kept[KEPT] = {
					frame->verdict, frame->drop, frame->vlan, frame->needs,
					frame->port
				};
				const size_t size =
					frame->verdict == VERDICT_DROP ? 4 : sizeof(kept);

				if (alone)
					memcpy(expected[i], kept, sizeof(kept));
				else
					assert_memory_equal(kept, expected[kinds[n]], size);
				refused += frame->verdict == VERDICT_DROP;
			}
			next_burst(fixture);
		}
		fixture->facts[port].guard = NULL;
		guard_release(guard);
	}
	assert_in_range(refused, 1000, 16 * 50 * (KINDS + BURST_MAX) * 3 / 4);
}

static void isolated(void **state)
{
	struct fixture *fixture = *state;

	fixture->facts[1].isolated = fixture->facts[2].isolated = true;
	fixture->facts[3].isolated = true;
	arrange(fixture);
	for (uint16_t i = 1; i < 5; i++)
		fdb_learn(fixture->fdb, key_of(host(i), 0), i, 0);
	/* To one of them, in a run, and to one that is not. */
	add(fixture, host(2), host(1));
	add(fixture, host(2), host(1));
	forward(fixture, 1);
	check_stages(fixture, "00000000");
	check_drops(fixture, DROP_ISOLATED, 2);
	add(fixture, host(4), host(1));
	add(fixture, BROADCAST, host(1));
	add(fixture, host(77), host(1));
	forward(fixture, 1);
	check_stages(fixture, "20003022");
	/* The others see all of them. */
	add(fixture, host(2), host(4));
	add(fixture, BROADCAST, host(4));
	forward(fixture, 4);
	check_stages(fixture, "11210011");
	assert_int_equal(dropped(fixture), 0);
	/* Where only they are left. */
	for (uint16_t i = 0; i < PORTS; i++)
		fixture->facts[i].present = i >= 1 && i <= 3;
	arrange(fixture);
	add(fixture, BROADCAST, host(1));
	forward(fixture, 1);
	check_stages(fixture, "00000000");
	check_drops(fixture, DROP_ISOLATED, 1);
}

static void flood_switches(void **state)
{
	static const uint64_t destinations[] = { 0x525400000077, BROADCAST, GROUP };
	struct fixture *fixture = *state;

	fixture->refuses[2] = 1 << FLOOD_UNKNOWN;
	fixture->refuses[3] = 1 << FLOOD_BROADCAST;
	fixture->refuses[4] = 1 << FLOOD_MULTICAST;
	arrange(fixture);
	add(fixture, destinations[0], host(1));
	forward(fixture, 1);
	check_stages(fixture, "10011011");
	add(fixture, destinations[1], host(1));
	forward(fixture, 1);
	check_stages(fixture, "10101011");
	add(fixture, destinations[2], host(1));
	forward(fixture, 1);
	check_stages(fixture, "10110011");
	/* It is a matter of who gets it: the port itself may send such frames, and gets its own. */
	add(fixture, BROADCAST, host(3));
	forward(fixture, 3);
	check_stages(fixture, "11101011");
	fdb_learn(fixture->fdb, key_of(destinations[0], 0), 2, 0);
	add(fixture, destinations[0], host(1));
	forward(fixture, 1);
	check_stages(fixture, "00100000");
	/* With nobody left the reason says why. */
	for (uint16_t i = 0; i < PORTS; i++) {
		fixture->facts[i].present = i <= 1;
		fixture->refuses[i] = 7;
	}
	arrange(fixture);
	fdb_flush(fixture->fdb, FDB_NO_PORT, FDB_ANY_VLAN);
	for (unsigned int i = 0; i < 3; i++)
		add(fixture, destinations[i], host(1));
	forward(fixture, 1);
	check_stages(fixture, "00000000");
	check_drops(fixture, DROP_FLOOD_OFF, 3);
}

static void learning_off(void **state)
{
	struct fixture *fixture = *state;

	fixture->facts[1].learning = false;
	fixture->forward.now = 50;
	fdb_learn(fixture->fdb, key_of(host(2), 0), 1, 10);
	add(fixture, BROADCAST, host(1));
	add(fixture, BROADCAST, host(2));
	forward(fixture, 1);
	check_stages(fixture, "20222022");
	assert_int_equal(fixture->learner->head, 0);
	/* What was learned before is not kept alive either. */
	fdb_age(fixture->fdb, 311, fixture->fdb->mask + 1);
	assert_int_equal(fdb_lookup(fixture->fdb, key_of(host(2), 0)), FDB_NO_PORT);
	/* The same source by another port. */
	add(fixture, BROADCAST, host(1));
	forward(fixture, 2);
	assert_int_equal(fixture->learner->head, 1);
}

static void link_local_groups(void **state)
{
	struct fixture *fixture = *state;

	fixture->facts[1].link_local = fixture->facts[2].link_local = true;
	arrange(fixture);
	for (unsigned int last = 0; last <= 0x0f; last++) {
		add(fixture, 0x0180c2000000 + last, host(1));
		forward(fixture, 1);
		check_stages(fixture, last == 1 ? "00000000" : "00100000");
		check_drops(fixture, DROP_LINK_LOCAL, last == 1);
	}
	/* From one that does not ask, and where nobody else does. */
	add(fixture, LLDP, host(1));
	forward(fixture, 3);
	check_stages(fixture, "00000000");
	check_drops(fixture, DROP_LINK_LOCAL, 1);
	fixture->facts[2].link_local = false;
	arrange(fixture);
	add(fixture, LLDP, host(1));
	add(fixture, PAUSE, host(1));
	forward(fixture, 1);
	check_stages(fixture, "00000000");
	check_drops(fixture, DROP_LINK_LOCAL, 2);
	/* The switch for multicast frames is not theirs, and theirs is not that of others. */
	fixture->facts[2].link_local = true;
	fixture->refuses[2] = 7;
	arrange(fixture);
	add(fixture, LLDP, host(1));
	add(fixture, GROUP, host(1));
	forward(fixture, 1);
	check_stages(fixture, "10111011");
}

static struct limiter storms[STORM_CLASSES] __attribute__((aligned(64)));

static void limit(enum flood_class class, uint64_t rate, uint64_t burst)
{
	const struct limit_settings settings = { .rate = rate, .burst = burst };

	limiter_set(&storms[class], &settings, LIMIT_PACKETS, limiter_now());
}

/* At a packet a second no token comes while the test runs. */
static void storm_limits_each_class(void **state)
{
	static const uint64_t destinations[] = { 0x525400000077, BROADCAST, GROUP };
	struct fixture *fixture = *state;

	for (unsigned int class = 0; class < STORM_CLASSES; class++) {
		memset(storms, 0, sizeof(storms));
		limit((enum flood_class)class, 1, 3);
		fixture->facts[1].storm = storms;
		fdb_learn(fixture->fdb, key_of(host(2), 0), 2, 0);
		for (unsigned int i = 0; i < 3; i++)
			for (int n = 0; n < 5; n++)
				add(fixture, destinations[i], host(1));
		/* What has a known destination is no storm. */
		for (int n = 0; n < 9; n++)
			add(fixture, host(2), host(1));
		forward(fixture, 1);
		assert_int_equal(fixture->counters.flooded, 13);
		assert_int_equal(fixture->counters.forwarded, 9);
		assert_int_equal(fixture->stages[3].count, 13);
		/* The first ones pass. */
		for (unsigned int i = 0; i < 15; i++)
			assert_int_equal(fixture->burst->frames[i].verdict,
					 i / 5 == class && i % 5 >= 3 ? VERDICT_DROP
								      : VERDICT_FLOOD);
		check_drops(fixture, DROP_STORM, 2);
		next_burst(fixture);
		/* The same from another port. */
		for (int n = 0; n < 5; n++)
			add(fixture, destinations[class], host(2));
		forward(fixture, 2);
		assert_int_equal(fixture->counters.flooded, 5);
		check_drops(fixture, DROP_STORM, 0);
		next_burst(fixture);
	}
}

static void storm_counts_segments(void **state)
{
	struct fixture *fixture = *state;

	memset(storms, 0, sizeof(storms));
	limit(FLOOD_BROADCAST, 1, 10);
	fixture->facts[1].storm = storms;
	add(fixture, BROADCAST, host(1))->segments = 7;
	add(fixture, BROADCAST, host(1))->segments = 4; /* too many */
	add(fixture, BROADCAST, host(1))->segments = 3;
	add(fixture, BROADCAST, host(1));
	forward(fixture, 1);
	assert_int_equal(fixture->burst->frames[0].verdict, VERDICT_FLOOD);
	assert_int_equal(fixture->burst->frames[1].drop, DROP_STORM);
	assert_int_equal(fixture->burst->frames[2].verdict, VERDICT_FLOOD);
	check_drops(fixture, DROP_STORM, 2);
	next_burst(fixture);
	/* One that is larger than the bucket passes, and makes a debt. */
	memset(storms, 0, sizeof(storms));
	limit(FLOOD_BROADCAST, 1, 10);
	add(fixture, BROADCAST, host(1))->segments = 45;
	add(fixture, BROADCAST, host(1));
	forward(fixture, 1);
	assert_int_equal(fixture->burst->frames[0].verdict, VERDICT_FLOOD);
	check_drops(fixture, DROP_STORM, 1);
	assert_int_equal(limiter_tokens(&storms[FLOOD_BROADCAST], limiter_now()) / 10, -3);
}

/* Groups of the link have the limit of multicast frames. */
static void storms_of_the_link(void **state)
{
	struct fixture *fixture = *state;

	memset(storms, 0, sizeof(storms));
	limit(FLOOD_MULTICAST, 1, 2);
	fixture->facts[1].storm = storms;
	fixture->facts[1].link_local = fixture->facts[2].link_local = true;
	arrange(fixture);
	for (int n = 0; n < 5; n++)
		add(fixture, LLDP, host(1));
	forward(fixture, 1);
	check_stages(fixture, "00200000");
	check_drops(fixture, DROP_STORM, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(floods_stay_in_their_vlan),
		TEST(addresses_are_those_of_a_vlan),
		TEST(a_port_that_left_its_vlan),
		TEST(wrong_tags_are_drops),
		TEST(vlans_alternate),
		TEST(needs_are_each_frames_own),
		TEST(nobody_vouches_for_another),
		TEST(isolated),
		TEST(flood_switches),
		TEST(learning_off),
		TEST(link_local_groups),
		TEST(storm_limits_each_class),
		TEST(storm_counts_segments),
		TEST(storms_of_the_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
