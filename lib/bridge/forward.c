/* SPDX-License-Identifier: BSD-3-Clause */
/* Verdicts for a burst; bridge/forward.h is the contract. Works with fdb.c and nothing of ports. */
#include "bridge/forward.h"

#define MAC_GROUP 0x01

/* IEEE 802.1Q-2018, 8.6.3: 01:80:c2:00:00:00 to 0f are not forwarded by a bridge. */
static inline bool is_link_local(const uint8_t *mac)
{
	uint32_t start;

	memcpy(&start, mac, 4);
	return start == __builtin_bswap32(0x0180c200) && mac[4] == 0 && mac[5] <= 0x0f;
}

static inline bool is_zero(const uint8_t *mac)
{
	return (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) == 0;
}

static inline void stage_frame(struct forward *forward, struct frame *frame, uint16_t port)
{
	struct stage *stage = &forward->stages[port];

	if (stage->count == 0)
		forward->staged[forward->staged_count++] = port;
	stage->frames[stage->count++] = frame;
}

/* Checks what needs no table. Returns whether the frame goes on to the lookup. */
static inline bool frame_is_sound(struct frame *frame)
{
	const uint8_t *destination = frame->head;
	const uint8_t *source = frame->head + 6;

	if (frame->drop != DROP_NO_DESTINATION)
		return false; /* dropped already, for a reason of its own */
	if (frame->length < ETHERNET_HEADER) {
		frame_drop(frame, DROP_TOO_SHORT);
		return false;
	}
	if (source[0] & MAC_GROUP || is_zero(source)) {
		frame_drop(frame, DROP_BAD_SOURCE);
		return false;
	}
	if (destination[0] & MAC_GROUP && is_link_local(destination)) {
		frame_drop(frame, DROP_LINK_LOCAL);
		return false;
	}
	return true;
}

/* Sends a frame to all ports that are flooded but its own. Returns how many. */
static uint16_t flood(struct forward *forward, struct frame *frame)
{
	const struct forward_table *table = forward->table;
	uint16_t copies = 0;

	for (uint16_t i = 0; i < table->flood_count; i++) {
		if (table->flood[i] == frame->port)
			continue;
		stage_frame(forward, frame, table->flood[i]);
		copies++;
	}
	return copies;
}

static void decide(struct forward *forward, struct frame *frame, uint16_t port)
{
	if (port == FDB_NO_PORT || port >= forward->table->port_count ||
	    !forward->table->ports[port].present) {
		frame->verdict = VERDICT_FLOOD;
	} else if (port == frame->port) {
		frame_drop(frame, DROP_HAIRPIN);
	} else {
		frame->verdict = VERDICT_FORWARD;
		frame->destination = port;
	}
}

/* Adds the burst's verdicts to the ledger. */
static void count_verdicts(struct forward *forward, struct burst *burst,
			   struct rx_counters *counters)
{
	uint64_t bytes = 0, segments = 0, forwarded = 0, flooded = 0, copies = 0;

	for (uint16_t i = 0; i < burst->count; i++) {
		struct frame *frame = &burst->frames[i];

		bytes += frame->length;
		segments += frame->segments;
		if (frame->verdict == VERDICT_FORWARD) {
			stage_frame(forward, frame, frame->destination);
			forwarded++;
			continue;
		}
		if (frame->verdict == VERDICT_FLOOD) {
			uint16_t receivers = flood(forward, frame);

			copies += receivers;
			if (receivers > 0) {
				flooded++;
				continue;
			}
			frame_drop(frame, DROP_NO_DESTINATION);
		}
		counter_add(&counters->dropped[frame->drop], 1);
	}
	counter_add(&counters->packets, burst->count);
	counter_add(&counters->bytes, bytes);
	counter_add(&counters->segments, segments);
	counter_add(&counters->forwarded, forwarded);
	if (flooded > 0) {
		counter_add(&counters->flooded, flooded);
		counter_add(&counters->copies, copies);
	}
}

void forward_burst(struct forward *forward, struct burst *burst, uint16_t from,
		   struct rx_counters *counters)
{
	struct fdb *fdb = forward->table->fdb;
	fdb_key_t destinations[BURST_MAX], sources[BURST_MAX];
	fdb_key_t last_destination = 0, last_source = 0;
	uint16_t port = FDB_NO_PORT;

	for (uint16_t i = 0; i < burst->count; i++) {
		struct frame *frame = &burst->frames[i];

		frame->port = from;
		sources[i] = 0;
		destinations[i] = 0;
		if (!frame_is_sound(frame))
			continue;
		destinations[i] = fdb_key(frame->head, 0);
		sources[i] = fdb_key(frame->head + 6, 0);
		if (i > 0 && destinations[i] == destinations[i - 1])
			continue;
		fdb_prefetch(fdb, destinations[i]);
		fdb_prefetch(fdb, sources[i]);
	}
	for (uint16_t i = 0; i < burst->count; i++) {
		struct frame *frame = &burst->frames[i];

		if (sources[i] == 0)
			continue;
		/*
		 * Neighbours in a burst are mostly of one flow: then the last answer is theirs too.
		 */
		if (sources[i] != last_source) {
			last_source = sources[i];
			if (fdb_refresh(fdb, last_source, forward->now) != from)
				learner_post(forward->learner, last_source, from);
		}
		if (frame->head[0] & MAC_GROUP) {
			frame->verdict = VERDICT_FLOOD;
			continue;
		}
		if (destinations[i] != last_destination) {
			last_destination = destinations[i];
			port = fdb_lookup(fdb, last_destination);
		}
		decide(forward, frame, port);
	}
	count_verdicts(forward, burst, counters);
}
