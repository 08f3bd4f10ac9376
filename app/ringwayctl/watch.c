/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `watch`: event.subscribe, and a line for each notification. When the connection ends another one
 * is made, which begins where the last one ended.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"
#include "command.h"
#include "rpc/client.h"
#include "schema.h"
#include "text.h"
#include "words.h"

#define AGAIN_US 250000
#define METHOD "event.subscribe"

struct watch {
	const struct options *options;
	json_t *params;
};

static void finish(int number)
{
	(void)number;
	/* Each line has been flushed. */
	_exit(DONE);
}

/* ---- words ---- */

static bool is_kind(const char *word)
{
	json_t *ways = schema_ways(schema_method(METHOD), "kinds");
	bool found = false;
	json_t *name;
	size_t i;

	json_array_foreach(json_object_get(schema_fact(ways, "items"), "enum"), i, name)
		found |= strcmp(json_string_value(name), word) == 0;
	json_decref(ways);
	return found;
}

static void add(json_t *params, const char *key, const char *value)
{
	if (json_object_get(params, key) == NULL)
		json_object_set_new(params, key, json_array());
	json_array_append_new(json_object_get(params, key), json_string(value));
}

static int parse_since(const char *text, json_t *params)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > INT64_MAX)
		return words_refuse("the number of an event must be 0 or more", text);
	json_object_set_new(params, "since", json_integer((json_int_t)value));
	return DONE;
}

static int parse(int count, char *const *words, const struct options *options, json_t *params)
{
	static const char port[] = "port=";

	for (int i = 0; i < count; i++) {
		bool keyed = strncmp(words[i], port, strlen(port)) == 0;
		const char *name = words[i] + (keyed ? strlen(port) : 0);

		if (!keyed && is_kind(name))
			add(params, "kinds", name);
		else if (name_check(name) == 0)
			add(params, "ports", name);
		else
			return words_refuse("this is neither a kind of event nor a port",
					    words[i]);
	}
	return options->since != NULL ? parse_since(options->since, params) : DONE;
}

/* ---- lines ---- */

static const char *color_of(const char *kind)
{
	static const char *const bad[] = { "port.down",     "guest.gone",     "guest.refused",
					   "limit.reached", "worker.stalled", "address.refused",
					   "event.missed",  "event.left_out" };
	static const char *const good[] = { "port.up", "guest.connected", "limit.left",
					    "worker.resumed" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (strcmp(kind, bad[i]) == 0)
			return PRINT_RED;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (strcmp(kind, good[i]) == 0)
			return PRINT_GREEN;
	return NULL;
}

static bool has_its_place(const char *key)
{
	return strcmp(key, "sequence") == 0 || strcmp(key, "time") == 0 ||
	       strcmp(key, "monotonic_ms") == 0 || strcmp(key, "kind") == 0 ||
	       strcmp(key, "port") == 0;
}

static const char *text_of(const json_t *event, const char *key)
{
	const char *text = json_string_value(json_object_get(event, key));

	return text != NULL ? text : "-";
}

/* TIME  KIND  PORT  KEY=VALUE ... */
static void print_event(json_t *event, const struct style *style)
{
	const char *kind = text_of(event, "kind");
	const char *color = style->color ? color_of(kind) : NULL;
	const char *key;
	json_t *value;

	text_write(stdout, text_of(event, "time"));
	printf("  %s", color != NULL ? color : "");
	text_write(stdout, kind);
	printf("%s%*s  ", color != NULL ? PRINT_PLAIN : "",
	       (int)(strlen(kind) < 15 ? 15 - strlen(kind) : 0), "");
	text_write(stdout, text_of(event, "port"));
	json_object_foreach(event, key, value) {
		if (has_its_place(key))
			continue;
		fputs("  ", stdout);
		text_write(stdout, key);
		putchar('=');
		print_value(key, value, style);
	}
	putchar('\n');
}

static int show(const struct watch *watch, json_t *event)
{
	if (watch->options->json)
		print_json_line(event);
	else
		print_event(event, &watch->options->style);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return DONE;
	fprintf(stderr, "ringwayctl: cannot print the event: %s\n", strerror(errno));
	return REFUSED;
}

/* ---- the connection ---- */

/* Opens a connection that events will come over. Returns an exit_code, with err filled. */
static int subscribe(struct watch *watch, struct rpc_client **client, struct error *err)
{
	json_t *result;
	json_int_t missed;
	int rc = rpc_client_open(client, watch->options->socket, watch->options->timeout * 1000,
				 err);

	if (rc != 0)
		return err->kind == ERROR_INVALID ? USAGE : NO_DAEMON;
	rc = rpc_client_call(*client, METHOD, watch->params, &result, NULL, err);
	if (rc != 0) {
		rpc_client_close(*client);
		return rc == -EREMOTEIO ? REFUSED : NO_DAEMON;
	}
	missed = json_integer_value(json_object_get(result, "missed"));
	if (json_is_true(json_object_get(result, "restarted")))
		fputs("ringwayctl: the daemon has been started again; its events so far:\n",
		      stderr);
	if (missed > 0)
		fprintf(stderr, "ringwayctl: %" JSON_INTEGER_FORMAT " events are not kept any "
			"more\n", missed);
	/* Where to go on. */
	json_object_set(watch->params, "history", json_object_get(result, "history"));
	if (json_object_get(watch->params, "since") == NULL ||
	    json_is_true(json_object_get(result, "restarted")))
		json_object_set(watch->params, "since", json_object_get(result, "sequence"));
	json_decref(result);
	return DONE;
}

/* Until the connection ends (DONE), or nothing can be printed. */
static int follow(struct watch *watch, struct rpc_client *client)
{
	json_t *message;
	int rc = DONE;

	while (rc == DONE && rpc_client_receive(client, &message) == 0) {
		json_t *event = json_object_get(message, "params");

		if (json_is_object(event)) {
			json_object_set(watch->params, "since",
					json_object_get(event, "sequence"));
			rc = show(watch, event);
		}
		json_decref(message);
	}
	return rc;
}

int watch_run(int count, char *const *words, const struct options *options)
{
	struct watch watch = { .options = options, .params = json_object() };
	struct rpc_client *client;
	struct error err;
	int rc = parse(count, words, options, watch.params);

	signal(SIGINT, finish);
	if (rc == DONE) {
		rc = subscribe(&watch, &client, &err);
		if (rc != DONE)
			print_error(&err);
	}
	while (rc == DONE) {
		rc = follow(&watch, client);
		rpc_client_close(client);
		if (rc != DONE)
			break;
		fputs("ringwayctl: the daemon is gone; waiting for it\n", stderr);
		while (subscribe(&watch, &client, &err) != DONE)
			usleep(AGAIN_US);
		fputs("ringwayctl: connected again\n", stderr);
	}
	json_decref(watch.params);
	return rc;
}
