/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control/state.c: what is written is what is loaded, whatever lay around before; many writes
 * become one; and one that fails leaves the old content, no litter, and nobody in the dark.
 * tests/system/test_state.py kills a writer at each of its system calls.
 */
#include "control/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

#define ENDINGS_MAX 128

/* A write that has ended, in the order of the endings. */
struct ending {
	int number;
	int errnum; /* 0: it is safe */
	int found;  /* the number in the file at that moment */
};

static struct fixture {
	char directory[64], path[96], draft[96];
	struct loop *loop;
	struct state *state;
	int watch; /* inotify: drafts are made and renamed in turn, or it would merge its events */
	unsigned int awaited, ended;
	struct ending endings[ENDINGS_MAX];
	struct error fault; /* the last one */
} fixture;

static int setup(void **state)
{
	(void)state;
	memset(&fixture, 0, sizeof(fixture));
	snprintf(fixture.directory, sizeof(fixture.directory), "/tmp/ringway-test-XXXXXX");
	if (mkdtemp(fixture.directory) == NULL)
		return -1;
	snprintf(fixture.path, sizeof(fixture.path), "%s/state.json", fixture.directory);
	snprintf(fixture.draft, sizeof(fixture.draft), "%s/state.json.new", fixture.directory);
	fixture.watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (inotify_add_watch(fixture.watch, fixture.directory, IN_CREATE | IN_MOVED_TO) < 0)
		return -1;
	fixture.loop = loop_new();
	log_set_level(LOG_ERROR);
	alarm(60);
	return fixture.loop == NULL ? -1 : 0;
}

/* Nothing but the file itself, if that, may be left. */
static int teardown(void **state)
{
	(void)state;
	state_free(fixture.state);
	loop_free(fixture.loop);
	close(fixture.watch);
	unlink(fixture.path);
	alarm(0);
	return rmdir(fixture.directory);
}

static void open_state(void)
{
	struct error err;

	if (state_new(&fixture.state, fixture.loop, fixture.path, &err) != 0)
		fail_msg("%s", err.message);
}

/* As a restart: the old one ends, a new one begins. */
static void open_again(void)
{
	state_free(fixture.state);
	fixture.state = NULL;
	loop_free(fixture.loop);
	fixture.loop = loop_new();
	open_state();
}

static void make_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* The number in the file; -1 where there is no file. Fails if the file is not whole. */
static int number_on_disk(void)
{
	json_t *content;
	struct error err;
	int number;

	if (state_load(fixture.path, &content, &err) != 0)
		fail_msg("%s", err.message);
	if (content == NULL)
		return -1;
	assert_int_equal(json_object_size(content), 2);
	assert_true(json_is_string(json_object_get(content, "text")));
	number = (int)json_integer_value(json_object_get(content, "number"));
	json_decref(content);
	return number;
}

static unsigned int files_in_directory(void)
{
	DIR *directory = opendir(fixture.directory);
	unsigned int count = 0;

	assert_non_null(directory);
	while (readdir(directory) != NULL)
		count++;
	closedir(directory);
	return count - 2; /* . and .. */
}

static unsigned int count_renames(void)
{
	/* An event and room for its name. */
	char events[64 * (sizeof(struct inotify_event) + 16)];
	unsigned int count = 0;
	ssize_t size;

	while ((size = read(fixture.watch, events, sizeof(events))) > 0) {
		for (char *at = events; at < events + size;) {
			const struct inotify_event *event = (struct inotify_event *)at;

			count += (event->mask & IN_MOVED_TO) != 0;
			at += sizeof(*event) + event->len;
		}
	}
	return count;
}

static void ended(void *argument, const struct error *fault)
{
	struct ending *ending = &fixture.endings[fixture.ended++];

	assert_true(fixture.ended <= ENDINGS_MAX);
	ending->number = (int)(intptr_t)argument;
	ending->errnum = fault == NULL ? 0 : fault->errnum;
	ending->found = number_on_disk();
	if (fault != NULL)
		fixture.fault = *fault;
	if (fixture.ended == fixture.awaited)
		loop_stop(fixture.loop);
}

static json_t *content_of(int number, size_t size)
{
	char *text = malloc(size + 1);
	json_t *content;

	assert_non_null(text);
	memset(text, 't', size);
	text[size] = '\0';
	content = json_pack("{s:i, s:s}", "number", number, "text", text);
	assert_non_null(content);
	free(text);
	return content;
}

static void submit(int number, size_t size)
{
	assert_int_equal(state_write(fixture.state, content_of(number, size), ended,
				     (void *)(intptr_t)number), 0);
}

/* Runs the loop until so many writes have ended. */
static void await(unsigned int count)
{
	fixture.awaited = count;
	if (fixture.ended < count)
		assert_int_equal(loop_run(fixture.loop), 0);
	assert_int_equal(fixture.ended, count);
	fixture.ended = 0;
}

static void expect_ending(unsigned int index, int number, int errnum, int found)
{
	assert_int_equal(fixture.endings[index].number, number);
	assert_int_equal(fixture.endings[index].errnum, errnum);
	assert_int_equal(fixture.endings[index].found, found);
}

/* One write that is kept. */
static void keep(int number)
{
	submit(number, 10);
	await(1);
	expect_ending(0, number, 0, number);
}

/* One write that is refused with this, and a sentence with the path. */
static void lose(int number, size_t size, int errnum, int found)
{
	submit(number, size);
	await(1);
	expect_ending(0, number, errnum, found);
	assert_int_equal(fixture.fault.kind, ERROR_SYSTEM);
	assert_non_null(strstr(fixture.fault.message, fixture.path));
	assert_non_null(strstr(fixture.fault.message, strerror(errnum)));
	assert_int_equal(access(fixture.draft, F_OK), -1);
}

static void what_is_written_is_loaded(void **state)
{
	json_t *content, *loaded;
	struct stat status;
	struct error err;

	(void)state;
	assert_int_equal(number_on_disk(), -1);
	open_state();
	assert_int_equal(files_in_directory(), 0);
	content = json_pack("{s:i, s:s, s:[f, b, n]}", "number", 1, "text", "\xc3\xa4 \"\n",
			    "list", 0.1, 1);
	assert_int_equal(state_write(fixture.state, json_incref(content), NULL, NULL), 0);
	open_again();
	assert_int_equal(state_load(fixture.path, &loaded, &err), 0);
	assert_true(json_equal(content, loaded));
	json_decref(content);
	json_decref(loaded);
	/* Nobody else reads it, also where somebody could read the one before. */
	assert_int_equal(chmod(fixture.path, 0666), 0);
	keep(2);
	assert_int_equal(stat(fixture.path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(files_in_directory(), 1);
}

static void expect_refusal(const char *path, const char *part, enum error_kind kind)
{
	json_t *content = (json_t *)&fixture;
	struct error err = { 0 };

	assert_true(state_load(path, &content, &err) < 0);
	assert_null(content);
	assert_int_equal(err.kind, kind);
	assert_non_null(strstr(err.message, path));
	if (strstr(err.message, part) == NULL)
		fail_msg("%s: not in: %s", part, err.message);
}

static void what_is_no_state_is_refused(void **state)
{
	(void)state;
	make_file(fixture.path, "{\n  \"a\": 1,\n  \"b\": ]\n}\n", 0600);
	expect_refusal(fixture.path, "line 3, column 8", ERROR_INVALID);
	make_file(fixture.path, "", 0600);
	expect_refusal(fixture.path, "line 1", ERROR_INVALID);
	make_file(fixture.path, "{\"a\": 1, \"a\": 2}", 0600);
	expect_refusal(fixture.path, "duplicate", ERROR_INVALID);
	make_file(fixture.path, "{} {}", 0600);
	expect_refusal(fixture.path, "end of file", ERROR_INVALID);
	make_file(fixture.path, "[]", 0600);
	expect_refusal(fixture.path, "no JSON object", ERROR_INVALID);
}

static void expect_no_file(const char *path, const char *part)
{
	struct error err = { 0 };

	expect_refusal(path, part, ERROR_SYSTEM);
	assert_true(state_new(&fixture.state, fixture.loop, path, &err) < 0);
	assert_non_null(strstr(err.message, part));
	assert_null(fixture.state);
}

static void only_a_regular_file_will_do(void **state)
{
	(void)state;
	expect_no_file(fixture.directory, "no regular file");
	/* It would be replaced by a file. */
	expect_no_file("/dev/null", "no regular file");
	/* Opening one waits for a writer. */
	assert_int_equal(mkfifo(fixture.path, 0600), 0);
	expect_no_file(fixture.path, "no regular file");
	unlink(fixture.path);
	assert_int_equal(symlink("state.json", fixture.path), 0);
	expect_no_file(fixture.path, strerror(ELOOP));
	if (geteuid() == 0)
		return;
	unlink(fixture.path);
	make_file(fixture.path, "{}", 0);
	expect_no_file(fixture.path, strerror(EACCES));
}

static void expect_no_start(const char *path, int errnum)
{
	struct error err = { 0 };

	assert_int_equal(state_new(&fixture.state, fixture.loop, path, &err), -errnum);
	assert_int_equal(err.kind, ERROR_SYSTEM);
	assert_int_equal(err.errnum, errnum);
	assert_non_null(strstr(err.message, path));
	assert_null(fixture.state);
}

static void a_directory_that_cannot_be_written(void **state)
{
	char path[400];
	struct error err;

	(void)state;
	expect_no_start("", ENOENT);
	snprintf(path, sizeof(path), "%s/missing/state.json", fixture.directory);
	expect_no_start(path, ENOENT);
	expect_no_start("/proc/ringway.json", ENOENT);
	assert_int_equal(mkdir(fixture.draft, 0700), 0);
	expect_no_start(fixture.path, EEXIST);
	rmdir(fixture.draft);
	/* The file's name is not too long, but the draft's is. */
	snprintf(path, sizeof(path), "%s/%0252d", fixture.directory, 0);
	assert_int_equal(state_new(&fixture.state, fixture.loop, path, &err), -ENAMETOOLONG);
	assert_null(fixture.state);
}

/* What a predecessor has left, or somebody who means no good. */
static void leftovers_do_not_stop_us(void **state)
{
	char victim[96];
	struct stat status;

	(void)state;
	snprintf(victim, sizeof(victim), "%s/victim", fixture.directory);
	make_file(victim, "{\"number\": 7, \"text\": \"\"}", 0644);
	make_file(fixture.draft, "{\"number\": 1, \"te", 0);
	open_state();
	assert_int_equal(access(fixture.draft, F_OK), -1);
	make_file(fixture.draft, "a much longer draft than what will be written now, with an end }",
		  0644);
	keep(1);
	assert_int_equal(symlink(victim, fixture.draft), 0);
	keep(2);
	assert_int_equal(stat(victim, &status), 0);
	assert_int_equal(status.st_size, strlen("{\"number\": 7, \"text\": \"\"}"));
	assert_int_equal(mkfifo(fixture.draft, 0600), 0);
	keep(3);
	assert_int_equal(files_in_directory(), 2);
	unlink(victim);
}

/* A path may be relative to the working directory, with or without a slash. */
static void relative_paths(void **state)
{
	static const char *const paths[] = { "state.json", "./state.json" };
	char before[4096];
	struct error err;

	(void)state;
	assert_non_null(getcwd(before, sizeof(before)));
	assert_int_equal(chdir(fixture.directory), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(state_new(&fixture.state, fixture.loop, paths[i], &err), 0);
		keep(i);
		state_free(fixture.state);
		fixture.state = NULL;
	}
	assert_int_equal(chdir(before), 0);
	assert_int_equal(files_in_directory(), 1);
}

/* The loop does not run meanwhile, so all but the first wait. */
static void many_writes_become_two(void **state)
{
	(void)state;
	open_state();
	for (int i = 0; i < 100; i++)
		submit(i, 10);
	assert_int_equal(fixture.ended, 0);
	await(100);
	expect_ending(0, 0, 0, 0);
	for (int i = 1; i < 100; i++)
		expect_ending((unsigned int)i, i, 0, 99);
	assert_int_equal(count_renames(), 2);
	keep(100);
	assert_int_equal(count_renames(), 1);
}

/* Writing through a loop that a caller keeps full works as well. */
static void write_again(void *argument, const struct error *fault)
{
	int number = (int)(intptr_t)argument;

	if (number < 20) {
		for (int i = 0; i < 2; i++)
			assert_int_equal(state_write(fixture.state, content_of(number + 1, 10),
						     i == 0 ? write_again : NULL,
						     (void *)(intptr_t)(number + 1)), 0);
	}
	ended(argument, fault);
}

static void done_may_write(void **state)
{
	(void)state;
	open_state();
	assert_int_equal(state_write(fixture.state, content_of(0, 10), write_again, NULL), 0);
	await(21);
	for (int i = 0; i <= 20; i++)
		expect_ending((unsigned int)i, i, 0, i);
	assert_int_equal(count_renames(), 21);
}

static void set_file_limit(rlim_t limit)
{
	struct rlimit limits;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limits), 0);
	limits.rlim_cur = limit;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limits), 0);
}

/* A limit on the size of files stands for a disk that is full. */
static void a_full_disk(void **state)
{
	(void)state;
	open_state();
	set_file_limit(4096);
	lose(1, 10000, EFBIG, -1);
	keep(2);
	lose(3, 10000, EFBIG, 2);
	set_file_limit(RLIM_INFINITY);
	submit(4, 1000000);
	await(1);
	expect_ending(0, 4, 0, 4);
}

/* What waits builds on what could not be kept: it fails as well, the newest first. */
static void what_waits_fails_too(void **state)
{
	(void)state;
	open_state();
	keep(1);
	set_file_limit(4096);
	submit(2, 10000);
	submit(3, 10);
	submit(4, 10);
	await(3);
	set_file_limit(RLIM_INFINITY);
	expect_ending(0, 4, EFBIG, 1);
	expect_ending(1, 3, EFBIG, 1);
	expect_ending(2, 2, EFBIG, 1);
	assert_int_equal(count_renames(), 1);
	keep(5);
}

static void undo(void *argument, const struct error *fault)
{
	assert_non_null(fault);
	submit(9, 10);
	ended(argument, fault);
}

/* A caller that takes its change back writes what is left. */
static void done_may_write_after_a_fault(void **state)
{
	(void)state;
	open_state();
	set_file_limit(4096);
	assert_int_equal(state_write(fixture.state, content_of(1, 10000), undo, NULL), 0);
	assert_int_equal(state_write(fixture.state, content_of(2, 10000), undo, NULL), 0);
	await(4);
	set_file_limit(RLIM_INFINITY);
	expect_ending(2, 9, 0, 9);
	expect_ending(3, 9, 0, 9);
	assert_int_equal(count_renames(), 1);
}

static void a_directory_that_vanishes(void **state)
{
	char away[80];

	(void)state;
	open_state();
	keep(1);
	snprintf(away, sizeof(away), "%s.away", fixture.directory);
	assert_int_equal(rename(fixture.directory, away), 0);
	lose(2, 10, ENOENT, -1);
	/* Another one under the name is the one that counts. */
	assert_int_equal(mkdir(fixture.directory, 0700), 0);
	keep(3);
	unlink(fixture.path);
	assert_int_equal(rmdir(fixture.directory), 0);
	assert_int_equal(rename(away, fixture.directory), 0);
	assert_int_equal(number_on_disk(), 1);
	keep(4);
}

static void note_fault(void *argument, const struct error *fault)
{
	assert_non_null(fault);
	fixture.fault = *fault;
	loop_stop(argument);
}

/* The last step fails: the draft is taken away. */
static void a_file_that_cannot_be_replaced(void **state)
{
	(void)state;
	open_state();
	assert_int_equal(mkdir(fixture.path, 0700), 0);
	assert_int_equal(state_write(fixture.state, content_of(1, 10), note_fault, fixture.loop),
			 0);
	assert_int_equal(loop_run(fixture.loop), 0);
	assert_int_equal(fixture.fault.errnum, EISDIR);
	assert_int_equal(files_in_directory(), 1);
	assert_int_equal(rmdir(fixture.path), 0);
	keep(2);
}

/* The end waits for what is under way and for what waits; nobody is called any more. */
static void the_end_writes_what_waits(void **state)
{
	(void)state;
	open_state();
	submit(1, 1000000);
	open_again();
	assert_int_equal(number_on_disk(), 1);
	for (int i = 2; i < 5; i++)
		submit(i, 10);
	open_again();
	assert_int_equal(number_on_disk(), 4);
	assert_int_equal(fixture.ended, 0);
	assert_int_equal(files_in_directory(), 1);
	state_free(NULL);
}

static void no_content_is_no_memory(void **state)
{
	(void)state;
	open_state();
	assert_int_equal(state_write(fixture.state, NULL, ended, NULL), -ENOMEM);
	keep(1);
	assert_int_equal(count_renames(), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_is_loaded),
		TEST(what_is_no_state_is_refused),
		TEST(only_a_regular_file_will_do),
		TEST(a_directory_that_cannot_be_written),
		TEST(leftovers_do_not_stop_us),
		TEST(relative_paths),
		TEST(many_writes_become_two),
		TEST(done_may_write),
		TEST(a_full_disk),
		TEST(what_waits_fails_too),
		TEST(done_may_write_after_a_fault),
		TEST(a_directory_that_vanishes),
		TEST(a_file_that_cannot_be_replaced),
		TEST(the_end_writes_what_waits),
		TEST(no_content_is_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
