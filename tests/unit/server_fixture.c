/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server, the methods and the helpers that the tests of lib/rpc share.
 */
#include "server_fixture.h"

#include "base/log.h"
#include "base/units.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct server_fixture fixture;

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
	fixture.kept[atomic_fetch_add(&fixture.kept_count, 1)] = call;
	return METHOD_LATER;
}

const char keep_request[] = "{\"jsonrpc\":\"2.0\",\"method\":\"keep\",\"id\":1}";

void release_all(void *argument)
{
	unsigned int count = atomic_exchange(&fixture.kept_count, 0);

	(void)argument;
	for (unsigned int i = 0; i < count; i++)
		call_done(fixture.kept[i], json_string("released"), NULL);
}

static int release(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)call;
	(void)params;
	(void)err;
	*result = json_integer((json_int_t)atomic_load(&fixture.kept_count));
	release_all(NULL);
	return 0;
}

static int shut_down(struct call *call, const void *params, json_t **result, struct error *err)
{
	loop_stop(fixture.loop);
	return echo(call, params, result, err);
}

static int who(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct call_peer *peer = call_peer(call);

	(void)params;
	(void)err;
	*result = json_pack("[i, i, i]", (int)peer->pid, (int)peer->uid, (int)peer->gid);
	return 0;
}

static const struct method methods[] = {
	{ "echo", "its parameter, or so many bytes", echo_params, sizeof(struct echo), echo },
	{ "keep", "answers later", NULL, 0, keep },
	{ "release", "answers all that were kept", NULL, 0, release },
	{ "who", "pid, uid and gid of who asks", NULL, 0, who },
	{ "shutdown", "stops the loop", echo_params, sizeof(struct echo), shut_down },
	{ NULL }
};

const struct method *const server_fixture_tables[] = { methods, NULL };

static void *run_loop(void *argument)
{
	(void)argument;
	loop_run(fixture.loop);
	return NULL;
}

void start_thread(void)
{
	assert_int_equal(pthread_create(&fixture.thread, NULL, run_loop, NULL), 0);
	fixture.running = true;
}

void stop_thread(void)
{
	if (!fixture.running)
		return;
	loop_stop(fixture.loop);
	pthread_join(fixture.thread, NULL);
	fixture.running = false;
}

int server_fixture_directory(void **state)
{
	(void)state;
	snprintf(fixture.directory, sizeof(fixture.directory), "/tmp/ringway-test-XXXXXX");
	if (mkdtemp(fixture.directory) == NULL)
		return -1;
	snprintf(fixture.path, sizeof(fixture.path), "%s/s", fixture.directory);
	fixture.loop = loop_new();
	fixture.server = NULL;
	fixture.running = false;
	log_set_level(LOG_ERROR);
	alarm(60);
	return fixture.loop == NULL ? -1 : 0;
}

int server_fixture_start(void **state)
{
	struct error err;

	if (server_fixture_directory(state) != 0)
		return -1;
	if (rpc_server_new(&fixture.server, fixture.loop, fixture.path, 0600,
			   server_fixture_tables, NULL, &err) != 0)
		return -1;
	start_thread();
	return 0;
}

int server_fixture_end(void **state)
{
	char lock[160];

	(void)state;
	stop_thread();
	rpc_server_free(fixture.server);
	release_all(NULL);
	loop_free(fixture.loop);
	snprintf(lock, sizeof(lock), "%s.lock", fixture.path);
	unlink(lock);
	unlink(fixture.path);
	alarm(0);
	/* Fails if anything was left behind. */
	return rmdir(fixture.directory);
}

struct rpc_client *open_client(unsigned int timeout)
{
	struct rpc_client *client;
	struct error err;

	if (rpc_client_open(&client, fixture.path, timeout, &err) != 0)
		fail_msg("%s", err.message);
	return client;
}

void check_alive(void)
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

int connect_to_path(int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	text_copy(address.sun_path, sizeof(address.sun_path), fixture.path);
	return connect(fd, (struct sockaddr *)&address, sizeof(address));
}

int connect_raw(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect_to_path(fd), 0);
	return fd;
}

void send_raw(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t sent = send(fd, text, size, MSG_NOSIGNAL);

		assert_true(sent > 0);
		text += sent;
		size -= (size_t)sent;
	}
}

void wait_until_read(int fd)
{
	int unread;

	do {
		assert_int_equal(ioctl(fd, SIOCOUTQ, &unread), 0);
		sched_yield();
	} while (unread > 0);
}

size_t receive_raw(int fd, char *text, size_t size)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	ssize_t got;

	assert_int_equal(poll(&ready, 1, TIMEOUT), 1);
	got = recv(fd, text, size, 0);
	if (got < 0)
		assert_int_equal(errno, ECONNRESET);
	return got < 0 ? 0 : (size_t)got;
}

json_t *receive_answer(int fd)
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

void expect_result(int fd, json_int_t id, const char *result)
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

void expect_error(int fd, int code)
{
	json_t *answer = receive_answer(fd);

	assert_non_null(answer);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(answer, "error"),
							    "code")), code);
	assert_true(json_is_null(json_object_get(answer, "id")));
	json_decref(answer);
}

void expect_end(int fd)
{
	char byte;

	assert_int_equal(receive_raw(fd, &byte, 1), 0);
	close(fd);
}

size_t format_echo(char *text, size_t size, unsigned int id)
{
	return (size_t)snprintf(text, size, "{\"jsonrpc\":\"2.0\",\"method\":\"echo\","
				"\"params\":{\"value\":\"}\\\"{%u\"},\"id\":%u}", id, id);
}

void check_echo(int fd, unsigned int id)
{
	char expected[32];

	snprintf(expected, sizeof(expected), "\"}\\\"{%u\"", id);
	expect_result(fd, (json_int_t)id, expected);
}
