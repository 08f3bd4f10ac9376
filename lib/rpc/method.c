/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON-RPC 2.0 without a transport: from a JSON value to the response that is due for it.
 *
 * Each request of a value becomes a `struct call`, which lives until call_done. Where the answers
 * of a batch go, and how many are still missing, is kept in a `struct batch` that its calls share.
 */
#include "rpc/method.h"

#include "base/log.h"
#include "base/units.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct batch {
	json_t *responses;
	size_t missing; /* answers to come, and one for the dispatch itself while it runs */
	size_t size;    /* of the responses as text */
	void (*answer)(void *argument, json_t *response);
	void *argument;
};

/* Where an answer goes: into the batch, or without one to the client. */
struct receiver {
	struct batch *batch;
	void (*answer)(void *argument, json_t *response);
	void *argument;
};

/* Whom a request comes from and whom it is for: the same for all requests of a batch. */
struct origin {
	const struct method *const *tables;
	void *context;
	struct call_peer peer;
	struct call_descriptors *descriptors;
};

struct call {
	const struct method *method;
	void *context;
	struct call_peer peer;
	struct call_descriptors *descriptors; /* NULL: none; valid while the handler runs */
	void *params;   /* the method's struct; a `json_t *` where it takes the object whole */
	char name[NAME_MAX_LENGTH + 1]; /* the parameter `name`, for the log; "": none */
	json_t *id;     /* NULL: a notification, which gets no answer */
	struct receiver receiver;
};

struct request {
	const json_t *id; /* NULL: a notification */
	const char *method;
	const json_t *params;
};

/* jansson refuses text that is not UTF-8, and a path in a message can hold any byte. */
static json_t *text_to_json(const char *text)
{
	char ascii[sizeof(((struct error *)0)->message)];
	json_t *string = json_string(text);
	size_t i;

	if (string != NULL)
		return string;
	for (i = 0; i < sizeof(ascii) - 1 && text[i] != '\0'; i++)
		ascii[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
	ascii[i] = '\0';
	return json_string(ascii);
}

static void add_text(json_t *object, const char *key, const char *text)
{
	if (text[0] != '\0')
		json_object_set_new(object, key, text_to_json(text));
}

/* A reference to the id, or null. An id is not changed by anybody, so it can be shared. */
static json_t *id_reference(const json_t *id)
{
	return id == NULL ? json_null() : json_incref((json_t *)(uintptr_t)id);
}

json_t *method_error_response(const json_t *id, const struct error *err)
{
	json_t *data = json_object();
	json_t *error;

	add_text(data, "object", err->object);
	add_text(data, "field", err->field);
	add_text(data, "value", err->value);
	add_text(data, "accepted", err->accepted);
	if (err->errnum != 0)
		json_object_set_new(data, "errno", json_integer(err->errnum));
	error = json_pack("{s:i, s:o}", "code", (int)err->kind, "message",
			  text_to_json(err->message));
	if (json_object_size(data) > 0)
		json_object_set(error, "data", data);
	json_decref(data);
	return json_pack("{s:s, s:o, s:o}", "jsonrpc", "2.0", "error", error, "id",
			 id_reference(id));
}

static void batch_release(struct batch *batch)
{
	if (--batch->missing > 0)
		return;
	if (json_array_size(batch->responses) == 0) {
		json_decref(batch->responses);
		batch->responses = NULL;
	}
	batch->answer(batch->argument, batch->responses);
	free(batch);
}

/* Keeps the sum of a batch's answers bounded before anything holds them all as text. */
static void batch_add(struct batch *batch, json_t *response)
{
	size_t size = json_dumpb(response, NULL, 0, JSON_COMPACT);
	struct error err;

	if (batch->size + size > METHOD_ANSWER_MAX) {
		json_t *id = json_incref(json_object_get(response, "id"));

		error_set(&err, ERROR_LIMIT, EMSGSIZE,
			  "the request was handled, but the answers to its batch are too long");
		error_detail(&err, NULL, NULL, NULL, "4 MiB of answers");
		json_decref(response);
		response = method_error_response(id, &err);
		json_decref(id);
		size = json_dumpb(response, NULL, 0, JSON_COMPACT);
	}
	batch->size += size;
	json_array_append_new(batch->responses, response);
}

/* Takes over `response`, which is NULL where none is due. */
static void deliver(const struct receiver *receiver, json_t *response)
{
	if (receiver->batch == NULL) {
		receiver->answer(receiver->argument, response);
		return;
	}
	if (response != NULL)
		batch_add(receiver->batch, response);
	batch_release(receiver->batch);
}

void *call_context(const struct call *call)
{
	return call->context;
}

const struct call_peer *call_peer(const struct call *call)
{
	return &call->peer;
}

struct call_client *call_client(const struct call *call)
{
	return call->peer.client;
}

const char *call_method(const struct call *call)
{
	return call->method->name;
}

const char *call_name(const struct call *call)
{
	return call->name;
}

int call_take_descriptors(struct call *call, int *fds, unsigned int count, unsigned int *have)
{
	struct call_descriptors *arrived = call->descriptors;

	*have = arrived != NULL ? arrived->count : 0;
	if (*have < count)
		return -ENOENT;
	if (count == 0)
		return 0;
	memcpy(fds, arrived->fds, count * sizeof(*fds));
	arrived->count -= count;
	memmove(arrived->fds, arrived->fds + count, arrived->count * sizeof(*fds));
	return 0;
}

static void log_change(const struct call *call, const struct error *err)
{
	log_info("rpc", "%s%s%s by pid %d, uid %u%s%s", call->method->name,
		 call->name[0] == '\0' ? "" : " ", call->name, (int)call->peer.pid,
		 (unsigned int)call->peer.uid, err == NULL ? "" : ": refused: ",
		 err == NULL ? "" : err->message);
}

static void free_params(struct call *call)
{
	if (call->method->whole) {
		json_decref(call->params);
		return;
	}
	param_release(call->method->params, call->params);
	free(call->params);
}

void call_done(struct call *call, json_t *result, const struct error *err)
{
	struct receiver receiver = call->receiver;
	json_t *response = NULL;

	if (call->id != NULL && err != NULL)
		response = method_error_response(call->id, err);
	else if (call->id != NULL)
		response = json_pack("{s:s, s:o, s:O}", "jsonrpc", "2.0", "result",
				     result == NULL ? json_true() : json_incref(result), "id",
				     call->id);
	json_decref(result);
	if (call->method->changes)
		log_change(call, err);
	free_params(call);
	json_decref(call->id);
	free(call);
	deliver(&receiver, response);
}

static const struct method *find_method(const struct method *const *tables, const char *name)
{
	for (; *tables != NULL; tables++)
		for (const struct method *row = *tables; row->name != NULL; row++)
			if (strcmp(row->name, name) == 0)
				return row;
	return NULL;
}

/* Names for parameters that came by position. Returns a new reference, or NULL with err filled. */
static json_t *name_params(const struct method *method, const json_t *array, struct error *err)
{
	const struct param *row = method->params;
	json_t *object;
	json_t *value;
	size_t i;

	if (method->whole) {
		error_set(err, ERROR_INVALID, EINVAL,
			  "%s takes its parameters by name, not by position", method->name);
		error_detail(err, method->name, NULL, NULL, "an object");
		return NULL;
	}
	object = json_object();
	json_array_foreach(array, i, value) {
		while (row != NULL && row->name != NULL && row->type == PARAM_LATER)
			row++;
		if (row == NULL || row->name == NULL) {
			error_set(err, ERROR_INVALID, E2BIG, "%s: there are too many parameters",
				  method->name);
			error_detail(err, method->name, NULL, NULL, NULL);
			json_decref(object);
			return NULL;
		}
		json_object_set(object, row->name, value);
		row++;
	}
	return object;
}

static int fill_params(struct call *call, const json_t *given, struct error *err)
{
	static const struct param none[] = { { NULL } };
	const struct method *method = call->method;
	const struct param *table = method->params == NULL ? none : method->params;
	const char *name;
	json_t *object;
	int rc;

	if (json_is_array(given))
		object = name_params(method, given, err);
	else if (given != NULL)
		object = json_incref((json_t *)(uintptr_t)given);
	else
		object = json_object();
	if (object == NULL)
		return -EINVAL;
	name = json_string_value(json_object_get(object, "name"));
	if (name != NULL)
		text_copy(call->name, sizeof(call->name), name);
	if (method->whole) {
		call->params = object;
		return 0;
	}
	rc = param_parse(table, object, call->params, method->name, "", err);
	json_decref(object);
	return rc;
}

/* The checks of section 4. On failure request->id still is the id, if it was a usable one. */
static int read_request(const json_t *value, struct request *request, struct error *err)
{
	const json_t *version = json_object_get(value, "jsonrpc");
	const json_t *method = json_object_get(value, "method");
	const json_t *id = json_object_get(value, "id");

	memset(request, 0, sizeof(*request));
	request->params = json_object_get(value, "params");
	if (!json_is_object(value))
		return error_set(err, ERROR_REQUEST, 0, "a request must be an object");
	if (id != NULL && !json_is_string(id) && !json_is_number(id) && !json_is_null(id))
		return error_set(err, ERROR_REQUEST, 0,
				 "the request's \"id\" must be a string, a number or null");
	request->id = id;
	if (!json_is_string(version) || strcmp(json_string_value(version), "2.0") != 0)
		return error_set(err, ERROR_REQUEST, 0,
				 "the request's \"jsonrpc\" must be the string \"2.0\"");
	if (!json_is_string(method))
		return error_set(err, ERROR_REQUEST, 0,
				 "the request's \"method\" must be a string");
	if (request->params != NULL && !json_is_object(request->params) &&
	    !json_is_array(request->params))
		return error_set(err, ERROR_REQUEST, 0,
				 "the request's \"params\" must be an object or an array");
	request->method = json_string_value(method);
	return 0;
}

static struct call *call_new(const struct method *method, const struct request *request,
			     const struct origin *origin, const struct receiver *receiver)
{
	struct call *call = calloc(1, sizeof(*call));

	if (call == NULL)
		return NULL;
	if (!method->whole) {
		call->params = calloc(1, method->params_size > 0 ? method->params_size : 1);
		if (call->params == NULL) {
			free(call);
			return NULL;
		}
	}
	call->method = method;
	call->context = origin->context;
	call->peer = origin->peer;
	call->descriptors = origin->descriptors;
	call->receiver = *receiver;
	if (request->id != NULL)
		call->id = id_reference(request->id);
	return call;
}

static void run_call(struct call *call, const json_t *params)
{
	const struct method *method = call->method;
	json_t *result = NULL;
	struct error err;
	int rc;

	rc = fill_params(call, params, &err);
	if (rc == 0) {
		error_set(&err, ERROR_INTERNAL, 0, "%s failed and did not say why", method->name);
		rc = method->handle(call, call->params, &result, &err);
	}
	/* A call that was kept may be done and freed already. */
	if (rc == METHOD_LATER)
		return;
	call_done(call, result, rc == 0 ? NULL : &err);
}

static void dispatch_one(const struct origin *origin, const json_t *value,
			 const struct receiver *receiver)
{
	const struct method *method;
	struct request request;
	struct error err;
	struct call *call;

	if (read_request(value, &request, &err) != 0) {
		/* Due even without an id: what is no request is no notification either. */
		deliver(receiver, method_error_response(request.id, &err));
		return;
	}
	method = find_method(origin->tables, request.method);
	if (method == NULL) {
		error_set(&err, ERROR_METHOD, 0, "there is no method \"%s\"", request.method);
		goto refuse;
	}
	call = call_new(method, &request, origin, receiver);
	if (call == NULL) {
		error_set(&err, ERROR_INTERNAL, ENOMEM, "out of memory");
		goto refuse;
	}
	run_call(call, request.params);
	return;

refuse:
	deliver(receiver, request.id == NULL ? NULL : method_error_response(request.id, &err));
}

static void dispatch_batch(const struct origin *origin, const json_t *array, struct batch *batch)
{
	struct receiver receiver = { .batch = batch };
	json_t *value;
	size_t i;

	json_array_foreach(array, i, value) {
		batch->missing++;
		dispatch_one(origin, value, &receiver);
	}
	batch_release(batch);
}

void method_dispatch(const struct method *const *tables, void *context,
		     const struct call_peer *peer, struct call_descriptors *descriptors,
		     const json_t *request,
		     void (*answer)(void *argument, json_t *response), void *argument)
{
	struct origin origin = { .tables = tables, .context = context, .descriptors = descriptors };
	struct receiver receiver = { .answer = answer, .argument = argument };
	struct batch *batch;
	struct error err;

	if (peer != NULL)
		origin.peer = *peer;
	if (!json_is_array(request)) {
		dispatch_one(&origin, request, &receiver);
		return;
	}
	if (json_array_size(request) == 0) {
		error_set(&err, ERROR_REQUEST, 0, "a batch must hold at least one request");
		goto refuse;
	}
	if (json_array_size(request) > METHOD_BATCH_MAX) {
		error_set(&err, ERROR_LIMIT, E2BIG, "the batch holds too many requests");
		error_detail(&err, NULL, NULL, NULL, "at most 1024 requests in a batch");
		goto refuse;
	}
	batch = calloc(1, sizeof(*batch));
	if (batch == NULL) {
		error_set(&err, ERROR_INTERNAL, ENOMEM, "out of memory");
		goto refuse;
	}
	batch->missing = 1;
	batch->answer = answer;
	batch->argument = argument;
	batch->responses = json_array();
	dispatch_batch(&origin, request, batch);
	return;

refuse:
	answer(argument, method_error_response(NULL, &err));
}
