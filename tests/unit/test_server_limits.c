/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The limits of rpc/server.h: clients that send too much, nest too deeply, do not read, come in
 * crowds, or ask for what takes long.
 */
#include "rpc/server.h"

#include "server_fixture.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A request of exactly so many bytes. */
static char *padded_request(size_t size)
{
	static const char head[] = "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":5,";
	static const char tail[] = "\"params\":{\"value\":7}}";
	char *text = malloc(size);

	assert_non_null(text);
	memset(text, ' ', size);
	memcpy(text, head, strlen(head));
	memcpy(text + size - strlen(tail), tail, strlen(tail));
	return text;
}

static void oversize(void **state)
{
	json_t *params = json_object();
	struct rpc_client *client;
	char *text;
	struct error err;
	json_t *result;
	int fd = connect_raw();

	(void)state;
	text = padded_request(256 << 10);
	send_raw(fd, text, 256 << 10);
	expect_result(fd, 5, "7");
	free(text);
	text = padded_request((256 << 10) + 1);
	send_raw(fd, text, (256 << 10) + 1);
	expect_error(fd, ERROR_LIMIT);
	expect_end(fd);
	free(text);
	/* The real client, which is still sending when it is refused. */
	text = malloc(4 * MIB);
	assert_non_null(text);
	memset(text, 'x', 4 * MIB);
	json_object_set_new(params, "value", json_stringn(text, 4 * MIB));
	free(text);
	client = open_client(TIMEOUT);
	assert_int_equal(rpc_client_call(client, "echo", params, &result, NULL, &err), -EREMOTEIO);
	assert_int_equal(err.kind, ERROR_LIMIT);
	rpc_client_close(client);
	json_decref(params);
	check_alive();
}

static void nesting_bomb(void **state)
{
	static const char head[] = "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":5,"
				   "\"params\":{\"value\":";
	char text[512];
	int fd = connect_raw();

	(void)state;
	/* The request and its parameters are two levels, so 30 more fit. */
	snprintf(text, sizeof(text), "%s%.30s%.30s}}", head, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
		 "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]");
	send_raw(fd, text, strlen(text));
	expect_result(fd, 5, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]");
	snprintf(text, sizeof(text), "%s%.31s%.31s}}", head, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
		 "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]");
	send_raw(fd, text, strlen(text));
	expect_error(fd, ERROR_LIMIT);
	expect_end(fd);
	fd = connect_raw();
	memset(text, '[', sizeof(text));
	send_raw(fd, text, sizeof(text));
	expect_error(fd, ERROR_LIMIT);
	expect_end(fd);
	check_alive();
}

static void slow_reader(void **state)
{
	static const char request[] = "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":1,"
				      "\"params\":{\"bytes\":1048576}}";
	struct pollfd hung_up;
	static char text[64 << 10];
	size_t total = 0;
	size_t got;
	int fd = connect_raw();

	(void)state;
	for (unsigned int i = 0; i < 20; i++)
		send_raw(fd, request, strlen(request));
	hung_up = (struct pollfd){ .fd = fd, .events = POLLRDHUP };
	assert_int_equal(poll(&hung_up, 1, TIMEOUT), 1);
	check_alive();
	while ((got = receive_raw(fd, text, sizeof(text))) > 0)
		total += got;
	assert_true(total < 8 * MIB);
	close(fd);
	/* Who reads gets everything. */
	fd = connect_raw();
	for (unsigned int i = 0; i < 20; i++) {
		send_raw(fd, request, strlen(request));
		for (total = 0; total < MIB; total += got) {
			got = receive_raw(fd, text, sizeof(text));
			assert_true(got > 0);
		}
		while (text[got - 1] != '\n')
			got = receive_raw(fd, text, sizeof(text));
	}
	close(fd);
}

static void answer_too_long(void **state)
{
	struct rpc_client *client = open_client(TIMEOUT);
	json_t *params = json_pack("{s:i}", "bytes", 4 * MIB - 64);
	struct error err;
	json_t *result;

	(void)state;
	assert_int_equal(rpc_client_call(client, "echo", params, &result, NULL, &err), 0);
	assert_int_equal(json_string_length(result), 4 * MIB - 64);
	json_decref(result);
	json_object_set_new(params, "bytes", json_integer(4 * MIB));
	assert_int_equal(rpc_client_call(client, "echo", params, &result, NULL, &err), -EREMOTEIO);
	assert_int_equal(err.kind, ERROR_LIMIT);
	json_decref(params);
	/* The connection goes on. */
	assert_int_equal(rpc_client_call(client, "echo", NULL, &result, NULL, &err), 0);
	json_decref(result);
	rpc_client_close(client);
}

static void three_hundred_clients(void **state)
{
	unsigned int served = 0;
	unsigned int refused = 0;
	char text[256];
	int fds[300];

	(void)state;
	for (unsigned int i = 0; i < 300; i++)
		fds[i] = connect_raw();
	for (unsigned int i = 0; i < 300; i++) {
		json_t *answer;

		/* A client that was turned away may get EPIPE here. */
		(void)!send(fds[i], text, format_echo(text, sizeof(text), i), MSG_NOSIGNAL);
		answer = receive_answer(fds[i]);
		assert_non_null(answer);
		if (json_object_get(answer, "result") != NULL) {
			served++;
		} else {
			json_t *error = json_object_get(answer, "error");

			assert_int_equal(json_integer_value(json_object_get(error, "code")),
					 ERROR_LIMIT);
			expect_end(fds[i]);
			fds[i] = -1;
			refused++;
		}
		json_decref(answer);
	}
	assert_int_equal(served, 256);
	assert_int_equal(refused, 44);
	for (unsigned int i = 0; i < 300; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	/* Their places are free again once the server has seen them go. */
	for (;;) {
		struct rpc_client *client = open_client(TIMEOUT);
		struct error err;
		json_t *result;
		int rc = rpc_client_call(client, "echo", NULL, &result, NULL, &err);

		rpc_client_close(client);
		if (rc == 0) {
			json_decref(result);
			break;
		}
		assert_int_equal(err.kind, ERROR_LIMIT);
	}
}

static void kept_calls(void **state)
{
	struct rpc_client *client = open_client(TIMEOUT);
	struct error err;
	json_t *result;
	int gone = connect_raw();
	int fd = connect_raw();

	(void)state;
	/* Only so many are taken from one client; the rest waits in its buffer. */
	for (unsigned int i = 0; i < 100; i++)
		send_raw(fd, keep_request, strlen(keep_request));
	while (atomic_load(&fixture.kept_count) < 64)
		sched_yield();
	check_alive();
	assert_int_equal(atomic_load(&fixture.kept_count), 64);
	/* A client that is gone when its answer comes. */
	send_raw(gone, keep_request, strlen(keep_request));
	while (atomic_load(&fixture.kept_count) < 65)
		sched_yield();
	close(gone);
	assert_int_equal(rpc_client_call(client, "release", NULL, &result, NULL, &err), 0);
	assert_int_equal(json_integer_value(result), 65);
	json_decref(result);
	while (atomic_load(&fixture.kept_count) < 36)
		sched_yield();
	assert_int_equal(rpc_client_call(client, "release", NULL, &result, NULL, &err), 0);
	assert_int_equal(json_integer_value(result), 36);
	json_decref(result);
	for (unsigned int i = 0; i < 100; i++)
		expect_result(fd, 1, "\"released\"");
	close(fd);
	rpc_client_close(client);
}

static void out_of_descriptors(void **state)
{
	struct rlimit before;
	struct rlimit few;
	char text[256];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = (rlim_t)fd;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(connect_to_path(fd), 0);
	send_raw(fd, text, format_echo(text, sizeof(text), 8));
	/* The server cannot take the client now, and must not lose it. */
	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 50), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	check_echo(fd, 8);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(oversize, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(nesting_bomb, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(slow_reader, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(answer_too_long, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(three_hundred_clients, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(kept_calls, server_fixture_start,
						server_fixture_end),
		cmocka_unit_test_setup_teardown(out_of_descriptors, server_fixture_start,
						server_fixture_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
