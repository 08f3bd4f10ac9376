/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fuzzer of guards: frames as a guest may send them, honest, forged or damaged, with nothing
 * behind their heads that may be read. Of what is honest or forged in one way alone the answer is
 * known. Whatever it is, a level refuses what the one before it does, and what a guard without IP
 * addresses refuses, too. What passes with a partial checksum passes whatever that is filled with.
 */
#include <netinet/in.h>
#include <stdlib.h>

#include "../unit/packets.h"
#include "check.h"
#include "entropy.h"
#include "policy/guard.h"
#include "target.h"

#define OWN 0x020000000001
#define SECOND 0x020000000002
#define OTHER 0x020000000099

static struct guard *guards[GUARD_IP + 1];
static struct guard *without_ips;

/* A frame that is being written. */
struct draft {
	struct entropy *entropy;
	uint8_t bytes[FRAME_HEAD_MAX];
	uint32_t length;
	uint32_t refused_by; /* enum guard_level; GUARD_OFF: by none */
	bool known;	     /* that is so */
};

static void refuse(struct draft *draft, enum guard_level level)
{
	if (draft->refused_by == GUARD_OFF || level < draft->refused_by)
		draft->refused_by = level;
}

static void put(struct draft *draft, const void *bytes, uint32_t count)
{
	CHECK(draft->length + count <= sizeof(draft->bytes));
	memcpy(draft->bytes + draft->length, bytes, count);
	draft->length += count;
}

static void put16(struct draft *draft, uint32_t value)
{
	uint8_t bytes[2];

	packet_put16(bytes, value);
	put(draft, bytes, sizeof(bytes));
}

static void put_any(struct draft *draft, uint32_t count)
{
	while (count-- > 0)
		put(draft, &(uint8_t){ (uint8_t)entropy_below(draft->entropy, 256) }, 1);
}

/* Once in a while a foreign one, which this level refuses. */
static void put_mac(struct draft *draft, enum guard_level level)
{
	const bool foreign = entropy_chance(draft->entropy, 12);
	uint8_t mac[6];

	packet_mac(mac, foreign ? OTHER : entropy_chance(draft->entropy, 2) ? OWN : SECOND);
	put(draft, mac, sizeof(mac));
	if (foreign)
		refuse(draft, level);
}

/* 10.1.0.0/16, of which 10.1.0.0/17 is allowed. */
static void put_ipv4(struct draft *draft, enum guard_level level)
{
	const uint32_t last = entropy_below(draft->entropy, 0x9000);

	put(draft, "\x0a\1", 2);
	put16(draft, last);
	if (last >= 0x8000)
		refuse(draft, level);
}

/* 2001:db8::/32, of which 2001:db8::/33 is allowed. */
static void put_ipv6(struct draft *draft, enum guard_level level)
{
	const uint32_t third = entropy_below(draft->entropy, 0x9000);

	put(draft, "\x20\1\x0d\xb8", 4);
	put16(draft, third);
	put_any(draft, 10);
	if (third >= 0x8000)
		refuse(draft, level);
}

static void make_arp(struct draft *draft)
{
	put(draft, "\0\1\x08\0\6\4", 6);
	put16(draft, 1 + entropy_below(draft->entropy, 2));
	put_mac(draft, GUARD_ARP);
	put_ipv4(draft, GUARD_ARP);
	put_any(draft, 10 + entropy_below(draft->entropy, 20));
}

/* Ports, of which some are those of a DHCP server's answers. */
static void put_udp(struct draft *draft, uint16_t client)
{
	const bool answers = entropy_chance(draft->entropy, 4);

	put16(draft, entropy_below(draft->entropy, 65536));
	put16(draft, answers ? client : 1000 + entropy_below(draft->entropy, 1000));
	put_any(draft, 4 + entropy_below(draft->entropy, 8));
	if (answers)
		refuse(draft, GUARD_IP);
}

static void make_ipv4(struct draft *draft)
{
	const uint32_t words = 5 + entropy_below(draft->entropy, 11);
	const uint32_t start = draft->length;
	const bool is_udp = entropy_chance(draft->entropy, 2);

	put(draft, &(uint8_t){ (uint8_t)(0x40 | words) }, 1);
	put(draft, "\0\0\0\0\0", 5);
	put16(draft, entropy_chance(draft->entropy, 4) ? 0x2000 : 0);
	put(draft, "\x40", 1);
	put(draft, is_udp ? "\x11" : "\x06", 1);
	put16(draft, 0);
	put_ipv4(draft, GUARD_IP);
	put_any(draft, 4 + 4 * (words - 5));
	if (is_udp)
		put_udp(draft, 68);
	else
		put_any(draft, 20);
	packet_put16(draft->bytes + start + 2, draft->length - start);
}

static void put_discovery(struct draft *draft)
{
	static const uint8_t rest[] = { 4, 12, 4, 4, 4 };
	const uint32_t type = 133 + entropy_below(draft->entropy, 5);

	put(draft, &(uint8_t){ (uint8_t)type }, 1);
	put_any(draft, 3u + rest[type - 133]);
	if (type == 136)
		put_ipv6(draft, GUARD_ARP);
	else if (type >= 135)
		put_any(draft, 16);
	if (type == 137)
		put_any(draft, 16);
	if (type == 134 || type == 137)
		refuse(draft, GUARD_IP);
	for (uint32_t i = entropy_below(draft->entropy, 3); i > 0; i--) {
		put(draft, entropy_chance(draft->entropy, 2) ? "\1\1" : "\2\1", 2);
		put_mac(draft, GUARD_ARP);
	}
	/* An option that is cut off. */
	if (entropy_chance(draft->entropy, 8)) {
		put_any(draft, 1 + entropy_below(draft->entropy, 7));
		refuse(draft, GUARD_ARP);
	}
}

/* Extension headers of 8 or 16 bytes; the first's number is written at `next`. */
static uint32_t put_extensions(struct draft *draft, uint32_t next, bool *fragment)
{
	static const uint8_t kinds[] = { 0, 43, 60, 51, 135, 139, 140, 44 };

	for (uint32_t i = entropy_below(draft->entropy, 4); i > 0; i--) {
		const uint32_t kind = kinds[entropy_below(draft->entropy, 8)];
		const bool longer = kind != 44 && entropy_chance(draft->entropy, 2);

		draft->bytes[next] = (uint8_t)kind;
		next = draft->length;
		put(draft, "\0", 1);
		put(draft, &(uint8_t){ longer ? (kind == 51 ? 2 : 1) : 0 }, 1);
		if (kind == 44) {
			if (*fragment)
				refuse(draft, GUARD_ARP);
			*fragment = true;
			put16(draft, entropy_below(draft->entropy, 2));
			put_any(draft, 4);
		} else {
			put_any(draft, longer ? 14 : 6);
		}
	}
	return next;
}

static void make_ipv6(struct draft *draft)
{
	static const uint8_t protocols[] = { IPPROTO_UDP, IPPROTO_ICMPV6, IPPROTO_TCP };
	const uint8_t protocol = protocols[entropy_below(draft->entropy, 3)];
	const uint32_t start = draft->length;
	const bool is_echo = entropy_chance(draft->entropy, 2);
	const bool is_discovery = protocol == IPPROTO_ICMPV6 && !is_echo;
	bool fragment = false;
	uint32_t next = start + 6;

	put(draft, "\x60\0\0\0\0\0\0\xff", 8);
	put_ipv6(draft, is_discovery ? GUARD_ARP : GUARD_IP);
	put_any(draft, 16);
	next = put_extensions(draft, next, &fragment);
	draft->bytes[next] = protocol;
	if (is_discovery) {
		put_discovery(draft);
		if (fragment)
			refuse(draft, GUARD_ARP);
	} else if (protocol == IPPROTO_UDP) {
		put_udp(draft, 546);
	} else {
		put(draft, "\x80", 1);
		put_any(draft, 19);
	}
	packet_put16(draft->bytes + start + 4, draft->length - start - 40);
}

static void make_frame(struct draft *draft)
{
	static const uint16_t types[] = { 0x0806, 0x0800, 0x86dd };
	static void (*const makers[])(struct draft * draft) = { make_arp, make_ipv4, make_ipv6 };
	const uint32_t kind = entropy_below(draft->entropy, 3);
	const uint32_t tags = entropy_below(draft->entropy, 8);

	put_any(draft, 6);
	put_mac(draft, GUARD_MAC);
	for (uint32_t i = 0; i < 3 && i + 5 <= tags; i++) {
		put(draft, entropy_chance(draft->entropy, 2) ? "\x81\0" : "\x88\xa8", 2);
		put_any(draft, 2);
	}
	if (tags == 7)
		refuse(draft, GUARD_ARP);
	if (entropy_chance(draft->entropy, 4)) {
		put16(draft, 100);
		put(draft, "\xaa\xaa\3\0\0\0", 6);
	}
	put16(draft, types[kind]);
	makers[kind](draft);
}

/* Bytes that are changed, and an end that comes early. */
static void damage(struct draft *draft)
{
	for (uint32_t i = entropy_below(draft->entropy, 4); i > 0; i--)
		draft->bytes[entropy_below(draft->entropy, draft->length)] =
			(uint8_t)entropy_below(draft->entropy, 256);
	if (entropy_chance(draft->entropy, 2))
		draft->length = entropy_below(draft->entropy, draft->length + 1);
	draft->known = false;
}

/*
 * A frame of which nothing may be read but its head, up to its last byte. Where an Ethernet header
 * would be there is memory in any case.
 */
static struct frame *frame_of(const struct draft *draft)
{
	const uint32_t size = draft->length < ETHERNET_HEADER ? ETHERNET_HEADER : draft->length;
	struct frame *frame;

	CHECK(posix_memalign((void **)&frame, 64, offsetof(struct frame, head) + size) == 0);
	memset(frame, 0, offsetof(struct frame, head));
	frame->length = draft->length;
	frame->head_length = (uint16_t)draft->length;
	memcpy((uint8_t *)frame + offsetof(struct frame, head), draft->bytes, size);
	return frame;
}

/* Some place of the frame is that of a partial checksum. */
static void fill(struct entropy *entropy, struct frame *frame)
{
	const uint32_t places = frame->length - ETHERNET_HEADER - 1u;
	const uint32_t place = entropy_below(entropy, places < 64 ? places : 64);
	bool admitted[GUARD_IP + 1];

	frame->vnet.csum_start = ETHERNET_HEADER;
	frame->vnet.csum_offset = (uint16_t)place;
	for (int level = GUARD_MAC; level <= GUARD_IP; level++) {
		frame->needs = 0;
		admitted[level] = guard_admits(guards[level], frame);
		frame->needs = NEEDS_CHECKSUM;
		CHECK(admitted[level] || !guard_admits(guards[level], frame));
		admitted[level] = guard_admits(guards[level], frame);
	}
	frame->needs = 0;
	for (int i = 0; i < 4; i++) {
		packet_put16(frame->head + ETHERNET_HEADER + place,
			     i == 0 ? 0x0806 : entropy_below(entropy, 65536));
		for (int level = GUARD_MAC; level <= GUARD_IP; level++)
			CHECK(!admitted[level] || guard_admits(guards[level], frame));
	}
}

static void run_frame(struct entropy *entropy)
{
	struct draft draft = { .entropy = entropy, .known = true };
	struct frame *frame;
	bool before = true;

	if (entropy_chance(entropy, 8)) {
		put_any(&draft, 14 + entropy_below(entropy, FRAME_HEAD_MAX - 13));
		draft.known = false;
	} else {
		make_frame(&draft);
		if (entropy_chance(entropy, 2))
			damage(&draft);
	}
	frame = frame_of(&draft);
	for (uint32_t level = GUARD_MAC; level <= GUARD_IP; level++) {
		const bool admitted = guard_admits(guards[level], frame);

		CHECK(before || !admitted);
		before = admitted;
		if (level == GUARD_ARP && admitted)
			CHECK(guard_admits(without_ips, frame));
		if (draft.known)
			CHECK(admitted ==
			      (draft.refused_by == GUARD_OFF || level < draft.refused_by));
	}
	if (frame->length >= ETHERNET_HEADER + 2)
		fill(entropy, frame);
	free(frame);
}

const char target_name[] = "guard";
const char target_unit[] = "frames";

void target_init(void)
{
	struct guard_addresses addresses = { .mac_count = 2 };

	packet_mac(addresses.macs[0], OWN);
	packet_mac(addresses.macs[1], SECOND);
	without_ips = guard_new(GUARD_ARP, &addresses);
	addresses.ip_count = 2;
	addresses.ips[0] = (struct guard_prefix){ .length = 17, .address = { 10, 1 } };
	addresses.ips[1] = (struct guard_prefix){ .is_ipv6 = true,
						  .length = 33,
						  .address = { 0x20, 1, 0x0d, 0xb8 } };
	for (int level = GUARD_MAC; level <= GUARD_IP; level++) {
		guards[level] = guard_new((enum guard_level)level, &addresses);
		CHECK(guards[level] != NULL);
	}
}

bool target_choose(const char *what)
{
	(void)what;
	return false;
}

void target_input(const uint8_t *bytes, size_t count)
{
	struct entropy entropy;

	entropy_init(&entropy, 0, bytes, count);
	run_frame(&entropy);
}

uint64_t target_make(uint64_t seed, const struct target_file *files, uint32_t file_count, bool show)
{
	struct entropy entropy;

	(void)files;
	(void)file_count;
	(void)show;
	entropy_init(&entropy, seed, NULL, 0);
	run_frame(&entropy);
	return 1;
}
