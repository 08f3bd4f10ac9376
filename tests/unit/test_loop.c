/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/loop.c: posting from threads, timers, signals, stopping. A watchdog ends a loop that hangs.
 */
#include "base/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define POSTS 5000

struct fixture {
	struct loop *loop;
	struct loop_timer timer;
	struct loop_timer other;
	unsigned int count;
	pthread_t thread;
	unsigned int order[16];
	bool wrong_thread;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (fixture == NULL)
		return -1;
	fixture->loop = loop_new();
	fixture->thread = pthread_self();
	*state = fixture;
	alarm(20);
	return fixture->loop == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	alarm(0);
	loop_timer_stop(&fixture->timer);
	loop_timer_stop(&fixture->other);
	loop_free(fixture->loop);
	free(fixture);
	return 0;
}

static void stop(void *argument)
{
	struct fixture *fixture = argument;

	loop_stop(fixture->loop);
}

static void count_up(void *argument)
{
	struct fixture *fixture = argument;

	if (!pthread_equal(pthread_self(), fixture->thread))
		fixture->wrong_thread = true;
	fixture->count++;
}

static void first(void *argument)
{
	struct fixture *fixture = argument;

	fixture->order[fixture->count++] = 1;
}

static void second(void *argument)
{
	struct fixture *fixture = argument;

	fixture->order[fixture->count++] = 2;
}

static void posts_run_in_order(void **state)
{
	static const unsigned int expected[] = { 1, 2, 2, 1 };
	struct fixture *fixture = *state;

	assert_int_equal(loop_post(fixture->loop, first, fixture), 0);
	assert_int_equal(loop_post(fixture->loop, second, fixture), 0);
	assert_int_equal(loop_post(fixture->loop, second, fixture), 0);
	assert_int_equal(loop_post(fixture->loop, first, fixture), 0);
	assert_int_equal(loop_post(fixture->loop, stop, fixture), 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->count, 4);
	assert_memory_equal(fixture->order, expected, sizeof(expected));
}

static void *post_many(void *argument)
{
	struct fixture *fixture = argument;

	for (unsigned int i = 0; i < POSTS; i++)
		if (loop_post(fixture->loop, count_up, fixture) != 0)
			return fixture;
	return NULL;
}

struct joiner {
	struct fixture *fixture;
	pthread_t posters[3];
	unsigned int failed;
};

/* Stops the loop once all posters are done; what they posted must have run by then. */
static void *join_and_stop(void *argument)
{
	struct joiner *joiner = argument;

	for (unsigned int i = 0; i < 3; i++) {
		void *rc;

		pthread_join(joiner->posters[i], &rc);
		joiner->failed += rc != NULL;
	}
	loop_stop(joiner->fixture->loop);
	return NULL;
}

static void threads_post(void **state)
{
	struct fixture *fixture = *state;
	struct joiner joiner = { .fixture = fixture };
	pthread_t thread;

	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&joiner.posters[i], NULL, post_many, fixture), 0);
	assert_int_equal(pthread_create(&thread, NULL, join_and_stop, &joiner), 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	pthread_join(thread, NULL);
	assert_int_equal(joiner.failed, 0);
	assert_int_equal(fixture->count, 3 * POSTS);
	assert_false(fixture->wrong_thread);
}

static void post_again(void *argument)
{
	struct fixture *fixture = argument;

	fixture->count++;
	loop_post(fixture->loop, post_again, fixture);
}

static void endless_posting_starves_nobody(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(loop_post(fixture->loop, post_again, fixture), 0);
	assert_int_equal(loop_timer_start(&fixture->timer, fixture->loop, 5, stop, fixture), 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_true(fixture->count > 0);
	/* One post still waits: loop_free must free it, as the leak checker sees. */
}

static void post_three_times(void *argument)
{
	struct fixture *fixture = argument;

	if (++fixture->count == 3)
		loop_stop(fixture->loop);
	else
		loop_post(fixture->loop, post_three_times, fixture);
}

static void stop_before_run(void **state)
{
	struct fixture *fixture = *state;

	loop_stop(fixture->loop);
	assert_int_equal(loop_run(fixture->loop), 0);
	/* And the loop can run again afterwards, until the next stop. */
	loop_post(fixture->loop, post_three_times, fixture);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->count, 3);
}

static long cpu_ms(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return used.tv_sec * 1000L + used.tv_nsec / 1000000;
}

static void idle_loop_sleeps(void **state)
{
	struct fixture *fixture = *state;
	long before = cpu_ms();

	loop_post(fixture->loop, count_up, fixture);
	assert_int_equal(loop_timer_start(&fixture->timer, fixture->loop, 200, stop, fixture), 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->count, 1);
	/* A post that went on waking the loop would take nearly all of the 200 ms. */
	assert_true(cpu_ms() - before < 50);
}

static void tick(void *argument)
{
	struct fixture *fixture = argument;

	if (++fixture->count == 3)
		loop_stop(fixture->loop);
}

static void timer_repeats(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(loop_timer_start(&fixture->timer, fixture->loop, 2, tick, fixture), 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->count, 3);
}

static void tick_once(void *argument)
{
	struct fixture *fixture = argument;

	fixture->count++;
	loop_timer_stop(&fixture->timer);
	loop_timer_stop(&fixture->timer);
}

static void timer_stops_itself(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(loop_timer_start(&fixture->timer, fixture->loop, 1, tick_once, fixture),
			 0);
	assert_int_equal(loop_timer_start(&fixture->other, fixture->loop, 40, stop, fixture), 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->count, 1);
	assert_null(fixture->timer.event);
}

static void stop_and_count(void *argument)
{
	count_up(argument);
	stop(argument);
}

static void signal_reaches_the_loop(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(loop_signal_start(&fixture->timer, fixture->loop, SIGUSR1, stop_and_count,
					   fixture), 0);
	raise(SIGUSR1);
	assert_int_equal(fixture->count, 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->count, 1);
	assert_false(fixture->wrong_thread);
}

static void broken_pipe_is_survived(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_int_equal(write(fds[1], "x", 1), -1);
	close(fds[1]);
}

static void free_takes_null(void **state)
{
	struct loop_timer timer = { 0 };

	(void)state;
	loop_free(NULL);
	loop_timer_stop(&timer);
	assert_null(timer.event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(posts_run_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(threads_post, setup, teardown),
		cmocka_unit_test_setup_teardown(endless_posting_starves_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(stop_before_run, setup, teardown),
		cmocka_unit_test_setup_teardown(idle_loop_sleeps, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_repeats, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_stops_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(signal_reaches_the_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(broken_pipe_is_survived, setup, teardown),
		cmocka_unit_test(free_takes_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
