/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy/guard.c and guard_config.c: what each level lets pass and what it refuses, frame by frame,
 * and what `allowed` takes. Each frame is also looked at cut off at every byte, with different
 * bytes behind the cut: those must not matter.
 */
#include "policy/guard_config.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "frame/rarp.h"
#include "packets.h"

#define OWN 0x020000000001
#define SECOND 0x020000000002 /* allowed */
#define OTHER 0x020000000099
#define IP4_OWN 0x0a000005 /* 10.0.0.5 */
#define IP4_NET 0x0a000142 /* of 10.0.1.0/24 */
#define IP4_OTHER 0x0a000006
#define SERVER 67
#define CLIENT 68

/* Address of 2001:db8::/64, which is allowed, of 2001:db8:1::/64, of which ::5 is, and others. */
enum ip6 { NET, HOST, OTHER_HOST, LOCAL_OWN, LOCAL_SECOND, LOCAL_OTHER, NONE, GROUP };

/* Passed by all levels; otherwise the first level that refuses is named. */
#define PASSES 0

static const char *const ip6_texts[] = {
	[NET] = "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\x12\x34",
	[HOST] = "\x20\x01\x0d\xb8\0\1\0\0\0\0\0\0\0\0\0\5",
	[OTHER_HOST] = "\x20\x01\x0d\xb8\0\1\0\0\0\0\0\0\0\0\0\6",
	[LOCAL_OWN] = "\xfe\x80\0\0\0\0\0\0\0\0\0\xff\xfe\0\0\1",
	[LOCAL_SECOND] = "\xfe\x80\0\0\0\0\0\0\0\0\0\xff\xfe\0\0\2",
	[LOCAL_OTHER] = "\xfe\x80\0\0\0\0\0\0\0\0\0\xff\xfe\0\0\x99",
	[NONE] = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
	[GROUP] = "\xff\2\0\0\0\0\0\0\0\0\0\0\0\0\0\1",
};

/* By level: of MAC and IP addresses, and of MAC addresses alone. */
struct fixture {
	struct guard *guards[4];
	struct guard *without_ips[3];
};

static struct guard *make(enum guard_level level, const uint8_t *mac, const char *allowed)
{
	json_t *list = json_loads(allowed, 0, NULL);
	struct guard *guard = NULL;
	struct error err = { .object = "" };

	assert_non_null(list);
	assert_int_equal(guard_config_check(&list, &err), 0);
	if (guard_config_make(level, mac, list, "port p", &guard, &err) != 0)
		fail_msg("%s", err.message);
	json_decref(list);
	return guard;
}

static int setup(void **state)
{
	static struct fixture fixture;
	uint8_t own[6];

	packet_mac(own, OWN);
	for (int level = GUARD_MAC; level <= GUARD_IP; level++)
		fixture.guards[level] =
			make((enum guard_level)level, own,
			     "[\"02:00:00:00:00:02\", \"10.0.1.0/24\", \"10.0.0.5\","
			     " \"2001:db8::/64\", \"2001:db8:1::5\"]");
	for (int level = GUARD_MAC; level <= GUARD_ARP; level++)
		fixture.without_ips[level] =
			make((enum guard_level)level, own, "[\"02:00:00:00:00:02\"]");
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	for (int level = GUARD_MAC; level <= GUARD_IP; level++)
		guard_release(fixture->guards[level]);
	for (int level = GUARD_MAC; level <= GUARD_ARP; level++)
		guard_release(fixture->without_ips[level]);
	return 0;
}

/* ---- frames, piece by piece ---- */

static void put(struct frame *frame, const void *bytes, uint32_t count)
{
	assert_true(frame->head_length + count <= FRAME_HEAD_MAX);
	memcpy(frame->head + frame->head_length, bytes, count);
	frame->head_length = (uint16_t)(frame->head_length + count);
	frame->length = frame->head_length;
}

static void put8(struct frame *frame, uint8_t value)
{
	put(frame, &value, 1);
}

static void put16(struct frame *frame, uint32_t value)
{
	uint8_t bytes[2];

	packet_put16(bytes, value);
	put(frame, bytes, sizeof(bytes));
}

static void put32(struct frame *frame, uint32_t value)
{
	put16(frame, value >> 16);
	put16(frame, value & 0xffff);
}

static void put_mac(struct frame *frame, uint64_t mac)
{
	uint8_t bytes[6];

	packet_mac(bytes, mac);
	put(frame, bytes, sizeof(bytes));
}

static void put_zeros(struct frame *frame, uint32_t count)
{
	while (count-- > 0)
		put8(frame, 0);
}

static struct frame ethernet(uint64_t source, uint16_t type)
{
	struct frame frame = { .head_length = 0 };

	put_mac(&frame, 0x0200000000ff);
	put_mac(&frame, source);
	put16(&frame, type);
	return frame;
}

static void put_arp(struct frame *frame, uint16_t operation, uint64_t mac, uint32_t ip)
{
	put(frame, "\0\1\x08\0\6\4", 6);
	put16(frame, operation);
	put_mac(frame, mac);
	put32(frame, ip);
	put_mac(frame, 0);
	put32(frame, IP4_OTHER);
}

static struct frame arp(uint16_t operation, uint64_t mac, uint32_t ip)
{
	struct frame frame = ethernet(OWN, 0x0806);

	put_arp(&frame, operation, mac, ip);
	return frame;
}

/* Of `field` bits of fragmentation. */
static void put_ip4(struct frame *frame, uint32_t source, uint8_t protocol, uint16_t field)
{
	put(frame, "\x45\0\0\x64\0\0", 6);
	put16(frame, field);
	put8(frame, 64);
	put8(frame, protocol);
	put16(frame, 0);
	put32(frame, source);
	put32(frame, IP4_OTHER);
}

static void put_udp(struct frame *frame, uint16_t from, uint16_t to)
{
	put16(frame, from);
	put16(frame, to);
	put16(frame, 16);
	put16(frame, 0);
	put_zeros(frame, 8);
}

static struct frame udp4(uint32_t source, uint16_t from, uint16_t to)
{
	struct frame frame = ethernet(OWN, 0x0800);

	put_ip4(&frame, source, IPPROTO_UDP, 0);
	put_udp(&frame, from, to);
	return frame;
}

/* The payload's length is that of what follows: end_ip6. */
static void put_ip6(struct frame *frame, enum ip6 source, uint8_t next)
{
	put(frame, "\x60\0\0\0\0\0", 6);
	put8(frame, next);
	put8(frame, 255);
	put(frame, ip6_texts[source], 16);
	put(frame, ip6_texts[GROUP], 16);
}

static struct frame end_ip6(struct frame frame, uint32_t network)
{
	packet_put16(frame.head + network + 4, frame.head_length - network - 40);
	return frame;
}

static struct frame ip6(enum ip6 source, uint8_t next)
{
	struct frame frame = ethernet(OWN, 0x86dd);

	put_ip6(&frame, source, next);
	return frame;
}

/* An extension header of 8 bytes. */
static void put_extension(struct frame *frame, uint8_t next)
{
	put8(frame, next);
	put_zeros(frame, 7);
}

static void put_fragment(struct frame *frame, uint8_t next, uint16_t field)
{
	put8(frame, next);
	put8(frame, 0);
	put16(frame, field);
	put32(frame, 1);
}

/* A message of neighbour discovery without options. */
static void put_discovery(struct frame *frame, uint8_t type, enum ip6 target)
{
	static const uint8_t zeros[] = { 4, 12, 4, 4, 4 };

	put8(frame, type);
	put_zeros(frame, 3);
	put_zeros(frame, zeros[type - 133]);
	if (type >= 135)
		put(frame, ip6_texts[target], 16);
	if (type == 137)
		put(frame, ip6_texts[NET], 16);
}

static void put_option(struct frame *frame, uint8_t type, uint64_t mac)
{
	put8(frame, type);
	put8(frame, 1);
	put_mac(frame, mac);
}

static struct frame discovery(enum ip6 source, uint8_t type, enum ip6 target, uint8_t option,
			      uint64_t mac)
{
	struct frame frame = ip6(source, IPPROTO_ICMPV6);

	put_discovery(&frame, type, target);
	if (option != 0)
		put_option(&frame, option, mac);
	return end_ip6(frame, 14);
}

static struct frame insert(struct frame frame, const void *bytes, uint32_t count)
{
	memmove(frame.head + 12 + count, frame.head + 12, frame.head_length - 12u);
	memcpy(frame.head + 12, bytes, count);
	frame.head_length = (uint16_t)(frame.head_length + count);
	frame.length = frame.head_length;
	return frame;
}

/* ---- what is expected ---- */

/* The answer at a length, which must not depend on what lies behind it. */
static bool answer(const struct guard *guard, const struct frame *frame, uint16_t length)
{
	struct frame copy = *frame;
	bool result;

	copy.head_length = length;
	copy.length = length;
	result = guard_admits(guard, &copy);
	for (int fill = 0; fill < 2; fill++) {
		memset(copy.head + length, fill == 0 ? 0 : 0xff, FRAME_HEAD_MAX - length);
		assert_int_equal(guard_admits(guard, &copy), result);
	}
	return result;
}

static void check(struct guard *const *guards, int last, struct frame frame, int refused_by)
{
	for (int level = GUARD_MAC; level <= last; level++) {
		const bool expected = refused_by == PASSES || level < refused_by;

		for (uint16_t length = ETHERNET_HEADER; length < frame.head_length; length++)
			answer(guards[level], &frame, length);
		if (answer(guards[level], &frame, frame.head_length) != expected)
			fail_msg("guard %s: expected to be %s", guard_level_names[level],
				 expected ? "admitted" : "refused");
	}
}

#define EXPECT(frame, refused_by) check(fixture->guards, GUARD_IP, frame, refused_by)
#define EXPECT_WITHOUT_IPS(frame, refused_by)                                                      \
	check(fixture->without_ips, GUARD_ARP, frame, refused_by)

/* ---- tests ---- */

static void source_address(void **state)
{
	struct fixture *fixture = *state;

	EXPECT(ethernet(OWN, 0x88b5), GUARD_IP);
	EXPECT(ethernet(SECOND, 0x88b5), GUARD_IP);
	EXPECT(ethernet(OTHER, 0x88b5), GUARD_MAC);
	EXPECT(ethernet(OWN ^ 1ull << 40, 0x88b5), GUARD_MAC);
	EXPECT(ethernet(OWN + 0x100, 0x88b5), GUARD_MAC);
	EXPECT(ethernet(0, 0x88b5), GUARD_MAC);
	EXPECT(ethernet(0xffffffffffff, 0x88b5), GUARD_MAC);
}

static void arp_senders(void **state)
{
	struct fixture *fixture = *state;

	for (uint16_t operation = 1; operation <= 2; operation++) {
		EXPECT(arp(operation, OWN, IP4_OWN), PASSES);
		EXPECT(arp(operation, SECOND, IP4_NET), PASSES);
		EXPECT(arp(operation, OTHER, IP4_OWN), GUARD_ARP);
		EXPECT(arp(operation, OWN, IP4_OTHER), GUARD_ARP);
		EXPECT(arp(operation, OWN, 0x0a000004), GUARD_ARP);
		EXPECT(arp(operation, OWN, 0x0a0000ff), GUARD_ARP);
		EXPECT(arp(operation, OWN, 0x0a000100), PASSES);
		EXPECT(arp(operation, OWN, 0x0a0001ff), PASSES);
		EXPECT(arp(operation, OWN, 0x0a000200), GUARD_ARP);
		EXPECT_WITHOUT_IPS(arp(operation, OWN, IP4_OTHER), PASSES);
		EXPECT_WITHOUT_IPS(arp(operation, OTHER, IP4_OTHER), GUARD_ARP);
	}
	/* A probe is a question. */
	EXPECT(arp(1, OWN, 0), PASSES);
	EXPECT(arp(2, OWN, 0), GUARD_ARP);
}

static void arp_of_another_kind(void **state)
{
	struct fixture *fixture = *state;

	for (uint32_t at = 14; at < 20; at++) {
		struct frame frame = arp(1, OWN, IP4_OWN);

		frame.head[at] ^= 2;
		EXPECT(frame, GUARD_ARP);
	}
	for (uint16_t length = 14; length < 14 + 28; length++) {
		struct frame frame = arp(1, OWN, IP4_OWN);

		frame.head_length = length;
		EXPECT(frame, GUARD_ARP);
		EXPECT_WITHOUT_IPS(frame, GUARD_ARP);
	}
}

static void rarp(void **state)
{
	struct fixture *fixture = *state;
	struct frame frame = { .head_length = RARP_LENGTH, .length = RARP_LENGTH };
	uint8_t mac[6];

	/* What the switch itself sends for a guest that cannot. */
	packet_mac(mac, OWN);
	rarp_request(frame.head, mac);
	EXPECT(frame, PASSES);
	packet_mac(frame.head + 22, OTHER);
	EXPECT(frame, GUARD_ARP);
	rarp_request(frame.head, mac);
	frame.head[21] = 4;
	EXPECT(frame, GUARD_ARP);
	EXPECT_WITHOUT_IPS(frame, GUARD_ARP);
	rarp_request(frame.head, mac);
	packet_put32(frame.head + 28, IP4_OTHER);
	EXPECT(frame, GUARD_ARP);
}

/* Of TCP, so that ports say nothing. */
static void ipv4_sources(void **state)
{
	struct fixture *fixture = *state;
	static const struct {
		uint32_t source;
		int refused_by;
	} cases[] = { { IP4_OWN, PASSES },	{ IP4_NET, PASSES },	  { IP4_OTHER, GUARD_IP },
		      { 0x0a000004, GUARD_IP }, { 0x0a0000ff, GUARD_IP }, { 0x0a000100, PASSES },
		      { 0x0a0001ff, PASSES },	{ 0x0a000200, GUARD_IP }, { 0, GUARD_IP },
		      { 0xffffffff, GUARD_IP }, { 0x7f000001, GUARD_IP } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct frame frame = ethernet(OWN, 0x0800);

		put_ip4(&frame, cases[i].source, IPPROTO_TCP, 0);
		put_zeros(&frame, 20);
		EXPECT(frame, cases[i].refused_by);
		packet_mac(frame.head + 6, OTHER);
		EXPECT(frame, GUARD_MAC);
	}
}

static void try_ipv4_headers(struct fixture *fixture, uint32_t source)
{
	for (uint32_t first = 0; first < 256; first++) {
		struct frame frame = udp4(source, 1000, 2000);
		const uint32_t words = first & 0x0f;

		frame.head[14] = (uint8_t)first;
		/* The frame has 16 bytes behind 20 of the header; UDP takes 8 of them. */
		EXPECT(frame, first >> 4 == 4 && words >= 5 && words <= 7 ? PASSES : GUARD_IP);
	}
	for (uint16_t length = 14; length < 14 + 28; length++) {
		struct frame frame = udp4(source, 1000, 2000);

		frame.head_length = length;
		EXPECT(frame, GUARD_IP);
	}
	/* What is behind the packet is padding, unless it does not say where it ends. */
	for (uint16_t total = 0; total < 64; total++) {
		struct frame frame = udp4(source, 1000, 2000);

		packet_put16(frame.head + 16, total);
		EXPECT(frame, total == 0 || total >= 28 ? PASSES : GUARD_IP);
	}
	/* Options that do not end in the frame. */
	for (uint16_t length = 34; length < 42; length++) {
		struct frame frame = ethernet(OWN, 0x0800);

		put_ip4(&frame, source, IPPROTO_TCP, 0);
		frame.head[14] = 0x46;
		put_zeros(&frame, length - 34u);
		EXPECT(frame, length < 38 ? GUARD_IP : PASSES);
	}
}

static void try_dhcp_over_ipv4(struct fixture *fixture, uint32_t source)
{
	struct frame frame;

	EXPECT(udp4(0, CLIENT, SERVER), PASSES);
	EXPECT(udp4(source, CLIENT, SERVER), PASSES);
	EXPECT(udp4(IP4_OTHER, CLIENT, SERVER), GUARD_IP);
	EXPECT(udp4(0, SERVER, SERVER), GUARD_IP);
	EXPECT(udp4(0, CLIENT, 53), GUARD_IP);
	EXPECT(udp4(source, SERVER, CLIENT), GUARD_IP);
	EXPECT(udp4(source, 4011, CLIENT), GUARD_IP);
	EXPECT(udp4(source, SERVER, SERVER), PASSES);
	/* Behind options, which move the ports. */
	frame = ethernet(OWN, 0x0800);
	put_ip4(&frame, source, IPPROTO_UDP, 0);
	frame.head[14] = 0x46;
	put32(&frame, 0x01010101);
	put_udp(&frame, SERVER, CLIENT);
	EXPECT(frame, GUARD_IP);
	/* Without an address, in anything but UDP. */
	frame = udp4(0, CLIENT, SERVER);
	frame.head[23] = IPPROTO_TCP;
	EXPECT(frame, GUARD_IP);
}

static void try_ipv4_fragments(struct fixture *fixture, uint32_t source)
{
	struct frame frame = ethernet(OWN, 0x0800);

	/* A first one, with its ports and without. */
	put_ip4(&frame, source, IPPROTO_UDP, 0x2000);
	EXPECT(frame, GUARD_IP);
	put_udp(&frame, 1000, 2000);
	EXPECT(frame, PASSES);
	packet_put16(frame.head + 36, CLIENT);
	EXPECT(frame, GUARD_IP);
	/* Later ones: what looks like ports is none. */
	packet_put16(frame.head + 20, 1);
	EXPECT(frame, PASSES);
	packet_put32(frame.head + 26, IP4_OTHER);
	EXPECT(frame, GUARD_IP);
	packet_put16(frame.head + 34, CLIENT);
	packet_put16(frame.head + 36, SERVER);
	packet_put32(frame.head + 26, 0);
	EXPECT(frame, GUARD_IP);
}

/* The first prefix that was given, and another: those of the first take a shorter way. */
static void ipv4_by_prefix(void **state)
{
	static const uint32_t sources[] = { IP4_NET, IP4_OWN };

	for (size_t i = 0; i < 2; i++) {
		try_ipv4_headers(*state, sources[i]);
		try_dhcp_over_ipv4(*state, sources[i]);
		try_ipv4_fragments(*state, sources[i]);
	}
}

static void ipv6_sources(void **state)
{
	struct fixture *fixture = *state;
	static const int refused_by[] = {
		[NET] = PASSES,	      [HOST] = PASSES,	       [OTHER_HOST] = GUARD_IP,
		[LOCAL_OWN] = PASSES, [LOCAL_SECOND] = PASSES, [LOCAL_OTHER] = GUARD_IP,
		[NONE] = GUARD_IP,    [GROUP] = GUARD_IP,
	};

	for (int source = NET; source <= GROUP; source++) {
		struct frame frame = ip6((enum ip6)source, IPPROTO_TCP);

		put_zeros(&frame, 20);
		EXPECT(end_ip6(frame, 14), refused_by[source]);
	}
}

/* A network of IPv4 is none of IPv6, whatever the numbers. */
static void families_are_apart(void **state)
{
	struct frame frame = ip6(NET, IPPROTO_TCP), any = udp4(IP4_OTHER, 1000, 2000);
	struct guard *guard;
	uint8_t own[6];

	(void)state;
	packet_mac(own, OWN);
	put_zeros(&frame, 20);
	guard = make(GUARD_IP, own, "[\"0.0.0.0/0\"]");
	assert_false(answer(guard, &frame, frame.head_length));
	/* All addresses are none that a host could lack. */
	assert_true(answer(guard, &any, any.head_length));
	packet_put32(any.head + 26, 0);
	assert_false(answer(guard, &any, any.head_length));
	/* ::10.0.0.5 */
	memset(frame.head + 22, 0, 16);
	packet_put32(frame.head + 34, IP4_OWN);
	assert_false(answer(guard, &frame, frame.head_length));
	guard_release(guard);
	guard = make(GUARD_IP, own, "[\"::/0\"]");
	assert_true(answer(guard, &frame, frame.head_length));
	frame = udp4(IP4_OWN, 1, 2);
	assert_false(answer(guard, &frame, frame.head_length));
	guard_release(guard);
}

static void no_address_yet(void **state)
{
	struct fixture *fixture = *state;

	for (int type = 0; type < 256; type++) {
		struct frame frame = ip6(NONE, IPPROTO_HOPOPTS);
		const bool may = type == 131 || type == 132 || type == 143;

		if (type >= 133 && type <= 137)
			continue;
		put_extension(&frame, IPPROTO_ICMPV6);
		put8(&frame, (uint8_t)type);
		put_zeros(&frame, 23);
		EXPECT(end_ip6(frame, 14), may ? PASSES : GUARD_IP);
		/* The same bytes, as the first of a UDP header. */
		frame.head[54] = IPPROTO_UDP;
		EXPECT(frame, GUARD_IP);
	}
}

static void solicitations(void **state)
{
	struct fixture *fixture = *state;

	/* Asking for another's address is what they are for. */
	EXPECT(discovery(NET, 135, OTHER_HOST, 1, OWN), PASSES);
	EXPECT(discovery(LOCAL_SECOND, 135, OTHER_HOST, 1, SECOND), PASSES);
	EXPECT(discovery(NET, 135, OTHER_HOST, 0, 0), PASSES);
	EXPECT(discovery(NET, 135, OTHER_HOST, 1, OTHER), GUARD_ARP);
	EXPECT(discovery(OTHER_HOST, 135, NET, 1, OWN), GUARD_ARP);
	EXPECT(discovery(OTHER_HOST, 135, NET, 0, 0), GUARD_ARP);
	EXPECT_WITHOUT_IPS(discovery(OTHER_HOST, 135, NET, 1, OWN), PASSES);
	EXPECT_WITHOUT_IPS(discovery(OTHER_HOST, 135, NET, 1, OTHER), GUARD_ARP);
	/* May I have it? */
	EXPECT(discovery(NONE, 135, NET, 0, 0), PASSES);
	EXPECT(discovery(NONE, 135, LOCAL_OWN, 0, 0), PASSES);
	EXPECT(discovery(NONE, 135, OTHER_HOST, 0, 0), GUARD_ARP);
	EXPECT_WITHOUT_IPS(discovery(NONE, 135, OTHER_HOST, 0, 0), PASSES);
	/* For routers. */
	EXPECT(discovery(NONE, 133, NONE, 0, 0), PASSES);
	EXPECT(discovery(LOCAL_OWN, 133, NONE, 1, OWN), PASSES);
	EXPECT(discovery(LOCAL_OTHER, 133, NONE, 1, OWN), GUARD_ARP);
	EXPECT(discovery(LOCAL_OWN, 133, NONE, 1, OTHER), GUARD_ARP);
}

static void advertisements(void **state)
{
	struct fixture *fixture = *state;

	EXPECT(discovery(NET, 136, NET, 2, OWN), PASSES);
	EXPECT(discovery(LOCAL_OWN, 136, HOST, 2, SECOND), PASSES);
	EXPECT(discovery(LOCAL_OWN, 136, LOCAL_SECOND, 2, SECOND), PASSES);
	EXPECT(discovery(NET, 136, NET, 0, 0), PASSES);
	EXPECT(discovery(NET, 136, OTHER_HOST, 2, OWN), GUARD_ARP);
	EXPECT(discovery(NET, 136, LOCAL_OTHER, 0, 0), GUARD_ARP);
	EXPECT(discovery(OTHER_HOST, 136, NET, 2, OWN), GUARD_ARP);
	EXPECT(discovery(NET, 136, NET, 2, OTHER), GUARD_ARP);
	EXPECT(discovery(NET, 136, NET, 1, OTHER), GUARD_ARP);
	EXPECT(discovery(NONE, 136, NET, 2, OWN), GUARD_ARP);
	EXPECT_WITHOUT_IPS(discovery(NET, 136, OTHER_HOST, 2, OWN), PASSES);
	EXPECT_WITHOUT_IPS(discovery(NET, 136, OTHER_HOST, 2, OTHER), GUARD_ARP);
	/* Of routers. */
	EXPECT(discovery(LOCAL_OWN, 134, NONE, 1, OWN), GUARD_IP);
	EXPECT(discovery(LOCAL_OWN, 134, NONE, 1, OTHER), GUARD_ARP);
	EXPECT(discovery(LOCAL_OTHER, 134, NONE, 1, OWN), GUARD_ARP);
	EXPECT(discovery(LOCAL_OWN, 137, NET, 0, 0), GUARD_IP);
	EXPECT(discovery(LOCAL_OWN, 137, NET, 2, OTHER), GUARD_ARP);
}

/* The second of two options; other options; sizes that lead nowhere. */
static void options(void **state)
{
	struct fixture *fixture = *state;
	struct frame frame = discovery(NET, 136, NET, 2, OWN);

	put_option(&frame, 2, OWN);
	EXPECT(end_ip6(frame, 14), PASSES);
	packet_mac(frame.head + frame.head_length - 6, OTHER);
	EXPECT(end_ip6(frame, 14), GUARD_ARP);
	/* As padding of the frame it is no option. */
	EXPECT(({
		       struct frame padded = frame;

		       packet_put16(padded.head + 18, 32);
		       padded;
	       }),
	       PASSES);
	frame.head[86] = 14; /* a nonce, RFC 3971 */
	EXPECT(end_ip6(frame, 14), PASSES);
	frame.head[87] = 0;
	EXPECT(end_ip6(frame, 14), GUARD_ARP);
	frame.head[87] = 2;
	EXPECT(end_ip6(frame, 14), GUARD_ARP);
	frame = discovery(NET, 136, NET, 2, OWN);
	put_zeros(&frame, 4);
	EXPECT(end_ip6(frame, 14), GUARD_ARP);
}

static void discovery_with_lying_lengths(void **state)
{
	struct fixture *fixture = *state;

	for (uint32_t payload = 0; payload < 80; payload++) {
		struct frame frame = discovery(NET, 136, NET, 2, OWN);

		packet_put16(frame.head + 18, payload);
		/* With its option, or without. */
		EXPECT(frame, payload == 32 || payload == 24 ? PASSES : GUARD_ARP);
	}
	for (uint16_t length = 14; length < 14 + 72; length++) {
		struct frame frame = discovery(NET, 136, NET, 2, OWN);

		frame.head_length = length;
		EXPECT(frame, GUARD_ARP);
		EXPECT_WITHOUT_IPS(frame, GUARD_ARP);
	}
	/* Larger than what is copied aside of it. */
	for (uint8_t words = 1; words < 12; words++) {
		struct frame frame = discovery(NET, 136, NET, 2, OWN);

		put8(&frame, 14);
		put8(&frame, words);
		put_zeros(&frame, words * 8u - 2);
		frame = end_ip6(frame, 14);
		if (frame.head_length > FRAME_HEAD_PLAIN)
			frame.head_length = FRAME_HEAD_PLAIN;
		EXPECT(frame, frame.length <= FRAME_HEAD_PLAIN ? PASSES : GUARD_ARP);
	}
}

/* What neighbour discovery is hidden behind does not hide it. */
static void discovery_behind_extensions(void **state)
{
	static const uint8_t headers[] = {
		IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS, IPPROTO_AH, 135, 139, 140
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < sizeof(headers); i++) {
		for (size_t j = 0; j < sizeof(headers); j++) {
			struct frame frame = ip6(NET, headers[i]);

			put_extension(&frame, headers[j]);
			put_extension(&frame, IPPROTO_ICMPV6);
			put_discovery(&frame, 136, NET);
			put_option(&frame, 2, OWN);
			EXPECT(end_ip6(frame, 14), PASSES);
			packet_mac(frame.head + frame.head_length - 6, OTHER);
			EXPECT(end_ip6(frame, 14), GUARD_ARP);
		}
	}
	/* Sizes: of AH in words of 4 bytes, less 2 of them; of the others in words of 8, less 1. */
	for (size_t i = 0; i < sizeof(headers); i++) {
		struct frame frame = ip6(NET, headers[i]);

		put8(&frame, IPPROTO_ICMPV6);
		put8(&frame, 2);
		put_zeros(&frame, headers[i] == IPPROTO_AH ? 14 : 22);
		put_discovery(&frame, 134, NONE);
		EXPECT(end_ip6(frame, 14), GUARD_IP);
	}
	/* Encrypted, or nothing at all: nobody sees anything. */
	EXPECT(({
		       struct frame frame = ip6(NET, IPPROTO_ESP);

		       put_discovery(&frame, 136, OTHER_HOST);
		       end_ip6(frame, 14);
	       }),
	       PASSES);
	EXPECT(end_ip6(ip6(NET, IPPROTO_NONE), 14), PASSES);
}

/* Extension headers that leave the head. */
static void long_chains(void **state)
{
	struct fixture *fixture = *state;

	for (uint8_t words = 0; words < 10; words++) {
		struct frame frame = ip6(NET, IPPROTO_DSTOPTS);

		put8(&frame, IPPROTO_ICMPV6);
		put8(&frame, words);
		put_zeros(&frame, 6 + 8u * words);
		put8(&frame, 128); /* an echo request */
		put_zeros(&frame, 7);
		frame = end_ip6(frame, 14);
		if (frame.head_length > FRAME_HEAD_PLAIN)
			frame.head_length = FRAME_HEAD_PLAIN;
		EXPECT(frame, frame.length <= FRAME_HEAD_PLAIN ? PASSES : GUARD_ARP);
	}
	for (uint32_t words = 0; words < 256; words++) {
		struct frame frame = ip6(NET, IPPROTO_DSTOPTS);

		put8(&frame, IPPROTO_NONE);
		put8(&frame, (uint8_t)words);
		put_zeros(&frame, 14);
		EXPECT(end_ip6(frame, 14), words <= 1 ? PASSES : GUARD_ARP);
	}
}

static void ipv6_fragments(void **state)
{
	struct fixture *fixture = *state;
	struct frame frame = ip6(NET, IPPROTO_FRAGMENT);

	/* A first one that does not say what it is of, then with its ports. */
	put_fragment(&frame, IPPROTO_UDP, 1);
	EXPECT(end_ip6(frame, 14), GUARD_ARP);
	put_udp(&frame, 1000, 2000);
	EXPECT(end_ip6(frame, 14), PASSES);
	packet_put16(frame.head + 64, 546);
	EXPECT(end_ip6(frame, 14), GUARD_IP);
	/* Its ports are padding that will be cut off: the next fragment brings others. */
	packet_put16(frame.head + 64, 2000);
	for (uint32_t payload = 0; payload < 24; payload++) {
		packet_put16(frame.head + 18, payload);
		EXPECT(frame, payload == 0 || payload >= 16 ? PASSES : GUARD_ARP);
	}
	/* A later one. */
	packet_put16(frame.head + 64, 546);
	packet_put16(frame.head + 56, 8);
	EXPECT(end_ip6(frame, 14), PASSES);
	memcpy(frame.head + 22, ip6_texts[OTHER_HOST], 16);
	EXPECT(end_ip6(frame, 14), GUARD_IP);
	memcpy(frame.head + 22, ip6_texts[NONE], 16);
	frame.head[54] = IPPROTO_ICMPV6;
	frame.head[62] = 143;
	EXPECT(end_ip6(frame, 14), GUARD_IP);

	/* Its bytes are no headers. */
	frame = ip6(NET, IPPROTO_FRAGMENT);
	put_fragment(&frame, IPPROTO_DSTOPTS, 8);
	put(&frame, "\x3a\xff\0\0\0\0\0", 8);
	EXPECT(end_ip6(frame, 14), PASSES);

	/* TCP, whose header does not fit. */
	frame = ip6(NET, IPPROTO_FRAGMENT);
	put_fragment(&frame, IPPROTO_TCP, 1);
	put_zeros(&frame, 16);
	EXPECT(end_ip6(frame, 14), GUARD_ARP);
	put_zeros(&frame, 8);
	EXPECT(end_ip6(frame, 14), PASSES);

	/* One that ends within extension headers. */
	frame = ip6(NET, IPPROTO_FRAGMENT);
	put_fragment(&frame, IPPROTO_DSTOPTS, 1);
	put8(&frame, IPPROTO_ICMPV6);
	put8(&frame, 1);
	put_zeros(&frame, 6);
	EXPECT(end_ip6(frame, 14), GUARD_ARP);

	/* Neighbour discovery in fragments, even in a single one; and what else ICMPv6 has. */
	for (uint8_t type = 128; type < 138; type++) {
		for (uint16_t more = 0; more < 2; more++) {
			frame = ip6(NET, IPPROTO_FRAGMENT);
			put_fragment(&frame, IPPROTO_ICMPV6, more);
			if (type >= 133) {
				put_discovery(&frame, type, NET);
			} else {
				put8(&frame, type);
				put_zeros(&frame, 23);
			}
			EXPECT(end_ip6(frame, 14), type >= 133 ? GUARD_ARP : PASSES);
		}
	}

	/* Fragments of fragments. */
	frame = ip6(NET, IPPROTO_FRAGMENT);
	put_fragment(&frame, IPPROTO_FRAGMENT, 0);
	put_fragment(&frame, IPPROTO_ICMPV6, 8);
	put_zeros(&frame, 16);
	EXPECT(end_ip6(frame, 14), GUARD_ARP);
}

static void dhcp_over_ipv6(void **state)
{
	struct fixture *fixture = *state;
	static const struct {
		uint16_t from, to;
		int refused_by;
	} cases[] = { { 546, 547, PASSES },
		      { 547, 546, GUARD_IP },
		      { 1000, 546, GUARD_IP },
		      { 547, 547, PASSES },
		      { 546, 1000, PASSES } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct frame frame = ip6(LOCAL_OWN, IPPROTO_UDP);

		put_udp(&frame, cases[i].from, cases[i].to);
		EXPECT(end_ip6(frame, 14), cases[i].refused_by);
		frame = ip6(LOCAL_OWN, IPPROTO_DSTOPTS);
		put_extension(&frame, IPPROTO_UDP);
		put_udp(&frame, cases[i].from, cases[i].to);
		put_zeros(&frame, 8);
		EXPECT(end_ip6(frame, 14), cases[i].refused_by);
		frame.head[54] = IPPROTO_TCP;
		EXPECT(frame, PASSES);
	}
}

static void ipv6_versions(void **state)
{
	struct fixture *fixture = *state;

	for (uint32_t version = 0; version < 16; version++) {
		struct frame frame = discovery(NET, 136, NET, 2, OWN);

		frame.head[14] = (uint8_t)(version << 4);
		EXPECT(frame, version == 6 ? PASSES : GUARD_ARP);
	}
}

static void tags(void **state)
{
	static const struct {
		const char *tags;
		uint32_t length;
		bool seen;
	} cases[] = {
		{ "\x81\0\0\x0a", 4, true }, /* VLAN 10 */
		{ "\x81\0\xe0\0", 4, true }, /* a priority */
		{ "\x88\xa8\0\x0a", 4, true },
		{ "\x88\xa8\0\x0a\x81\0\0\x0b", 8, true },
		{ "\x81\0\0\x0a\x81\0\0\x0b", 8, true },
		{ "\x81\0\0\x0a\x81\0\0\x0b\x81\0\0\x0c", 12, false },
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *bytes = cases[i].tags;
		const uint32_t count = cases[i].length;
		const int good = cases[i].seen ? PASSES : GUARD_ARP;

		EXPECT(insert(arp(2, OWN, IP4_OWN), bytes, count), good);
		EXPECT(insert(arp(2, OWN, IP4_OTHER), bytes, count), GUARD_ARP);
		EXPECT(insert(udp4(IP4_OWN, 1, 2), bytes, count), good);
		EXPECT(insert(udp4(IP4_OTHER, 1, 2), bytes, count), good ? good : GUARD_IP);
		EXPECT(insert(discovery(NET, 136, NET, 2, OWN), bytes, count), good);
		EXPECT(insert(discovery(NET, 136, HOST, 2, OTHER), bytes, count), GUARD_ARP);
		/* A frame that ends in its tags. */
		for (uint16_t length = 14; length < 14 + count; length++) {
			struct frame frame = insert(arp(2, OWN, IP4_OWN), bytes, count);

			frame.head_length = length;
			EXPECT(frame, GUARD_ARP);
		}
	}
}

/* A length and a SNAP header instead of a type. */
static void snap(void **state)
{
	struct fixture *fixture = *state;

	for (int tagged = 0; tagged < 2; tagged++) {
		for (int bridged = 0; bridged < 2; bridged++) {
			uint8_t bytes[12] = { 0x81, 0, 0, 5, 0, 0x40, 0xaa, 0xaa, 3, 0, 0, 0 };
			const uint8_t *from = tagged ? bytes : bytes + 4;
			const uint32_t count = tagged ? 12 : 8;

			bytes[11] = bridged ? 0xf8 : 0;
			EXPECT(insert(arp(2, OWN, IP4_OWN), from, count), PASSES);
			EXPECT(insert(arp(2, OTHER, IP4_OWN), from, count), GUARD_ARP);
			EXPECT(insert(udp4(IP4_OTHER, 1, 2), from, count), GUARD_IP);
			EXPECT(insert(discovery(NET, 136, HOST, 2, OTHER), from, count), GUARD_ARP);
			EXPECT(insert(insert(arp(2, OWN, IP4_OWN), "\x81\0\0\5", 4), from, count),
			       GUARD_ARP);
		}
	}
	/* Behind a type of its own; another's protocols; and no SNAP at all. */
	EXPECT(insert(arp(2, OTHER, IP4_OWN), "\x88\xb5\xaa\xaa\3\0\0\0", 8), GUARD_IP);
	EXPECT(insert(arp(2, OTHER, IP4_OWN), "\0\x40\xaa\xaa\3\0\0\x0c", 8), GUARD_IP);
	EXPECT(insert(arp(2, OTHER, IP4_OWN), "\0\x40\x42\x42\3\0\0\0", 8), GUARD_IP);
}

/* With a partial checksum whose field is at this offset: of these bytes none may have counted. */
static struct frame filled_at(struct frame frame, uint32_t field)
{
	frame.needs = NEEDS_CHECKSUM;
	frame.vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	frame.vnet.csum_start = ETHERNET_HEADER;
	frame.vnet.csum_offset = (uint16_t)(field - ETHERNET_HEADER);
	return frame;
}

/* Whatever its field, a level refuses those before `end`, but for the one that is named. */
static void fill_everywhere(const struct fixture *fixture, struct frame frame, int level,
			    uint32_t end, uint32_t exception)
{
	for (uint32_t field = ETHERNET_HEADER; field + 2 <= frame.head_length; field++) {
		const bool expected = field >= end || field == exception;
		const struct frame filled = filled_at(frame, field);

		if (guard_admits(fixture->guards[level], &filled) != expected)
			fail_msg("guard %s, a checksum at %u: expected to be %s",
				 guard_level_names[level], field,
				 expected ? "admitted" : "refused");
	}
}

/* What egress is yet to write into a frame is not what the guard saw there. */
static void checksums_to_be_filled(void **state)
{
	const struct fixture *fixture = *state;
	const struct frame frame = arp(1, OWN, IP4_OWN), udp = udp4(IP4_OWN, 1, 2);
	struct frame made;

	fill_everywhere(fixture, udp, GUARD_MAC, 0, 0);
	fill_everywhere(fixture, frame, GUARD_MAC, 0, 0);
	fill_everywhere(fixture, frame, GUARD_ARP, 42, 0);
	fill_everywhere(fixture, frame, GUARD_IP, 42, 0);
	fill_everywhere(fixture, insert(frame, "\x81\0\0\5", 4), GUARD_ARP, 46, 0);
	fill_everywhere(fixture, udp, GUARD_ARP, 14, 0);
	fill_everywhere(fixture, udp, GUARD_IP, 38, 0);
	fill_everywhere(fixture, insert(udp, "\x81\0\0\5", 4), GUARD_ARP, 18, 0);
	fill_everywhere(fixture, insert(udp, "\x81\0\0\5", 4), GUARD_IP, 42, 0);
	made = udp4(IP4_OWN, 1, 2);
	made.head[23] = IPPROTO_TCP;
	fill_everywhere(fixture, made, GUARD_IP, 34, 0);
	made.head[14] = 0x46; /* an option */
	fill_everywhere(fixture, made, GUARD_IP, 38, 0);

	made = ip6(HOST, IPPROTO_UDP);
	put_udp(&made, 1, 2);
	made = end_ip6(made, 14);
	fill_everywhere(fixture, made, GUARD_ARP, 58, 0);
	fill_everywhere(fixture, made, GUARD_IP, 58, 0);
	made = ip6(HOST, IPPROTO_FRAGMENT);
	put_fragment(&made, IPPROTO_UDP, 8);
	put_zeros(&made, 8);
	fill_everywhere(fixture, end_ip6(made, 14), GUARD_IP, 62, 0);
	made = ip6(HOST, IPPROTO_DSTOPTS);
	put_extension(&made, IPPROTO_ICMPV6);
	put8(&made, 128);
	put_zeros(&made, 7);
	fill_everywhere(fixture, end_ip6(made, 14), GUARD_IP, 64, 0);
	made = discovery(HOST, 136, HOST, 2, OWN);
	fill_everywhere(fixture, made, GUARD_ARP, made.head_length, 56);
	fill_everywhere(fixture, made, GUARD_IP, made.head_length, 56);

	/* Of another type, and of none. */
	made = ethernet(OWN, 0x88b5);
	put_zeros(&made, 20);
	fill_everywhere(fixture, insert(made, "\x81\0\0\5", 4), GUARD_ARP, 18, 0);
	made.head[12] = 0;
	fill_everywhere(fixture, made, GUARD_ARP, 22, 0);
}

static void references(void **state)
{
	struct guard *guard;
	uint8_t own[6];

	(void)state;
	packet_mac(own, OWN);
	guard = make(GUARD_MAC, own, "[]");
	assert_ptr_equal(guard_use(guard), guard);
	guard_release(guard);
	assert_string_equal(guard_name(guard), "mac");
	guard_release(guard);
	assert_null(guard_use(NULL));
	guard_release(NULL);
	assert_string_equal(guard_name(NULL), "off");
}

/* As many as there may be: each is known, none between them. */
static void many(void **state)
{
	json_t *list = json_array();
	struct guard *guard;
	struct error err = { .object = "" };
	char text[32];
	uint8_t own[6];

	(void)state;
	packet_mac(own, OWN);
	for (unsigned int i = 0; i < GUARD_MACS_MAX; i++) {
		snprintf(text, sizeof(text), "02:01:00:00:00:%02x", 2 * i);
		json_array_append_new(list, json_string(text));
	}
	for (unsigned int i = 0; i < GUARD_IPS_MAX; i++) {
		snprintf(text, sizeof(text), "10.1.%u.0/25", 255 - i);
		json_array_append_new(list, json_string(text));
	}
	assert_int_equal(guard_config_check(&list, &err), 0);
	assert_int_equal(guard_config_make(GUARD_IP, own, list, "port p", &guard, &err), 0);
	for (unsigned int i = 0; i < 256; i++) {
		struct frame frame = udp4(0x0a010000 + (i << 8) + 127, 1, 2);

		packet_mac(frame.head + 6, 0x020100000000 + i);
		assert_int_equal(guard_admits(guard, &frame), i % 2 == 0 && i < 128);
		packet_mac(frame.head + 6, OWN);
		assert_true(guard_admits(guard, &frame));
		packet_put32(frame.head + 26, 0x0a010000 + (i << 8) + 128);
		assert_false(guard_admits(guard, &frame));
	}
	guard_release(guard);
	for (int i = 0; i < 2; i++) {
		const char *one_more = i == 0 ? "02:01:00:00:00:ff" : "10.2.0.0";

		json_array_append_new(list, json_string(one_more));
		memset(&err, 0, sizeof(err));
		assert_int_equal(guard_config_check(&list, &err), -EINVAL);
		assert_string_equal(err.value, one_more);
		assert_non_null(strstr(err.accepted, i == 0 ? "64 MAC" : "256 IP"));
		json_array_remove(list, json_array_size(list) - 1);
	}
	json_decref(list);
}

/* Networks within others, twice the same, side by side. */
static void networks_that_overlap(void **state)
{
	struct guard *guard;
	uint8_t own[6];

	(void)state;
	packet_mac(own, OWN);
	guard = make(
		GUARD_IP, own,
		"[\"10.0.0.0/30\", \"10.0.0.1\", \"10.0.0.0/28\", \"10.0.0.1\", \"10.0.0.16/28\","
		" \"10.0.0.15/32\", \"255.255.255.0/24\", \"fe80::/10\"]");
	assert_int_equal(guard->ipv4_count, 3);
	assert_int_equal(guard->ipv6_count, 1); /* its own link-local address is in it */
	for (uint32_t i = 0; i < 64; i++) {
		struct frame frame = udp4(0x0a000000 + i, 1, 2);

		assert_int_equal(guard_admits(guard, &frame), i < 32);
	}
	guard_release(guard);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(source_address),
		cmocka_unit_test(arp_senders),
		cmocka_unit_test(arp_of_another_kind),
		cmocka_unit_test(rarp),
		cmocka_unit_test(ipv4_sources),
		cmocka_unit_test(ipv4_by_prefix),
		cmocka_unit_test(ipv6_sources),
		cmocka_unit_test(families_are_apart),
		cmocka_unit_test(no_address_yet),
		cmocka_unit_test(solicitations),
		cmocka_unit_test(advertisements),
		cmocka_unit_test(options),
		cmocka_unit_test(discovery_with_lying_lengths),
		cmocka_unit_test(discovery_behind_extensions),
		cmocka_unit_test(long_chains),
		cmocka_unit_test(ipv6_fragments),
		cmocka_unit_test(dhcp_over_ipv6),
		cmocka_unit_test(ipv6_versions),
		cmocka_unit_test(tags),
		cmocka_unit_test(snap),
		cmocka_unit_test(checksums_to_be_filled),
		cmocka_unit_test(references),
		cmocka_unit_test(many),
		cmocka_unit_test(networks_that_overlap),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
