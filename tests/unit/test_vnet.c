/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frame/vnet.c: each rule for the offload header of a guest, kept and broken.
 */
#include "frame/vnet.h"

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

enum kind { TCP4, TCP6, UDP4, UDP6 };

/* A valid frame to be segmented, of 10,000 bytes of which the head holds 256. */
static struct frame make(enum kind kind)
{
	struct frame frame = { .length = 10000, .head_length = FRAME_HEAD_MAX, .needs = 0xff,
			       .segments = 77 };
	bool six = kind == TCP6 || kind == UDP6, tcp = kind == TCP4 || kind == TCP6;
	uint16_t transport = six ? 54 : 34;

	if (tcp)
		packet_tcp(frame.head, &flow, FRAME_HEAD_MAX);
	else
		packet_udp(frame.head, &flow, FRAME_HEAD_MAX);
	if (six) {
		memmove(frame.head + 54, frame.head + 34, 20);
		packet_put16(frame.head + 12, 0x86dd);
		memset(frame.head + 14, 0, 40);
		frame.head[14] = 0x60;
		frame.head[20] = tcp ? IPPROTO_TCP : IPPROTO_UDP;
	}
	frame.vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	frame.vnet.csum_start = transport;
	frame.vnet.csum_offset = tcp ? 16 : 6;
	frame.vnet.gso_size = 1000;
	frame.vnet.gso_type = !tcp ? VIRTIO_NET_HDR_GSO_UDP
			      : six ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
	frame.vnet.hdr_len = 9999; /* a guest's word for it is not taken */
	return frame;
}

/* The same without segmentation. */
static struct frame make_checksum(void)
{
	struct frame frame = make(TCP4);

	frame.vnet.gso_type = VIRTIO_NET_HDR_GSO_NONE;
	return frame;
}

static void take(const struct frame *sent, uint8_t needs, uint16_t segments, uint16_t headers)
{
	struct frame frame = *sent;

	assert_int_equal(vnet_check(&frame, NEEDS_ALL), 0);
	assert_int_equal(frame.needs, needs);
	assert_int_equal(frame.segments, segments);
	assert_int_equal(frame.vnet.hdr_len, headers);
}

static void refuse(const struct frame *sent)
{
	struct frame frame = *sent;

	assert_int_equal(vnet_check(&frame, NEEDS_ALL), -EINVAL);
}

static void segmentation(void **state)
{
	const struct frame frames[] = { make(TCP4), make(TCP6), make(UDP4), make(UDP6) };

	(void)state;
	take(&frames[0], NEEDS_CHECKSUM | NEEDS_TSO4, 10, 54);
	take(&frames[1], NEEDS_CHECKSUM | NEEDS_TSO6, 10, 74);
	take(&frames[2], NEEDS_CHECKSUM | NEEDS_UFO, 10, 42);
	take(&frames[3], NEEDS_CHECKSUM | NEEDS_UFO, 10, 62);
	for (int i = 2; i < 4; i++) {
		struct frame frame = frames[i];

		frame.vnet.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
		take(&frame, NEEDS_CHECKSUM | NEEDS_USO, 10, i == 2 ? 42 : 62);
	}
}

/* Fragments begin at multiples of 8 bytes. */
static void sizes_of_fragments(void **state)
{
	(void)state;
	for (uint16_t size = 48; size < 120; size++) {
		struct frame frame = make(UDP4);
		uint32_t cut = frame.length - 34;

		frame.vnet.gso_size = size;
		assert_int_equal(vnet_check(&frame, NEEDS_ALL), 0);
		assert_int_equal(frame.vnet.gso_size, size / 8 * 8);
		assert_int_equal(frame.segments, (cut + size / 8 * 8 - 1) / (size / 8 * 8));
	}
	for (uint16_t size = 1; size < 48; size++) {
		struct frame frame = make(UDP4);

		frame.vnet.gso_size = size;
		refuse(&frame);
	}
}

/* The type must be that of the frame, the other bits of the field nothing unknown. */
static void types(void **state)
{
	static const uint8_t values[] = { VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
					  VIRTIO_NET_HDR_GSO_UDP };
	const uint8_t uso = VIRTIO_NET_HDR_GSO_UDP_L4;
	static const int right[] = { 0, 1, 2, 2 };

	(void)state;
	for (int kind = TCP4; kind <= UDP6; kind++) {
		for (int type = 1; type < 256; type++) {
			struct frame frame = make(kind);
			uint8_t plain = (uint8_t)(type & ~VIRTIO_NET_HDR_GSO_ECN);
			bool ecn = type & VIRTIO_NET_HDR_GSO_ECN;

			frame.vnet.gso_type = (uint8_t)type;
			if ((plain == values[right[kind]] && (!ecn || kind <= TCP6)) ||
			    (type == uso && kind >= UDP4))
				assert_int_equal(vnet_check(&frame, NEEDS_ALL), 0);
			else
				assert_int_equal(vnet_check(&frame, NEEDS_ALL), -EINVAL);
		}
	}
}

static void ecn(void **state)
{
	struct frame frame = make(TCP4);

	(void)state;
	frame.vnet.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	take(&frame, NEEDS_CHECKSUM | NEEDS_TSO4 | NEEDS_ECN, 10, 54);
}

/* What the sender did not negotiate is refused, each bit by itself. */
static void allowed(void **state)
{
	struct frame frames[] = { make_checksum(), make(TCP4), make(TCP6), make(UDP4), make(TCP4),
				  make(UDP6) };
	static const uint8_t needs[] = { NEEDS_CHECKSUM, NEEDS_CHECKSUM | NEEDS_TSO4,
					 NEEDS_CHECKSUM | NEEDS_TSO6, NEEDS_CHECKSUM | NEEDS_UFO,
					 NEEDS_CHECKSUM | NEEDS_TSO4 | NEEDS_ECN,
					 NEEDS_CHECKSUM | NEEDS_USO };

	(void)state;
	frames[4].vnet.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	frames[5].vnet.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
	for (int i = 0; i < 6; i++) {
		for (uint8_t may = 0; may <= NEEDS_ALL; may++) {
			struct frame frame = frames[i];

			assert_int_equal(vnet_check(&frame, may),
					 (needs[i] & ~may) == 0 ? 0 : -EINVAL);
		}
	}
}

/* All may ask for a checksum; a guest may not say that data is valid, and nobody anything else. */
static void flags(void **state)
{
	(void)state;
	for (int value = 0; value < 512; value++) {
		struct frame frame = make_checksum();
		bool is_guest = value & 256, asks = value & VIRTIO_NET_HDR_F_NEEDS_CSUM;
		bool says = value & VIRTIO_NET_HDR_F_DATA_VALID && !asks && !is_guest;
		uint8_t may = is_guest ? NEEDS_ALL & ~NEEDS_VALID : NEEDS_ALL;

		frame.vnet.flags = (uint8_t)value;
		assert_int_equal(vnet_check(&frame, may), 0);
		assert_int_equal(frame.vnet.flags, asks ? VIRTIO_NET_HDR_F_NEEDS_CSUM :
						   says ? VIRTIO_NET_HDR_F_DATA_VALID : 0);
		assert_int_equal(frame.needs, asks ? NEEDS_CHECKSUM : says ? NEEDS_VALID : 0);
		assert_int_equal(frame.vnet.csum_start, asks ? 34 : 0);
		assert_int_equal(frame.vnet.csum_offset, asks ? 16 : 0);
		assert_int_equal(frame.vnet.gso_size, 0);
		assert_int_equal(frame.vnet.hdr_len, 0);
		assert_int_equal(frame.segments, 1);
	}
}

/* The field lies behind the Ethernet header and ends within the frame, in the head or behind it. */
static void checksum_bounds(void **state)
{
	static const struct {
		uint32_t start, offset, length;
		bool good;
	} cases[] = {
		{ 14, 0, 16, true },          { 14, 0, 15, false },
		{ 13, 10, 100, false },       { 0, 34, 100, false },
		{ 34, 16, 52, true },         { 34, 16, 51, false },
		{ 50, 48, 100, true },        { 50, 49, 100, false },
		{ 5000, 100, 5102, true },    { 5000, 100, 5101, false },
		{ 65535, 65535, 65557, false }, { 65535, 20, 65557, true },
		{ 65535, 21, 65557, false },  { 14, 0, 0, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct frame frame = make_checksum();

		frame.vnet.csum_start = (uint16_t)cases[i].start;
		frame.vnet.csum_offset = (uint16_t)cases[i].offset;
		frame.length = cases[i].length;
		frame.head_length = (uint16_t)(frame.length < FRAME_HEAD_MAX ? frame.length
									     : FRAME_HEAD_MAX);
		assert_int_equal(vnet_check(&frame, NEEDS_ALL), cases[i].good ? 0 : -EINVAL);
	}
}

/* A partial checksum need not be one of the frame's own headers: it may be a tunnel's inner one. */
static void inner_checksum(void **state)
{
	struct frame frame = make_checksum();

	(void)state;
	frame.vnet.csum_start = 84;
	take(&frame, NEEDS_CHECKSUM, 1, 0);
	packet_put16(frame.head + 12, 0x88b5); /* not even IP */
	take(&frame, NEEDS_CHECKSUM, 1, 0);
}

/* With segmentation it must be. */
static void segmentation_checksum(void **state)
{
	struct frame frame = make(TCP4);

	(void)state;
	frame.vnet.flags = 0;
	refuse(&frame);
	frame.vnet.flags = VIRTIO_NET_HDR_F_DATA_VALID;
	refuse(&frame);
	frame = make(TCP4);
	frame.vnet.csum_start = 35;
	refuse(&frame);
	frame.vnet.csum_start = 33;
	refuse(&frame);
	frame = make(TCP4);
	frame.vnet.csum_offset = 6;
	refuse(&frame);
	frame = make(UDP4);
	frame.vnet.csum_offset = 16;
	refuse(&frame);
}

static void segment_sizes(void **state)
{
	static const struct {
		uint16_t size;
		uint32_t payload;
		uint16_t segments; /* 0: refused */
	} cases[] = {
		{ 0, 9000, 0 },     { 1, 9000, 0 },       { 47, 9000, 0 },     { 48, 9000, 188 },
		{ 48, 49, 2 },      { 1000, 1001, 2 },    { 1000, 2000, 2 },   { 1000, 2001, 3 },
		{ 48, 65503, 1365 }, { 65535, 65503, 1 }, { 1000, 1000, 1 },   { 1, 1, 1 },
		{ 0, 0, 0 },        { 1448, 0, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct frame frame = make(TCP4);

		frame.vnet.gso_size = cases[i].size;
		frame.length = 54 + cases[i].payload;
		if (frame.length < FRAME_HEAD_MAX)
			frame.head_length = (uint16_t)frame.length;
		assert_int_equal(vnet_check(&frame, NEEDS_ALL),
				 cases[i].segments > 0 ? 0 : -EINVAL);
		if (cases[i].segments > 0)
			assert_int_equal(frame.segments, cases[i].segments);
	}
}

/*
 * Nothing to cut: a plain frame with a partial checksum, which even a sender without TSO may send.
 */
static void one_segment(void **state)
{
	static const enum kind kinds[] = { TCP4, TCP6, UDP4 };

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct frame frame = make(kinds[i]);

		frame.length = 800;
		if (i < 2)
			frame.vnet.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
		assert_int_equal(vnet_check(&frame, NEEDS_CHECKSUM), 0);
		assert_int_equal(frame.needs, NEEDS_CHECKSUM);
		assert_int_equal(frame.vnet.gso_type, VIRTIO_NET_HDR_GSO_NONE);
		assert_int_equal(frame.vnet.gso_size, 0);
		assert_int_equal(frame.vnet.hdr_len, 0);
		assert_int_equal(frame.vnet.csum_start, i == 1 ? 54 : 34);
	}
}

static void tcp_headers(void **state)
{
	(void)state;
	for (int words = 0; words < 16; words++) {
		struct frame frame = make(TCP4);

		frame.head[46] = (uint8_t)(words << 4);
		if (words < 5)
			refuse(&frame);
		else
			take(&frame, NEEDS_CHECKSUM | NEEDS_TSO4,
			     (uint16_t)((10000 - 34 - 4 * words + 999) / 1000),
			     (uint16_t)(34 + 4 * words));
	}
}

/* Headers that the head does not hold are not taken on trust, even if the frame is long. */
static void headers_behind_head(void **state)
{
	struct frame frame = make(TCP4);

	(void)state;
	frame.head[46] = 15 << 4;
	frame.head_length = 34 + 60;
	take(&frame, NEEDS_CHECKSUM | NEEDS_TSO4, 10, 94);
	frame.head_length = 34 + 59;
	refuse(&frame);
	frame.head_length = 34 + 19;
	refuse(&frame);
	frame = make(UDP4);
	frame.head_length = 42;
	take(&frame, NEEDS_CHECKSUM | NEEDS_UFO, 10, 42);
	frame.head_length = 41;
	refuse(&frame);
	for (uint16_t length = 0; length < 34; length++) {
		frame.head_length = length;
		refuse(&frame);
	}
}

/* An IPv6 extension header that leads to the end of the head and a TCP header across it. */
static void headers_across_head(void **state)
{
	struct frame frame = make(TCP6);

	(void)state;
	frame.head[20] = IPPROTO_HOPOPTS;
	frame.head[54] = IPPROTO_TCP;
	frame.head[55] = 23;
	frame.vnet.csum_start = 54 + 8 + 8 * 23;
	refuse(&frame);
}

static void not_whole_packets(void **state)
{
	struct frame frame = make(TCP4);

	(void)state;
	packet_put16(frame.head + 20, 0x2000);
	refuse(&frame);
	packet_put16(frame.head + 20, 0x0010);
	refuse(&frame);
	packet_put16(frame.head + 20, 0x4000); /* do not fragment */
	take(&frame, NEEDS_CHECKSUM | NEEDS_TSO4, 10, 54);
	packet_put16(frame.head + 12, 0x0806);
	refuse(&frame);
}

static void tagged(void **state)
{
	struct frame frame = make(TCP4);

	(void)state;
	memmove(frame.head + 16, frame.head + 12, FRAME_HEAD_MAX - 16);
	packet_put16(frame.head + 12, 0x8100);
	refuse(&frame);
	frame.vnet.csum_start = 38;
	take(&frame, NEEDS_CHECKSUM | NEEDS_TSO4, 10, 58);
}

/* The fragments of UFO carry the UDP header as part of what is cut; TCP segments have their own. */
static void what_is_cut(void **state)
{
	struct frame udp = make(UDP4), tcp = make(TCP4);

	(void)state;
	udp.length = 34 + 2000;
	take(&udp, NEEDS_CHECKSUM | NEEDS_UFO, 2, 42);
	udp.length++;
	take(&udp, NEEDS_CHECKSUM | NEEDS_UFO, 3, 42);
	udp.length = 34 + 1000;
	take(&udp, NEEDS_CHECKSUM, 1, 0);
	udp.length++;
	take(&udp, NEEDS_CHECKSUM | NEEDS_UFO, 2, 42);
	tcp.length = 54 + 2000;
	take(&tcp, NEEDS_CHECKSUM | NEEDS_TSO4, 2, 54);
	tcp.length++;
	take(&tcp, NEEDS_CHECKSUM | NEEDS_TSO4, 3, 54);
}

/* The partial checksum of DHCP, in either direction, is for no receiver; nobody else's is. */
static void dhcp(void **state)
{
	static const struct {
		uint16_t from, to;
		bool dhcp;
	} cases[] = {
		{ 67, 68, true },     { 68, 67, true },     { 67, 9, true },
		{ 9, 68, true },      { 9, 67, true },      { 68, 9, true },
		{ 66, 69, false },    { 1000, 80, false },  { 0x4300, 1, false },
		{ 1, 0x4400, false }, { 0x0143, 1, false }, { 1, 0x0144, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t needs = cases[i].dhcp ? NEEDS_CHECKSUM | NEEDS_FILL : NEEDS_CHECKSUM;
		struct frame udp = make(UDP4), tcp = make(TCP4);

		packet_put16(udp.head + 34, cases[i].from);
		packet_put16(udp.head + 36, cases[i].to);
		packet_put16(tcp.head + 34, cases[i].from);
		packet_put16(tcp.head + 36, cases[i].to);
		/* One that is to be cut is no DHCP. */
		take(&udp, NEEDS_CHECKSUM | NEEDS_UFO, 10, 42);
		udp.vnet.gso_type = tcp.vnet.gso_type = VIRTIO_NET_HDR_GSO_NONE;
		take(&udp, needs, 1, 0);
		take(&tcp, NEEDS_CHECKSUM, 1, 0);
		/* It is the switch's wish: no sender must have negotiated it. */
		assert_int_equal(vnet_check(&udp, NEEDS_CHECKSUM), 0);
		assert_int_equal(udp.needs, needs);
		/* A whole checksum needs nothing. */
		udp.vnet.flags = 0;
		take(&udp, 0, 1, 0);
	}
	assert_int_equal(NEEDS_FILL & NEEDS_ALL, 0);
}

/* Ports that the head does not hold are not looked at. */
static void dhcp_behind_the_head(void **state)
{
	struct frame frame = make(UDP4);

	(void)state;
	frame.vnet.gso_type = VIRTIO_NET_HDR_GSO_NONE;
	memset(frame.head, 0, FRAME_HEAD_MAX);
	for (int i = 1; i < FRAME_HEAD_MAX; i += 2)
		frame.head[i] = 67;
	frame.vnet.csum_start = FRAME_HEAD_MAX - 4;
	take(&frame, NEEDS_CHECKSUM | NEEDS_FILL, 1, 0);
	frame.vnet.csum_start = FRAME_HEAD_MAX - 2;
	take(&frame, NEEDS_CHECKSUM, 1, 0);
	frame.vnet.csum_start = 9000;
	take(&frame, NEEDS_CHECKSUM, 1, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(segmentation),
		cmocka_unit_test(sizes_of_fragments),
		cmocka_unit_test(types),
		cmocka_unit_test(ecn),
		cmocka_unit_test(allowed),
		cmocka_unit_test(flags),
		cmocka_unit_test(checksum_bounds),
		cmocka_unit_test(inner_checksum),
		cmocka_unit_test(segmentation_checksum),
		cmocka_unit_test(segment_sizes),
		cmocka_unit_test(one_segment),
		cmocka_unit_test(tcp_headers),
		cmocka_unit_test(headers_behind_head),
		cmocka_unit_test(headers_across_head),
		cmocka_unit_test(not_whole_packets),
		cmocka_unit_test(tagged),
		cmocka_unit_test(what_is_cut),
		cmocka_unit_test(dhcp),
		cmocka_unit_test(dhcp_behind_the_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
