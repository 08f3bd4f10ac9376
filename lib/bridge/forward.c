/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Verdicts for a burst; bridge/forward.h is the contract. Works with fdb.c and nothing of ports.
 *
 * Neighbours in a burst are mostly of one flow, so a burst is worked on in runs of frames with the
 * same addresses: one lookup, one verdict.
 */
#include "bridge/forward.h"

#include <endian.h>

#include <rte_branch_prediction.h>

#define MAC_GROUP 0x01
#define LINK_LOCAL_PAUSE 0x01 /* the last byte of the group of PAUSE frames */

/* IEEE 802.1Q-2018, 8.6.3: 01:80:c2:00:00:00 to 0f are not forwarded by a bridge. */
static inline bool is_link_local(const uint8_t *mac)
{
	uint32_t start;

	memcpy(&start, mac, 4);
	return start == __builtin_bswap32(0x0180c200) && mac[4] == 0 && mac[5] <= 0x0f;
}

/* Frames in a row with the same addresses and VLAN, or one that is a drop. */
struct run {
	uint16_t first, count;
	uint16_t vlan;
	uint16_t tags;    /* of enum frame_needs, of each of them */
	bool gives_leave; /* frames that start the same need but a short look */
	fdb_key_t source; /* 0: it is a drop */
	fdb_key_t destination;
};

/* What a burst adds to the ledger. */
struct tally {
	uint64_t bytes, segments, forwarded, flooded, copies;
};

/* The port's stage, which may have been empty so far. */
static inline struct stage *open_stage(struct forward *forward, uint16_t port)
{
	struct stage *stage = &forward->stages[port];

	if (stage->count == 0) {
		forward->staged[forward->staged_count++] = port;
		stage->charge = (struct charge){ 0 };
	}
	return stage;
}

/* Stages the frames of a run for a port, and adds them up. */
static inline void stage_run(struct forward *forward, struct frame *frames, uint16_t count,
			     uint16_t port, struct tally *tally)
{
	struct stage *stage = open_stage(forward, port);
	struct frame **to = &stage->frames[stage->count];
	uint64_t bytes = 0, segments = 0;

	stage->count = (uint16_t)(stage->count + count);
	for (struct frame *frame = frames; frame < frames + count; frame++) {
		frame->verdict = VERDICT_FORWARD;
		frame->destination = port;
		bytes += frame->length;
		segments += frame->segments;
		*to++ = frame;
	}
	charge_add(&stage->charge, (struct charge){ bytes, segments });
	tally->bytes += bytes;
	tally->segments += segments;
	tally->forwarded += count;
}

/* Checks what the addresses tell without a table. Returns whether the frame goes on. */
static inline bool has_sound_addresses(const struct forward_port *port, struct frame *frame)
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
	if (destination[0] & MAC_GROUP && is_link_local(destination) &&
	    (!port->link_local || destination[5] == LINK_LOCAL_PAUSE)) {
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

/* The addresses, the type, and the byte behind them, in which IPv4 says how long its header is. */
static inline bool same_start(const uint8_t *a, const uint8_t *b)
{
	uint64_t first[2], rest[2];

	memcpy(&first[0], a, 8);
	memcpy(&first[1], b, 8);
	memcpy(&rest[0], a + 8, 8);
	memcpy(&rest[1], b + 8, 8);
	return first[0] == first[1] && ((rest[0] ^ rest[1]) & htobe64(~UINT64_C(0xff))) == 0;
}

/*
 * May a frame from the port pass, and in which VLAN? Of few frames must more be looked at than was
 * copied aside at first: router advertisements are long.
 */
static bool has_leave(const struct forward_port *port, struct frame *frame)
{
	const struct guard *guard = port->guard;

	frame->vlan = 0;
	if (unlikely(guard != NULL && !guard_admits(guard, frame) &&
		     !(frame_extend_head(frame) && guard_admits(guard, frame)))) {
		frame_drop(frame, DROP_GUARD);
		return false;
	}
	return port->vlan.mode == VLAN_TRANSPARENT || vlan_enter(&port->vlan, frame);
}

/* Does leave for this frame, the first of a run, go for others that start the same? */
static bool gives_leave(const struct forward_port *port, const struct frame *frame)
{
	const struct guard *guard = port->guard;

	/* Behind a tag there may be anything. */
	return !(frame->needs & NEEDS_TAGGED) &&
	       (guard == NULL || guard->level == GUARD_MAC || guard_is_usual(guard, frame));
}

/* May a frame that starts as the run's first one pass like that? No: it must be asked by itself. */
static inline bool shares_leave(const struct guard *guard, const struct run *run,
				struct frame *frame)
{
	if ((guard != NULL && !guard_is_usual_source(guard, frame)) ||
	    !vlan_has_movable_checksum(frame, ETHERNET_HEADER))
		return false;
	frame->vlan = run->vlan;
	frame->needs |= run->tags;
	return true;
}

/*
 * Finds the runs of a burst and asks for their buckets. Returns how many there are. `lawful`: the
 * port has a guard or VLANs.
 */
static inline __attribute__((always_inline)) uint16_t
find_runs_of(const struct forward_table *table, struct burst *burst, uint16_t from,
	     struct run *runs, const bool lawful)
{
	const struct forward_port *port = &table->ports[from];
	/* Of the level mac nothing is to be asked that the addresses do not tell. */
	const bool asks = lawful && port->guard != NULL && port->guard->level > GUARD_MAC;
	const struct guard *guard = asks ? port->guard : NULL;
	struct run none = { .source = 0 }, *run = &none, *next = runs;
	struct frame *const end = burst->frames + burst->count;

	for (struct frame *frame = burst->frames; frame < end; frame++) {
		frame->port = from;
		if (frame->drop == DROP_NO_DESTINATION && frame->length >= ETHERNET_HEADER &&
		    (lawful ? run->gives_leave && same_start(frame->head, frame[-1].head) &&
				      shares_leave(guard, run, frame)
			    : run->source != 0 &&
				      same_addresses(frame->head, frame[-1].head))) {
			run->count++;
			continue;
		}
		run = next++;
		run->first = (uint16_t)(frame - burst->frames);
		run->count = 1;
		run->source = 0;
		run->gives_leave = false;
		if (!has_sound_addresses(port, frame) || (lawful && !has_leave(port, frame)))
			continue;
		run->vlan = 0;
		if (lawful) {
			run->vlan = frame->vlan;
			run->tags = frame->needs & NEEDS_TAGS;
			run->gives_leave = gives_leave(port, frame);
		}
		run->destination = fdb_key(frame->head, run->vlan);
		run->source = fdb_key(frame->head + 6, run->vlan);
		fdb_prefetch(table->fdb, run->destination);
		fdb_prefetch(table->fdb, run->source);
	}
	return (uint16_t)(next - runs);
}

/* Compiled twice, so that a port without guard and VLANs pays for neither. */
static inline uint16_t find_runs(const struct forward_table *table, struct burst *burst,
				 uint16_t from, struct run *runs)
{
	const struct forward_port *port = &table->ports[from];

	if (likely(port->guard == NULL && port->vlan.mode == VLAN_TRANSPARENT))
		return find_runs_of(table, burst, from, runs, false);
	return find_runs_of(table, burst, from, runs, true);
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

/* A run that is flooded. */
struct flooding {
	uint16_t from;
	bool isolated;   /* the port that it came from is */
	uint16_t vlan;
	uint8_t class;   /* the bit of its enum flood_class */
	enum drop alone; /* why, if nobody gets it */
};

/* Stages the frame for one port, or notes why not. Returns how many copies that made. */
static inline uint16_t flood_to(struct forward *forward, struct frame *frame,
				const struct flood_target *target, struct flooding *flooding)
{
	struct stage *stage;

	if (target->port == flooding->from)
		return 0;
	if (unlikely(!(target->classes & flooding->class))) {
		flooding->alone = flooding->class == 1 << FLOOD_LINK_LOCAL ? DROP_LINK_LOCAL
									   : DROP_FLOOD_OFF;
		return 0;
	}
	if (unlikely(target->isolated && flooding->isolated)) {
		flooding->alone = DROP_ISOLATED;
		return 0;
	}
	stage = open_stage(forward, target->port);
	stage->frames[stage->count++] = frame;
	charge_add(&stage->charge, (struct charge){ frame->length, frame->segments });
	return 1;
}

/* Sends a frame to all ports of its VLAN that take it, but its own. Returns how many. */
static uint16_t flood(struct forward *forward, struct frame *frame, struct flooding *flooding)
{
	const struct forward_table *table = forward->table;
	const uint16_t vlan = flooding->vlan;
	uint16_t copies = 0;

	for (uint16_t i = table->first[vlan]; i < table->first[vlan + 1]; i++)
		copies = (uint16_t)(copies +
				    flood_to(forward, frame, &table->flood[i], flooding));
	for (uint16_t i = 0; i < table->trunk_count && vlan != 0; i++)
		if (vlan_set_has(table->ports[table->trunks[i].port].vlan.trunk, vlan))
			copies = (uint16_t)(copies + flood_to(forward, frame, &table->trunks[i],
							      flooding));
	return copies;
}

static enum flood_class class_of(const struct frame *frame)
{
	static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	if (!(frame->head[0] & MAC_GROUP))
		return FLOOD_UNKNOWN;
	if (memcmp(frame->head, broadcast, sizeof(broadcast)) == 0)
		return FLOOD_BROADCAST;
	return is_link_local(frame->head) ? FLOOD_LINK_LOCAL : FLOOD_MULTICAST;
}

/* Drops the frames of a run that a storm limit does not let pass. */
static void calm_storm(struct limiter *limiter, struct frame *frames, uint16_t count)
{
	uint64_t wanted = 0, used = 0;
	struct limit_grant grant;

	for (uint16_t i = 0; i < count; i++)
		wanted += frames[i].segments;
	grant = limiter_take(limiter, limiter_now(), wanted);
	for (uint16_t i = 0; i < count; i++) {
		/* As with other limits, a first one passes a bucket that is too small for it. */
		if (used + frames[i].segments <= grant.tokens || (used == 0 && grant.tokens > 0))
			used += frames[i].segments;
		else
			frame_drop(&frames[i], DROP_STORM);
	}
	limiter_settle(limiter, grant, used);
}

/* Sends a request for the address of a known neighbour to that one alone. False: it is none. */
static bool ask_neighbour(struct forward *forward, struct frame *frame,
			  const struct flooding *flooding, struct rx_counters *counters,
			  struct tally *tally)
{
	const struct forward_table *table = forward->table;
	const uint16_t port = neighbours_asked(table->neighbours, frame, flooding->vlan);

	if (port == FDB_NO_PORT || port == flooding->from ||
	    (table->ports[port].isolated && flooding->isolated))
		return false;
	stage_run(forward, frame, 1, port, tally);
	counter_add(&counters->suppressed, 1);
	return true;
}

static void flood_run(struct forward *forward, struct frame *frames, const struct run *run,
		      struct rx_counters *counters, struct tally *tally)
{
	const struct forward_table *table = forward->table;
	const struct forward_port *port = &table->ports[frames->port];
	const enum flood_class class = class_of(frames);
	/* Those of link-local groups count as multicast. */
	const unsigned int storm = class < STORM_CLASSES ? class : FLOOD_MULTICAST;

	if (unlikely(port->storm != NULL && limiter_is_on(&port->storm[storm])))
		calm_storm(&port->storm[storm], frames, run->count);
	for (uint16_t i = 0; i < run->count; i++) {
		struct flooding flooding = { frames->port, port->isolated, run->vlan,
					     (uint8_t)(1 << class), DROP_NO_DESTINATION };
		struct frame *frame = &frames[i];
		uint16_t copies = 0;

		if (likely(frame->drop == DROP_NO_DESTINATION)) {
			if (unlikely(table->neighbours != NULL && class != FLOOD_UNKNOWN) &&
			    ask_neighbour(forward, frame, &flooding, counters, tally))
				continue;
			copies = flood(forward, frame, &flooding);
			if (copies == 0)
				frame_drop(frame, flooding.alone);
		}
		if (copies == 0) {
			settle_drop(frame, counters, tally);
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
static inline void forward_run(struct forward *forward, struct frame *frames, const struct run *run,
			       uint16_t port, struct rx_counters *counters, struct tally *tally)
{
	const struct forward_table *table = forward->table;
	const struct forward_port *to = &table->ports[port];

	/* FDB_NO_PORT and FDB_BLACKHOLE are greater than any number. */
	if (likely(port < table->port_count && to->present &&
		   vlan_is_member(&to->vlan, run->vlan))) {
		if (unlikely(port == frames->port))
			drop_run(frames, run->count, DROP_HAIRPIN, counters, tally);
		else if (unlikely(to->isolated && table->ports[frames->port].isolated))
			drop_run(frames, run->count, DROP_ISOLATED, counters, tally);
		else
			stage_run(forward, frames, run->count, port, tally);
	} else if (port == FDB_BLACKHOLE) {
		drop_run(frames, run->count, DROP_BLACKHOLE, counters, tally);
	} else {
		flood_run(forward, frames, run, counters, tally);
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
	const struct forward_port *facts = &forward->table->ports[from];
	struct fdb *fdb = forward->table->fdb;
	fdb_key_t last_destination = 0, last_source = 0;
	struct tally tally = { 0 };
	struct run runs[BURST_MAX];
	uint16_t port = FDB_NO_PORT;
	uint16_t count;

	if (unlikely(!facts->enabled))
		disable_frames(burst);
	count = find_runs(forward->table, burst, from, runs);
	for (const struct run *run = runs; run < runs + count; run++) {
		struct frame *frames = &burst->frames[run->first];

		if (run->source == 0) {
			settle_drop(frames, counters, &tally);
			continue;
		}
		if (run->source != last_source && likely(facts->learning)) {
			last_source = run->source;
			if (fdb_refresh(fdb, last_source, forward->now) != from)
				learner_post(forward->learner, last_source, from);
		}
		if (frames->head[0] & MAC_GROUP) {
			flood_run(forward, frames, run, counters, &tally);
			continue;
		}
		if (run->destination != last_destination) {
			last_destination = run->destination;
			port = fdb_lookup(fdb, last_destination);
		}
		forward_run(forward, frames, run, port, counters, &tally);
	}
	count_burst(counters, burst->count, &tally);
}
