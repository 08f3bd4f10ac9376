/* SPDX-License-Identifier: BSD-3-Clause */
/* The watchdog over a thread that stands for a worker: it works, sleeps, or is held by a call. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/sleep.h"
#include "worker/watchdog.h"

static struct worker worker;
static int result, error;

/* Blocks in a read for want of anything to read. */
static void *hold(void *argument)
{
	uint64_t word;

	watchdog_begin(&worker, true);
	result = (int)read(*(int *)argument, &word, sizeof(word));
	error = errno;
	watchdog_begin(&worker, false);
	return NULL;
}

static void who_is_held_is_freed(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	pthread_t thread;
	bool freed = false;

	(void)state;
	assert_int_equal(watchdog_init(), 0);
	assert_int_equal(pthread_create(&thread, NULL, hold, &fd), 0);
	while (!__atomic_load_n(&worker.runs, __ATOMIC_ACQUIRE))
		usleep(1000);
	/* A signal that came before the call began does not end it: until it has ended. */
	for (int i = 0; i < 500 && __atomic_load_n(&worker.runs, __ATOMIC_ACQUIRE); i++) {
		freed |= watchdog_look(&worker);
		usleep(10000);
	}
	pthread_join(thread, NULL);
	assert_true(freed);
	assert_int_equal(result, -1);
	assert_int_equal(error, EINTR);
	close(fd);
}

static void others_are_left_alone(void **state)
{
	(void)state;
	watchdog_begin(&worker, true);
	for (int i = 0; i < 100; i++) {
		worker.counters.iterations++;
		assert_false(watchdog_look(&worker));
	}
	/* Nine looks are not enough. */
	for (int i = 0; i < 9; i++)
		assert_false(watchdog_look(&worker));
	worker.counters.iterations++;
	worker.sleeps = true;
	for (int i = 0; i < 100; i++)
		assert_false(watchdog_look(&worker));
	worker.sleeps = false;
	for (int i = 0; i < 9; i++)
		assert_false(watchdog_look(&worker));
	assert_true(watchdog_look(&worker));
	watchdog_begin(&worker, false);
	for (int i = 0; i < 100; i++)
		assert_false(watchdog_look(&worker));
}

static void look_often(int count)
{
	while (count-- > 0)
		watchdog_look(&worker);
}

static void who_stands_still_is_stalled(void **state)
{
	(void)state;
	assert_int_equal(watchdog_init(), 0);
	watchdog_begin(&worker, true);
	worker.counters.iterations++;
	/* The first look sees the progress. */
	look_often(WATCHDOG_STALLED_MS / 10);
	assert_false(watchdog_is_stalled(&worker));
	look_often(1);
	assert_true(watchdog_is_stalled(&worker));
	look_often(1000);
	assert_true(watchdog_is_stalled(&worker));
	worker.counters.iterations++;
	look_often(1);
	assert_false(watchdog_is_stalled(&worker));
	/* Who sleeps stands still as it should, but for no longer than sleeps are. */
	worker.sleeps = true;
	look_often(2 * SLEEP_LAST_MS / 10);
	assert_false(watchdog_is_late(&worker));
	look_often(WATCHDOG_STALLED_MS / 10 - 1);
	assert_false(watchdog_is_stalled(&worker));
	look_often(1);
	assert_true(watchdog_is_stalled(&worker));
	assert_int_equal(watchdog_stands_ms(&worker), 2 * SLEEP_LAST_MS + WATCHDOG_STALLED_MS);
	worker.counters.iterations++;
	look_often(1);
	assert_false(watchdog_is_stalled(&worker));
	worker.sleeps = false;
	watchdog_begin(&worker, false);
	look_often(1000);
	assert_false(watchdog_is_stalled(&worker));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_held_is_freed),
		cmocka_unit_test(others_are_left_alone),
		cmocka_unit_test(who_stands_still_is_stalled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
