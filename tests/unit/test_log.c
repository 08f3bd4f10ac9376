/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/log.c: what arrives on stderr, which each test points at a file of its own.
 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int saved_stderr;
static FILE *capture;
static char captured[1 << 20];

static int setup(void **state)
{
	(void)state;
	capture = tmpfile();
	saved_stderr = dup(STDERR_FILENO);
	log_set_level(LOG_INFO);
	return capture == NULL || saved_stderr < 0 ||
	       dup2(fileno(capture), STDERR_FILENO) < 0;
}

static int teardown(void **state)
{
	(void)state;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	fclose(capture);
	return 0;
}

/* What has been logged since the test began. */
static const char *logged(void)
{
	ssize_t size = pread(fileno(capture), captured, sizeof(captured) - 1, 0);

	captured[size < 0 ? 0 : size] = '\0';
	return captured;
}

static unsigned int count_lines(const char *text)
{
	unsigned int count = 0;

	for (; *text != '\0'; text++)
		count += *text == '\n';
	return count;
}

static void line_has_level_and_module(void **state)
{
	(void)state;
	log_error("port", "%s is %d", "x", 7);
	log_warning("port", "w");
	log_info("port", "i");
	assert_string_equal(logged(), "error port: x is 7\nwarning port: w\ninfo port: i\n");
}

static void level_decides(void **state)
{
	(void)state;
	log_debug("a", "hidden");
	log_set_level(LOG_DEBUG);
	assert_int_equal(log_get_level(), LOG_DEBUG);
	log_debug("a", "shown");
	log_set_level(LOG_ERROR);
	log_warning("a", "hidden");
	log_error("a", "e");
	assert_string_equal(logged(), "debug a: shown\nerror a: e\n");
}

static void level_names(void **state)
{
	(void)state;
	assert_string_equal(log_level_name(LOG_ERROR), "error");
	assert_string_equal(log_level_name(LOG_WARNING), "warning");
	assert_string_equal(log_level_name(LOG_INFO), "info");
	assert_string_equal(log_level_name(LOG_DEBUG), "debug");
}

static void line_stays_one_line(void **state)
{
	(void)state;
	log_info("a", "evil\nerror a: forged\x1b[31m");
	assert_string_equal(logged(), "info a: evil?error a: forged?[31m\n");
	/* As UTF-8; what is no control character stays. */
	log_info("a", "\xc2\x9b[31m \xc2\x80 \xc2\xa0 \xc3\x9b");
	assert_string_equal(strchr(logged(), '\n') + 1,
			    "info a: ??[31m ?? \xc2\xa0 \xc3\x9b\n");
}

static void long_line_is_cut(void **state)
{
	char text[4000];
	size_t length;

	(void)state;
	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_info("a", "%s", text);
	length = strlen(logged());
	assert_int_equal(length, 1024);
	assert_string_equal(captured + length - 5, "y...\n");
}

static void errno_is_kept(void **state)
{
	(void)state;
	close(STDERR_FILENO);
	errno = ENOTTY;
	log_info("a", "goes nowhere");
	assert_int_equal(errno, ENOTTY);
}

static void log_same_place(unsigned int times)
{
	for (unsigned int i = 0; i < times; i++)
		LOG_LIMITED(LOG_INFO, "a", "line %u", i);
}

static void limit_lets_ten_pass(void **state)
{
	(void)state;
	/* A line that the level hides uses up none of the ten. */
	log_set_level(LOG_ERROR);
	log_same_place(50);
	assert_string_equal(logged(), "");
	log_set_level(LOG_INFO);
	log_same_place(50);
	assert_int_equal(count_lines(logged()), 10);
	assert_non_null(strstr(captured, "info a: line 9\n"));
	assert_null(strstr(captured, "line 10"));
}

static void limit_opens_again(void **state)
{
	struct log_limit limit = { 0 };

	(void)state;
	for (unsigned int i = 0; i < 25; i++)
		assert_int_equal(log_limit_pass(&limit, "a"), i < 10);
	assert_string_equal(logged(), "");
	/* As if ten seconds had passed. */
	limit.window_start -= 10;
	assert_true(log_limit_pass(&limit, "a"));
	assert_string_equal(logged(), "warning a: 15 lines like the next one were held back\n");
	assert_true(log_limit_pass(&limit, "a"));
	assert_int_equal(count_lines(logged()), 1);
}

static void *log_many(void *argument)
{
	for (unsigned int i = 0; i < 1000; i++)
		log_info("t", "%s", (const char *)argument);
	return NULL;
}

static void threads_do_not_mix_lines(void **state)
{
	static const char first[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	static const char second[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
	pthread_t threads[2];
	unsigned int lines = 0;
	char *position;

	(void)state;
	assert_int_equal(pthread_create(&threads[0], NULL, log_many, (void *)(uintptr_t)first), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, log_many, (void *)(uintptr_t)second), 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	logged();
	for (char *line = strtok_r(captured, "\n", &position); line != NULL;
	     line = strtok_r(NULL, "\n", &position)) {
		assert_memory_equal(line, "info t: ", 8);
		assert_true(strcmp(line + 8, first) == 0 || strcmp(line + 8, second) == 0);
		lines++;
	}
	assert_int_equal(lines, 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(line_has_level_and_module, setup, teardown),
		cmocka_unit_test_setup_teardown(level_decides, setup, teardown),
		cmocka_unit_test_setup_teardown(level_names, setup, teardown),
		cmocka_unit_test_setup_teardown(line_stays_one_line, setup, teardown),
		cmocka_unit_test_setup_teardown(long_line_is_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(errno_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(limit_lets_ten_pass, setup, teardown),
		cmocka_unit_test_setup_teardown(limit_opens_again, setup, teardown),
		cmocka_unit_test_setup_teardown(threads_do_not_mix_lines, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
