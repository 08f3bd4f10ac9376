/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring of events and its readers; control/events.h is the contract. */
#include "control/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/units.h"
#include "sync/counter.h"

struct event {
	uint32_t kinds;             /* 1 << kind; whoever wants one of them gets it */
	char port[EVENT_PORT_SIZE]; /* "": none */
	char *text;
	size_t size;
};

struct events {
	char history[EVENT_HISTORY_SIZE];
	uint64_t oldest, next; /* sequence numbers; what is kept is from oldest to next - 1 */
	size_t bytes;          /* of all texts */
	struct event_counters counters;
	LIST_HEAD(, event_reader) readers;
	struct event ring[EVENTS_MAX];
};

static struct event *event_at(struct events *events, uint64_t sequence)
{
	return &events->ring[sequence % EVENTS_MAX];
}

struct events *events_new(void)
{
	struct events *events = calloc(1, sizeof(*events));
	uint64_t name;

	if (events == NULL)
		return NULL;
	if (getrandom(&name, sizeof(name), 0) != sizeof(name))
		name = (uint64_t)time(NULL) << 32 | (uint32_t)getpid();
	snprintf(events->history, sizeof(events->history), "%016llx", (unsigned long long)name);
	events->oldest = 1;
	events->next = 1;
	LIST_INIT(&events->readers);
	return events;
}

void events_free(struct events *events)
{
	if (events == NULL)
		return;
	for (; events->oldest < events->next; events->oldest++)
		free(event_at(events, events->oldest)->text);
	free(events);
}

const char *events_history(const struct events *events)
{
	return events->history;
}

uint64_t events_sequence(const struct events *events)
{
	return events->next - 1;
}

uint64_t events_oldest(const struct events *events)
{
	return events->oldest;
}

const struct event_counters *events_counters(const struct events *events)
{
	return &events->counters;
}

static bool is_wanted(const struct event_reader *reader, const struct event *event)
{
	const struct event_filter *filter = &reader->filter;

	if (filter->kinds != 0 && (filter->kinds & event->kinds) == 0)
		return false;
	return filter->ports == NULL || json_object_get(filter->ports, event->port) != NULL;
}

/* The oldest event leaves; it is missed by those who wanted it and have not come there. */
static void forget_oldest(struct events *events)
{
	struct event *event = event_at(events, events->oldest);
	struct event_reader *reader;

	LIST_FOREACH(reader, &events->readers, link) {
		if (reader->next != events->oldest)
			continue;
		reader->next++;
		if (!is_wanted(reader, event))
			continue;
		reader->missed++;
		counter_add(&events->counters.missed, 1);
	}
	events->bytes -= event->size;
	free(event->text);
	event->text = NULL;
	events->oldest++;
}

/* RFC 3339, in UTC, with milliseconds. */
static void format_now(char *text, size_t size)
{
	struct timespec now;
	struct tm parts;
	size_t used;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	used = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(text + used, size - used, ".%03ldZ", now.tv_nsec / 1000000);
}

static json_int_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A new text that ends with a newline; NULL without memory. */
static char *put_into_words(uint64_t sequence, enum event_kind kind, const char *port,
			    json_t *fields, size_t *size)
{
	char time[40], *text;
	json_t *params, *whole;

	format_now(time, sizeof(time));
	params = json_pack("{s:I, s:s, s:I, s:s, s:s*}", "sequence", (json_int_t)sequence, "time",
			   time, "monotonic_ms", monotonic_ms(), "kind", event_rows[kind].name,
			   "port", port);
	if (fields != NULL)
		json_object_update(params, fields);
	whole = json_pack("{s:s, s:s, s:o}", "jsonrpc", "2.0", "method", "event", "params", params);
	text = json_dumps(whole, JSON_COMPACT);
	json_decref(whole);
	if (text == NULL)
		return NULL;
	/* The size is known, so a newline can have the place of the NUL. */
	*size = strlen(text) + 1;
	text[*size - 1] = '\n';
	return text;
}

/* Whoever wants some kinds also wants to know that there were more of them. */
static uint32_t kinds_of(enum event_kind kind, const json_t *fields)
{
	const char *more = json_string_value(json_object_get(fields, "kinds"));

	return 1u << kind |
	       (kind == EVENT_LEFT_OUT && more != NULL ? event_kinds_named(more) : 0);
}

static void call_readers(struct events *events, const struct event *event)
{
	struct event_reader *reader, *following;

	for (reader = LIST_FIRST(&events->readers); reader != NULL; reader = following) {
		/* One that cannot be sent anything any more may end in there. */
		following = LIST_NEXT(reader, link);
		if (is_wanted(reader, event))
			reader->ready(reader);
	}
}

void events_tell(struct events *events, enum event_kind kind, const char *port, json_t *fields)
{
	const uint32_t kinds = kinds_of(kind, fields);
	struct event *event;
	size_t size = 0;
	char *text = put_into_words(events->next, kind, port, fields, &size);

	json_decref(fields);
	if (text == NULL) {
		LOG_LIMITED(LOG_ERROR, "events", "an event could not be put into words");
		return;
	}
	while (events->next - events->oldest == EVENTS_MAX ||
	       (events->oldest < events->next && events->bytes + size > EVENTS_BYTES_MAX))
		forget_oldest(events);
	event = event_at(events, events->next);
	event->kinds = kinds;
	text_copy(event->port, sizeof(event->port), port != NULL ? port : "");
	event->text = text;
	event->size = size;
	events->bytes += size;
	events->next++;
	counter_add(&events->counters.told, 1);
	call_readers(events, event);
}

void events_left_out(struct events *events, uint64_t count)
{
	counter_add(&events->counters.left_out, count);
}

uint64_t event_reader_begin(struct event_reader *reader, struct events *events, uint64_t since)
{
	uint64_t gone = since + 1 < events->oldest ? events->oldest - since - 1 : 0;

	event_reader_end(reader);
	reader->events = events;
	reader->missed = 0;
	reader->next = since + 1 + gone < events->next ? since + 1 + gone : events->next;
	LIST_INSERT_HEAD(&events->readers, reader, link);
	return gone;
}

void event_reader_end(struct event_reader *reader)
{
	if (reader->events != NULL)
		LIST_REMOVE(reader, link);
	reader->events = NULL;
}

static const char *tell_missed(struct event_reader *reader, size_t *size)
{
	int length = snprintf(reader->note, sizeof(reader->note),
			      "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{"
			      "\"sequence\":%llu,\"kind\":\"%s\",\"missed\":%llu}}\n",
			      (unsigned long long)reader->next - 1, event_rows[EVENT_MISSED].name,
			      (unsigned long long)reader->missed);

	reader->missed = 0;
	*size = (size_t)length;
	return reader->note;
}

const char *event_reader_next(struct event_reader *reader, size_t *size)
{
	struct events *events = reader->events;

	if (events == NULL)
		return NULL;
	if (reader->missed > 0)
		return tell_missed(reader, size);
	while (reader->next < events->next) {
		const struct event *event = event_at(events, reader->next++);

		if (is_wanted(reader, event)) {
			*size = event->size;
			return event->text;
		}
	}
	return NULL;
}
