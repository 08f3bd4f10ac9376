/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Completion: what may stand in the place of the last word. The shell's own file
 * (app/ringwayctl/ringwayctl.bash) only asks and filters.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "help.h"
#include "rpc/client.h"
#include "schema.h"
#include "words.h"

#define NAME_SIZE 128
#define ASK_MS 500 /* a daemon that is slower than that is not worth waiting for */

/* What is being completed. */
struct wish {
	const char *word;
	const char *socket;
};

static void offer(const struct wish *wish, const char *head, const char *tail)
{
	size_t length = strlen(head);

	/* What could steer a terminal, or be two words, is not offered. */
	for (const char *c = tail; *c != '\0'; c++)
		if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f)
			return;
	if (strncmp(wish->word, head, length < strlen(wish->word) ? length : strlen(wish->word)) ==
		    0 &&
	    (strlen(wish->word) <= length ||
	     strncmp(wish->word + length, tail, strlen(wish->word) - length) == 0))
		printf("%s%s\n", head, tail);
}

static void offer_ports(const struct wish *wish, const char *head)
{
	struct rpc_client *client;
	struct error err;
	json_t *list;
	json_t *port;
	size_t i;

	if (rpc_client_open(&client, wish->socket, ASK_MS, &err) != 0)
		return;
	if (rpc_client_call(client, "port.list", NULL, &list, NULL, &err) == 0) {
		json_array_foreach(list, i, port) {
			const char *name = json_string_value(json_object_get(port, "name"));

			if (name != NULL)
				offer(wish, head, name);
		}
		json_decref(list);
	}
	rpc_client_close(client);
}

/* A port that is there: `name` of the methods about ports, but for the one that makes them. */
static bool names_a_port(const json_t *method, const char *path)
{
	const char *name = json_string_value(json_object_get(method, "name"));

	return strcmp(path, "port") == 0 ||
	       (strcmp(path, "name") == 0 && strncmp(name, "port.", 5) == 0 &&
		strcmp(name, "port.add") != 0);
}

/* The values of a parameter, each behind `head`, which is "" or "key=". */
static void offer_values(const struct wish *wish, json_t *method, const char *path,
			 const char *head)
{
	json_t *ways = schema_ways(method, path);
	json_t *choice;
	json_t *way;
	size_t i, j;

	if (names_a_port(method, path))
		offer_ports(wish, head);
	json_array_foreach(ways, i, way) {
		const char *constant = json_string_value(json_object_get(way, "const"));

		json_array_foreach(json_object_get(way, "enum"), j, choice)
			if (json_is_string(choice))
				offer(wish, head, json_string_value(choice));
		if (constant != NULL)
			offer(wish, head, constant);
	}
	if (schema_takes(ways, "boolean")) {
		offer(wish, head, "true");
		offer(wish, head, "false");
	}
	json_decref(ways);
}

static void visit_key(void *argument, const char *path, json_t *ways, bool required)
{
	char key[NAME_SIZE];

	(void)required;
	/* An object without keys of its own has those that the operator makes up. */
	snprintf(key, sizeof(key), "%s%s", path,
		 json_is_object(schema_fact(ways, "additionalProperties")) ? "." : "=");
	offer(argument, "", key);
}

static void complete_param(struct wish *wish, json_t *method, bool first)
{
	const char *equals = strchr(wish->word, '=');
	char path[NAME_SIZE], head[NAME_SIZE + 1];
	json_t *param;
	size_t i;

	if (equals != NULL) {
		snprintf(path, sizeof(path), "%.*s", (int)(equals - wish->word), wish->word);
		snprintf(head, sizeof(head), "%s=", path);
		offer_values(wish, method, path, head);
		return;
	}
	schema_walk(method, visit_key, wish);
	if (!first)
		return;
	json_array_foreach(json_object_get(method, "params"), i, param) {
		if (!json_is_true(json_object_get(param, "required")))
			continue;
		offer_values(wish, method, json_string_value(json_object_get(param, "name")), "");
		break;
	}
}

/* The part of each method's name before the dot, or of one object's methods that behind it. */
static void complete_method(const struct wish *wish, const char *object)
{
	json_t *seen = json_object();
	json_t *method;
	size_t i;

	json_array_foreach(schema_methods(), i, method) {
		const char *name = json_string_value(json_object_get(method, "name"));
		size_t length = strcspn(name, ".");
		char part[NAME_SIZE];

		if (object == NULL)
			snprintf(part, sizeof(part), "%.*s", (int)length, name);
		else if (strlen(object) == length && strncmp(name, object, length) == 0)
			snprintf(part, sizeof(part), "%s", name + length + 1);
		else
			continue;
		if (json_object_get(seen, part) != NULL)
			continue;
		json_object_set_new(seen, part, json_true());
		offer(wish, "", part);
	}
	json_decref(seen);
}

/* Words of watch: kinds of events, and ports. */
static void complete_watch(const struct wish *wish)
{
	json_t *ways = schema_ways(schema_method("event.subscribe"), "kinds");
	json_t *kind;
	size_t i;

	json_array_foreach(json_object_get(schema_fact(ways, "items"), "enum"), i, kind)
		offer(wish, "", json_string_value(kind));
	json_decref(ways);
	offer_ports(wish, strncmp(wish->word, "port=", 5) == 0 ? "port=" : "");
}

static bool is_object(const char *word)
{
	const size_t length = strlen(word);
	json_t *method;
	size_t i;

	json_array_foreach(schema_methods(), i, method) {
		const char *name = json_string_value(json_object_get(method, "name"));

		if (strncmp(name, word, length) == 0 && name[length] == '.')
			return true;
	}
	return false;
}

/* Those that have the name of an object are offered with the objects. */
static void complete_command(const struct wish *wish)
{
	for (const struct command *row = commands; row->name != NULL; row++)
		if (!is_object(row->name))
			offer(wish, "", row->name);
}

/* Behind `capture` or `trace`: a port, or the rest of a method; then parameters of `start`. */
static void complete_frames(struct wish *wish, int count, char *const *words)
{
	char start[NAME_SIZE];

	snprintf(start, sizeof(start), "%s.start", words[0]);
	if (count > 2) {
		complete_param(wish, schema_method(start), false);
		return;
	}
	complete_method(wish, words[0]);
	offer_ports(wish, "");
}

void complete_print(int count, char *const *words, const char *socket)
{
	static const char *const options[] = { "--socket", "--json", "--timeout", "--color",
					       "--help", "--version", "--since", "--once" };
	struct wish wish = { .word = count > 0 ? words[count - 1] : "", .socket = socket };
	bool helping = count > 1 && strcmp(words[0], "help") == 0;
	char name[NAME_SIZE];
	json_t *method;
	int used;

	if (helping) {
		words++;
		count--;
	}
	if (wish.word[0] == '-') {
		for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
			offer(&wish, "", options[i]);
		return;
	}
	if (count <= 1) {
		complete_method(&wish, NULL);
		complete_command(&wish);
		if (!helping)
			offer(&wish, "", "help");
		return;
	}
	if (command_find(count - 1, words) != NULL) {
		if (is_object(words[0]) && helping)
			complete_method(&wish, words[0]);
		else if (is_object(words[0]))
			complete_frames(&wish, count, words);
		else if (!helping && strcmp(words[0], "watch") == 0)
			complete_watch(&wish);
		return;
	}
	used = words_method(count - 1, words, name, sizeof(name));
	method = schema_method(name);
	if (count == 2 && method == NULL)
		complete_method(&wish, words[0]);
	else if (method != NULL && !helping)
		complete_param(&wish, method, count - 1 == used);
}
