/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Events: what happens in the switch and an operator wants to hear of when it does. This header has
 * their kinds, for all who tell of one; control/events.h keeps them and says who gets them.
 *
 * Whoever tells of an event says its kind, the port that it is about, and fields of its own, which
 * are JSON values. Events are made on the control thread alone; workers never make any. What a
 * guest or its VMM can cause is held to a rate.
 */
#pragma once

#include <stdint.h>

enum event_kind {
	EVENT_PORT_UP,
	EVENT_PORT_DOWN,
	EVENT_PORT_REMOVED,
	EVENT_GUEST_CONNECTED,
	EVENT_GUEST_GONE,
	EVENT_GUEST_REFUSED,
	EVENT_GUEST_FEATURES,
	EVENT_ADDRESS_LEARNED,
	EVENT_ADDRESS_MOVED,
	EVENT_ADDRESS_REFUSED,
	EVENT_LIMIT_REACHED,
	EVENT_LIMIT_LEFT,
	EVENT_WORKER_STALLED,
	EVENT_WORKER_RESUMED,
	EVENT_CONFIG_CHANGED,
	EVENT_LEFT_OUT,
	EVENT_MISSED,
	EVENT_KINDS
};

/* The kinds whose names begin alike: "port.up", "port.down". */
enum event_family {
	EVENTS_PORT,
	EVENTS_GUEST,
	EVENTS_ADDRESS,
	EVENTS_LIMIT,
	EVENTS_WORKER,
	EVENTS_CONFIG,
	EVENTS_EVENT,
	EVENT_FAMILIES
};

struct event_row {
	const char *name; /* "port.up" */
	enum event_family family;
	const char *help;
};

extern const struct event_row event_rows[EVENT_KINDS];
extern const char *const event_family_names[EVENT_FAMILIES];

/*
 * The kinds that a name stands for, as a mask of 1 << kind: one ("port.up"), or those of a family
 * ("port"). 0: there is no such name. Thread-safe.
 */
uint32_t event_kinds_named(const char *name);

/* What became of events, for the metrics. w: control, r: anyone, with counter_read. */
struct event_counters {
	uint64_t told;     /* taken into the history */
	uint64_t left_out; /* not made, for a port had too many of them */
	uint64_t missed;   /* by a subscriber who was too slow for it; counted for each */
};
