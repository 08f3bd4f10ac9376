/* SPDX-License-Identifier: BSD-3-Clause */
/* port/throttling.c: what the counters of two seconds say of the last one. */
#include "port/throttling.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "port/memory.h"
#include "sync/counter.h"

#define MS UINT64_C(1000000)
#define START (UINT64_C(5000) * MS)

static struct port_counters *counters_of(struct port *port, uint16_t queue, uint16_t worker)
{
	return &port->queues[queue].counters[worker];
}

static void expect_shares(const struct port *port, int in, int out)
{
	assert_int_equal((int)(port->throttling.in.share * 1000 + 0.5), in);
	assert_int_equal((int)(port->throttling.out.share * 1000 + 0.5), out);
}

static void shares_are_of_the_last_second(void **state)
{
	struct port *port = memory_port_new("a", 0, 3, 2, NULL);

	(void)state;
	/* What was before the first look is nobody's second. */
	counter_add(&counters_of(port, 1, 0)->rx.throttled_ns, 700 * MS);
	counter_add(&counters_of(port, 0, 1)->tx.throttled_ns, 700 * MS);
	counter_add(&counters_of(port, 0, 0)->rx.dropped[DROP_LIMIT], 5);
	throttling_look(port, START);
	expect_shares(port, 0, 0);
	assert_int_equal(port->throttling.in.limit, 0);
	/* Whoever was held the longest counts; a queue may have gone from worker to worker. */
	counter_add(&counters_of(port, 0, 0)->rx.throttled_ns, 200 * MS);
	counter_add(&counters_of(port, 2, 0)->rx.throttled_ns, 300 * MS);
	counter_add(&counters_of(port, 2, 1)->rx.throttled_ns, 150 * MS);
	counter_add(&counters_of(port, 0, 0)->tx.throttled_ns, 100 * MS);
	counter_add(&counters_of(port, 0, 1)->tx.throttled_ns, 125 * MS);
	counter_add(&counters_of(port, 0, 0)->rx.dropped[DROP_LIMIT], 2);
	counter_add(&counters_of(port, 1, 1)->rx.dropped[DROP_LIMIT], 1);
	counter_add(&counters_of(port, 0, 0)->tx.dropped[DROP_LIMIT], 4);
	counter_add(&counters_of(port, 0, 1)->tx.dropped[DROP_QUEUE_FULL], 6);
	counter_add(&counters_of(port, 0, 1)->tx.dropped[DROP_QUEUE_TIMEOUT], 7);
	throttling_look(port, START + 1000 * MS);
	expect_shares(port, 450, 125);
	assert_int_equal(port->throttling.in.limit, 3);
	assert_int_equal(port->throttling.out.limit, 4);
	assert_int_equal(port->throttling.out.queue_full, 6);
	assert_int_equal(port->throttling.out.queue_timeout, 7);
	/* Late looks are of longer seconds; what is counted a little late is no more than all. */
	counter_add(&counters_of(port, 1, 1)->rx.throttled_ns, 500 * MS);
	counter_add(&counters_of(port, 0, 0)->tx.throttled_ns, 2100 * MS);
	throttling_look(port, START + 3000 * MS);
	expect_shares(port, 250, 1000);
	assert_int_equal(port->throttling.out.queue_full, 0);
	throttling_look(port, START + 4000 * MS);
	expect_shares(port, 0, 0);
	memory_port_free(port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_are_of_the_last_second),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
