/* SPDX-License-Identifier: BSD-3-Clause */
/* Feeds (rpc/server.h): notifications beside answers, for clients that read and that do not. */
#include "rpc/server.h"

#include "server_fixture.h"

#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define FEEDS_MAX 300
#define PADDING 1000

/* Counts up to `limit`, and waits there until it is raised. w: the server's thread */
struct counting {
	struct rpc_feed feed;
	unsigned int given;
	char text[PADDING + 64];
	bool ended;
};

static struct counting feeds[FEEDS_MAX];
static unsigned int feed_count;
static unsigned int limit;
static atomic_uint ended_count;

static const char *next(struct rpc_feed *feed, size_t *size)
{
	struct counting *own = (struct counting *)feed;

	if (own->given == limit)
		return NULL;
	*size = (size_t)snprintf(own->text, sizeof(own->text),
				 "{\"method\":\"n\",\"result\":%u,\"id\":-1%*s}\n", ++own->given,
				 PADDING, "");
	return own->text;
}

static void ended(struct rpc_feed *feed)
{
	assert_null(feed->client);
	((struct counting *)feed)->ended = true;
	atomic_fetch_add(&ended_count, 1);
}

static int follow(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct counting *own = &feeds[feed_count++];

	(void)params;
	(void)err;
	*own = (struct counting){ .feed = { next, ended, NULL } };
	if (rpc_feed_begin(call_client(call), &own->feed) != 0) {
		feed_count--;
		*result = json_string("busy");
		return 0;
	}
	assert_ptr_equal(rpc_feed_of(call_client(call)), &own->feed);
	*result = json_string("begun");
	return 0;
}

/* All may count so much further. */
static int go(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)call;
	(void)result;
	(void)err;
	limit += *(const uint32_t *)params;
	for (unsigned int i = 0; i < feed_count; i++)
		if (!feeds[i].ended && feeds[i].feed.client != NULL)
			rpc_feed_wake(&feeds[i].feed);
	return 0;
}

static int leave(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)params;
	(void)result;
	(void)err;
	rpc_feed_end(rpc_feed_of(call_client(call)));
	return 0;
}

static const struct param go_params[] = {
	{ "more", PARAM_UINT, .offset = 0, .size = sizeof(uint32_t), .required = true },
	{ NULL }
};

static const struct method own_methods[] = {
	{ "follow", "begins a feed", .handle = follow },
	{ "go", "lets them go on", go_params, sizeof(uint32_t), go },
	{ "leave", "ends this client's", .handle = leave },
	{ NULL }
};

static const struct method *own_tables[] = { own_methods, NULL, NULL };

static int setup(void **state)
{
	struct error err;

	if (server_fixture_directory(state) != 0)
		return -1;
	own_tables[1] = server_fixture_tables[0];
	feed_count = 0;
	limit = 0;
	atomic_store(&ended_count, 0);
	if (rpc_server_new(&fixture.server, fixture.loop, fixture.path, 0600, own_tables, NULL,
			   &err) != 0)
		return -1;
	start_thread();
	return 0;
}

static void ask(int fd, const char *method, const char *params)
{
	char text[256];
	int length = snprintf(text, sizeof(text),
			      "{\"jsonrpc\":\"2.0\",\"method\":\"%s\",\"id\":7,\"params\":%s}",
			      method, params);

	send_raw(fd, text, (size_t)length);
}

static int follower(void)
{
	int fd = connect_raw();

	ask(fd, "follow", "{}");
	expect_result(fd, 7, "\"begun\"");
	return fd;
}

static void expect_numbers(int fd, unsigned int first, unsigned int last)
{
	for (unsigned int i = first; i <= last; i++) {
		char number[16];

		snprintf(number, sizeof(number), "%u", i);
		expect_result(fd, -1, number);
	}
}

static void among_answers(void **state)
{
	int fd = follower(), other = connect_raw();

	(void)state;
	ask(other, "go", "{\"more\":3}");
	expect_result(other, 7, "true");
	expect_numbers(fd, 1, 3);
	/* Its own request causes notifications: behind the answer. */
	ask(fd, "go", "{\"more\":2}");
	expect_result(fd, 7, "true");
	expect_numbers(fd, 4, 5);
	ask(fd, "follow", "{}");
	expect_result(fd, 7, "\"busy\"");
	ask(fd, "leave", "{}");
	expect_result(fd, 7, "true");
	ask(fd, "go", "{\"more\":2}");
	expect_result(fd, 7, "true");
	ask(fd, "echo", "{\"value\":1}");
	expect_result(fd, 7, "1");
	assert_int_equal(atomic_load(&ended_count), 0);
	close(fd);
	close(other);
}

/* What is begun here stays with its owner until the client reads; the client stays, too. */
static void who_does_not_read(void **state)
{
	int fd = follower(), other = follower();
	struct pollfd hung_up = { .fd = fd, .events = POLLRDHUP };
	unsigned int waits;

	(void)state;
	ask(other, "go", "{\"more\":4000}");
	expect_result(other, 7, "true");
	expect_numbers(other, 1, 4000);
	/* Longer than a client may take that does not read an answer. */
	assert_int_equal(poll(&hung_up, 1, 6500), 0);
	stop_thread();
	waits = 4000 - feeds[0].given;
	/* The socket's buffer and ours hold some hundreds of them. */
	assert_true(waits > 3000);
	start_thread();
	expect_numbers(fd, 1, 4000);
	close(fd);
	close(other);
}

/* But one that also asks and does not read the answer is dropped as anybody would be. */
static void who_reads_no_answer(void **state)
{
	int fd = follower(), other = connect_raw();
	struct pollfd hung_up = { .fd = fd, .events = POLLRDHUP };

	(void)state;
	ask(other, "go", "{\"more\":4000}");
	expect_result(other, 7, "true");
	ask(fd, "echo", "{\"value\":1}");
	assert_int_equal(poll(&hung_up, 1, TIMEOUT), 1);
	while (atomic_load(&ended_count) == 0)
		sched_yield();
	check_alive();
	close(fd);
	close(other);
}

static void who_leaves(void **state)
{
	int fds[100];

	(void)state;
	for (unsigned int i = 0; i < 100; i++)
		fds[i] = follower();
	for (unsigned int i = 0; i < 50; i++)
		close(fds[i]);
	while (atomic_load(&ended_count) < 50)
		sched_yield();
	ask(fds[50], "go", "{\"more\":1}");
	expect_result(fds[50], 7, "true");
	for (unsigned int i = 50; i < 100; i++)
		expect_numbers(fds[i], 1, 1);
	/* The server's end is the end of its feeds. */
	stop_thread();
	rpc_server_free(fixture.server);
	fixture.server = NULL;
	assert_int_equal(atomic_load(&ended_count), 100);
	for (unsigned int i = 50; i < 100; i++)
		expect_end(fds[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(among_answers, setup, server_fixture_end),
		cmocka_unit_test_setup_teardown(who_does_not_read, setup, server_fixture_end),
		cmocka_unit_test_setup_teardown(who_reads_no_answer, setup, server_fixture_end),
		cmocka_unit_test_setup_teardown(who_leaves, setup, server_fixture_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
