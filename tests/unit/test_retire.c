/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sync/retire.c: nothing runs before every worker has moved on, and everything does once they have.
 */
#include "sync/retire.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/counter.h"

static void count_up(void *argument)
{
	++*(unsigned int *)argument;
}

static void waits_for_every_worker(void **state)
{
	struct retire *retire = retire_new(3);
	unsigned int ran = 0;

	(void)state;
	assert_non_null(retire);
	retire_online(retire, 0);
	retire_online(retire, 2); /* 1 is offline and sees nothing */
	assert_int_equal(retire_later(retire, count_up, &ran), 0);
	assert_int_equal(ran, 0);
	assert_int_equal(retire_poll(retire), 1);
	retire_quiescent(retire, 0);
	assert_int_equal(retire_poll(retire), 1);
	retire_quiescent(retire, 0);
	assert_int_equal(retire_poll(retire), 1);
	assert_int_equal(ran, 0);
	retire_quiescent(retire, 2);
	assert_int_equal(ran, 0);
	assert_int_equal(retire_poll(retire), 0);
	assert_int_equal(ran, 1);
	assert_int_equal(retire_poll(retire), 0);
	assert_int_equal(ran, 1);
	retire_offline(retire, 0);
	retire_offline(retire, 2);
	retire_free(retire);
}

/* What a worker says before the object was taken away is not about that object. */
static void earlier_reports_do_not_count(void **state)
{
	struct retire *retire = retire_new(1);
	unsigned int first = 0, second = 0;

	(void)state;
	retire_online(retire, 0);
	assert_int_equal(retire_later(retire, count_up, &first), 0);
	retire_quiescent(retire, 0);
	assert_int_equal(retire_later(retire, count_up, &second), 0);
	assert_int_equal(retire_poll(retire), 1);
	assert_int_equal(first, 1);
	assert_int_equal(second, 0);
	retire_quiescent(retire, 0);
	assert_int_equal(retire_poll(retire), 0);
	assert_int_equal(second, 1);
	retire_offline(retire, 0);
	retire_free(retire);
}

static void sleepers_hold_nothing_back(void **state)
{
	struct retire *retire = retire_new(2);
	unsigned int ran = 0;

	(void)state;
	retire_online(retire, 0);
	retire_online(retire, 1);
	assert_int_equal(retire_later(retire, count_up, &ran), 0);
	retire_quiescent(retire, 0);
	retire_offline(retire, 1);
	assert_int_equal(retire_poll(retire), 0);
	assert_int_equal(ran, 1);
	/* Who wakes up after the change sees what is new only. */
	assert_int_equal(retire_later(retire, count_up, &ran), 0);
	retire_online(retire, 1);
	retire_quiescent(retire, 0);
	assert_int_equal(retire_poll(retire), 0);
	assert_int_equal(ran, 2);
	/* And from then on counts again. */
	assert_int_equal(retire_later(retire, count_up, &ran), 0);
	retire_quiescent(retire, 0);
	assert_int_equal(retire_poll(retire), 1);
	assert_int_equal(ran, 2);
	retire_offline(retire, 0);
	retire_offline(retire, 1);
	retire_free(retire);
	assert_int_equal(ran, 3);
}

struct chain {
	struct retire *retire;
	unsigned int order[8];
	unsigned int count;
};

static void append_one(void *argument)
{
	struct chain *chain = argument;

	chain->order[chain->count++] = 1;
}

static void append_two_and_retire_one(void *argument)
{
	struct chain *chain = argument;

	chain->order[chain->count++] = 2;
	assert_int_equal(retire_later(chain->retire, append_one, chain), 0);
}

static void runs_in_order_and_may_go_on(void **state)
{
	static const unsigned int expected[] = { 1, 2, 1, 1 };
	struct chain chain = { .retire = retire_new(1) };

	(void)state;
	retire_online(chain.retire, 0);
	assert_int_equal(retire_later(chain.retire, append_one, &chain), 0);
	assert_int_equal(retire_later(chain.retire, append_two_and_retire_one, &chain), 0);
	assert_int_equal(retire_later(chain.retire, append_one, &chain), 0);
	assert_int_equal(retire_poll(chain.retire), 3);
	retire_quiescent(chain.retire, 0);
	/* The one that was added meanwhile waits for a report of its own. */
	assert_int_equal(retire_poll(chain.retire), 1);
	assert_int_equal(chain.count, 3);
	retire_offline(chain.retire, 0);
	retire_free(chain.retire);
	assert_int_equal(chain.count, 4);
	assert_memory_equal(chain.order, expected, sizeof(expected));
	retire_free(NULL);
}

/* ---- with threads ---- */

struct waiter {
	struct retire *retire;
	bool started, done;
};

static void *wait_once(void *argument)
{
	struct waiter *waiter = argument;

	__atomic_store_n(&waiter->started, true, __ATOMIC_SEQ_CST);
	retire_wait(waiter->retire);
	__atomic_store_n(&waiter->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void pause_ms(long milliseconds)
{
	const struct timespec pause = { .tv_nsec = milliseconds * 1000000 };

	nanosleep(&pause, NULL);
}

static void wait_returns_when_all_have_moved_on(void **state)
{
	struct waiter waiter = { .retire = retire_new(2) };
	pthread_t thread;

	(void)state;
	retire_wait(waiter.retire); /* nobody is online */
	retire_online(waiter.retire, 0);
	retire_online(waiter.retire, 1);
	assert_int_equal(pthread_create(&thread, NULL, wait_once, &waiter), 0);
	while (!__atomic_load_n(&waiter.started, __ATOMIC_SEQ_CST))
		pause_ms(1);
	/* Worker 1 says nothing: however long this takes, it must not be done. */
	for (int i = 0; i < 20; i++) {
		retire_quiescent(waiter.retire, 0);
		pause_ms(1);
		assert_false(__atomic_load_n(&waiter.done, __ATOMIC_SEQ_CST));
	}
	retire_offline(waiter.retire, 1);
	while (!__atomic_load_n(&waiter.done, __ATOMIC_SEQ_CST)) {
		retire_quiescent(waiter.retire, 0);
		pause_ms(1);
	}
	pthread_join(thread, NULL);
	retire_offline(waiter.retire, 0);
	retire_free(waiter.retire);
}

#define READERS 3
#define SWAPS 3000
#define ALIVE 0x600dcafeu

struct object {
	unsigned int mark;
	unsigned int *freed;
};

struct shared {
	struct retire *retire;
	struct object *current;
	bool stop;
	unsigned int freed;
};

struct reader {
	struct shared *shared;
	unsigned int number;
	pthread_t thread;
	uint64_t rounds;
	unsigned long dead;
};

/* Looks at the object several times before it says that it is done with it; sometimes it sleeps. */
static void *read_always(void *argument)
{
	struct reader *reader = argument;
	struct shared *shared = reader->shared;

	retire_online(shared->retire, reader->number);
	while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
		const struct object *object = __atomic_load_n(&shared->current, __ATOMIC_ACQUIRE);

		for (int i = 0; i < 20; i++)
			reader->dead += __atomic_load_n(&object->mark, __ATOMIC_RELAXED) != ALIVE;
		retire_quiescent(shared->retire, reader->number);
		counter_add(&reader->rounds, 1);
		if (reader->rounds % 1000 == 0) {
			retire_offline(shared->retire, reader->number);
			pause_ms(0);
			retire_online(shared->retire, reader->number);
		}
	}
	retire_offline(shared->retire, reader->number);
	return NULL;
}

static void free_object(void *argument)
{
	struct object *object = argument;

	++*object->freed;
	/* Even without a sanitizer a reader that is late can tell. */
	__atomic_store_n(&object->mark, 0, __ATOMIC_RELAXED);
	free(object);
}

static struct object *object_new(struct shared *shared)
{
	struct object *object = malloc(sizeof(*object));

	assert_non_null(object);
	object->mark = ALIVE;
	object->freed = &shared->freed;
	return object;
}

static void nothing_is_freed_early(void **state)
{
	struct shared shared = { .retire = retire_new(READERS) };
	struct reader readers[READERS];
	unsigned int freed_meanwhile = 0;

	(void)state;
	shared.current = object_new(&shared);
	for (unsigned int i = 0; i < READERS; i++) {
		readers[i] = (struct reader){ .shared = &shared, .number = i };
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_always,
						&readers[i]), 0);
	}
	for (unsigned int i = 0; i < READERS; i++)
		while (counter_read(&readers[i].rounds) == 0)
			pause_ms(1);
	for (unsigned int i = 0; i < SWAPS; i++) {
		struct object *old = shared.current;

		__atomic_store_n(&shared.current, object_new(&shared), __ATOMIC_RELEASE);
		if (i % 100 == 99) {
			/* As the vhost threads do it. */
			retire_wait(shared.retire);
			free_object(old);
			continue;
		}
		assert_int_equal(retire_later(shared.retire, free_object, old), 0);
		retire_poll(shared.retire);
		freed_meanwhile = shared.freed;
	}
	__atomic_store_n(&shared.stop, true, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].dead, 0);
	}
	assert_true(freed_meanwhile > SWAPS / 2);
	retire_free(shared.retire);
	assert_int_equal(shared.freed, SWAPS);
	free(shared.current);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_for_every_worker),
		cmocka_unit_test(earlier_reports_do_not_count),
		cmocka_unit_test(sleepers_hold_nothing_back),
		cmocka_unit_test(runs_in_order_and_may_go_on),
		cmocka_unit_test(wait_returns_when_all_have_moved_on),
		cmocka_unit_test(nothing_is_freed_early),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
