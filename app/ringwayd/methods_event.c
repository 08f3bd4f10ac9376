/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * event.subscribe: a reader of the history (control/events.h) whose texts are the feed of a
 * connection (rpc/server.h). A connection has one; to subscribe again replaces it.
 */
#include "methods.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/events.h"
#include "rpc/server.h"

#define ACCEPTED_KINDS                                                                             \
	"a family (port, guest, address, limit, worker, config, event) or a kind of one"

struct subscription {
	struct rpc_feed feed; /* the first member */
	struct event_reader reader;
	json_t *ports;
};

struct subscribe_wish {
	json_t *since, *kinds, *ports;
	char history[EVENT_HISTORY_SIZE];
};

static json_t *describe_since(void)
{
	return json_pack("{s:s, s:i}", "type", "integer", "minimum", 0);
}

static json_t *describe_kinds(void)
{
	json_t *names = json_array();

	for (unsigned int family = 0; family < EVENT_FAMILIES; family++)
		json_array_append_new(names, json_string(event_family_names[family]));
	for (unsigned int kind = 0; kind < EVENT_KINDS; kind++)
		json_array_append_new(names, json_string(event_rows[kind].name));
	return json_pack("{s:s, s:{s:s, s:o}}", "type", "array", "items", "type", "string", "enum",
			 names);
}

static json_t *describe_ports(void)
{
	return json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "string");
}

static const struct param subscribe_params[] = {
	{ "since", PARAM_JSON, PARAM_AT(struct subscribe_wish, since), .json_kind = JSON_INTEGER,
	  .schema = describe_since,
	  .help = "begins behind the event of this sequence number (0: with the oldest that is "
		  "kept); by default with what happens from now on" },
	{ "history", PARAM_STRING, PARAM_AT(struct subscribe_wish, history),
	  .help = "the history that `since` counts in, as an earlier answer named it; if this is "
		  "another one by now all of that comes" },
	{ "kinds", PARAM_JSON, PARAM_AT(struct subscribe_wish, kinds), .json_kind = JSON_ARRAY,
	  .schema = describe_kinds, .help = "only these kinds or families of them" },
	{ "ports", PARAM_JSON, PARAM_AT(struct subscribe_wish, ports), .json_kind = JSON_ARRAY,
	  .schema = describe_ports, .help = "only events of ports with these names" },
	{ NULL }
};

/* ---- checking ---- */

static int refuse(const char *field, const json_t *value, const char *accepted, struct error *err)
{
	char text[sizeof(err->value)];

	param_describe(value, text, sizeof(text));
	error_set(err, ERROR_INVALID, EINVAL, "event.subscribe: \"%s\" does not take %s", field,
		  text);
	error_detail(err, "event.subscribe", field, text, accepted);
	return -EINVAL;
}

static int read_kinds(const json_t *list, uint32_t *kinds, struct error *err)
{
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item) {
		const char *name = json_string_value(item);
		uint32_t named = name != NULL ? event_kinds_named(name) : 0;

		if (named == 0)
			return refuse("kinds", item, ACCEPTED_KINDS, err);
		*kinds |= named;
	}
	return 0;
}

/* *ports: a new object, or NULL for all. */
static int read_ports(const json_t *list, json_t **ports, struct error *err)
{
	json_t *item;
	size_t i;

	if (json_array_size(list) == 0)
		return 0;
	*ports = json_object();
	json_array_foreach(list, i, item) {
		if (!json_is_string(item))
			return refuse("ports", item, "names of ports, also of some to come", err);
		json_object_set_new(*ports, json_string_value(item), json_null());
	}
	return 0;
}

static int check_since(const json_t *since, struct error *err)
{
	return since == NULL || json_integer_value(since) >= 0
		       ? 0 : refuse("since", since, "0 or more", err);
}

/* ---- a subscription ---- */

static void ready(struct event_reader *reader)
{
	struct subscription *own =
		(struct subscription *)((char *)reader - offsetof(struct subscription, reader));

	rpc_feed_wake(&own->feed);
}

static const char *next(struct rpc_feed *feed, size_t *size)
{
	return event_reader_next(&((struct subscription *)feed)->reader, size);
}

static void ended(struct rpc_feed *feed)
{
	struct subscription *own = (struct subscription *)feed;

	event_reader_end(&own->reader);
	json_decref(own->ports);
	free(own);
}

/* Begins to read where the client left off. Returns the result. */
static json_t *begin(struct subscription *own, struct events *events,
		     const struct subscribe_wish *wish)
{
	const uint64_t last = events_sequence(events);
	uint64_t since = wish->since != NULL ? (uint64_t)json_integer_value(wish->since) : last;
	const bool restarted = since > last ||
			       (wish->since != NULL && wish->history[0] != '\0' &&
				strcmp(wish->history, events_history(events)) != 0);
	uint64_t missed;

	missed = event_reader_begin(&own->reader, events, restarted ? 0 : since);
	return json_pack("{s:s, s:I, s:I, s:I, s:b}", "history", events_history(events), "sequence",
			 (json_int_t)last, "oldest", (json_int_t)events_oldest(events), "missed",
			 (json_int_t)missed, "restarted", restarted);
}

static int subscribe(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct daemon *daemon = call_context(call);
	const struct subscribe_wish *wish = params;
	struct call_client *client = call_client(call);
	struct subscription *own = calloc(1, sizeof(*own));
	struct rpc_feed *before;
	int fault;

	if (own == NULL || client == NULL) {
		free(own);
		return error_set(err, ERROR_INTERNAL, ENOMEM, "there is no connection, or memory");
	}
	fault = check_since(wish->since, err);
	if (fault == 0)
		fault = read_kinds(wish->kinds, &own->reader.filter.kinds, err);
	if (fault == 0)
		fault = read_ports(wish->ports, &own->ports, err);
	if (fault != 0) {
		ended(&own->feed);
		return fault;
	}
	before = rpc_feed_of(client);
	if (before != NULL) {
		rpc_feed_end(before);
		ended(before);
	}
	own->feed.next = next;
	own->feed.ended = ended;
	own->reader.filter.ports = own->ports;
	own->reader.ready = ready;
	(void)rpc_feed_begin(client, &own->feed);
	*result = begin(own, daemon->control->events, wish);
	return 0;
}

static json_t *describe_result(void)
{
	return json_pack("{s:s, s:{s:{s:s, s:s}, s:{s:s, s:s}, s:{s:s, s:s}, s:{s:s, s:s}, "
			 "s:{s:s, s:s}}}", "type", "object", "properties",
			 "history", "type", "string", "description",
			 "names this history; a restart of the daemon begins another",
			 "sequence", "type", "integer", "description",
			 "of the last event before this answer",
			 "oldest", "type", "integer", "description", "of the first that is kept",
			 "missed", "type", "integer", "description",
			 "how many behind `since` are not kept any more",
			 "restarted", "type", "boolean", "description",
			 "`since` was of another history, so all of this one comes");
}

const struct method methods_event[] = {
	{ "event.subscribe",
	  "Has events sent over this connection, as notifications \"event\", until it is closed",
	  subscribe_params, sizeof(struct subscribe_wish), subscribe,
	  .describe_result = describe_result },
	{ NULL }
};
