/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The history of events, and those who read it.
 *
 * The history is a ring of bounded length and size; each event has a sequence number, from 1 on,
 * and is kept as the text that its readers are sent, so that it is put into words once for all of
 * them. A reader is a place in the history and a filter. One that is slow falls behind, and what
 * leaves the history before it has come there is counted as missed, if it would have been given it.
 * So readers need no memory of their own, and cost nothing as long as they do not read.
 *
 *     events_tell(events, EVENT_PORT_DOWN, "vm1", json_pack("{s:s}", "reason", reason));
 *     while ((text = events_read(&reader, &size)) != NULL)
 *         send(text, size);
 *
 * A text is a JSON-RPC notification and ends with a newline:
 *
 *     {"jsonrpc": "2.0", "method": "event", "params": {"sequence": 7, "time": "2026-01-31T...Z",
 *      "monotonic_ms": 4711, "kind": "port.down", "port": "vm1", "reason": "..."}}
 *
 * Control thread, all of it.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/event.h"

/* The history holds the last events, as long as neither is exceeded. */
#define EVENTS_MAX 4096
#define EVENTS_BYTES_MAX ((size_t)1 << 20)

#define EVENT_PORT_SIZE 64    /* of a port's name with its NUL */
#define EVENT_HISTORY_SIZE 17 /* of a history's name with its NUL */

struct events;

struct event_filter {
	uint32_t kinds;       /* 1 << kind; 0: all */
	const json_t *ports;  /* an object with these names as keys; NULL: all, and of no port */
};

struct event_reader {
	/* Set by the owner, and valid as long as it reads. */
	struct event_filter filter;
	void (*ready)(struct event_reader *reader); /* there is something to be read */

	/* Kept by this module. */
	struct events *events; /* NULL: does not read */
	uint64_t next;         /* the sequence number that is looked at next */
	uint64_t missed;       /* and not told yet */
	char note[192];        /* the text that tells of these */
	LIST_ENTRY(event_reader) link;
};

/* Returns NULL without memory. */
struct events *events_new(void);

/* Readers must have ended. NULL is fine. */
void events_free(struct events *events);

/* Names this history: no other, of this daemon or one before it, has the same. */
const char *events_history(const struct events *events);

/* The number of the last event; 0: there was none yet. And of the first one that is kept. */
uint64_t events_sequence(const struct events *events);
uint64_t events_oldest(const struct events *events);

const struct event_counters *events_counters(const struct events *events);

/*
 * Takes an event in and has those readers called who are to get it. port: NULL for none. `fields`
 * is taken over; NULL: none.
 */
void events_tell(struct events *events, enum event_kind kind, const char *port, json_t *fields);

/* So many events were not made. */
void events_left_out(struct events *events, uint64_t count);

/*
 * Begins to read, behind the event of this sequence number; what is kept of those that follow
 * comes at once. Returns how many are not kept any more, whatever their kind.
 */
uint64_t event_reader_begin(struct event_reader *reader, struct events *events, uint64_t since);

/* One that does not read is fine. */
void event_reader_end(struct event_reader *reader);

/* The next text, valid until events_tell or the next call; NULL: there is none for now. */
const char *event_reader_next(struct event_reader *reader, size_t *size);
