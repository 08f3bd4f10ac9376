/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Verdicts for a burst; bridge/forward.h is the contract. Works with fdb.c and nothing of ports.
 *
 * Neighbours in a burst are mostly of one flow, so a burst is worked on in runs of frames with the
 * same addresses: one lookup, one verdict.
 */
#include "bridge/forward.h"

#define MAC_GROUP 0x01

/* IEEE 802.1Q-2018, 8.6.3: 01:80:c2:00:00:00 to 0f are not forwarded by a bridge. */
static inline bool is_link_local(const uint8_t *mac)
{
	uint32_t start;

	memcpy(&start, mac, 4);
	return start == __builtin_bswap32(0x0180c200) && mac[4] == 0 && mac[5] <= 0x0f;
}

/* Frames in a row with the same addresses, or one that is a drop. */
struct run {
	uint16_t first, count;
	fdb_key_t source; /* 0: it is a drop */
	fdb_key_t destination;
};

/* What a burst adds to the ledger. */
struct tally {
	uint64_t bytes, segments, forwarded, flooded, copies;
};

/* Stages the frames of a run for a port, and adds them up. */
static inline void stage_run(struct forward *forward, struct frame *frames, uint16_t count,
			     uint16_t port, struct tally *tally)
{
	struct stage *stage = &forward->stages[port];
	struct frame **to = &stage->frames[stage->count];
	uint64_t bytes = 0, segments = 0;

	if (stage->count == 0)
		forward->staged[forward->staged_count++] = port;
	stage->count = (uint16_t)(stage->count + count);
	for (struct frame *frame = frames; frame < frames + count; frame++) {
		frame->verdict = VERDICT_FORWARD;
		frame->destination = port;
		bytes += frame->length;
		segments += frame->segments;
		*to++ = frame;
	}
	tally->bytes += bytes;
	tally->segments += segments;
	tally->forwarded += count;
}

/* Checks what needs no table. Returns whether the frame goes on to the lookup. */
static inline bool frame_is_sound(struct frame *frame)
{
	const uint8_t *destination = frame->head;
	const uint8_t *source = frame->head + 6;
	static const uint8_t zero[6];

	if (frame->drop != DROP_NO_DESTINATION)
		return false; /* dropped already, for a reason of its own */
	if (frame->length < ETHERNET_HEADER) {
		frame_drop(frame, DROP_TOO_SHORT);
		return false;
	}
	if (source[0] & MAC_GROUP || fdb_key(source, 0) == fdb_key(zero, 0)) {
		frame_drop(frame, DROP_BAD_SOURCE);
		return false;
	}
	if (destination[0] & MAC_GROUP && is_link_local(destination)) {
		frame_drop(frame, DROP_LINK_LOCAL);
		return false;
	}
	return true;
}

/* Both addresses, destination first, are 12 bytes. */
static inline bool same_addresses(const uint8_t *a, const uint8_t *b)
{
	uint64_t first[2];
	uint32_t rest[2];

	memcpy(&first[0], a, 8);
	memcpy(&first[1], b, 8);
	memcpy(&rest[0], a + 8, 4);
	memcpy(&rest[1], b + 8, 4);
	return first[0] == first[1] && rest[0] == rest[1];
}

/* Finds the runs of a burst and asks for their buckets. Returns how many there are. */
static uint16_t find_runs(const struct fdb *fdb, struct burst *burst, uint16_t from,
			  struct run *runs)
{
	struct frame *frame = burst->frames;
	struct run *run = NULL;
	uint16_t count = 0;

	for (uint16_t i = 0; i < burst->count; i++, frame++) {
		frame->port = from;
		if (run != NULL && run->source != 0 && frame->drop == DROP_NO_DESTINATION &&
		    frame->length >= ETHERNET_HEADER &&
		    same_addresses(frame->head, frame[-1].head)) {
			run->count++;
			continue;
		}
		run = &runs[count++];
		run->first = i;
		run->count = 1;
		run->source = 0;
		if (!frame_is_sound(frame))
			continue;
		run->destination = fdb_key(frame->head, 0);
		run->source = fdb_key(frame->head + 6, 0);
		fdb_prefetch(fdb, run->destination);
		fdb_prefetch(fdb, run->source);
	}
	return count;
}

/* Counts a frame that nobody gets. */
static void settle_drop(struct frame *frame, struct rx_counters *counters, struct tally *tally)
{
	tally->bytes += frame->length;
	tally->segments += frame->segments;
	counter_add(&counters->dropped[frame->drop], 1);
}

static void drop_run(struct frame *frames, uint16_t count, enum drop reason,
		     struct rx_counters *counters, struct tally *tally)
{
	for (uint16_t i = 0; i < count; i++) {
		frame_drop(&frames[i], reason);
		settle_drop(&frames[i], counters, tally);
	}
}

/* Sends a frame to all ports that are flooded but its own. Returns how many. */
static uint16_t flood(struct forward *forward, struct frame *frame)
{
	const struct forward_table *table = forward->table;
	uint16_t copies = 0;

	for (uint16_t i = 0; i < table->flood_count; i++) {
		struct stage *stage = &forward->stages[table->flood[i]];

		if (table->flood[i] == frame->port)
			continue;
		if (stage->count == 0)
			forward->staged[forward->staged_count++] = table->flood[i];
		stage->frames[stage->count++] = frame;
		copies++;
	}
	return copies;
}

static void flood_run(struct forward *forward, struct frame *frames, uint16_t count,
		      struct rx_counters *counters, struct tally *tally)
{
	for (uint16_t i = 0; i < count; i++) {
		struct frame *frame = &frames[i];
		uint16_t copies = flood(forward, frame);

		if (copies == 0) {
			drop_run(frame, 1, DROP_NO_DESTINATION, counters, tally);
			continue;
		}
		frame->verdict = VERDICT_FLOOD;
		tally->bytes += frame->length;
		tally->segments += frame->segments;
		tally->copies += copies;
		tally->flooded++;
	}
}

/* All frames of a run go to where the table says. */
static inline void forward_run(struct forward *forward, struct frame *frames, uint16_t count,
			       uint16_t port, struct rx_counters *counters, struct tally *tally)
{
	const struct forward_table *table = forward->table;

	/* FDB_NO_PORT and FDB_BLACKHOLE are greater than any number. */
	if (port < table->port_count && table->ports[port].present) {
		if (port == frames->port)
			drop_run(frames, count, DROP_HAIRPIN, counters, tally);
		else
			stage_run(forward, frames, count, port, tally);
	} else if (port == FDB_BLACKHOLE) {
		drop_run(frames, count, DROP_BLACKHOLE, counters, tally);
	} else {
		flood_run(forward, frames, count, counters, tally);
	}
}

/* Frames from a port that is switched off; those that are drops already keep their reason. */
static void disable_frames(struct burst *burst)
{
	for (uint16_t i = 0; i < burst->count; i++)
		if (burst->frames[i].drop == DROP_NO_DESTINATION)
			frame_drop(&burst->frames[i], DROP_DISABLED);
}

static void count_burst(struct rx_counters *counters, uint16_t packets, const struct tally *tally)
{
	counter_add(&counters->packets, packets);
	counter_add(&counters->bytes, tally->bytes);
	counter_add(&counters->segments, tally->segments);
	counter_add(&counters->forwarded, tally->forwarded);
	if (tally->flooded > 0) {
		counter_add(&counters->flooded, tally->flooded);
		counter_add(&counters->copies, tally->copies);
	}
}

void forward_burst(struct forward *forward, struct burst *burst, uint16_t from,
		   struct rx_counters *counters)
{
	struct fdb *fdb = forward->table->fdb;
	fdb_key_t last_destination = 0, last_source = 0;
	struct tally tally = { 0 };
	struct run runs[BURST_MAX];
	uint16_t port = FDB_NO_PORT;
	uint16_t count;

	if (!forward->table->ports[from].enabled)
		disable_frames(burst);
	count = find_runs(fdb, burst, from, runs);
	for (const struct run *run = runs; run < runs + count; run++) {
		struct frame *frames = &burst->frames[run->first];

		if (run->source == 0) {
			settle_drop(frames, counters, &tally);
			continue;
		}
		if (run->source != last_source) {
			last_source = run->source;
			if (fdb_refresh(fdb, last_source, forward->now) != from)
				learner_post(forward->learner, last_source, from);
		}
		if (frames->head[0] & MAC_GROUP) {
			flood_run(forward, frames, run->count, counters, &tally);
			continue;
		}
		if (run->destination != last_destination) {
			last_destination = run->destination;
			port = fdb_lookup(fdb, last_destination);
		}
		forward_run(forward, frames, run->count, port, counters, &tally);
	}
	count_burst(counters, burst->count, &tally);
}
