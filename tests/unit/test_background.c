/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/background.c: jobs run one after another, in order, on a thread of their own, and none is
 * lost.
 */
#include "base/background.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define JOBS 1000

struct record {
	struct background *background;
	pthread_t caller;
	bool same_thread;
	bool running, overlapped, refused;
	char name[16];
	unsigned int count;
	unsigned int order[JOBS];
	bool released;
};

struct job {
	struct record *record;
	unsigned int number;
};

static void note(void *argument)
{
	struct job *job = argument;
	struct record *record = job->record;

	record->overlapped |= record->running;
	record->running = true;
	record->same_thread |= pthread_equal(pthread_self(), record->caller) != 0;
	record->order[record->count++] = job->number;
	pthread_getname_np(pthread_self(), record->name, sizeof(record->name));
	record->running = false;
}

/* Free waits for all of them. */
static void runs_all_in_order(void **state)
{
	static struct record record;
	static struct job jobs[JOBS];

	(void)state;
	record.caller = pthread_self();
	record.background = background_new("behind");
	assert_non_null(record.background);
	for (unsigned int i = 0; i < JOBS; i++) {
		jobs[i] = (struct job){ &record, i };
		assert_int_equal(background_run(record.background, note, &jobs[i]), 0);
	}
	background_free(record.background);
	assert_int_equal(record.count, JOBS);
	for (unsigned int i = 0; i < JOBS; i++)
		assert_int_equal(record.order[i], i);
	assert_false(record.same_thread);
	assert_false(record.overlapped);
	assert_string_equal(record.name, "behind");
}

static void hold(void *argument)
{
	struct record *record = argument;
	const struct timespec pause = { .tv_nsec = 1000000 };

	while (!__atomic_load_n(&record->released, __ATOMIC_ACQUIRE))
		nanosleep(&pause, NULL);
}

/* Whoever gives a job does not wait for the one that is running. */
static void callers_do_not_wait(void **state)
{
	struct record record = { .caller = pthread_self() };
	struct job job = { &record, 7 };

	(void)state;
	record.background = background_new("behind");
	assert_int_equal(background_run(record.background, hold, &record), 0);
	assert_int_equal(background_run(record.background, note, &job), 0);
	__atomic_store_n(&record.released, true, __ATOMIC_RELEASE);
	background_free(record.background);
	assert_int_equal(record.count, 1);
	assert_int_equal(record.order[0], 7);
}

static void run_another(void *argument)
{
	struct job *job = argument;

	note(argument);
	if (++job->number < 5)
		job->record->refused |=
			background_run(job->record->background, run_another, job) != 0;
}

/* A job may give the next one, also while the thread is being ended. */
static void jobs_give_jobs(void **state)
{
	struct record record = { .caller = pthread_self() };
	struct job job = { &record, 0 };

	(void)state;
	record.background = background_new("behind");
	assert_int_equal(background_run(record.background, run_another, &job), 0);
	background_free(record.background);
	assert_false(record.refused);
	assert_int_equal(record.count, 5);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(record.order[i], i);
}

#define GIVERS 4
#define GIVEN 2000

static unsigned int sum; /* no lock: one thread alone runs the jobs */

static void add_one(void *argument)
{
	(void)argument;
	sum++;
}

static void *give(void *argument)
{
	for (int i = 0; i < GIVEN; i++)
		if (background_run(argument, add_one, NULL) != 0)
			return argument;
	return NULL;
}

static void any_thread_may_give(void **state)
{
	struct background *background = background_new("behind");
	pthread_t givers[GIVERS];

	(void)state;
	assert_non_null(background);
	for (int i = 0; i < GIVERS; i++)
		assert_int_equal(pthread_create(&givers[i], NULL, give, background), 0);
	for (int i = 0; i < GIVERS; i++) {
		void *failed;

		pthread_join(givers[i], &failed);
		assert_null(failed);
	}
	background_free(background);
	assert_int_equal(sum, GIVERS * GIVEN);
	background_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_all_in_order),
		cmocka_unit_test(callers_do_not_wait),
		cmocka_unit_test(jobs_give_jobs),
		cmocka_unit_test(any_thread_may_give),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
