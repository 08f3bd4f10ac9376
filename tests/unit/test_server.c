/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rpc/server.c and rpc/client.c together: what goes over the connection, whole or in pieces, good
 * or bad.
 */
#include "rpc/server.h"

#include "server_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void calls(void **state)
{
	struct rpc_client *client = open_client(TIMEOUT);
	json_t *params = json_pack("{s:[i, n, {s:b}]}", "value", 1, "k", 1);
	json_t *error_object;
	json_t *result;
	struct error err;

	(void)state;
	for (unsigned int i = 0; i < 100; i++) {
		assert_int_equal(rpc_client_call(client, "echo", params, &result, NULL, &err), 0);
		assert_true(json_equal(result, json_object_get(params, "value")));
		json_decref(result);
	}
	assert_int_equal(rpc_client_call(client, "echo", NULL, &result, &error_object, &err), 0);
	assert_true(json_is_true(result));
	assert_null(error_object);
	json_decref(result);
	json_object_set_new(params, "vlaue", json_integer(1));
	assert_int_equal(rpc_client_call(client, "echo", params, &result, &error_object, &err),
			 -EREMOTEIO);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_int_equal(err.errnum, EINVAL);
	assert_string_equal(err.object, "echo");
	assert_string_equal(err.field, "vlaue");
	assert_string_equal(err.value, "1");
	assert_string_equal(err.accepted, "value, bytes");
	assert_int_equal(json_integer_value(json_object_get(error_object, "code")), ERROR_INVALID);
	json_decref(error_object);
	assert_int_equal(rpc_client_call(client, "no.such", NULL, &result, NULL, &err), -EREMOTEIO);
	assert_int_equal(err.kind, ERROR_METHOD);
	json_decref(params);
	rpc_client_close(client);
}

static void pipelining(void **state)
{
	char *text = malloc(MIB);
	size_t length = 0;
	int fd = connect_raw();

	(void)state;
	assert_non_null(text);
	for (unsigned int i = 0; i < 2000; i++) {
		length += format_echo(text + length, MIB - length, i);
		/* With all sorts of things in between. */
		if (i % 3 == 1)
			text[length++] = '\n';
		if (i % 3 == 2)
			length += (size_t)snprintf(text + length, MIB - length, " \r\n\t");
	}
	send_raw(fd, text, length);
	for (unsigned int i = 0; i < 2000; i++)
		check_echo(fd, i);
	close(fd);
	free(text);
}

static void split_at_every_byte(void **state)
{
	char text[256];
	size_t length;
	int fd = connect_raw();

	(void)state;
	/* Two requests, so that some cuts fall between them. */
	length = format_echo(text, sizeof(text), 1);
	length += format_echo(text + length, sizeof(text) - length, 2);
	for (size_t cut = 1; cut < length; cut++) {
		send_raw(fd, text, cut);
		wait_until_read(fd);
		send_raw(fd, text + cut, length - cut);
		check_echo(fd, 1);
		check_echo(fd, 2);
	}
	for (size_t i = 0; i < length; i++) {
		send_raw(fd, text + i, 1);
		wait_until_read(fd);
	}
	check_echo(fd, 1);
	check_echo(fd, 2);
	close(fd);
}

static void white_space_does_not_pile_up(void **state)
{
	static char spaces[64 << 10];
	char text[256];
	int fd = connect_raw();

	(void)state;
	memset(spaces, ' ', sizeof(spaces));
	/* More than one request, and more than the input buffer, may be long. */
	for (unsigned int i = 0; i < 32; i++)
		send_raw(fd, spaces, sizeof(spaces));
	send_raw(fd, text, format_echo(text, sizeof(text), 3));
	check_echo(fd, 3);
	close(fd);
}

static void no_json(void **state)
{
	static const char *const bad[] = {
		"GET / HTTP/1.1\r\n\r\n", "{]", "{\"a\":}", "{'a':1}", "[1,]", "\"\xff\"",
		"truth ", "01 ", "}", "{\"a\":\"\n\"}",
	};
	char text[256];
	size_t length;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int fd = connect_raw();

		/* What came before is answered, what comes after is not. */
		length = format_echo(text, sizeof(text), 1);
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s", bad[i]);
		length += format_echo(text + length, sizeof(text) - length, 2);
		send_raw(fd, text, length);
		check_echo(fd, 1);
		expect_error(fd, ERROR_PARSE);
		expect_end(fd);
	}
}

static void json_that_is_no_request(void **state)
{
	static const char *const odd[] = {
		"{\"a\":1,\"a\":2}", "[\"\\u0000\"]", "{\"\\u0000\":1}", "1e999 ",
		"99999999999999999999 ", "null ", "\"x\"", "[]", "{}",
	};
	char text[256];
	int fd = connect_raw();

	(void)state;
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		send_raw(fd, odd[i], strlen(odd[i]));
		expect_error(fd, ERROR_REQUEST);
	}
	/* The stream is still good. */
	send_raw(fd, text, format_echo(text, sizeof(text), 4));
	check_echo(fd, 4);
	close(fd);
}

static void the_server_says_who_asks(void **state)
{
	static const char request[] = "{\"jsonrpc\":\"2.0\",\"method\":\"who\",\"id\":1}";
	char expected[64];
	int fd = connect_raw();

	(void)state;
	snprintf(expected, sizeof(expected), "[%d,%u,%u]", (int)getpid(), (unsigned int)getuid(),
		 (unsigned int)getgid());
	send_raw(fd, request, strlen(request));
	expect_result(fd, 1, expected);
	close(fd);
}

static void batches(void **state)
{
	static const char batch[] =
		"[{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":[1],\"id\":1},"
		"{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":[2]},"
		"{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":[3],\"id\":3}]"
		/* Notifications alone get nothing at all, not an empty line either. */
		"[{\"jsonrpc\":\"2.0\",\"method\":\"echo\"}]"
		"{\"jsonrpc\":\"2.0\",\"method\":\"echo\"}"
		"{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":9}";
	int fd = connect_raw();
	json_t *answer;

	(void)state;
	send_raw(fd, batch, strlen(batch));
	answer = receive_answer(fd);
	assert_int_equal(json_array_size(answer), 2);
	json_decref(answer);
	expect_result(fd, 9, "true");
	close(fd);
}

static void half_closed(void **state)
{
	char text[256];
	int fd = connect_raw();

	(void)state;
	send_raw(fd, text, format_echo(text, sizeof(text), 6));
	shutdown(fd, SHUT_WR);
	check_echo(fd, 6);
	expect_end(fd);
	/* The end of the stream ends a number, but not an object. */
	fd = connect_raw();
	send_raw(fd, "12", 2);
	shutdown(fd, SHUT_WR);
	expect_error(fd, ERROR_REQUEST);
	expect_end(fd);
	fd = connect_raw();
	send_raw(fd, "{\"a\"", 4);
	shutdown(fd, SHUT_WR);
	expect_error(fd, ERROR_PARSE);
	expect_end(fd);
	/* A kept call is answered before the connection ends. */
	fd = connect_raw();
	send_raw(fd, keep_request, strlen(keep_request));
	shutdown(fd, SHUT_WR);
	while (atomic_load(&fixture.kept_count) < 1)
		sched_yield();
	check_alive();
	loop_post(fixture.loop, release_all, NULL);
	expect_result(fd, 1, "\"released\"");
	expect_end(fd);
}

static void kept_call_outlives_the_server(void **state)
{
	int fd = connect_raw();

	(void)state;
	send_raw(fd, keep_request, strlen(keep_request));
	while (atomic_load(&fixture.kept_count) < 1)
		sched_yield();
	stop_thread();
	rpc_server_free(fixture.server);
	fixture.server = NULL;
	expect_end(fd);
	release_all(NULL);
	assert_int_equal(access(fixture.path, F_OK), -1);
}

static void client_times_out(void **state)
{
	struct rpc_client *client = open_client(50);
	json_t *params = json_pack("{s:s}", "value", "fresh");
	struct error err;
	json_t *result;

	(void)state;
	assert_int_equal(rpc_client_call(client, "keep", NULL, &result, NULL, &err), -ETIMEDOUT);
	assert_int_equal(err.kind, ERROR_SYSTEM);
	loop_post(fixture.loop, release_all, NULL);
	check_alive();
	/* The late answer is not taken for the one to this call. */
	assert_int_equal(rpc_client_call(client, "echo", params, &result, NULL, &err), 0);
	assert_string_equal(json_string_value(result), "fresh");
	json_decref(result);
	json_decref(params);
	rpc_client_close(client);
}

static void drain_sends_the_last_answers(void **state)
{
	static const char request[] = "{\"jsonrpc\":\"2.0\",\"method\":\"shutdown\",\"id\":1,"
				      "\"params\":{\"bytes\":3000000}}";
	static const char last[] = "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":2,"
				   "\"params\":{\"bytes\":3000000}}";
	static const char frame[] = "{\"jsonrpc\":\"2.0\",\"result\":\"\",\"id\":1}\n";
	static char text[64 << 10];
	size_t total = 0;
	size_t got;
	int lazy = connect_raw();
	int fd = connect_raw();

	(void)state;
	send_raw(lazy, last, strlen(last));
	check_alive();
	send_raw(fd, request, strlen(request));
	pthread_join(fixture.thread, NULL);
	fixture.running = false;
	/* Nobody reads: the socket takes a part, and the time is kept. */
	rpc_server_drain(fixture.server, 20);
	while (total < 100000) {
		got = receive_raw(fd, text, sizeof(text));
		assert_true(got > 0);
		total += got;
	}
	/* Now that there is room again, more leaves; in the end all of it has. */
	while (total < 3000000) {
		rpc_server_drain(fixture.server, 0);
		got = receive_raw(fd, text, sizeof(text));
		assert_true(got > 0);
		total += got;
	}
	rpc_server_free(fixture.server);
	fixture.server = NULL;
	while ((got = receive_raw(fd, text, sizeof(text))) > 0)
		total += got;
	assert_int_equal(total, 3000000 + strlen(frame));
	close(fd);
	close(lazy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(calls, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(pipelining, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(split_at_every_byte, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(white_space_does_not_pile_up, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(no_json, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(json_that_is_no_request, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(the_server_says_who_asks, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(batches, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(half_closed, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(kept_call_outlives_the_server, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(client_times_out, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(drain_sends_the_last_answers, server_fixture_start,
						server_fixture_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
