/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control/apply.c: a model of memory ports is opened, switches frames, learns, and is closed again,
 * with the control loop and a worker in threads of their own as in the daemon.
 */
#include "control/apply.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "keys.h"
#include "port/memory.h"

#define PORTS 3
#define FAULTY 1 /* the port that the world does not let us open */

struct fixture {
	struct loop *loop;
	struct control *control;
	struct model model;
	struct model_port ports[PORTS];
	struct model_worker worker;
	struct memory_config configs[PORTS];
	pthread_t thread;
	unsigned int ready, stopped;
};

static void *run(void *argument)
{
	worker_run(argument);
	return NULL;
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct error err;

	if (fixture == NULL)
		return -1;
	for (unsigned int i = 0; i < PORTS; i++) {
		struct model_port *port = &fixture->ports[i];

		fixture->configs[i] = (struct memory_config){ NEEDS_ALL, NEEDS_ALL, 16,
							      i == FAULTY };
		snprintf(port->name, sizeof(port->name), "p%u", i);
		port->ops = &memory_ops;
		port->queues = 1;
		port->config = &fixture->configs[i];
	}
	fixture->model = (struct model){ 1, &fixture->worker, { 300, 1024 }, PORTS,
					 fixture->ports };
	fixture->loop = loop_new();
	if (fixture->loop == NULL ||
	    control_new(&fixture->control, fixture->loop, &fixture->model, &err) != 0)
		return -1;
	/* Nobody has measured it without EAL. */
	fixture->control->workers[0]->cycles_per_us = 1000;
	*state = fixture;
	alarm(60);
	return pthread_create(&fixture->thread, NULL, run, fixture->control->workers[0]);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	__atomic_store_n(&fixture->control->workers[0]->stop, true, __ATOMIC_RELAXED);
	pthread_join(fixture->thread, NULL);
	control_free(fixture->control);
	loop_free(fixture->loop);
	free(fixture);
	return 0;
}

static void is_ready(void *argument)
{
	struct fixture *fixture = argument;

	fixture->ready++;
	loop_stop(fixture->loop);
}

static void has_stopped(void *argument)
{
	struct fixture *fixture = argument;

	fixture->stopped++;
	loop_stop(fixture->loop);
}

static void start(struct fixture *fixture)
{
	control_start(fixture->control, is_ready, fixture);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->ready, 1);
}

static void stop(struct fixture *fixture)
{
	control_stop(fixture->control, has_stopped, fixture);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->stopped, 1);
	assert_int_equal(fixture->ready, 1);
}

static void opens_and_closes(void **state)
{
	struct fixture *fixture = *state;
	struct control_port *port;
	const char *reason = NULL;

	start(fixture);
	for (unsigned int i = 0; i < PORTS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "p%u", i);
		port = control_find_port(fixture->control, name);
		assert_non_null(port);
		assert_int_equal(port->state, i == FAULTY ? PORT_FAULTY : PORT_OPEN);
		assert_int_equal(control_port_is_up(port, &reason), i != FAULTY);
	}
	assert_null(control_find_port(fixture->control, "p9"));
	/* The one that the world refused says why, and workers do not see it. */
	port = control_find_port(fixture->control, "p1");
	control_port_is_up(port, &reason);
	assert_string_equal(reason, "this port was told to fail");
	assert_null(fixture->control->snapshot->ports[FAULTY]);
	assert_int_equal(fixture->control->snapshot->table.flood_count, PORTS - 1);
	stop(fixture);
	for (unsigned int i = 0; i < PORTS; i++) {
		port = &fixture->control->ports[i];
		assert_int_equal(port->state, i == FAULTY ? PORT_FAULTY : PORT_CLOSED);
		assert_null(port->port);
	}
	assert_int_equal(fixture->control->snapshot->table.flood_count, 0);
}

/* Stops the loop once both frames have arrived and their senders are known. */
static void look_for_two(void *argument)
{
	struct fixture *fixture = argument;

	if (fixture->control->fdb->entries == 2 &&
	    memory_counts(fixture->control->ports[0].port, 0).sent > 0 &&
	    memory_counts(fixture->control->ports[2].port, 0).sent > 0)
		loop_stop(fixture->loop);
}

static void learns_while_it_runs(void **state)
{
	struct fixture *fixture = *state;
	struct loop_timer timer = { NULL };
	uint8_t bytes[60];
	const struct memory_frame frame = { .bytes = bytes, .length = sizeof(bytes) };

	start(fixture);
	packet_ethernet(bytes, 0xffffffffffff, 0x525400000001, sizeof(bytes));
	assert_int_equal(memory_inject(fixture->control->ports[0].port, 0, &frame), 0);
	packet_ethernet(bytes, 0xffffffffffff, 0x525400000003, sizeof(bytes));
	assert_int_equal(memory_inject(fixture->control->ports[2].port, 0, &frame), 0);
	assert_int_equal(loop_timer_start(&timer, fixture->loop, 1, look_for_two, fixture), 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	loop_timer_stop(&timer);
	assert_int_equal(fdb_lookup(fixture->control->fdb, key_of(0x525400000001, 0)), 0);
	assert_int_equal(fdb_lookup(fixture->control->fdb, key_of(0x525400000003, 0)), 2);
	assert_int_equal(memory_counts(fixture->control->ports[0].port, 0).sent, 1);
	assert_int_equal(memory_counts(fixture->control->ports[2].port, 0).sent, 1);
	stop(fixture);
}

/* Leaving at once must not lose the openings that are still under way. */
static void stops_while_ports_open(void **state)
{
	struct fixture *fixture = *state;

	control_start(fixture->control, is_ready, fixture);
	control_stop(fixture->control, has_stopped, fixture);
	while (fixture->stopped == 0)
		assert_int_equal(loop_run(fixture->loop), 0);
	for (unsigned int i = 0; i < PORTS; i++)
		assert_null(fixture->control->ports[i].port);
	assert_int_equal(fixture->control->ports[0].state, PORT_CLOSED);
	assert_int_equal(fixture->stopped, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(opens_and_closes),
		TEST(learns_while_it_runs),
		TEST(stops_while_ports_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
