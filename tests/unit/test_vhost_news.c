/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a session tells of, from any thread to the control thread: in order, bounded, and none lost
 * uncounted.
 */
#include "port/vhost_news.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/loop.h"
#include "port/vhost_session.h"

static struct port *port;
static struct session *session;
static unsigned int told, lost, looks;
static json_int_t last;

static void tell(void *argument, struct port *of, enum event_kind kind, json_t *fields)
{
	json_int_t pid = json_integer_value(json_object_get(fields, "pid"));

	assert_ptr_equal(argument, &told);
	assert_ptr_equal(of, port);
	if (kind == EVENT_LEFT_OUT) {
		lost += (unsigned int)json_integer_value(json_object_get(fields, "count"));
		assert_string_equal(json_string_value(json_object_get(fields, "kinds")), "guest");
	} else {
		assert_true(pid > last);
		last = pid;
		told++;
	}
	json_decref(fields);
}

static void look(void *argument, struct port *of)
{
	assert_ptr_equal(argument, &told);
	assert_ptr_equal(of, port);
	looks++;
}

static int setup(void **state)
{
	static const struct port_ops ops = { .type = "vhost-user" };
	const struct port_host host = { .loop = loop_new(), .tell = tell, .look = look,
					.argument = &told };

	(void)state;
	told = lost = looks = 0;
	last = 0;
	port = port_new(&ops, "vm1", 0, 1, 1, &host);
	session = calloc(1, sizeof(*session));
	if (port == NULL || session == NULL || host.loop == NULL)
		return -1;
	session->port = port;
	port->driver = session;
	return pthread_mutex_init(&session->lock, NULL);
}

static int teardown(void **state)
{
	(void)state;
	pthread_mutex_destroy(&session->lock);
	loop_free(port->host.loop);
	port_free(port);
	free(session);
	return 0;
}

static void add(enum event_kind kind, pid_t pid)
{
	const struct news_item item = { .kind = kind, .pid = pid, .reason = "so it is" };

	pthread_mutex_lock(&session->lock);
	news_add(session, &item);
	pthread_mutex_unlock(&session->lock);
}

/* What was posted before the stop runs. */
static void run(void)
{
	loop_stop(port->host.loop);
	assert_int_equal(loop_run(port->host.loop), 0);
}

static void in_order(void **state)
{
	(void)state;
	add(EVENT_GUEST_CONNECTED, 1);
	add(EVENT_GUEST_FEATURES, 2);
	add(EVENT_GUEST_GONE, 3);
	assert_int_equal(told, 0);
	run();
	assert_int_equal(told, 3);
	/* One look for all of them. */
	assert_int_equal(looks, 1);
	pthread_mutex_lock(&session->lock);
	news_look(session);
	news_look(session);
	pthread_mutex_unlock(&session->lock);
	run();
	assert_int_equal(looks, 2);
	assert_int_equal(told, 3);
	assert_int_equal(lost, 0);
}

static void bounded(void **state)
{
	(void)state;
	for (pid_t pid = 1; pid <= NEWS_MAX + 5; pid++)
		add(EVENT_GUEST_REFUSED, pid);
	run();
	assert_int_equal(told, NEWS_MAX);
	assert_int_equal(lost, 5);
	add(EVENT_GUEST_REFUSED, 100);
	run();
	assert_int_equal(told, NEWS_MAX + 1);
	assert_int_equal(lost, 5);
}

/* Nobody wants to know; or the port is closed by the time. */
static void to_nobody(void **state)
{
	(void)state;
	port->driver = NULL;
	add(EVENT_GUEST_GONE, 1);
	run();
	port->host.tell = NULL;
	session->news.posted = false;
	add(EVENT_GUEST_GONE, 2);
	run();
	assert_int_equal(told, 0);
	assert_int_equal(looks, 0);
}

static void *flood(void *argument)
{
	(void)argument;
	for (pid_t pid = 1; pid <= 20000; pid++)
		add(EVENT_GUEST_GONE, pid);
	loop_stop(port->host.loop);
	return NULL;
}

static void from_another_thread(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, flood, NULL), 0);
	assert_int_equal(loop_run(port->host.loop), 0);
	pthread_join(thread, NULL);
	run();
	assert_int_equal(told + lost, 20000);
	assert_true(told >= NEWS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(to_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(from_another_thread, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
