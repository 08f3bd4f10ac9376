/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * port/vhost_journal.c: a position is believed for the process, address and size that it was
 * written for, and for nothing else; also when the switch is killed between any two instructions.
 */
#include "port/vhost_journal.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "port/port.h"
#include "virtqueue/virtqueue.h"

#define FILE_MAX 16384
#define SIZE 256
#define ADDRESS(index) (0x100000ull + (index) * 0x10000ull)
#define WORD(process, index) ((uint64_t)(process) << 32 | (index) | 1ull << 63)

static const struct process one = { 100, 5000 };
static const struct process same_number = { 100, 6000 };
static const struct process same_start = { 101, 5000 };
static const struct process other = { 101, 6000 };
static const struct process unknown = { 0, 0 };

static char directory[] = "/tmp/journal-XXXXXX";

static char *path_of(const char *name)
{
	static char path[64];

	snprintf(path, sizeof(path), "%s/%s.rings", directory, name);
	return path;
}

static struct journal *open_one(const char *name)
{
	const char *reason = NULL;
	struct journal *journal = journal_open(directory, name, &reason);

	if (journal == NULL)
		print_message("%s\n", reason);
	assert_non_null(journal);
	return journal;
}

/* As a ring that is attached and used. */
static void put(struct journal *journal, uint16_t index, uint64_t address, uint32_t size,
		uint64_t value)
{
	bool known;

	*journal_ring(journal, index, address, size, &known) = value;
}

/* As a switch that starts again and is found by this process: what it believes, or none. */
static uint64_t get(const char *name, const struct process *process, uint16_t index,
		    uint64_t address, uint32_t size)
{
	struct journal *journal = open_one(name);
	bool known;
	uint64_t word;

	journal_begin(journal, process);
	word = *journal_ring(journal, index, address, size, &known);
	assert_int_equal(known, word != VIRTQUEUE_JOURNAL_NONE);
	journal_close(journal);
	return word;
}

static void fill(const char *name, const struct process *process)
{
	struct journal *journal = open_one(name);

	journal_begin(journal, process);
	for (uint16_t i = 0; i < 4; i++)
		put(journal, i, ADDRESS(i), SIZE, WORD(process->pid, i));
	journal_close(journal);
}

static void a_position_outlives_the_switch(void **state)
{
	(void)state;
	fill("vm1", &one);
	for (uint16_t i = 0; i < 4; i++)
		assert_int_equal(get("vm1", &one, i, ADDRESS(i), SIZE), WORD(100, i));
	assert_int_equal(get("vm1", &one, 4, ADDRESS(4), SIZE), VIRTQUEUE_JOURNAL_NONE);
	assert_int_equal(get("vm2", &one, 0, ADDRESS(0), SIZE), VIRTQUEUE_JOURNAL_NONE);
}

static void it_is_believed_of_this_ring_alone(void **state)
{
	(void)state;
	fill("vm1", &one);
	assert_int_equal(get("vm1", &one, 0, ADDRESS(1), SIZE), VIRTQUEUE_JOURNAL_NONE);
	assert_int_equal(get("vm1", &one, 0, ADDRESS(0), SIZE), VIRTQUEUE_JOURNAL_NONE);
	assert_int_equal(get("vm1", &one, 1, ADDRESS(1), 2 * SIZE), VIRTQUEUE_JOURNAL_NONE);
	assert_int_equal(get("vm1", &one, 1, ADDRESS(1), SIZE), VIRTQUEUE_JOURNAL_NONE);
	assert_int_equal(get("vm1", &one, 2, ADDRESS(2), SIZE), WORD(100, 2));
}

static void it_is_believed_of_this_process_alone(void **state)
{
	static const struct process *const strangers[] = { &same_number, &same_start, &other,
							   &unknown };

	(void)state;
	for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
		fill("vm1", &one);
		assert_int_equal(get("vm1", strangers[i], 0, ADDRESS(0), SIZE),
				 VIRTQUEUE_JOURNAL_NONE);
		/* And is gone for good. */
		assert_int_equal(get("vm1", &one, 1, ADDRESS(1), SIZE), VIRTQUEUE_JOURNAL_NONE);
	}
	/* Two that are not known may be two. */
	fill("vm1", &unknown);
	assert_int_equal(get("vm1", &unknown, 0, ADDRESS(0), SIZE), VIRTQUEUE_JOURNAL_NONE);
}

static void a_ring_that_was_stopped_is_forgotten(void **state)
{
	struct journal *journal;

	(void)state;
	fill("vm1", &one);
	journal = open_one("vm1");
	journal_begin(journal, &one);
	journal_clear(journal, 2);
	journal_close(journal);
	assert_int_equal(get("vm1", &one, 2, ADDRESS(2), SIZE), VIRTQUEUE_JOURNAL_NONE);
	assert_int_equal(get("vm1", &one, 3, ADDRESS(3), SIZE), WORD(100, 3));
}

static void all_rings_of_a_port_have_room(void **state)
{
	const uint16_t last = 2 * PORT_QUEUES_MAX - 1;
	struct journal *journal = open_one("vm1");

	(void)state;
	journal_begin(journal, &one);
	put(journal, last, ADDRESS(last), 32768, WORD(1, last));
	journal_close(journal);
	assert_int_equal(get("vm1", &one, last, ADDRESS(last), 32768), WORD(1, last));
}

static void a_removed_port_is_forgotten(void **state)
{
	(void)state;
	fill("vm1", &one);
	journal_remove(directory, "vm1");
	assert_int_equal(access(path_of("vm1"), F_OK), -1);
	journal_remove(directory, "vm1");
	assert_int_equal(get("vm1", &one, 0, ADDRESS(0), SIZE), VIRTQUEUE_JOURNAL_NONE);
}

static void write_file(const char *path, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, bytes, size), size);
	close(fd);
}

static size_t read_file(const char *path, void *bytes)
{
	int fd = open(path, O_RDONLY);
	ssize_t size = fd < 0 ? 0 : read(fd, bytes, FILE_MAX);

	if (fd >= 0)
		close(fd);
	return (size_t)size;
}

static void refused(const char *where, const char *name)
{
	const char *reason = NULL;

	assert_null(journal_open(where, name, &reason));
	assert_non_null(reason);
}

static void files_that_are_not_ours_stay(void **state)
{
	static const char text[] = "something that somebody needs";
	char bytes[FILE_MAX], longer[300];
	struct journal *journal;

	(void)state;
	write_file(path_of("text"), text, sizeof(text));
	refused(directory, "text");
	assert_int_equal(read_file(path_of("text"), bytes), sizeof(text));
	assert_memory_equal(bytes, text, sizeof(text));
	write_file(path_of("short"), "abc", 3);
	refused(directory, "short");
	assert_int_equal(symlink("text.rings", path_of("link")), 0);
	refused(directory, "link");
	assert_int_equal(mkdir(path_of("directory"), 0700), 0);
	refused(directory, "directory");
	assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
	refused(directory, "pipe");
	refused("/nowhere/at/all", "vm1");
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	refused(directory, longer);
	/* Two switches, one file. */
	journal = open_one("vm1");
	refused(directory, "vm1");
	journal_close(journal);
}

static void another_version_is_begun_anew(void **state)
{
	uint64_t bytes[FILE_MAX / 8];
	size_t size;

	(void)state;
	fill("vm1", &one);
	size = read_file(path_of("vm1"), bytes);
	((uint32_t *)bytes)[2]++;
	write_file(path_of("vm1"), bytes, size);
	assert_int_equal(get("vm1", &one, 0, ADDRESS(0), SIZE), VIRTQUEUE_JOURNAL_NONE);
}

/* ---- killed between any two instructions ---- */

/*
 * Runs what a switch does in a child, one instruction after another. After each that changes the
 * file, `check` sees it as a switch would that starts again: by the name "copy".
 */
static void step_through(void (*run)(void), void (*check)(void))
{
	static char now[FILE_MAX], last[FILE_MAX];
	size_t size, last_size = 0;
	unsigned int steps = 0, changes = 0;
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		run();
		_exit(0);
	}
	for (;;) {
		assert_int_equal(waitpid(child, &status, 0), child);
		if (!WIFSTOPPED(status))
			break;
		size = read_file(path_of("vm1"), now);
		if (size != last_size || memcmp(now, last, size) != 0) {
			memcpy(last, now, size);
			last_size = size;
			changes++;
			write_file(path_of("copy"), now, size);
			check();
		}
		steps++;
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
	}
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	print_message("%u instructions, %u changes\n", steps, changes);
	assert_true(changes > 10);
}

/* A stored word may be believed by those for whom it was written alone. */
static void check_belief(void)
{
	static const struct process *const all[] = { &one, &same_number, &same_start, &other,
						     &unknown };
	char bytes[FILE_MAX];
	size_t size = read_file(path_of("copy"), bytes);

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		for (uint16_t ring = 0; ring < 4; ring++) {
			for (unsigned int moved = 0; moved < 4; moved++) {
				uint64_t word, address = ADDRESS(ring + 8u * (moved & 1));

				write_file(path_of("copy"), bytes, size);
				word = get("copy", all[i], ring, address, SIZE << (moved >> 1));
				if (word == VIRTQUEUE_JOURNAL_NONE)
					continue;
				/* The process and whether it had moved are part of the word. */
				assert_int_equal(word, WORD(all[i]->pid, ring + 8u * moved));
				assert_true(all[i] == &one || all[i] == &other);
			}
		}
	}
}

static void use_twice(void)
{
	struct journal *journal = open_one("vm1");
	const struct process *const both[] = { &one, &other };

	for (unsigned int i = 0; i < 2; i++) {
		journal_begin(journal, both[i]);
		for (unsigned int moved = 0; moved < 4; moved++)
			for (uint16_t ring = 0; ring < 2; ring++)
				put(journal, ring, ADDRESS(ring + 8u * (moved & 1)),
				    SIZE << (moved >> 1), WORD(both[i]->pid, ring + 8u * moved));
		journal_clear(journal, 0);
		put(journal, 0, ADDRESS(8), SIZE << 1, WORD(both[i]->pid, 0 + 8u * 3));
	}
	journal_close(journal);
}

static void it_may_be_killed_at_any_time(void **state)
{
	(void)state;
	step_through(use_twice, check_belief);
	assert_int_equal(get("vm1", &other, 0, ADDRESS(8), SIZE << 1), WORD(other.pid, 24));
}

static int setup(void **state)
{
	(void)state;
	memcpy(directory + sizeof(directory) - 7, "XXXXXX", 6);
	return mkdtemp(directory) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	DIR *list = opendir(directory);
	struct dirent *entry;

	(void)state;
	while ((entry = readdir(list)) != NULL)
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(list), entry->d_name,
				 entry->d_type == DT_DIR ? AT_REMOVEDIR : 0);
	closedir(list);
	return rmdir(directory);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_position_outlives_the_switch),
		TEST(it_is_believed_of_this_ring_alone),
		TEST(it_is_believed_of_this_process_alone),
		TEST(a_ring_that_was_stopped_is_forgotten),
		TEST(all_rings_of_a_port_have_room),
		TEST(a_removed_port_is_forgotten),
		TEST(files_that_are_not_ours_stay),
		TEST(another_version_is_begun_anew),
		TEST(it_may_be_killed_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
