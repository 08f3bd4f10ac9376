/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The observer: makes events of what the control thread is told of and of what it sees for itself.
 *
 * Each port is looked at once a second, and at once when its type says that something may have
 * changed: is it up, does a limit hold it? Workers are looked at every tick. What happens at a
 * port is held to a rate, one for each family of events: 32 at once and 4 a second; an event says
 * how many were left out. Of states (up or down, held or not) nothing is lost thereby: what was
 * not told is told a second later, if it is so still.
 *
 * Control thread, all of it.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/event.h"

struct control;
struct control_port;
struct port;
struct fdb_news;

/* Families whose events a port's other side can cause: the first ones. */
#define OBSERVER_FAMILIES (EVENTS_LIMIT + 1)

/* What was told of a limit in one direction. */
struct observed_limit {
	uint64_t seen; /* what the limit had done when it was looked at last */
	bool held;
};

/* What was told of a port. */
struct observed_port {
	bool known, up;
	struct observed_limit limits[2]; /* into the switch, out of it */
	uint32_t made[OBSERVER_FAMILIES]; /* events that are not worked off yet */
	uint32_t left_out[OBSERVER_FAMILIES];
};

struct observed_worker {
	bool stalled;
	uint64_t since_ms; /* CLOCK_MONOTONIC */
};

/* Every tick, 10 ms. */
void observer_tick(struct control *control);

/* A port's type has an event of its other side. `fields` is taken over. */
void observer_tell(struct control_port *slot, enum event_kind kind, json_t *fields);

/* The port may have gone up or down. */
void observer_look(struct control_port *slot);

/* The port leaves its slot. */
void observer_removed(struct control_port *slot);

/* As fdb->tell; argument is the control. */
void observer_address(void *argument, const struct fdb_news *news);

/*
 * What runs has changed by this method ("SIGHUP" for one) of this process and user; port NULL: not
 * of one port alone; pid 0: of nobody but the switch itself.
 */
void observer_changed(struct control *control, const char *method, const char *port, int pid,
		      unsigned int uid);
