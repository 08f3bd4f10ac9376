/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Forwarding by itself: a table of eight ports, bursts of frames, and the stages that they end in.
 * Each burst is checked to balance. Include after cmocka.h.
 */
#pragma once

#include <stdlib.h>

#include "bridge/forward.h"

#include "keys.h"

#define PORTS 8
#define BROADCAST 0xffffffffffff

/* Port 5 is a free number; all others are there and are flooded. */
struct fixture {
	struct forward forward;
	struct forward_table table;
	struct forward_port facts[PORTS];
	struct flood_target flood[PORTS], trunks[PORTS];
	uint8_t refuses[PORTS]; /* bits, by enum flood_class, of what is not flooded there */
	uint16_t staged[PORTS];
	struct stage stages[PORTS];
	struct rx_counters counters;
	struct fdb *fdb;
	struct learner *learner;
	struct burst *burst;
};

/* Has the table flood to all ports that there are, as the facts say. */
static inline void arrange(struct fixture *fixture)
{
	struct forward_table *table = &fixture->table;
	uint16_t count = 0;

	memset(fixture->flood, 0, sizeof(fixture->flood));
	memset(fixture->trunks, 0, sizeof(fixture->trunks));
	table->trunk_count = 0;
	for (uint16_t vlan = 0; vlan < VLAN_COUNT; vlan++) {
		table->first[vlan] = count;
		for (uint16_t i = 0; i < PORTS; i++) {
			const struct forward_port *port = &fixture->facts[i];
			const uint8_t classes = (uint8_t)((7 & ~fixture->refuses[i]) |
							  port->link_local << FLOOD_LINK_LOCAL);
			const struct flood_target target = { i, classes, port->isolated };

			if (!port->present || port->vlan.native != vlan)
				continue;
			if (port->vlan.trunk != NULL)
				fixture->trunks[table->trunk_count++] = target;
			else
				fixture->flood[count++] = target;
		}
	}
	table->first[VLAN_COUNT] = count;
}

static inline int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (fixture == NULL)
		return -1;
	fixture->fdb = fdb_new(64, 300);
	fixture->learner = aligned_alloc(64, sizeof(*fixture->learner));
	fixture->burst = burst_new();
	if (fixture->fdb == NULL || fixture->learner == NULL || fixture->burst == NULL)
		return -1;
	memset(fixture->learner, 0, sizeof(*fixture->learner));
	fixture->table = (struct forward_table){ .port_count = PORTS,
						 .ports = fixture->facts,
						 .fdb = fixture->fdb,
						 .flood = fixture->flood,
						 .trunks = fixture->trunks };
	for (uint16_t i = 0; i < PORTS; i++)
		if (i != 5)
			fixture->facts[i] = (struct forward_port){ .present = true,
								   .enabled = true,
								   .learning = true };
	arrange(fixture);
	fixture->forward = (struct forward){ .table = &fixture->table, .learner = fixture->learner,
					     .staged = fixture->staged, .stages = fixture->stages };
	*state = fixture;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *fixture = *state;

	fdb_free(fixture->fdb);
	free(fixture->learner);
	burst_free(fixture->burst);
	free(fixture);
	return 0;
}

static inline uint64_t host(uint16_t number)
{
	return 0x525400000000 + number;
}

/* Adds a frame to the burst as a port type would, 60 bytes of it. */
static inline struct frame *add(struct fixture *fixture, uint64_t to, uint64_t from)
{
	struct frame *frame = &fixture->burst->frames[fixture->burst->count++];

	memset(frame, 0, sizeof(*frame));
	frame_drop(frame, DROP_NO_DESTINATION);
	frame->segments = 1;
	frame->length = 60;
	frame->head_length = 60;
	packet_ethernet(frame->head, to, from, 60);
	return frame;
}

static inline uint64_t dropped(const struct fixture *fixture)
{
	uint64_t sum = 0;

	for (int i = 0; i < DROP_COUNT; i++)
		sum += fixture->counters.dropped[i];
	return sum;
}

/* The sum that a stage has of its frames. */
static inline void check_charge(const struct stage *stage)
{
	uint64_t bytes = 0, packets = 0;

	for (uint16_t i = 0; i < stage->count; i++) {
		bytes += stage->frames[i]->length;
		packets += stage->frames[i]->segments;
	}
	assert_int_equal(stage->charge.bytes, bytes);
	assert_int_equal(stage->charge.packets, packets);
}

/* Forwards the burst and checks what must be true of any. */
static inline void forward(struct fixture *fixture, uint16_t from)
{
	const struct rx_counters *counters = &fixture->counters;
	const struct rx_counters before = *counters;
	uint64_t bytes = 0, staged = 0;

	for (uint16_t i = 0; i < fixture->burst->count; i++)
		bytes += fixture->burst->frames[i].length;
	forward_burst(&fixture->forward, fixture->burst, from, &fixture->counters);
	assert_int_equal(counters->packets - before.packets, fixture->burst->count);
	assert_int_equal(counters->bytes - before.bytes, bytes);
	assert_int_equal(counters->packets,
			 counters->forwarded + counters->flooded + dropped(fixture));
	for (uint16_t i = 0; i < fixture->forward.staged_count; i++) {
		assert_true(fixture->stages[fixture->staged[i]].count > 0);
		assert_int_not_equal(fixture->staged[i], from);
		assert_int_not_equal(fixture->staged[i], 5);
		check_charge(&fixture->stages[fixture->staged[i]]);
		for (uint16_t j = 0; j < i; j++)
			assert_int_not_equal(fixture->staged[i], fixture->staged[j]);
	}
	for (uint16_t i = 0; i < PORTS; i++)
		staged += fixture->stages[i].count;
	assert_int_equal(staged, counters->forwarded - before.forwarded + counters->copies -
				 before.copies);
}

/* What egress does once the stages have been looked at. */
static inline void next_burst(struct fixture *fixture)
{
	for (uint16_t i = 0; i < PORTS; i++)
		fixture->stages[i].count = 0;
	fixture->forward.staged_count = 0;
	burst_reset(fixture->burst);
}

static inline void check_dropped(struct fixture *fixture, const struct frame *frame,
				 enum drop reason)
{
	assert_int_equal(frame->verdict, VERDICT_DROP);
	assert_int_equal(frame->drop, reason);
	assert_int_equal(fixture->counters.dropped[reason], 1);
	assert_int_equal(dropped(fixture), 1);
	assert_int_equal(fixture->forward.staged_count, 0);
}

/* A test with a rig of its own. */
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
