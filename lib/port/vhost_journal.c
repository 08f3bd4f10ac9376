/* SPDX-License-Identifier: BSD-3-Clause */
/* The journal of packed rings; port/vhost_journal.h is the contract. */
#include "port/vhost_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "port/port.h"
#include "virtqueue/virtqueue.h"

/* "ringwayj" and the version of what follows. */
#define JOURNAL_MAGIC 0x6a796177676e6972ull
#define JOURNAL_VERSION 1

/* In the byte order of the host, which it does not leave. */
struct journal_file {
	uint64_t magic; /* stored last, when the file is made */
	uint32_t version;
	int32_t pid;
	uint64_t start;
	struct {
		uint64_t address;
		uint64_t size;
		uint64_t word;
	} rings[2 * PORT_QUEUES_MAX];
};

struct journal {
	int fd; /* locked: another switch may have its control socket in the same directory */
	struct journal_file *file;
};

/* Stores in the order in which they are written here: a kill may come between any two of them. */
static void store(uint64_t *to, uint64_t value)
{
	__atomic_store_n(to, value, __ATOMIC_RELEASE);
}

static int file_path(char *path, size_t size, const char *directory, const char *port)
{
	int length = snprintf(path, size, "%s/%s.rings", directory, port);

	return length > 0 && (size_t)length < size ? 0 : -ENAMETOOLONG;
}

/* An empty file gets its size, and its memory: later, none could be had any more. */
static const char *check_file(int fd)
{
	struct stat status;
	uint64_t magic = 0;

	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid())
		return "its file is not a file of ours";
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return "another switch uses its file";
	if (status.st_size != 0 && (pread(fd, &magic, sizeof(magic), 0) != sizeof(magic) ||
				    (magic != JOURNAL_MAGIC && magic != 0)))
		return "its file is something else";
	if (posix_fallocate(fd, 0, sizeof(struct journal_file)) != 0)
		return "there is no room for its file";
	return NULL;
}

static void clear_all(struct journal_file *file)
{
	for (uint16_t i = 0; i < 2 * PORT_QUEUES_MAX; i++)
		store(&file->rings[i].word, VIRTQUEUE_JOURNAL_NONE);
}

static void begin_file(struct journal_file *file)
{
	if (file->magic == JOURNAL_MAGIC && file->version == JOURNAL_VERSION)
		return;
	clear_all(file);
	file->version = JOURNAL_VERSION;
	store(&file->magic, JOURNAL_MAGIC);
}

struct journal *journal_open(const char *directory, const char *port, const char **reason)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	char path[PATH_MAX];
	int fd = -1;

	*reason = "out of memory";
	if (journal == NULL)
		return NULL;
	*reason = "its file cannot be opened or made";
	if (file_path(path, sizeof(path), directory, port) == 0)
		fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0)
		goto fail;
	*reason = check_file(fd);
	if (*reason != NULL)
		goto fail;
	*reason = "its file cannot be mapped";
	journal->file = mmap(NULL, sizeof(*journal->file), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			     0);
	if (journal->file == MAP_FAILED)
		goto fail;
	journal->fd = fd;
	begin_file(journal->file);
	return journal;

fail:
	if (fd >= 0)
		close(fd);
	free(journal);
	return NULL;
}

void journal_close(struct journal *journal)
{
	if (journal == NULL)
		return;
	munmap(journal->file, sizeof(*journal->file));
	close(journal->fd);
	free(journal);
}

void journal_remove(const char *directory, const char *port)
{
	char path[PATH_MAX];
	int fd;

	if (file_path(path, sizeof(path), directory, port) != 0)
		return;
	/* Another switch may have a port of this name, and its file here. */
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		unlink(path);
	close(fd);
}

void journal_begin(struct journal *journal, const struct process *process)
{
	struct journal_file *file = journal->file;
	const struct process last = { .pid = file->pid, .start = file->start };

	/* One that is not known may be anybody. */
	if (process->pid != 0 && process_same(process, &last))
		return;
	clear_all(file);
	__atomic_store_n(&file->pid, process->pid, __ATOMIC_RELEASE);
	store(&file->start, process->start);
}

uint64_t *journal_ring(struct journal *journal, uint16_t index, uint64_t address, uint32_t size,
		       bool *known)
{
	struct journal_file *file = journal->file;
	uint64_t *word = &file->rings[index].word;

	if (file->rings[index].address != address || file->rings[index].size != size) {
		store(word, VIRTQUEUE_JOURNAL_NONE);
		store(&file->rings[index].address, address);
		store(&file->rings[index].size, size);
	}
	*known = *word != VIRTQUEUE_JOURNAL_NONE;
	return word;
}

void journal_clear(struct journal *journal, uint16_t index)
{
	store(&journal->file->rings[index].word, VIRTQUEUE_JOURNAL_NONE);
}
