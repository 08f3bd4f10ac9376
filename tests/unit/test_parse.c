/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frame/parse.c: where headers are, at every length of the head, and the flow hash's promises.
 * Frames lie in front of bytes that would change the outcome if they were read.
 */
#include "frame/parse.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "packets.h"

static const struct packet_flow flow = { .to = 0x525400000001, .from = 0x525400000002,
					 .ip_from = 0x0a000001, .ip_to = 0x0a000002,
					 .port_from = 1000, .port_to = 80 };

/* A frame of TCP over IPv6; the payload's bytes are those of packets.h. */
static void packet_tcp6(uint8_t *at, uint32_t length)
{
	packet_ethernet(at, flow.to, flow.from, length);
	packet_put16(at + 12, ETHERTYPE_IPV6);
	memset(at + 14, 0, 60);
	at[14] = 0x60;
	at[20] = IPPROTO_TCP;
	memset(at + 22, 0x11, 16);
	memset(at + 38, 0x22, 16);
	packet_put16(at + 54, flow.port_from);
	packet_put16(at + 56, flow.port_to);
	at[66] = 5 << 4;
}

/* Makes room for `length` bytes at an offset. */
static void insert(struct frame *frame, uint32_t at, uint32_t length)
{
	memmove(frame->head + at + length, frame->head + at, FRAME_HEAD_MAX - at - length);
	memset(frame->head + at, 0, length);
	frame->head_length = (uint16_t)(frame->head_length + length);
}

static void insert_tag(struct frame *frame, uint16_t type)
{
	insert(frame, 12, 4);
	packet_put16(frame->head + 12, type);
	packet_put16(frame->head + 14, 10);
}

static struct frame make(void (*fill)(uint8_t *at, const struct packet_flow *flow, uint32_t length))
{
	struct frame frame = { .head_length = 100, .length = 100 };

	fill(frame.head, &flow, 100);
	return frame;
}

static struct frame make_tcp6(void)
{
	struct frame frame = { .head_length = 100, .length = 100 };

	packet_tcp6(frame.head, 100);
	return frame;
}

static void expect(const struct frame *frame, uint16_t network, uint16_t offset, uint8_t protocol)
{
	struct transport found;

	assert_int_equal(parse_transport(frame, &found), 0);
	assert_int_equal(found.network, network);
	assert_int_equal(found.offset, offset);
	assert_int_equal(found.protocol, protocol);
	assert_false(found.fragment);
}

static void refuse(const struct frame *frame)
{
	struct transport found;

	assert_int_equal(parse_transport(frame, &found), -EINVAL);
}

static void plain(void **state)
{
	struct frame frame = make(packet_tcp);

	(void)state;
	expect(&frame, 14, 34, IPPROTO_TCP);
	frame = make(packet_udp);
	expect(&frame, 14, 34, IPPROTO_UDP);
	frame = make_tcp6();
	expect(&frame, 14, 54, IPPROTO_TCP);
}

static void tags(void **state)
{
	static const uint16_t types[] = { ETHERTYPE_VLAN, ETHERTYPE_QINQ };

	(void)state;
	for (int i = 0; i < 2; i++) {
		for (int j = 0; j < 2; j++) {
			struct frame frame = make(packet_tcp);

			insert_tag(&frame, types[i]);
			expect(&frame, 18, 38, IPPROTO_TCP);
			insert_tag(&frame, types[j]);
			expect(&frame, 22, 42, IPPROTO_TCP);
			insert_tag(&frame, ETHERTYPE_VLAN);
			refuse(&frame);
		}
	}
}

static void ipv4_options(void **state)
{
	(void)state;
	for (uint8_t words = 0; words < 16; words++) {
		struct frame frame = make(packet_tcp);

		frame.head[14] = (uint8_t)(0x40 | words);
		if (words < 5)
			refuse(&frame);
		else
			expect(&frame, 14, (uint16_t)(14 + 4 * words), IPPROTO_TCP);
	}
}

static void ipv6_extensions(void **state)
{
	static const uint8_t skipped[] = { IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS };
	struct frame frame = make_tcp6();
	struct transport found;

	(void)state;
	for (int i = 0; i < 3; i++) {
		insert(&frame, 54, 16);
		frame.head[54] = frame.head[20];
		frame.head[55] = 1; /* 16 bytes */
		frame.head[20] = skipped[i];
		expect(&frame, 14, (uint16_t)(54 + 16 * (i + 1)), IPPROTO_TCP);
	}
	/* An extension header that is not in the head as a whole. */
	frame.head_length = 86 + 7;
	refuse(&frame);
	frame.head_length = 86 + 8;
	expect(&frame, 14, 102, IPPROTO_TCP);
	/* The last one leads out of the head: that is seen, by its offset or by the next header. */
	frame.head[86 + 1] = 255;
	assert_int_equal(parse_transport(&frame, &found), 0);
	assert_int_equal(found.offset, 86 + 8 + 8 * 255);
	frame.head[86] = IPPROTO_DSTOPTS;
	refuse(&frame);
}

/* Headers that follow each other as far as the head goes, each as long as it likes. */
static void endless_extensions(void **state)
{
	struct frame frame = make_tcp6();

	(void)state;
	frame.head_length = FRAME_HEAD_MAX;
	frame.head[20] = IPPROTO_HOPOPTS;
	for (uint32_t at = 54; at + 8 <= FRAME_HEAD_MAX; at += 8) {
		memset(frame.head + at, 0, 8);
		frame.head[at] = IPPROTO_DSTOPTS;
	}
	refuse(&frame);
}

static void fragments(void **state)
{
	static const struct {
		uint16_t field;
		bool fragment;
	} cases[] = { { 0x0000, false }, { 0x4000, false }, { 0x2000, true },
		      { 0x0001, true },  { 0x1fff, true },  { 0x8000, false } };
	struct frame frame = make(packet_udp);
	struct transport found;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		packet_put16(frame.head + 20, cases[i].field);
		assert_int_equal(parse_transport(&frame, &found), 0);
		assert_int_equal(found.fragment, cases[i].fragment);
	}
	frame = make_tcp6();
	frame.head[20] = IPPROTO_FRAGMENT;
	assert_int_equal(parse_transport(&frame, &found), 0);
	assert_true(found.fragment);
}

static void not_ip(void **state)
{
	struct frame frame = make(packet_tcp);

	(void)state;
	packet_put16(frame.head + 12, 0x0806);
	refuse(&frame);
	/* The version must agree with the type. */
	packet_put16(frame.head + 12, ETHERTYPE_IPV6);
	refuse(&frame);
	frame = make(packet_tcp);
	frame.head[14] = 0x65;
	refuse(&frame);
	frame = make_tcp6();
	packet_put16(frame.head + 12, ETHERTYPE_IPV4);
	refuse(&frame);
}

/* At any shorter length the answer is a refusal or the same one, whatever lies behind the head. */
static void shorter_heads(void **state)
{
	struct frame frames[] = { make(packet_tcp), make_tcp6(), make(packet_udp) };
	static const uint16_t needed[] = { 34, 54, 42 };

	(void)state;
	insert_tag(&frames[2], ETHERTYPE_VLAN);
	insert_tag(&frames[2], ETHERTYPE_VLAN);
	for (int i = 0; i < 3; i++) {
		for (uint16_t length = 0; length <= 100; length++) {
			frames[i].head_length = length;
			if (length < needed[i])
				refuse(&frames[i]);
			else
				expect(&frames[i], i == 2 ? 22 : 14, i == 2 ? 42 : needed[i],
				       i == 2 ? IPPROTO_UDP : IPPROTO_TCP);
		}
	}
}

/* Exchanges sender and receiver. */
static struct frame turn(const struct frame *frame, uint32_t address, uint32_t size, uint32_t ports)
{
	struct frame other = *frame;

	memcpy(other.head, frame->head + 6, 6);
	memcpy(other.head + 6, frame->head, 6);
	memcpy(other.head + address, frame->head + address + size, size);
	memcpy(other.head + address + size, frame->head + address, size);
	if (ports > 0) {
		memcpy(other.head + ports, frame->head + ports + 2, 2);
		memcpy(other.head + ports + 2, frame->head + ports, 2);
	}
	return other;
}

static void hash_is_symmetric(void **state)
{
	struct frame frame = make(packet_tcp);
	struct frame other = turn(&frame, 26, 4, 34);

	(void)state;
	assert_int_equal(parse_flow_hash(&frame), parse_flow_hash(&other));
	frame = make_tcp6();
	other = turn(&frame, 22, 16, 54);
	assert_int_equal(parse_flow_hash(&frame), parse_flow_hash(&other));
	packet_ethernet(frame.head, flow.to, flow.from, 100);
	packet_ethernet(other.head, flow.from, flow.to, 100);
	assert_int_equal(parse_flow_hash(&frame), parse_flow_hash(&other));
}

/* Each part of the flow counts, and nothing else. */
static void hash_tells_flows_apart(void **state)
{
	static const uint32_t offsets[] = { 23, 26, 29, 30, 33, 34, 35, 36, 37 };
	struct frame frame = make(packet_tcp);
	uint32_t hash = parse_flow_hash(&frame);

	(void)state;
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		struct frame other = frame;

		other.head[offsets[i]] ^= 0x40;
		assert_int_not_equal(parse_flow_hash(&other), hash);
	}
	for (uint32_t at = 38; at < 100; at++) {
		struct frame other = frame;

		other.head[at] ^= 0xff;
		assert_int_equal(parse_flow_hash(&other), hash);
	}
}

/* A later fragment has no ports: it goes where the first one went. */
static void hash_of_fragments(void **state)
{
	struct frame one = make(packet_udp), two = make(packet_udp);

	(void)state;
	packet_put16(one.head + 20, 0x2000);
	packet_put16(two.head + 20, 0x00b9);
	memset(two.head + 34, 0x77, 8);
	assert_int_equal(parse_flow_hash(&one), parse_flow_hash(&two));
}

/* Flows that differ in one port only are spread over queues. */
static void hash_spreads(void **state)
{
	uint32_t counts[8] = { 0 };

	(void)state;
	for (uint32_t port = 1; port <= 800; port++) {
		struct frame frame = make(packet_tcp);

		packet_put16(frame.head + 34, port);
		counts[parse_flow_hash(&frame) % 8]++;
	}
	for (int i = 0; i < 8; i++)
		assert_in_range(counts[i], 50, 150);
}

/* What lies behind the head belongs to an earlier frame, and decides nothing. */
static void hash_reads_the_head_only(void **state)
{
	(void)state;
	for (uint16_t length = 0; length < 60; length++) {
		struct frame frame = make(packet_tcp), other;

		frame.head_length = length;
		other = frame;
		memset(other.head + length, 0x5a, FRAME_HEAD_MAX - length);
		assert_int_equal(parse_flow_hash(&frame), parse_flow_hash(&other));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(tags),
		cmocka_unit_test(ipv4_options),
		cmocka_unit_test(ipv6_extensions),
		cmocka_unit_test(endless_extensions),
		cmocka_unit_test(fragments),
		cmocka_unit_test(not_ip),
		cmocka_unit_test(shorter_heads),
		cmocka_unit_test(hash_is_symmetric),
		cmocka_unit_test(hash_tells_flows_apart),
		cmocka_unit_test(hash_of_fragments),
		cmocka_unit_test(hash_spreads),
		cmocka_unit_test(hash_reads_the_head_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
