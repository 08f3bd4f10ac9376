/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control/slots.c: which worker polls which queue, and queues that move from one to another while
 * three workers run. Worth most under a thread sanitizer: what belongs to the worker that polls a
 * queue has no lock.
 */
#include "control/slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "control_fixture.h"
#include "keys.h"
#include "port/memory.h"

#define HOST 0x525400000001
#define LENGTH 64
#define MOVES 200
#define FRAMES 20 /* of each flow between two moves */

static void submit(struct model_port *port)
{
	fixture_submit(order_put(port, NULL));
	fixture_await();
	if (fixture.failed > 0)
		fail_msg("%s", fixture.fault.message);
}

/* The worker that is said to poll it. */
static uint16_t worker_of(const char *name, uint16_t queue)
{
	return port_named(name)->port->queues[queue].worker;
}

static struct {
	const char *name;
	uint16_t queue, worker;
} awaited;

static bool is_polled(void)
{
	return fixture_poller(awaited.name, awaited.queue) == awaited.worker;
}

/* Waits until this worker polls the queue, as it is said to. */
static void await_polled(const char *name, uint16_t queue, uint16_t worker)
{
	awaited.name = name;
	awaited.queue = queue;
	awaited.worker = worker;
	fixture_wait(is_polled);
	assert_int_equal(worker_of(name, queue), worker);
}

static unsigned int ticks;

static bool time_is_over(void)
{
	return ++ticks > 50;
}

/* Some 50 ms, in which whatever wants to happen may. */
static void let_pass(void)
{
	ticks = 0;
	fixture_wait(time_is_over);
}

/* ---- placement ---- */

static void queues_are_spread(void **state)
{
	(void)state;
	fixture_start(with_queues(probe_port("a", "here"), 4), probe_port("b", "there"), NULL);
	for (uint16_t q = 0; q < 4; q++)
		await_polled("a", q, q % 3);
	await_polled("b", 0, 1);
	/* Others come and go. */
	submit(with_queues(probe_port("c", "anywhere"), 2));
	await_polled("c", 0, 2);
	await_polled("c", 1, 0);
	fixture_submit(order_remove("a"));
	fixture_await();
	let_pass();
	await_polled("b", 0, 1);
	await_polled("c", 0, 2);
}

static void a_port_says_which_worker(void **state)
{
	(void)state;
	/* Behind the last number comes the first again. */
	fixture_start(with_worker(with_worker(with_queues(probe_port("a", "here"), 3), 0, 2), 1, 1),
		      with_worker(probe_port("b", "there"), 0, 0), NULL);
	await_polled("a", 0, 2);
	await_polled("a", 1, 1);
	await_polled("a", 2, 2);
	await_polled("b", 0, 0);
	/* What it does not say any more is as if it had not. */
	submit(with_queues(probe_port("a", "here"), 3));
	assert_events("set a, ");
	await_polled("a", 0, 0);
	await_polled("a", 1, 1);
	await_polled("a", 2, 2);
}

static void a_worker_that_is_not_there(void **state)
{
	(void)state;
	fixture_start(probe_port("a", "here"), NULL);
	fixture_submit(order_put(with_worker(probe_port("a", "here"), 0, 3), NULL));
	fixture_await();
	assert_int_equal(fixture.failed, 1);
	assert_string_equal(fixture.fault.message, "port a: there is no worker 3");
	assert_string_equal(fixture.fault.object, "port a");
	assert_string_equal(fixture.fault.field, "workers");
	assert_string_equal(fixture.fault.value, "3");
	assert_string_equal(fixture.fault.accepted, "0 to 2");
	await_polled("a", 0, 0);
}

/* The model is one of more workers, which will be there after the next start. */
static void a_worker_that_is_not_there_yet(void **state)
{
	json_t *root = json_loads("{\"workers\": [{\"cpu\": 0}, {\"cpu\": 1}, {\"cpu\": 2},"
				  "{\"cpu\": 3}, {\"cpu\": 4}]}", 0, NULL);
	struct model *model;
	struct error err;

	(void)state;
	fixture_start(probe_port("a", "here"), NULL);
	assert_int_equal(model_parse(root, 0, &model, &err), 0);
	json_decref(root);
	assert_int_equal(model_put_port(model, with_worker(probe_port("a", "here"), 0, 4), &err),
			 0);
	fixture_submit(order_model(model));
	fixture_await();
	assert_int_equal(fixture.failed, 0);
	await_polled("a", 0, 1);
}

/* ---- moves ---- */

/* Nobody polls a queue before its old worker has let go of it. */
static void a_move_waits_for_workers(void **state)
{
	(void)state;
	fixture_start(probe_port("a", "here"), probe_port("b", "there"), NULL);
	await_polled("a", 0, 0);
	fixture_stall("a", 0);
	/* The change itself waits for nobody. */
	submit(with_worker(probe_port("a", "here"), 0, 1));
	assert_int_equal(worker_of("a", 0), PORT_NO_WORKER);
	let_pass();
	assert_int_equal(worker_of("a", 0), PORT_NO_WORKER);
	/* Other publications leave it out as well, whatever they are about. */
	submit(with_mtu(probe_port("b", "there"), 1400));
	assert_int_equal(worker_of("a", 0), PORT_NO_WORKER);
	submit(with_worker(probe_port("a", "here"), 0, 2));
	submit(with_mtu(probe_port("b", "there"), 1300));
	let_pass();
	assert_int_equal(worker_of("a", 0), PORT_NO_WORKER);
	assert_int_equal(fixture_poller("a", 0), 0);
	await_polled("b", 0, 1);
	fixture_stall_ends();
	/* The last wish is what counts. */
	await_polled("a", 0, 2);
}

static void a_move_back_and_forth(void **state)
{
	(void)state;
	fixture_start(probe_port("a", "here"), NULL);
	await_polled("a", 0, 0);
	fixture_stall("a", 0);
	submit(with_worker(probe_port("a", "here"), 0, 1));
	submit(with_worker(probe_port("a", "here"), 0, 0));
	let_pass();
	fixture_stall_ends();
	let_pass();
	await_polled("a", 0, 0);
}

/* Each of two moves waits for its own workers. */
static void a_second_move_begins_in_between(void **state)
{
	(void)state;
	fixture_start(with_worker(probe_port("a", "here"), 0, 0),
		      with_worker(probe_port("b", "there"), 0, 1), NULL);
	await_polled("a", 0, 0);
	await_polled("b", 0, 1);
	fixture_submit(order_put(with_worker(probe_port("a", "here"), 0, 2), NULL));
	assert_int_equal(worker_of("a", 0), PORT_NO_WORKER);
	/* Long enough for all to have seen that: the loop does not run meanwhile. */
	usleep(20000);
	fixture_stall("b", 0);
	submit(with_worker(probe_port("b", "there"), 0, 2));
	await_polled("a", 0, 2);
	let_pass();
	assert_int_equal(worker_of("b", 0), PORT_NO_WORKER);
	assert_int_equal(fixture_poller("b", 0), 1);
	fixture_stall_ends();
	await_polled("b", 0, 2);
	assert_int_equal(fixture.control->moving, 0);
	/* And nothing goes on that is over. */
	let_pass();
	assert_null(fixture.control->hurry.event);
}

static void a_port_goes_while_its_queue_moves(void **state)
{
	(void)state;
	fixture_start(probe_port("a", "here"), probe_port("b", "there"), NULL);
	await_polled("a", 0, 0);
	fixture_stall("a", 0);
	submit(with_worker(probe_port("a", "here"), 0, 1));
	fixture_submit(order_remove("a"));
	let_pass();
	assert_int_equal(fixture.ended, 1);
	fixture_stall_ends();
	fixture_await();
	assert_int_equal(fixture.failed, 0);
	/* One of its name begins anew. */
	submit(with_worker(probe_port("a", "here"), 0, 2));
	await_polled("a", 0, 2);
	let_pass();
	assert_int_equal(fixture.control->moving, 0);
}

/* A port that is opened anew has no past. */
static void a_port_is_opened_anew_while_its_queue_moves(void **state)
{
	(void)state;
	fixture_start(probe_port("a", "here"), NULL);
	await_polled("a", 0, 0);
	fixture_stall("a", 0);
	submit(with_worker(probe_port("a", "here"), 0, 1));
	fixture_submit(order_put(with_worker(probe_port("a", "elsewhere"), 0, 1), NULL));
	let_pass();
	fixture_stall_ends();
	fixture_await();
	assert_true(fixture.reopened);
	await_polled("a", 0, 1);
	let_pass();
	assert_int_equal(fixture.control->moving, 0);
}

/* ---- frames ---- */

static uint32_t sent;                /* of each flow */
static uint32_t arrived[2];          /* by queue that they came from */

/* The next frame of the flow that comes in by this queue of a. */
static void send(uint16_t queue)
{
	uint8_t bytes[LENGTH];
	const struct memory_frame frame = { .bytes = bytes, .length = sizeof(bytes) };

	packet_ethernet(bytes, HOST, HOST + 1 + queue, sizeof(bytes));
	packet_put32(bytes + 20, queue);
	packet_put32(bytes + 24, sent);
	assert_int_equal(memory_inject(port_named("a")->port, queue, &frame), 0);
}

static uint32_t number_at(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Each flow's frames come in order. */
static void take_arrived(void)
{
	struct port *port = port_named("b")->port;
	uint32_t count = memory_counts(port, 0).kept;

	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *bytes = memory_sent(port, 0, i)->bytes;
		uint32_t queue = number_at(bytes + 20);

		assert_true(queue < 2);
		assert_int_equal(number_at(bytes + 24), arrived[queue]++);
	}
}

static bool all_have_come(void)
{
	return memory_counts(port_named("b")->port, 0).sent == 2 * sent;
}

static void frames_keep_their_order(void **state)
{
	struct port_counters sum;

	(void)state;
	sent = 0;
	memset(arrived, 0, sizeof(arrived));
	fixture_start(with_queues(probe_port("a", "here"), 2),
		      with_kept(with_mac(probe_port("b", "there"), HOST), 2 * MOVES * FRAMES),
		      NULL);
	for (uint16_t i = 0; i < MOVES; i++) {
		struct model_port *port = with_queues(probe_port("a", "here"), 2);

		for (unsigned int f = 0; f < FRAMES; f++, sent++) {
			send(0);
			send(1);
		}
		submit(with_worker(with_worker(port, 0, i % 3), 1, (i + 1) / 2 % 3));
		/* Some moves begin before the last one is over. */
		if (i % 4 != 0)
			await_polled("a", 0, i % 3);
	}
	fixture_wait(all_have_come);
	take_arrived();
	assert_int_equal(arrived[0], MOVES * FRAMES);
	assert_int_equal(arrived[1], MOVES * FRAMES);
	port_sum_counters(port_named("a")->port, &sum);
	assert_int_equal(sum.rx.packets, 2 * MOVES * FRAMES);
	assert_int_equal(sum.rx.packets, sum.rx.forwarded);
	port_sum_counters(port_named("b")->port, &sum);
	assert_int_equal(sum.tx.offered, sum.tx.packets);
}

#define THREE(test) cmocka_unit_test_setup_teardown(test, fixture_setup_three, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		THREE(queues_are_spread),
		THREE(a_port_says_which_worker),
		THREE(a_worker_that_is_not_there),
		THREE(a_worker_that_is_not_there_yet),
		THREE(a_move_waits_for_workers),
		THREE(a_move_back_and_forth),
		THREE(a_second_move_begins_in_between),
		THREE(a_port_goes_while_its_queue_moves),
		THREE(a_port_is_opened_anew_while_its_queue_moves),
		THREE(frames_keep_their_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
