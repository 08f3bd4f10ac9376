/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rpc/method.c against the JSON-RPC 2.0 specification: each case is a request as text and the
 * response as text, or the fact that there is none.
 */
#include "rpc/method.h"

#include "base/log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct subtract {
	uint32_t minuend;
	uint32_t subtrahend;
	json_t *extra;
};

static const struct param subtract_params[] = {
	{ "minuend", PARAM_UINT, PARAM_AT(struct subtract, minuend), .required = true },
	{ "later", PARAM_LATER },
	{ "subtrahend", PARAM_UINT, PARAM_AT(struct subtract, subtrahend), .max = 100 },
	{ "extra", PARAM_JSON, PARAM_AT(struct subtract, extra), .json_kind = -1 },
	{ NULL }
};

static struct call *kept[8];
static unsigned int kept_count;
static unsigned int handled;
static int context;

static int subtract(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct subtract *values = params;

	(void)err;
	handled++;
	assert_ptr_equal(call_context(call), &context);
	*result = json_integer((json_int_t)values->minuend - (json_int_t)values->subtrahend);
	return 0;
}

static int nothing(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)call;
	(void)params;
	(void)result;
	(void)err;
	handled++;
	return 0;
}

static int refuse(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)call;
	(void)params;
	(void)result;
	handled++;
	error_set(err, ERROR_SYSTEM, ENODEV, "cannot open \xff%s", "x");
	error_detail(err, "port vm1", "device", NULL, NULL);
	return -ENODEV;
}

static int refuse_silently(struct call *call, const void *params, json_t **result,
			   struct error *err)
{
	(void)call;
	(void)params;
	(void)result;
	(void)err;
	return -EIO;
}

static int later(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)params;
	(void)result;
	(void)err;
	kept[kept_count++] = call;
	return METHOD_LATER;
}

static int at_once(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)params;
	(void)result;
	(void)err;
	call_done(call, json_string("early"), NULL);
	return METHOD_LATER;
}

static int big(struct call *call, const void *params, json_t **result, struct error *err)
{
	char *text = malloc(1 << 20);

	(void)call;
	(void)params;
	(void)err;
	assert_non_null(text);
	memset(text, 'b', 1 << 20);
	*result = json_stringn(text, 1 << 20);
	free(text);
	return 0;
}

/* Answers with the parameters that it got, and with who asked. */
static int mirror(struct call *call, const void *params, json_t **result, struct error *err)
{
	const json_t *object = params;
	const struct call_peer *peer = call_peer(call);

	handled++;
	if (json_object_get(object, "fail") != NULL)
		return error_set(err, ERROR_BUSY, EBUSY, "it is\nbusy");
	*result = json_pack("{s:O, s:[i, i, i]}", "params", object, "peer", (int)peer->pid,
			    (int)peer->uid, (int)peer->gid);
	return 0;
}

static const struct method first_table[] = {
	{ "subtract", "a difference", subtract_params, sizeof(struct subtract), subtract },
	{ "nothing", "true", NULL, 0, nothing },
	{ NULL }
};

static const struct method second_table[] = {
	{ "fail", "an error", NULL, 0, refuse },
	{ "fail_silently", "an error", NULL, 0, refuse_silently },
	{ "later", "a kept call", subtract_params, sizeof(struct subtract), later },
	{ "at_once", "done before the handler returns", NULL, 0, at_once },
	{ "big", "1 MiB", NULL, 0, big },
	{ "mirror", "its parameters", NULL, 0, mirror, .whole = true },
	{ "thing.set", "a change", NULL, 0, mirror, .whole = true, .changes = true },
	{ "thing.fill", "a change", subtract_params, sizeof(struct subtract), later,
	  .changes = true },
	{ NULL }
};

static const struct method *const tables[] = { first_table, second_table, NULL };

/* What came back. Each request must be answered exactly once. */
struct reply {
	unsigned int count;
	json_t *response;
};

static void answer(void *argument, json_t *response)
{
	struct reply *reply = argument;

	reply->count++;
	reply->response = response;
}

static void dispatch(const char *text, struct reply *reply)
{
	json_error_t error;
	json_t *request = json_loads(text, JSON_DECODE_ANY, &error);

	if (request == NULL)
		fail_msg("the test's own request is bad: %s", error.text);
	memset(reply, 0, sizeof(*reply));
	method_dispatch(tables, &context, NULL, NULL, request, answer, reply);
	json_decref(request);
}

static void check_response(struct reply *reply, const char *expected)
{
	json_t *wanted = expected == NULL ? NULL : json_loads(expected, 0, NULL);
	char *text = json_dumps(reply->response, JSON_COMPACT);

	assert_int_equal(reply->count, 1);
	if (expected == NULL)
		assert_null(reply->response);
	else if (!json_equal(reply->response, wanted))
		fail_msg("got %s, wanted %s", text, expected);
	free(text);
	json_decref(wanted);
	json_decref(reply->response);
}

static void check(const char *request, const char *expected)
{
	struct reply reply;

	dispatch(request, &reply);
	check_response(&reply, expected);
}

/* Only code and id: the words of these errors are ours to choose. */
static void check_error(const char *request, int code, const char *id)
{
	json_t *wanted = json_loads(id, JSON_DECODE_ANY, NULL);
	struct reply reply;
	json_t *error;

	dispatch(request, &reply);
	assert_int_equal(reply.count, 1);
	error = json_object_get(reply.response, "error");
	assert_int_equal(json_integer_value(json_object_get(error, "code")), code);
	assert_true(json_string_length(json_object_get(error, "message")) > 0);
	assert_true(json_equal(json_object_get(reply.response, "id"), wanted));
	assert_string_equal(json_string_value(json_object_get(reply.response, "jsonrpc")), "2.0");
	assert_null(json_object_get(reply.response, "result"));
	assert_int_equal(json_object_size(reply.response), 3);
	json_decref(wanted);
	json_decref(reply.response);
}

#define REQUEST "{\"jsonrpc\":\"2.0\","
#define RESULT(value, id) "{\"jsonrpc\":\"2.0\",\"result\":" value ",\"id\":" id "}"

static void parameters_by_name(void **state)
{
	(void)state;
	check(REQUEST "\"method\":\"subtract\",\"params\":{\"subtrahend\":23,\"minuend\":42},"
		      "\"id\":3}", RESULT("19", "3"));
	check(REQUEST "\"method\":\"subtract\",\"params\":{\"minuend\":42},\"id\":\"x\"}",
	      RESULT("42", "\"x\""));
	check(REQUEST "\"method\":\"nothing\",\"id\":null}", RESULT("true", "null"));
	check(REQUEST "\"method\":\"nothing\",\"params\":{},\"id\":1.5}", RESULT("true", "1.5"));
	check(REQUEST "\"method\":\"nothing\",\"params\":[],\"id\":4}", RESULT("true", "4"));
}

static void parameters_by_position(void **state)
{
	(void)state;
	/* The row that is not in this version has no position. */
	check(REQUEST "\"method\":\"subtract\",\"params\":[42,23],\"id\":1}", RESULT("19", "1"));
	check(REQUEST "\"method\":\"subtract\",\"params\":[42,23,{}],\"id\":1}",
	      RESULT("19", "1"));
	check_error(REQUEST "\"method\":\"subtract\",\"params\":[1,2,3,4],\"id\":1}",
		    ERROR_INVALID, "1");
	check_error(REQUEST "\"method\":\"nothing\",\"params\":[1],\"id\":1}", ERROR_INVALID, "1");
}

static void notifications_get_no_answer(void **state)
{
	(void)state;
	handled = 0;
	check(REQUEST "\"method\":\"subtract\",\"params\":[5,4]}", NULL);
	check(REQUEST "\"method\":\"nothing\"}", NULL);
	check(REQUEST "\"method\":\"fail\"}", NULL);
	assert_int_equal(handled, 3);
	check(REQUEST "\"method\":\"no.such\"}", NULL);
	check(REQUEST "\"method\":\"subtract\",\"params\":[]}", NULL);
	assert_int_equal(handled, 3);
}

static void requests_that_are_none(void **state)
{
	(void)state;
	check_error("1", ERROR_REQUEST, "null");
	check_error("\"x\"", ERROR_REQUEST, "null");
	check_error("null", ERROR_REQUEST, "null");
	check_error("{}", ERROR_REQUEST, "null");
	check_error("[]", ERROR_REQUEST, "null");
	check_error(REQUEST "\"method\":1,\"params\":\"bar\"}", ERROR_REQUEST, "null");
	check_error(REQUEST "\"method\":1,\"id\":7}", ERROR_REQUEST, "7");
	check_error("{\"method\":\"nothing\",\"id\":7}", ERROR_REQUEST, "7");
	check_error("{\"jsonrpc\":2.0,\"method\":\"nothing\",\"id\":7}", ERROR_REQUEST, "7");
	check_error("{\"jsonrpc\":\"1.0\",\"method\":\"nothing\",\"id\":7}", ERROR_REQUEST, "7");
	check_error(REQUEST "\"method\":\"nothing\",\"id\":[1]}", ERROR_REQUEST, "null");
	check_error(REQUEST "\"method\":\"nothing\",\"id\":true}", ERROR_REQUEST, "null");
	check_error(REQUEST "\"method\":\"nothing\",\"params\":1,\"id\":7}", ERROR_REQUEST, "7");
	check_error(REQUEST "\"method\":\"nothing\",\"params\":null,\"id\":7}", ERROR_REQUEST,
		    "7");
}

static void unknown_method(void **state)
{
	(void)state;
	check(REQUEST "\"method\":\"foobar\",\"id\":\"1\"}",
	      "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32601,\"message\":"
	      "\"there is no method \\\"foobar\\\"\"},\"id\":\"1\"}");
}

static void errors_have_details(void **state)
{
	(void)state;
	check(REQUEST "\"method\":\"subtract\",\"params\":{\"minuend\":1,\"subtrahend\":101},"
		      "\"id\":1}",
	      "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32602,\"message\":"
	      "\"subtract: \\\"subtrahend\\\" is out of range\",\"data\":{\"object\":\"subtract\","
	      "\"field\":\"subtrahend\",\"value\":\"101\",\"accepted\":\"0 to 100\","
	      "\"errno\":22}},\"id\":1}");
	/* What is empty is left out; bytes that are no UTF-8 do not spoil the response. */
	check(REQUEST "\"method\":\"fail\",\"id\":1}",
	      "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32004,\"message\":\"cannot open ?x\","
	      "\"data\":{\"object\":\"port vm1\",\"field\":\"device\",\"errno\":19}},\"id\":1}");
	check_error(REQUEST "\"method\":\"fail_silently\",\"id\":1}", ERROR_INTERNAL, "1");
	check_error(REQUEST "\"method\":\"nothing\",\"params\":{\"a\":1},\"id\":1}", ERROR_INVALID,
		    "1");
}

static void batch_of_the_specification(void **state)
{
	struct reply reply;
	json_t *error;

	(void)state;
	check("[" REQUEST "\"method\":\"subtract\",\"params\":[42,23],\"id\":\"2\"},"
	      REQUEST "\"method\":\"nothing\"},"
	      REQUEST "\"method\":\"nothing\",\"id\":9}]",
	      "[" RESULT("19", "\"2\"") "," RESULT("true", "9") "]");
	check("[" REQUEST "\"method\":\"nothing\"}," REQUEST "\"method\":\"nothing\"}]", NULL);
	dispatch("[1,2,3]", &reply);
	assert_int_equal(reply.count, 1);
	assert_int_equal(json_array_size(reply.response), 3);
	for (size_t i = 0; i < 3; i++) {
		error = json_object_get(json_array_get(reply.response, i), "error");
		assert_int_equal(json_integer_value(json_object_get(error, "code")), ERROR_REQUEST);
	}
	json_decref(reply.response);
	/* A batch in a batch is no request. */
	dispatch("[[" REQUEST "\"method\":\"nothing\",\"id\":9}]]", &reply);
	assert_int_equal(json_array_size(reply.response), 1);
	error = json_object_get(json_array_get(reply.response, 0), "error");
	assert_int_equal(json_integer_value(json_object_get(error, "code")), ERROR_REQUEST);
	json_decref(reply.response);
}

static void batch_has_limits(void **state)
{
	json_t *request = json_loads(REQUEST "\"method\":\"nothing\",\"id\":1}", 0, NULL);
	struct reply reply = { 0 };
	json_t *batch = json_array();

	(void)state;
	for (unsigned int i = 0; i < METHOD_BATCH_MAX; i++)
		json_array_append(batch, request);
	method_dispatch(tables, &context, NULL, NULL, batch, answer, &reply);
	assert_int_equal(reply.count, 1);
	assert_int_equal(json_array_size(reply.response), METHOD_BATCH_MAX);
	json_decref(reply.response);
	json_array_append(batch, request);
	handled = 0;
	method_dispatch(tables, &context, NULL, NULL, batch, answer, &reply);
	assert_int_equal(reply.count, 2);
	assert_int_equal(handled, 0);
	assert_int_equal(json_integer_value(json_object_get(
				 json_object_get(reply.response, "error"), "code")), ERROR_LIMIT);
	json_decref(reply.response);
	json_decref(batch);
	json_decref(request);
}

static void batch_answers_have_a_limit(void **state)
{
	json_t *request = json_loads(REQUEST "\"method\":\"big\",\"id\":1}", 0, NULL);
	struct reply reply = { 0 };
	json_t *batch = json_array();

	(void)state;
	for (unsigned int i = 0; i < 6; i++)
		json_array_append(batch, request);
	method_dispatch(tables, &context, NULL, NULL, batch, answer, &reply);
	assert_int_equal(json_array_size(reply.response), 6);
	for (size_t i = 0; i < 6; i++) {
		json_t *response = json_array_get(reply.response, i);
		json_t *code = json_object_get(json_object_get(response, "error"), "code");

		/* Three times 1 MiB and their frames fit in 4 MiB, a fourth does not. */
		assert_int_equal(json_integer_value(code), i < 3 ? 0 : ERROR_LIMIT);
		assert_int_equal(json_integer_value(json_object_get(response, "id")), 1);
	}
	json_decref(reply.response);
	json_decref(batch);
	json_decref(request);
}

static void kept_calls(void **state)
{
	struct error err;
	struct reply reply;
	struct reply other;

	(void)state;
	kept_count = 0;
	dispatch(REQUEST "\"method\":\"later\",\"params\":{\"minuend\":1,\"extra\":{}},\"id\":1}",
		 &reply);
	dispatch(REQUEST "\"method\":\"later\",\"params\":[2],\"id\":2}", &other);
	assert_int_equal(reply.count, 0);
	assert_int_equal(other.count, 0);
	assert_ptr_equal(call_context(kept[0]), &context);
	call_done(kept[1], json_integer(5), NULL);
	check_response(&other, RESULT("5", "2"));
	assert_int_equal(reply.count, 0);
	error_set(&err, ERROR_BUSY, 0, "busy");
	/* A result beside an error is not sent, and not lost either. */
	call_done(kept[0], json_integer(6), &err);
	check_response(&reply, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32003,\"message\":"
			       "\"busy\"},\"id\":1}");
	/* A notification that is kept gets no answer either, but tells that it is done. */
	dispatch(REQUEST "\"method\":\"later\",\"params\":[2]}", &reply);
	assert_int_equal(reply.count, 0);
	call_done(kept[2], NULL, NULL);
	check_response(&reply, NULL);
	check(REQUEST "\"method\":\"at_once\",\"id\":4}", RESULT("\"early\"", "4"));
}

static void batch_waits_for_kept_calls(void **state)
{
	struct reply reply;

	(void)state;
	kept_count = 0;
	dispatch("[" REQUEST "\"method\":\"later\",\"params\":[1],\"id\":1},"
		 REQUEST "\"method\":\"nothing\",\"id\":2},"
		 REQUEST "\"method\":\"at_once\",\"id\":3},"
		 REQUEST "\"method\":\"later\",\"params\":[1]}]", &reply);
	assert_int_equal(kept_count, 2);
	assert_int_equal(reply.count, 0);
	call_done(kept[0], NULL, NULL);
	assert_int_equal(reply.count, 0);
	call_done(kept[1], NULL, NULL);
	check_response(&reply, "[" RESULT("true", "2") "," RESULT("\"early\"", "3") ","
			       RESULT("true", "1") "]");
}

static void whole_parameters(void **state)
{
	struct reply reply;

	(void)state;
	/* null is a value here: nobody has replaced it by a default. */
	check(REQUEST "\"method\":\"mirror\",\"params\":{\"a\":null,\"b\":{\"c\":[1]}},\"id\":1}",
	      RESULT("{\"params\":{\"a\":null,\"b\":{\"c\":[1]}},\"peer\":[0,0,0]}", "1"));
	check(REQUEST "\"method\":\"mirror\",\"id\":1}",
	      RESULT("{\"params\":{},\"peer\":[0,0,0]}", "1"));
	handled = 0;
	dispatch(REQUEST "\"method\":\"mirror\",\"params\":[1],\"id\":1}", &reply);
	assert_int_equal(handled, 0);
	check_response(&reply, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32602,\"message\":"
			       "\"mirror takes its parameters by name, not by position\","
			       "\"data\":{\"object\":\"mirror\",\"accepted\":\"an object\","
			       "\"errno\":22}},\"id\":1}");
}

static void handlers_know_who_asks(void **state)
{
	static const struct call_peer peer = { .pid = 12, .uid = 34, .gid = 56 };
	json_t *request = json_loads("[" REQUEST "\"method\":\"mirror\",\"id\":1},"
				     REQUEST "\"method\":\"mirror\",\"id\":2}]", 0, NULL);
	struct reply reply = { 0 };

	(void)state;
	method_dispatch(tables, &context, &peer, NULL, request, answer, &reply);
	check_response(&reply, "[" RESULT("{\"params\":{},\"peer\":[12,34,56]}", "1") ","
			       RESULT("{\"params\":{},\"peer\":[12,34,56]}", "2") "]");
	json_decref(request);
}

static int log_file = -1;
static int real_stderr;

static void log_begin(void)
{
	char path[] = "/tmp/ringway-test-XXXXXX";

	log_file = mkstemp(path);
	assert_true(log_file >= 0);
	unlink(path);
	real_stderr = dup(STDERR_FILENO);
	dup2(log_file, STDERR_FILENO);
}

/* What was logged since log_begin. */
static void log_end(char *text, size_t size)
{
	ssize_t got;

	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	got = pread(log_file, text, size - 1, 0);
	close(log_file);
	assert_true(got >= 0);
	text[got] = '\0';
}

static void changes_are_logged(void **state)
{
	static const struct call_peer peer = { .pid = 12, .uid = 34, .gid = 56 };
	static const char *const requests[] = {
		REQUEST "\"method\":\"thing.set\",\"params\":{\"name\":\"vm1\"},\"id\":1}",
		REQUEST "\"method\":\"thing.set\",\"params\":{\"name\":7}}",
		REQUEST "\"method\":\"thing.set\",\"params\":{\"name\":\"x\\ny\",\"fail\":1}}",
		REQUEST "\"method\":\"thing.fill\",\"params\":{\"name\":\"a\"}}",
		REQUEST "\"method\":\"thing.fill\",\"params\":[1]}",
		/* This is no change. */
		REQUEST "\"method\":\"mirror\",\"params\":{\"name\":\"vm1\"},\"id\":1}",
	};
	struct reply reply = { 0 };
	char text[1024];

	(void)state;
	kept_count = 0;
	log_begin();
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		json_t *request = json_loads(requests[i], 0, NULL);

		method_dispatch(tables, &context, &peer, NULL, request, answer, &reply);
		json_decref(request);
		json_decref(reply.response);
		reply.response = NULL;
	}
	/* A call that is kept is logged when it is done: only then it is known how it went. */
	call_done(kept[0], NULL, NULL);
	log_end(text, sizeof(text));
	assert_int_equal(reply.count, 6);
	assert_string_equal(text,
			    "info rpc: thing.set vm1 by pid 12, uid 34\n"
			    "info rpc: thing.set by pid 12, uid 34\n"
			    "info rpc: thing.set x?y by pid 12, uid 34: refused: it is?busy\n"
			    "info rpc: thing.fill a by pid 12, uid 34: refused: "
			    "thing.fill: \"name\" is not known\n"
			    "info rpc: thing.fill by pid 12, uid 34\n");
}

static void error_response_without_request(void **state)
{
	struct error err;
	struct reply reply = { .count = 1 };

	(void)state;
	error_set(&err, ERROR_PARSE, 0, "no JSON");
	reply.response = method_error_response(NULL, &err);
	check_response(&reply, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32700,\"message\":"
			       "\"no JSON\"},\"id\":null}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parameters_by_name),
		cmocka_unit_test(parameters_by_position),
		cmocka_unit_test(notifications_get_no_answer),
		cmocka_unit_test(requests_that_are_none),
		cmocka_unit_test(unknown_method),
		cmocka_unit_test(errors_have_details),
		cmocka_unit_test(batch_of_the_specification),
		cmocka_unit_test(batch_has_limits),
		cmocka_unit_test(batch_answers_have_a_limit),
		cmocka_unit_test(kept_calls),
		cmocka_unit_test(batch_waits_for_kept_calls),
		cmocka_unit_test(whole_parameters),
		cmocka_unit_test(handlers_know_who_asks),
		cmocka_unit_test(changes_are_logged),
		cmocka_unit_test(error_response_without_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
