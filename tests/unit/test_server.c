/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rpc/server.c, rpc/socket.c and rpc/client.c together: a real server on its own thread, in a
 * directory of its own, and clients that behave well and badly. Bytes that the real client would
 * never send go through plain sockets.
 */
#include "rpc/server.h"

#include "base/log.h"
#include "rpc/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <linux/sockios.h>
#include <unistd.h>

#include <cmocka.h>

#define TIMEOUT 20000 /* ms; reached only where something hangs */
#define MIB ((size_t)1 << 20)

static char directory[64];
static char path[128];
static struct loop *loop;
static struct rpc_server *server;
static pthread_t thread;
static bool running;
static struct call *kept[512];
static atomic_uint kept_count;

struct echo {
	json_t *value;
	uint32_t bytes;
};

static const struct param echo_params[] = {
	{ "value", PARAM_JSON, PARAM_AT(struct echo, value), .json_kind = -1 },
	{ "bytes", PARAM_UINT, PARAM_AT(struct echo, bytes) },
	{ NULL }
};

static int echo(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct echo *echoed = params;
	char *text;

	(void)call;
	(void)err;
	*result = json_incref(echoed->value);
	if (echoed->bytes == 0)
		return 0;
	text = malloc(echoed->bytes);
	assert_non_null(text);
	memset(text, 'e', echoed->bytes);
	*result = json_stringn(text, echoed->bytes);
	free(text);
	return 0;
}

/* Answered when `release` is called. */
static int keep(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)params;
	(void)result;
	(void)err;
	kept[atomic_fetch_add(&kept_count, 1)] = call;
	return METHOD_LATER;
}

static const char keep_request[] = "{\"jsonrpc\":\"2.0\",\"method\":\"keep\",\"id\":1}";

static void release_all(void *argument)
{
	unsigned int count = atomic_exchange(&kept_count, 0);

	(void)argument;
	for (unsigned int i = 0; i < count; i++)
		call_done(kept[i], json_string("released"), NULL);
}

static int release(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)call;
	(void)params;
	(void)err;
	*result = json_integer((json_int_t)atomic_load(&kept_count));
	release_all(NULL);
	return 0;
}

static int shut_down(struct call *call, const void *params, json_t **result, struct error *err)
{
	loop_stop(loop);
	return echo(call, params, result, err);
}

static const struct method methods[] = {
	{ "echo", "its parameter, or so many bytes", echo_params, sizeof(struct echo), echo },
	{ "keep", "answers later", NULL, 0, keep },
	{ "release", "answers all that were kept", NULL, 0, release },
	{ "shutdown", "stops the loop", echo_params, sizeof(struct echo), shut_down },
	{ NULL }
};

static const struct method *const tables[] = { methods, NULL };

static void *run_loop(void *argument)
{
	(void)argument;
	loop_run(loop);
	return NULL;
}

static void start_thread(void)
{
	assert_int_equal(pthread_create(&thread, NULL, run_loop, NULL), 0);
	running = true;
}

static void stop_thread(void)
{
	if (!running)
		return;
	loop_stop(loop);
	pthread_join(thread, NULL);
	running = false;
}

/* A directory and a loop, no server. */
static int setup_directory(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/ringway-test-XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/s", directory);
	loop = loop_new();
	server = NULL;
	running = false;
	log_set_level(LOG_ERROR);
	alarm(60);
	return loop == NULL ? -1 : 0;
}

static int setup(void **state)
{
	struct error err;

	if (setup_directory(state) != 0)
		return -1;
	if (rpc_server_new(&server, loop, path, 0600, tables, NULL, &err) != 0)
		return -1;
	start_thread();
	return 0;
}

static int teardown(void **state)
{
	char lock[160];

	(void)state;
	stop_thread();
	rpc_server_free(server);
	release_all(NULL);
	loop_free(loop);
	snprintf(lock, sizeof(lock), "%s.lock", path);
	unlink(lock);
	unlink(path);
	alarm(0);
	/* Fails if anything was left behind. */
	return rmdir(directory);
}

static struct rpc_client *open_client(unsigned int timeout)
{
	struct rpc_client *client;
	struct error err;

	if (rpc_client_open(&client, path, timeout, &err) != 0)
		fail_msg("%s", err.message);
	return client;
}

static void check_alive(void)
{
	struct rpc_client *client = open_client(TIMEOUT);
	struct error err;
	json_t *params = json_pack("{s:s}", "value", "alive");
	json_t *result;

	if (rpc_client_call(client, "echo", params, &result, NULL, &err) != 0)
		fail_msg("%s", err.message);
	assert_string_equal(json_string_value(result), "alive");
	json_decref(result);
	json_decref(params);
	rpc_client_close(client);
}

static int connect_raw(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void send_raw(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t sent = send(fd, text, size, MSG_NOSIGNAL);

		assert_true(sent > 0);
		text += sent;
		size -= (size_t)sent;
	}
}

/* Waits until the server has read all that was sent, so that what follows comes by itself. */
static void wait_until_read(int fd)
{
	int unread;

	do {
		assert_int_equal(ioctl(fd, SIOCOUTQ, &unread), 0);
		sched_yield();
	} while (unread > 0);
}

/* Receives some bytes; 0 at the end of the stream, however it came. */
static size_t receive_raw(int fd, char *text, size_t size)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	ssize_t got;

	assert_int_equal(poll(&ready, 1, TIMEOUT), 1);
	got = recv(fd, text, size, 0);
	if (got < 0)
		assert_int_equal(errno, ECONNRESET);
	return got < 0 ? 0 : (size_t)got;
}

/* One line, which is one answer. Returns NULL at the end of the stream. */
static json_t *receive_answer(int fd)
{
	static char text[5 << 20];
	size_t length = 0;
	json_t *answer;

	while (length == 0 || text[length - 1] != '\n') {
		/* Byte by byte, to leave what follows to the next call. */
		if (receive_raw(fd, text + length, 1) == 0)
			break;
		length++;
		assert_true(length < sizeof(text));
	}
	if (length == 0)
		return NULL;
	answer = json_loadb(text, length, 0, NULL);
	assert_non_null(answer);
	return answer;
}

static void expect_result(int fd, json_int_t id, const char *result)
{
	json_t *answer = receive_answer(fd);
	char *text;

	assert_non_null(answer);
	text = json_dumps(json_object_get(answer, "result"), JSON_ENCODE_ANY | JSON_COMPACT);
	assert_non_null(text);
	assert_string_equal(text, result);
	assert_int_equal(json_integer_value(json_object_get(answer, "id")), id);
	free(text);
	json_decref(answer);
}

static void expect_error(int fd, int code)
{
	json_t *answer = receive_answer(fd);

	assert_non_null(answer);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(answer, "error"),
							    "code")), code);
	assert_true(json_is_null(json_object_get(answer, "id")));
	json_decref(answer);
}

static void expect_end(int fd)
{
	char byte;

	assert_int_equal(receive_raw(fd, &byte, 1), 0);
	close(fd);
}

static size_t format_echo(char *text, size_t size, unsigned int id)
{
	return (size_t)snprintf(text, size, "{\"jsonrpc\":\"2.0\",\"method\":\"echo\","
				"\"params\":{\"value\":\"}\\\"{%u\"},\"id\":%u}", id, id);
}

static void check_echo(int fd, unsigned int id)
{
	char expected[32];

	snprintf(expected, sizeof(expected), "\"}\\\"{%u\"", id);
	expect_result(fd, (json_int_t)id, expected);
}

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
			length += (size_t)sprintf(text + length, " \r\n\t");
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
		length += (size_t)sprintf(text + length, "%s", bad[i]);
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
	while (atomic_load(&kept_count) < 1)
		sched_yield();
	check_alive();
	loop_post(loop, release_all, NULL);
	expect_result(fd, 1, "\"released\"");
	expect_end(fd);
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
	while (atomic_load(&kept_count) < 64)
		sched_yield();
	check_alive();
	assert_int_equal(atomic_load(&kept_count), 64);
	/* A client that is gone when its answer comes. */
	send_raw(gone, keep_request, strlen(keep_request));
	while (atomic_load(&kept_count) < 65)
		sched_yield();
	close(gone);
	assert_int_equal(rpc_client_call(client, "release", NULL, &result, NULL, &err), 0);
	assert_int_equal(json_integer_value(result), 65);
	json_decref(result);
	while (atomic_load(&kept_count) < 36)
		sched_yield();
	assert_int_equal(rpc_client_call(client, "release", NULL, &result, NULL, &err), 0);
	assert_int_equal(json_integer_value(result), 36);
	json_decref(result);
	for (unsigned int i = 0; i < 100; i++)
		expect_result(fd, 1, "\"released\"");
	close(fd);
	rpc_client_close(client);
}

static void kept_call_outlives_the_server(void **state)
{
	int fd = connect_raw();

	(void)state;
	send_raw(fd, keep_request, strlen(keep_request));
	while (atomic_load(&kept_count) < 1)
		sched_yield();
	stop_thread();
	rpc_server_free(server);
	server = NULL;
	expect_end(fd);
	release_all(NULL);
	assert_int_equal(access(path, F_OK), -1);
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
	loop_post(loop, release_all, NULL);
	check_alive();
	/* The late answer is not taken for the one to this call. */
	assert_int_equal(rpc_client_call(client, "echo", params, &result, NULL, &err), 0);
	assert_string_equal(json_string_value(result), "fresh");
	json_decref(result);
	json_decref(params);
	rpc_client_close(client);
}

static void client_without_daemon(void **state)
{
	struct rpc_client *client;
	char long_path[200];
	struct error err;

	(void)state;
	assert_int_equal(rpc_client_open(&client, path, 100, &err), -ENOENT);
	assert_string_equal(err.value, path);
	memset(long_path, 'p', sizeof(long_path));
	long_path[108] = '\0';
	assert_int_equal(rpc_client_open(&client, long_path, 100, &err), -EINVAL);
	assert_string_equal(err.accepted, "a path of 1 to 107 bytes");
	rpc_client_close(NULL);
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
	pthread_join(thread, NULL);
	running = false;
	/* Nobody reads: the socket takes a part, and the time is kept. */
	rpc_server_drain(server, 20);
	while (total < 100000) {
		got = receive_raw(fd, text, sizeof(text));
		assert_true(got > 0);
		total += got;
	}
	/* Now that there is room again, more leaves; in the end all of it has. */
	while (total < 3000000) {
		rpc_server_drain(server, 0);
		got = receive_raw(fd, text, sizeof(text));
		assert_true(got > 0);
		total += got;
	}
	rpc_server_free(server);
	server = NULL;
	while ((got = receive_raw(fd, text, sizeof(text))) > 0)
		total += got;
	assert_int_equal(total, 3000000 + strlen(frame));
	close(fd);
	close(lazy);
}

static void out_of_descriptors(void **state)
{
	struct rlimit before;
	struct rlimit few;
	char text[256];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	(void)state;
	assert_true(fd >= 0);
	strcpy(address.sun_path, path);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = (rlim_t)fd;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	send_raw(fd, text, format_echo(text, sizeof(text), 8));
	/* The server cannot take the client now, and must not lose it. */
	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 50), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	check_echo(fd, 8);
	close(fd);
}

static void second_server_is_refused(void **state)
{
	struct rpc_server *second;
	char expected[32];
	struct error err;

	(void)state;
	assert_int_equal(rpc_server_new(&second, loop, path, 0600, tables, NULL, &err),
			 -EADDRINUSE);
	assert_int_equal(err.kind, ERROR_EXISTS);
	assert_string_equal(err.field, "socket");
	assert_string_equal(err.value, path);
	snprintf(expected, sizeof(expected), "(pid %ld)", (long)getpid());
	assert_non_null(strstr(err.message, expected));
	check_alive();
	/* Once the first is gone, its lock is free and its socket file away. */
	stop_thread();
	rpc_server_free(server);
	server = NULL;
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(rpc_server_new(&server, loop, path, 0600, tables, NULL, &err), 0);
	start_thread();
	check_alive();
}

/* Binds a socket to the path and leaves the file there. */
static int bind_raw(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void stale_socket_is_replaced(void **state)
{
	struct error err;

	(void)state;
	close(bind_raw());
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(rpc_server_new(&server, loop, path, 0600, tables, NULL, &err), 0);
	start_thread();
	check_alive();
}

static void living_stranger_is_refused(void **state)
{
	int fd = bind_raw();
	struct error err;

	(void)state;
	/* It has no lock of ours, but it listens. */
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(rpc_server_new(&server, loop, path, 0600, tables, NULL, &err),
			 -EADDRINUSE);
	assert_int_equal(err.kind, ERROR_EXISTS);
	assert_int_equal(access(path, F_OK), 0);
	close(fd);
	server = NULL;
}

static void other_file_is_kept(void **state)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	struct error err;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(rpc_server_new(&server, loop, path, 0600, tables, NULL, &err), -EEXIST);
	assert_int_equal(err.kind, ERROR_EXISTS);
	assert_int_equal(access(path, F_OK), 0);
	server = NULL;
}

static void only_its_own_file_is_removed(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(rpc_server_new(&server, loop, path, 0600, tables, NULL, &err), 0);
	assert_int_equal(unlink(path), 0);
	close(bind_raw());
	rpc_server_free(server);
	server = NULL;
	assert_int_equal(access(path, F_OK), 0);
}

static void mode_ignores_the_umask(void **state)
{
	mode_t before = umask(0077);
	struct stat file;
	struct error err;

	(void)state;
	assert_int_equal(rpc_server_new(&server, loop, path, 0666, tables, NULL, &err), 0);
	umask(before);
	assert_int_equal(stat(path, &file), 0);
	assert_int_equal(file.st_mode & 07777, 0666);
}

static void bad_paths(void **state)
{
	char long_path[200];
	char missing[128];
	struct error err;

	(void)state;
	memset(long_path, 'p', sizeof(long_path));
	long_path[108] = '\0';
	assert_int_equal(rpc_server_new(&server, loop, long_path, 0600, tables, NULL, &err),
			 -EINVAL);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_string_equal(err.accepted, "a path of 1 to 107 bytes");
	assert_int_equal(rpc_server_new(&server, loop, "", 0600, tables, NULL, &err), -EINVAL);
	snprintf(missing, sizeof(missing), "%s/no/s", directory);
	assert_int_equal(rpc_server_new(&server, loop, missing, 0600, tables, NULL, &err),
			 -ENOENT);
	assert_int_equal(err.kind, ERROR_SYSTEM);
	assert_int_equal(err.errnum, ENOENT);
	server = NULL;
	rpc_server_free(NULL);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define WITH_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, setup_directory, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SERVER(calls),
		WITH_SERVER(pipelining),
		WITH_SERVER(split_at_every_byte),
		WITH_SERVER(white_space_does_not_pile_up),
		WITH_SERVER(oversize),
		WITH_SERVER(nesting_bomb),
		WITH_SERVER(no_json),
		WITH_SERVER(json_that_is_no_request),
		WITH_SERVER(batches),
		WITH_SERVER(half_closed),
		WITH_SERVER(slow_reader),
		WITH_SERVER(answer_too_long),
		WITH_SERVER(three_hundred_clients),
		WITH_SERVER(kept_calls),
		WITH_SERVER(kept_call_outlives_the_server),
		WITH_SERVER(client_times_out),
		WITH_SERVER(drain_sends_the_last_answers),
		WITH_SERVER(out_of_descriptors),
		WITH_SERVER(second_server_is_refused),
		WITH_DIRECTORY(client_without_daemon),
		WITH_DIRECTORY(stale_socket_is_replaced),
		WITH_DIRECTORY(living_stranger_is_refused),
		WITH_DIRECTORY(other_file_is_kept),
		WITH_DIRECTORY(only_its_own_file_is_removed),
		WITH_DIRECTORY(mode_ignores_the_umask),
		WITH_DIRECTORY(bad_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
