/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * telemetry/endpoints.c: questions of other threads are answered on the control loop, or not at all
 * within a second, whatever becomes of either side. In tests/system/test_metrics.py DPDK's own
 * client asks.
 */
#include "telemetry/endpoints.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static pthread_t control;
static unsigned int answers;

static json_t *echo(void *argument, const char *parameters)
{
	answers++;
	return json_pack("{s:s, s:s, s:b}", "argument", argument, "parameters", parameters,
			 "control", pthread_equal(pthread_self(), control));
}

static const struct endpoint table[] = {
	{ "/test/echo", "Says what it was asked", echo },
	{ NULL },
};

static void *run(void *argument)
{
	control = pthread_self();
	loop_run(argument);
	return NULL;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void check_answer(const char *parameters, const char *wanted)
{
	const char *fault, *given, *argument;
	json_t *answer = endpoints_ask("/test/echo", parameters, &fault);
	int on_control;

	assert_non_null(answer);
	assert_int_equal(json_unpack(answer, "{s:s, s:s, s:b}", "argument", &argument, "parameters",
				     &given, "control", &on_control),
			 0);
	assert_string_equal(argument, "context");
	assert_string_equal(given, wanted);
	assert_true(on_control);
	json_decref(answer);
}

static void the_control_loop_answers(void **state)
{
	struct loop *loop = loop_new();
	const char *fault;
	pthread_t thread;

	(void)state;
	assert_int_equal(endpoints_open(loop, table, (void *)(uintptr_t)"context"), 0);
	pthread_create(&thread, NULL, run, loop);
	for (int i = 0; i < 1000; i++)
		check_answer("a,b", "a,b");
	check_answer(NULL, "");
	assert_null(endpoints_ask("/test/other", NULL, &fault));
	assert_string_equal(fault, "there is no such endpoint");
	loop_stop(loop);
	pthread_join(thread, NULL);
	endpoints_close();
	loop_free(loop);
}

/* A thread of DPDK's must not hang with a control thread that hangs. */
static void nobody_waits_for_more_than_a_second(void **state)
{
	struct loop *loop = loop_new();
	const char *fault = NULL;
	double begin = now();

	(void)state;
	endpoints_open(loop, table, (void *)(uintptr_t)"context");
	assert_null(endpoints_ask("/test/echo", "late", &fault));
	assert_true(now() - begin >= 0.99);
	assert_true(now() - begin < 5);
	assert_string_equal(fault, "the control thread did not answer within a second");
	/* It does so now, when nobody waits any more: that must do no harm. */
	answers = 0;
	loop_stop(loop);
	loop_run(loop);
	assert_int_equal(answers, 1);
	endpoints_close();
	loop_free(loop);
}

static void at_the_end_nothing_is_asked(void **state)
{
	const char *fault = NULL;

	(void)state;
	endpoints_close();
	assert_null(endpoints_ask("/test/echo", "", &fault));
	assert_string_equal(fault, "the switch is being shut down");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_control_loop_answers),
		cmocka_unit_test(nobody_waits_for_more_than_a_second),
		cmocka_unit_test(at_the_end_nothing_is_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
