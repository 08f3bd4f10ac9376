/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests: any bytes as a client may send them, cut anywhere, through the framing, the parser and
 * the dispatch with the daemon's own tables of methods; the handlers answer what and when they
 * like. The values that are found do not depend on the cuts; each request gets its one answer, a
 * notification none, and every answer is JSON-RPC 2.0.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../app/ringwayd/methods.h"
#include "base/log.h"
#include "grammar.h"
#include "rpc/describe.h"
#include "rpc/framing.h"
#include "text.h"

const char target_name[] = "rpc";
const bool text_takes_many = true;

/* As the server has them, but for the length, which the texts would never reach. */
#define LENGTH_MAX 4096
#define DEPTH_MAX 32

#define METHODS_MAX 64
#define KEPT_MAX 4096
#define VALUES_MAX 8192

/* What one request gets. */
struct answer {
	unsigned int count;
	json_t *response;
};

static struct method stubs[METHODS_MAX + 1];
static const struct method *const stub_tables[] = { stubs, NULL };
static json_t *document; /* OpenRPC, of the daemon */
static struct entropy *choices;
static struct call *kept[KEPT_MAX];
static unsigned int kept_count;

static int fail(struct error *err, uint32_t how)
{
	/* Without words of its own, with a text that is none, and in full. */
	if (how == 0)
		return -EIO;
	error_set(err, ERROR_SYSTEM, EIO, how == 1 ? "a path \xff\xfe" : "it is broken");
	if (how == 3)
		error_detail(err, "port vm1", "socket", "\"\xc3", "anything else");
	return -EIO;
}

static void finish(struct call *call)
{
	struct error err;

	if (entropy_chance(choices, 2)) {
		call_done(call, entropy_chance(choices, 2) ? json_pack("[i]", 1) : NULL, NULL);
		return;
	}
	error_set(&err, ERROR_BUSY, EBUSY, "something else is under way");
	/* A result beside an error goes nowhere. */
	call_done(call, entropy_chance(choices, 2) ? json_object() : NULL, &err);
}

static int handle(struct call *call, const void *params, json_t **result, struct error *err)
{
	CHECK(call_context(call) == &document);
	CHECK(call_peer(call)->pid == 7);
	CHECK(params != NULL);
	switch (entropy_below(choices, 4)) {
	case 0:
		if (entropy_chance(choices, 2))
			*result = json_string("done");
		return 0;
	case 1:
		return fail(err, entropy_below(choices, 4));
	case 2:
		finish(call);
		return METHOD_LATER;
	default:
		CHECK(kept_count < KEPT_MAX);
		kept[kept_count++] = call;
		return METHOD_LATER;
	}
}

static int handle_whole(struct call *call, const void *params, json_t **result, struct error *err)
{
	CHECK(json_is_object((const json_t *)params));
	return handle(call, params, result, err);
}

static void finish_kept(unsigned int leave)
{
	while (kept_count > leave) {
		unsigned int i = entropy_below(choices, kept_count);
		struct call *call = kept[i];

		kept[i] = kept[--kept_count];
		finish(call);
	}
}

void target_init(void)
{
	unsigned int count = 0;

	log_set_level(LOG_ERROR);
	for (const struct method *const *table = methods; *table != NULL; table++) {
		for (const struct method *row = *table; row->name != NULL; row++) {
			CHECK(count < METHODS_MAX);
			stubs[count] = *row;
			stubs[count++].handle = row->whole ? handle_whole : handle;
		}
	}
	document = daemon_schema();
	CHECK(document != NULL);
}

/* Parameters after the description of a method, by name or by position. */
static json_t *make_params(struct entropy *entropy, const json_t *method)
{
	bool by_name = !entropy_chance(entropy, 4);
	json_t *params = by_name ? json_object() : json_array();
	const json_t *list = json_object_get(method, "params");
	json_t *param;
	size_t i;

	json_array_foreach(list, i, param) {
		const json_t *schema = json_object_get(param, "schema");
		const char *name = json_string_value(json_object_get(param, "name"));

		if (!by_name)
			json_array_append_new(params, grammar_make(entropy, schema, document));
		else if (json_is_true(json_object_get(param, "required")) ||
			 entropy_chance(entropy, 3))
			json_object_set_new(params, name, grammar_make(entropy, schema, document));
	}
	return params;
}

static json_t *make_id(struct entropy *entropy)
{
	switch (entropy_below(entropy, 6)) {
	case 0:
		return json_string("an id");
	case 1:
		return json_null();
	case 2:
		return json_real(1.5);
	case 3:
		return grammar_any(entropy, 2);
	default:
		return json_integer(entropy_below(entropy, 10));
	}
}

static json_t *make_request(struct entropy *entropy)
{
	const json_t *list = json_object_get(document, "methods");
	const json_t *method = json_array_get(list, entropy_below(entropy,
								  (uint32_t)json_array_size(list)));
	json_t *request = json_object();

	if (!entropy_chance(entropy, 32))
		json_object_set_new(request, "jsonrpc", json_string("2.0"));
	if (!entropy_chance(entropy, 4))
		json_object_set_new(request, "id", make_id(entropy));
	if (!entropy_chance(entropy, 32))
		json_object_set(request, "method", json_object_get(method, "name"));
	if (!entropy_chance(entropy, 8))
		json_object_set_new(request, "params", make_params(entropy, method));
	if (entropy_chance(entropy, 32))
		json_object_set_new(request, "extra", grammar_any(entropy, 3));
	return request;
}

json_t *text_value(struct entropy *entropy)
{
	json_t *batch;

	if (entropy_chance(entropy, 16))
		return grammar_any(entropy, 3);
	if (!entropy_chance(entropy, 4))
		return make_request(entropy);
	batch = json_array();
	for (uint32_t i = entropy_below(entropy, 6); i > 0; i--)
		json_array_append_new(batch, entropy_chance(entropy, 16) ? grammar_any(entropy, 2)
									 : make_request(entropy));
	return batch;
}

/* ---- what must hold ---- */

static bool is_id(const json_t *id)
{
	return json_is_string(id) || json_is_number(id) || json_is_null(id);
}

/* JSON-RPC 2.0, section 4, once more. */
static bool is_request(const json_t *value)
{
	const json_t *id = json_object_get(value, "id");
	const json_t *params = json_object_get(value, "params");
	const char *version = json_string_value(json_object_get(value, "jsonrpc"));

	return version != NULL && strcmp(version, "2.0") == 0 &&
	       json_is_string(json_object_get(value, "method")) && (id == NULL || is_id(id)) &&
	       (params == NULL || json_is_object(params) || json_is_array(params));
}

static bool wants_answer(const json_t *value)
{
	return !is_request(value) || json_object_get(value, "id") != NULL;
}

static void check_error_object(const json_t *error)
{
	json_int_t code = json_integer_value(json_object_get(error, "code"));
	const char *message = json_string_value(json_object_get(error, "message"));
	json_t *data = json_object_get(error, "data"), *value;
	const char *key;

	CHECK(code <= -32000 && code >= -32700);
	CHECK(message != NULL && message[0] != '\0');
	CHECK(json_object_size(error) == (data == NULL ? 2 : 3));
	CHECK(data == NULL || json_object_size(data) > 0);
	json_object_foreach(data, key, value)
		CHECK(strcmp(key, "errno") == 0 ? json_integer_value(value) > 0
						: json_string_length(value) > 0);
}

/* Section 5; the answer to this request. */
static void check_response(const json_t *response, const json_t *request)
{
	const char *version = json_string_value(json_object_get(response, "jsonrpc"));
	const json_t *result = json_object_get(response, "result");
	const json_t *error = json_object_get(response, "error");
	const json_t *id = json_object_get(response, "id");
	const json_t *given = json_object_get(request, "id");

	CHECK(json_object_size(response) == 3);
	CHECK(version != NULL && strcmp(version, "2.0") == 0);
	CHECK((result == NULL) != (error == NULL));
	CHECK(id != NULL);
	CHECK(given != NULL && is_id(given) ? json_equal(id, given) : json_is_null(id));
	if (error != NULL)
		check_error_object(error);
	CHECK(is_request(request) || json_integer_value(json_object_get(error, "code")) ==
					     ERROR_REQUEST);
}

/* The answers of a batch come in any order: each is taken off the list of what is due. */
static void check_batch(const json_t *responses, const json_t *batch)
{
	json_t *value = NULL, *response;
	json_t *due = json_array();
	size_t i, j;

	json_array_foreach(batch, i, value)
		if (wants_answer(value))
			json_array_append(due, value);
	CHECK(json_array_size(due) == json_array_size(responses));
	json_array_foreach(responses, i, response) {
		bool failed = json_integer_value(json_object_get(
				      json_object_get(response, "error"), "code")) == ERROR_REQUEST;

		for (j = 0; j < json_array_size(due); j++) {
			const json_t *id;

			value = json_array_get(due, j);
			id = json_object_get(value, "id");
			if (is_request(value) == !failed &&
			    (is_id(id) ? json_equal(id, json_object_get(response, "id"))
				       : json_is_null(json_object_get(response, "id"))))
				break;
		}
		CHECK(j < json_array_size(due));
		check_response(response, value);
		json_array_remove(due, j);
	}
	json_decref(due);
}

static void check_answer(const struct answer *answer, const json_t *value)
{
	size_t size;

	CHECK(answer->count == 1);
	if (json_is_array(value) && json_array_size(value) > 0 &&
	    json_array_size(value) <= METHOD_BATCH_MAX)
		check_batch(answer->response, value);
	else if (json_is_array(value))
		check_error_object(json_object_get(answer->response, "error"));
	else if (wants_answer(value))
		check_response(answer->response, value);
	else
		CHECK(answer->response == NULL);
	size = json_dumpb(answer->response, NULL, 0, JSON_COMPACT);
	CHECK((size > 0) == (answer->response != NULL) && size <= METHOD_ANSWER_MAX);
}

static void take_answer(void *argument, json_t *response)
{
	struct answer *answer = argument;

	answer->count++;
	answer->response = response;
}

static unsigned int depth_of(const json_t *value)
{
	unsigned int deepest = 0, depth;
	const char *key;
	json_t *part;
	size_t i;

	if (!json_is_object(value) && !json_is_array(value))
		return 0;
	json_array_foreach(value, i, part)
		if ((depth = depth_of(part)) > deepest)
			deepest = depth;
	json_object_foreach((json_t *)(uintptr_t)value, key, part)
		if ((depth = depth_of(part)) > deepest)
			deepest = depth;
	return deepest + 1;
}

/* A value of the stream, and the answer to it. */
static void dispatch(const char *text, size_t size)
{
	const struct call_peer peer = { .pid = 7 };
	struct answer answer = { 0 };
	json_t *value = json_loadb(text, size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);

	if (value == NULL)
		return;
	CHECK(depth_of(value) <= DEPTH_MAX);
	method_dispatch(stub_tables, &document, &peer, NULL, value, take_answer, &answer);
	finish_kept(0);
	check_answer(&answer, value);
	json_decref(answer.response);
	json_decref(value);
}

/* What a scan finds: values, or in the end why there are no more. */
struct found {
	enum framing_status status;
	size_t at, length;
};

/* Scans the whole, in pieces. Returns how many were found; the last one is no value. */
static size_t scan(const char *text, size_t size, bool whole, struct found *found)
{
	struct framing framing;
	size_t count = 0, begin = 0, at = 0;

	framing_init(&framing, LENGTH_MAX, DEPTH_MAX);
	while (count < VALUES_MAX - 1) {
		uint32_t left = (uint32_t)(size - at);
		size_t piece = whole || left == 0 ? left : entropy_below(choices, left) + 1;
		enum framing_status status = FRAMING_MORE;
		size_t used = 0;

		if (!whole && entropy_chance(choices, 2))
			piece = piece < 3 ? piece : 3;
		if (left == 0)
			status = framing_end(&framing);
		else
			status = framing_scan(&framing, text + at, piece, &used);
		CHECK(used <= piece);
		CHECK(status != FRAMING_MORE || used == piece);
		at += used;
		if (status == FRAMING_MORE && left > 0)
			continue;
		found[count++] = (struct found){ status, begin + framing.skipped, framing.length };
		if (status != FRAMING_VALUE)
			break;
		CHECK(framing.length > 0 && framing.length <= LENGTH_MAX);
		begin += framing.skipped + framing.length;
		CHECK(begin <= at);
		framing_reset(&framing);
	}
	return count;
}

void text_run(const char *text, size_t size, struct entropy *entropy)
{
	static struct found found[VALUES_MAX], again[VALUES_MAX];
	size_t count;

	choices = entropy;
	count = scan(text, size, true, found);
	CHECK(scan(text, size, false, again) == count);
	for (size_t i = 0; i < count; i++) {
		CHECK(found[i].status == again[i].status && found[i].at == again[i].at &&
		      found[i].length == again[i].length);
		if (found[i].status == FRAMING_VALUE)
			dispatch(text + found[i].at, found[i].length);
	}
}
