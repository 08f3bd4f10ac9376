/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker/inject.c, and what worker.c makes of it: frames of the control thread that a running
 * worker sends as if a port had. Ports that come and go are in test_worker.c.
 */
#include "worker/inject.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "rig.h"

#define PATIENCE_S 20

static pthread_t thread;

static void *run(void *argument)
{
	return worker_run(argument) == 0 ? NULL : argument;
}

static void start(struct rig *rig, enum worker_idle idle)
{
	rig->worker->idle = idle;
	rig->worker->cycles_per_us = 1000; /* nobody has measured it without EAL */
	assert_int_equal(pthread_create(&thread, NULL, run, rig->worker), 0);
}

static void stop(struct rig *rig)
{
	void *result;

	worker_stop(rig->worker);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	rig_check_ledgers(rig);
}

static void nap(void)
{
	const struct timespec pause = { .tv_nsec = 200000 };

	nanosleep(&pause, NULL);
}

/* Waits until the worker has looked at all that was posted, and gone round once more. */
static void wait_until_drained(struct rig *rig)
{
	const struct injector *injector = &rig->worker->injector;
	const time_t end = time(NULL) + PATIENCE_S;
	uint64_t round;

	while (__atomic_load_n(&injector->tail, __ATOMIC_ACQUIRE) != injector->head) {
		assert_true(time(NULL) < end);
		nap();
	}
	round = counter_read(&rig->worker->counters.iterations);
	while (counter_read(&rig->worker->counters.iterations) < round + 2) {
		assert_true(time(NULL) < end);
		nap();
	}
}

static int post(struct rig *rig, uint16_t from, uint64_t to, uint32_t length)
{
	packet_ethernet(rig->bytes, to, rig_mac(from), length);
	return injector_post(&rig->worker->injector, rig->ports[from], rig->bytes, length);
}

static struct rx_counters received(struct rig *rig, uint16_t port)
{
	struct port_counters sum;

	port_sum_counters(rig->ports[port], &sum);
	return sum.rx;
}

/* As if it had come from the port: flooded, learned there, and counted. */
static void goes_the_way_of_all_frames(void **state)
{
	static const uint32_t lengths[] = { 14, 60, INJECT_LENGTH_MAX };
	struct rig *rig = rig_new(3, 1);

	(void)state;
	start(rig, IDLE_BUSY);
	for (uint32_t i = 0; i < 3; i++) {
		const struct memory_frame *sent;

		assert_int_equal(post(rig, 1, 0xffffffffffff, lengths[i]), 0);
		wait_until_drained(rig);
		for (uint16_t port = 0; port < 3; port++) {
			sent = memory_sent(rig->ports[port], 0, i);
			if (port == 1) {
				assert_null(sent);
				continue;
			}
			assert_non_null(sent);
			assert_int_equal(sent->length, lengths[i]);
			assert_int_equal(sent->needs, 0);
			assert_int_equal(sent->segments, 1);
			assert_int_equal(sent->from, 1);
			assert_memory_equal(sent->bytes, rig->bytes, lengths[i]);
		}
	}
	stop(rig);
	assert_int_equal(received(rig, 1).packets, 3);
	assert_int_equal(received(rig, 1).bytes, 14 + 60 + INJECT_LENGTH_MAX);
	assert_int_equal(received(rig, 1).flooded, 3);
	assert_int_equal(received(rig, 1).copies, 6);
	assert_int_equal(rig->worker->counters.packets, 3);
	assert_true(learner_drain(&rig->worker->learner, rig->fdb, 0) >= 1);
	assert_int_equal(fdb_lookup(rig->fdb, key_of(rig_mac(1), 0)), 1);
	rig_free(rig);
}

/* One for a known address goes there alone, and the receiver is told. */
static void is_forwarded(void **state)
{
	struct rig *rig = rig_new(3, 1);

	(void)state;
	rig_learn_hosts(rig);
	memory_set_wants(rig->ports[2], PORT_TX, true);
	start(rig, IDLE_ADAPTIVE);
	assert_int_equal(post(rig, 0, rig_mac(2), 60), 0);
	wait_until_drained(rig);
	stop(rig);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 0);
	assert_int_equal(memory_counts(rig->ports[2], 0).sent, 1);
	assert_int_equal(memory_counts(rig->ports[2], 0).notified[PORT_TX], 1);
	assert_int_equal(received(rig, 0).forwarded, 1);
	rig_free(rig);
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Nobody wakes a worker that naps; its naps are short enough. */
static void reaches_a_sleeper(void **state)
{
	struct rig *rig = rig_new(2, 1);
	uint64_t best = UINT64_MAX;

	(void)state;
	rig_learn_hosts(rig);
	start(rig, IDLE_ADAPTIVE);
	for (uint32_t i = 1; i <= 50; i++) {
		const uint64_t slept = counter_read(&rig->worker->counters.sleep_ns);
		const time_t end = time(NULL) + PATIENCE_S;
		uint64_t begin;

		/* By then its naps are as long as they get. */
		while (counter_read(&rig->worker->counters.sleep_ns) < slept + 2000000) {
			assert_true(time(NULL) < end);
			nap();
		}
		begin = now_us();
		assert_int_equal(post(rig, 0, rig_mac(1), 60), 0);
		while (memory_counts(rig->ports[1], 0).sent < i)
			assert_true(time(NULL) < end);
		if (now_us() - begin < best)
			best = now_us() - begin;
	}
	stop(rig);
	/* The longest nap, and what a machine under load takes to wake up. */
	assert_in_range(best, 0, 1000);
	rig_free(rig);
}

static void is_refused(void **state)
{
	struct rig *rig = rig_new(2, 1);

	(void)state;
	rig_learn_hosts(rig);
	assert_int_equal(post(rig, 0, rig_mac(1), INJECT_LENGTH_MAX + 1), -EMSGSIZE);
	assert_false(injector_has_frames(&rig->worker->injector));
	assert_int_equal(rig->worker->injector.refused, 0);
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < INJECT_SLOTS; i++)
			assert_int_equal(post(rig, 0, rig_mac(1), 60 + i), 0);
		assert_int_equal(post(rig, 0, rig_mac(1), 99), -ENOBUFS);
		assert_int_equal(rig->worker->injector.refused, 1 + round);
		rig->worker->stop = false;
		start(rig, IDLE_ADAPTIVE);
		wait_until_drained(rig);
		stop(rig);
		/* In order, and without the one that was refused. */
		for (uint32_t i = 0; i < INJECT_SLOTS; i++)
			assert_int_equal(memory_sent(rig->ports[1], 0, i)->length, 60 + i);
		assert_null(memory_sent(rig->ports[1], 0, INJECT_SLOTS));
		memory_forget(rig->ports[1], 0);
	}
	rig_free(rig);
}

/* What a frame's port is when its turn comes is not asked of its number alone. */
static void port_is_gone(void **state)
{
	struct rig *rig = rig_new(3, 1);

	(void)state;
	rig_learn_hosts(rig);
	assert_int_equal(post(rig, 0, rig_mac(2), 60), 0);
	assert_int_equal(post(rig, 1, rig_mac(2), 61), 0);
	assert_int_equal(post(rig, 2, rig_mac(0), 62), 0);
	/* Another port has the number of the first; the second's is free. */
	memory_port_free(rig->ports[0]);
	rig->ports[0] = memory_port_new("other", 0, 1, 1, NULL);
	assert_non_null(rig->ports[0]);
	snapshot_free(rig->snapshot);
	rig->snapshot = snapshot_new((struct port *[]){ rig->ports[0], NULL, rig->ports[2] }, 3, 1,
				     rig->fdb);
	assert_non_null(rig->snapshot);
	start(rig, IDLE_BUSY);
	wait_until_drained(rig);
	stop(rig);
	assert_int_equal(memory_counts(rig->ports[2], 0).sent, 0);
	assert_int_equal(memory_counts(rig->ports[0], 0).sent, 1);
	assert_int_equal(received(rig, 0).packets, 0);
	assert_int_equal(received(rig, 1).packets, 0);
	assert_int_equal(received(rig, 2).packets, 1);
	assert_int_equal(rig->worker->counters.packets, 1);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_the_way_of_all_frames),
		cmocka_unit_test(is_forwarded),
		cmocka_unit_test(reaches_a_sleeper),
		cmocka_unit_test(is_refused),
		cmocka_unit_test(port_is_gone),
	};

	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
