/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge/neighbours.c: which requests are recognized and whom they are for, of every length, with
 * and without tags; and forward.c, which sends them there.
 */
#include "bridge/neighbours.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bridge/forward.h"
#include "packets.h"

#define HOST 0x525400000000
#define BROADCAST 0xffffffffffff

static const uint8_t ipv6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 7 };

static struct neighbour ipv4_neighbour(uint16_t vlan, uint16_t port, uint32_t address)
{
	struct neighbour neighbour = { vlan, port, { [10] = 0xff, [11] = 0xff } };

	packet_put32(neighbour.address + 12, address);
	return neighbour;
}

static struct neighbours *known(void)
{
	struct neighbour list[] = {
		ipv4_neighbour(10, 3, 0x0a000001), ipv4_neighbour(0, 1, 0x0a000001),
		ipv4_neighbour(0, 2, 0x0a000002),  ipv4_neighbour(0, 1, 0x0a000009),
		ipv4_neighbour(0, 2, 0x0a000009),  { 0, 2, { 0 } },
	};
	struct neighbours *neighbours;

	memcpy(list[5].address, ipv6, sizeof(ipv6));
	neighbours = neighbours_new(list, 6);
	assert_non_null(neighbours);
	/* One address behind two ports is behind none. */
	assert_int_equal(neighbours->count, 4);
	return neighbours;
}

static void finish(struct frame *frame, uint32_t length)
{
	frame_drop(frame, DROP_NO_DESTINATION);
	frame->segments = 1;
	frame->length = length;
	frame->head_length = (uint16_t)length;
}

static void arp(struct frame *frame, uint32_t sender, uint32_t target)
{
	static const uint8_t request[] = { 0, 1, 8, 0, 6, 4, 0, 1 };

	memset(frame, 0, sizeof(*frame));
	packet_ethernet(frame->head, BROADCAST, HOST + 9, 60);
	packet_put16(frame->head + 12, 0x0806);
	memcpy(frame->head + 14, request, sizeof(request));
	packet_put32(frame->head + 28, sender);
	packet_put32(frame->head + 38, target);
	finish(frame, 60);
}

static void solicitation(struct frame *frame)
{
	memset(frame, 0, sizeof(*frame));
	packet_ethernet(frame->head, 0x3333ff000007, HOST + 9, 86);
	packet_put16(frame->head + 12, 0x86dd);
	frame->head[14] = 0x60;
	frame->head[20] = 58;
	frame->head[21] = 255;
	frame->head[54] = 135;
	memcpy(frame->head + 62, ipv6, sizeof(ipv6));
	finish(frame, 86);
}

/* A tag in front of what is there. */
static void add_tag(struct frame *frame)
{
	memmove(frame->head + 16, frame->head + 12, 64);
	packet_put16(frame->head + 12, 0x8100);
	packet_put16(frame->head + 14, 10);
	frame->needs |= NEEDS_TAGGED;
	finish(frame, frame->length + 4);
}

/* One address of each family, a prefix, and (by itself) the link-local one of the MAC address. */
static struct guard *guard_of(enum guard_level level)
{
	static const struct guard_addresses addresses = {
		.mac_count = 1,
		.macs = { { 0x52, 0x54, 0, 0, 0, 1 } },
		.ip_count = 3,
		.ips = { { false, 32, { 10, 0, 0, 7 } },
			 { false, 24, { 10, 0, 1, 0 } },
			 { true, 128, { 0x20, 0x01, 0x0d, 0xb8, [15] = 7 } } },
	};
	struct guard *guard = guard_new(level, &addresses);

	assert_non_null(guard);
	return guard;
}

static void named_by_guards(void **state)
{
	static const uint8_t local[16] = { 0xfe, 0x80, [8] = 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 1 };
	struct forward_port ports[6] = {
		{ .present = true, .guard = guard_of(GUARD_ARP) },
		{ .present = true, .guard = guard_of(GUARD_IP),
		  .vlan = { .mode = VLAN_ACCESS, .native = 10 } },
		{ .present = true, .guard = guard_of(GUARD_MAC),
		  .vlan = { .mode = VLAN_ACCESS, .native = 11 } },
		{ .present = true, .guard = guard_of(GUARD_IP),
		  .vlan = { .mode = VLAN_ACCESS, .native = 12 } },
		{ .present = true, .guard = guard_of(GUARD_IP), .vlan = { .mode = VLAN_TRUNK } },
		{ .present = true, .vlan = { .mode = VLAN_ACCESS, .native = 13 } },
	};
	struct vlan_set vlans = { { 0 } };
	struct neighbours *neighbours;
	struct frame frame;

	(void)state;
	vlan_set_add(&vlans, 0, 11);
	vlan_set_add(&vlans, 13, 13);
	neighbours = neighbours_of_ports(ports, 6, &vlans);
	assert_non_null(neighbours);
	assert_int_equal(neighbours->count, 6);
	arp(&frame, 0x0a0000ff, 0x0a000007);
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), 0);
	assert_int_equal(neighbours_asked(neighbours, &frame, 10), 1);
	for (uint16_t vlan = 11; vlan < 14; vlan++)
		assert_int_equal(neighbours_asked(neighbours, &frame, vlan), FDB_NO_PORT);
	arp(&frame, 0x0a0000ff, 0x0a000101);
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), FDB_NO_PORT);
	solicitation(&frame);
	assert_int_equal(neighbours_asked(neighbours, &frame, 10), 1);
	memcpy(frame.head + 62, local, sizeof(local));
	assert_int_equal(neighbours_asked(neighbours, &frame, 10), 1);
	free(neighbours);
	for (int i = 0; i < 6; i++)
		guard_release(ports[i].guard);
}

static void requests(void **state)
{
	struct neighbours *neighbours = known();
	struct frame frame;

	(void)state;
	arp(&frame, 0x0a0000ff, 0x0a000001);
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), 1);
	assert_int_equal(neighbours_asked(neighbours, &frame, 10), 3);
	assert_int_equal(neighbours_asked(neighbours, &frame, 11), FDB_NO_PORT);
	/* A probe has no sender (RFC 5227). */
	arp(&frame, 0, 0x0a000002);
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), 2);
	arp(&frame, 0x0a000001, 0x0a000003);
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), FDB_NO_PORT);
	arp(&frame, 0x0a000001, 0x0a000009);
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), FDB_NO_PORT);
	/* An announcement, and a reply. */
	arp(&frame, 0x0a000001, 0x0a000001);
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), FDB_NO_PORT);
	arp(&frame, 0x0a0000ff, 0x0a000001);
	frame.head[21] = 2;
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), FDB_NO_PORT);

	solicitation(&frame);
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), 2);
	assert_int_equal(neighbours_asked(neighbours, &frame, 10), FDB_NO_PORT);
	frame.head[54] = 136;
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), FDB_NO_PORT);
	solicitation(&frame);
	frame.head[21] = 254; /* it came over a router */
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), FDB_NO_PORT);
	solicitation(&frame);
	frame.head[20] = 17;
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), FDB_NO_PORT);
	free(neighbours);
}

static void behind_tags(void **state)
{
	struct neighbours *neighbours = known();
	struct frame frame;

	(void)state;
	arp(&frame, 0x0a0000ff, 0x0a000001);
	add_tag(&frame);
	assert_int_equal(neighbours_asked(neighbours, &frame, 10), 3);
	/* To a transparent port the tag is payload. */
	assert_int_equal(neighbours_asked(neighbours, &frame, 0), FDB_NO_PORT);
	free(neighbours);
}

/* Nothing behind the head counts, wherever it ends. */
static void cut_off(void **state)
{
	struct neighbours *neighbours = known();
	struct frame frame;

	(void)state;
	for (uint32_t length = ETHERNET_HEADER; length <= 86; length++) {
		arp(&frame, 0x0a0000ff, 0x0a000001);
		finish(&frame, length);
		assert_int_equal(neighbours_asked(neighbours, &frame, 0),
				 length >= 42 ? 1 : FDB_NO_PORT);
		solicitation(&frame);
		finish(&frame, length);
		assert_int_equal(neighbours_asked(neighbours, &frame, 0),
				 length >= 78 ? 2 : FDB_NO_PORT);
	}
	free(neighbours);
}

static struct {
	struct forward forward;
	struct forward_table table;
	struct forward_port facts[3];
	struct flood_target flood[3];
	uint16_t staged[3];
	struct stage stages[3];
	struct learner learner;
	struct rx_counters counters;
} bridge;

/* Sends what asks for port 1 from port `from` of three. */
static void send_request(struct neighbours *neighbours, uint16_t from)
{
	struct burst *burst = burst_new();

	assert_non_null(burst);
	bridge.table = (struct forward_table){ .port_count = 3, .ports = bridge.facts,
					       .fdb = fdb_new(64, 300), .flood = bridge.flood,
					       .neighbours = neighbours };
	bridge.forward = (struct forward){ .table = &bridge.table, .learner = &bridge.learner,
					   .staged = bridge.staged, .stages = bridge.stages };
	for (uint16_t i = 0; i < 3; i++) {
		bridge.facts[i].present = true;
		bridge.facts[i].enabled = true;
		bridge.flood[i] = (struct flood_target){ i, 7, bridge.facts[i].isolated };
		bridge.stages[i].count = 0;
	}
	for (uint16_t vlan = 1; vlan <= VLAN_COUNT; vlan++)
		bridge.table.first[vlan] = 3;
	memset(&bridge.counters, 0, sizeof(bridge.counters));
	burst->count = 1;
	arp(&burst->frames[0], 0x0a0000ff, 0x0a000001);
	forward_burst(&bridge.forward, burst, from, &bridge.counters);
	assert_int_equal(bridge.counters.packets, 1);
	burst_free(burst);
	fdb_free(bridge.table.fdb);
}

static void goes_to_one(void **state)
{
	struct neighbours *neighbours = known();

	(void)state;
	send_request(neighbours, 0);
	assert_int_equal(bridge.stages[1].count, 1);
	assert_int_equal(bridge.stages[2].count, 0);
	assert_int_equal(bridge.counters.suppressed, 1);
	assert_int_equal(bridge.counters.forwarded, 1);
	/* The port itself may look for another that has its address. */
	send_request(neighbours, 1);
	assert_int_equal(bridge.stages[0].count + bridge.stages[2].count, 2);
	assert_int_equal(bridge.counters.suppressed, 0);
	assert_int_equal(bridge.counters.flooded, 1);
	/* What is kept apart stays apart. */
	bridge.facts[0].isolated = true;
	bridge.facts[1].isolated = true;
	send_request(neighbours, 0);
	assert_int_equal(bridge.stages[1].count, 0);
	assert_int_equal(bridge.counters.suppressed, 0);
	bridge.facts[0].isolated = false;
	bridge.facts[1].isolated = false;
	/* Without the wish all is flooded. */
	send_request(NULL, 0);
	assert_int_equal(bridge.stages[1].count + bridge.stages[2].count, 2);
	free(neighbours);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(named_by_guards),
		cmocka_unit_test(requests),
		cmocka_unit_test(behind_tags),
		cmocka_unit_test(cut_off),
		cmocka_unit_test(goes_to_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
