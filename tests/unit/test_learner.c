/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The learners of bridge/fdb.c: addresses on their way from a worker to the control thread.
 */
#include "bridge/fdb.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "keys.h"

static struct fdb *table(uint32_t capacity, uint32_t ageing)
{
	struct fdb *fdb = fdb_new(capacity, ageing);

	assert_non_null(fdb);
	return fdb;
}

static struct learner *learner_new(void)
{
	struct learner *learner = aligned_alloc(64, sizeof(*learner));

	assert_non_null(learner);
	memset(learner, 0, sizeof(*learner));
	return learner;
}

static void posts_once(void **state)
{
	struct learner *learner = learner_new();
	struct fdb *fdb = table(64, 300);
	const fdb_key_t key = key_of(0x525400000001, 0);

	(void)state;
	assert_int_equal(learner_drain(learner, fdb, 0), 0);
	for (int i = 0; i < 100; i++)
		learner_post(learner, key, 1);
	assert_int_equal(learner_drain(learner, fdb, 7), 1);
	assert_int_equal(fdb_lookup(fdb, key), 1);
	/* Another port is news, and so is the first one after it. */
	learner_post(learner, key, 2);
	learner_post(learner, key, 1);
	assert_int_equal(learner_drain(learner, fdb, 7), 2);
	assert_int_equal(fdb_lookup(fdb, key), 1);
	assert_int_equal(fdb->counters.moved, 2);
	/* What has been forgotten is posted again. */
	learner_post(learner, key, 1);
	assert_int_equal(learner_drain(learner, fdb, 7), 0);
	learner_forget(learner);
	learner_post(learner, key, 1);
	assert_int_equal(learner_drain(learner, fdb, 7), 1);
	assert_int_equal(learner->overflowed, 0);
	free(learner);
	fdb_free(fdb);
}

/* The memory of what was posted must not take one address at one port for another at another. */
static void confuses_nobody(void **state)
{
	struct learner *learner = learner_new();

	(void)state;
	/* Both share a place in that memory once in 64 pairs. */
	for (uint64_t i = 0; i < 2000; i++) {
		const uint64_t mac = scramble(i) & 0xfeffffffffffull;

		for (unsigned int bit = 0; bit < 48; bit++) {
			learner_forget(learner);
			learner_post(learner, key_of(mac, 0), 0);
			learner_post(learner, key_of(mac ^ 1ull << bit, 0), 1);
			assert_int_equal(learner->head - learner->tail, 2);
			learner->tail = learner->head;
		}
	}
	free(learner);
}

static void overflows(void **state)
{
	struct learner *learner = learner_new();
	struct fdb *fdb = table(4096, 300);

	(void)state;
	/* An index that is about to wrap, as after 4 G addresses. */
	learner->head = UINT32_MAX - 10;
	learner->tail = UINT32_MAX - 10;
	for (uint64_t i = 0; i < LEARNER_SLOTS + 5; i++)
		learner_post(learner, random_key(i), 3);
	assert_int_equal(learner->overflowed, 5);
	/* Not remembered as posted: it counts again, and is posted as soon as there is room. */
	learner_post(learner, random_key(LEARNER_SLOTS), 3);
	assert_int_equal(learner->overflowed, 6);
	assert_int_equal(learner_drain(learner, fdb, 0), LEARNER_SLOTS);
	assert_int_equal(fdb->entries, LEARNER_SLOTS);
	assert_int_equal(fdb_lookup(fdb, random_key(LEARNER_SLOTS)), FDB_NO_PORT);
	learner_post(learner, random_key(LEARNER_SLOTS), 3);
	assert_int_equal(learner_drain(learner, fdb, 0), 1);
	assert_int_equal(fdb_lookup(fdb, random_key(LEARNER_SLOTS)), 3);
	free(learner);
	fdb_free(fdb);
}

#define STREAM 200000

static void *post_stream(void *argument)
{
	struct learner *learner = argument;

	for (uint64_t i = 0; i < STREAM;) {
		uint64_t before = counter_read(&learner->overflowed);

		learner_post(learner, key_of(i, 0), (uint16_t)(i & FDB_PORT_MAX));
		i += counter_read(&learner->overflowed) == before;
	}
	return NULL;
}

/* A worker posts while the control thread drains: each address arrives once, with its own port. */
static void passes_between_threads(void **state)
{
	struct learner *learner = learner_new();
	struct fdb *fdb = table(FDB_CAPACITY_MAX, 0);
	unsigned int count = 0;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, post_stream, learner), 0);
	while (count < STREAM)
		count += learner_drain(learner, fdb, 0);
	pthread_join(thread, NULL);
	assert_int_equal(count, STREAM);
	assert_int_equal(fdb->entries, STREAM);
	assert_int_equal(fdb->counters.moved, 0);
	for (uint64_t i = 0; i < STREAM; i++)
		if (fdb_lookup(fdb, key_of(i, 0)) != (i & FDB_PORT_MAX))
			fail_msg("address %u got another's port", (unsigned int)i);
	free(learner);
	fdb_free(fdb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(posts_once),
		cmocka_unit_test(confuses_nobody),
		cmocka_unit_test(overflows),
		cmocka_unit_test(passes_between_threads),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
