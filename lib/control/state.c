/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state file: reading, and replacing it so that it is never half; control/state.h is the
 * contract.
 *
 * The control thread makes the text, since JSON values are not shared between threads; then text,
 * safe and fault belong to the writing thread until it has posted `finished`.
 */
#include "control/state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/background.h"
#include "base/log.h"

#define RETRY_US 10000

struct text {
	char *bytes; /* NULL: no file */
	size_t size;
};

struct waiter {
	void (*done)(void *argument, const struct error *fault);
	void *argument;
	TAILQ_ENTRY(waiter) link;
};

TAILQ_HEAD(waiters, waiter);

struct state {
	struct loop *loop;
	struct background *background;
	char *path;
	char *directory;
	char *name;  /* in the directory */
	char *draft; /* in the directory */
	mode_t mode; /* of the file; 0: only its owner may read it */

	/* control thread */
	bool busy;
	struct waiters writing; /* for what is being written */
	struct waiters waiting; /* for newest */
	json_t *newest;         /* what is to be written next, or NULL */

	/* the writing thread while busy, else the control thread */
	struct text text; /* what is being written */
	struct text safe; /* what the file holds */
	bool failed;
	struct error fault;
};

static int out_of_memory(struct error *err)
{
	return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
}

/* For what has just set errno. */
static int fail(const char *path, const char *action, struct error *err)
{
	int reason = errno;

	error_set(err, ERROR_SYSTEM, reason, "cannot %s the state file %s: %s", action, path,
		  strerror(reason));
	error_detail(err, "state file", NULL, path, NULL);
	return -reason;
}

static int read_all(int fd, char *bytes, size_t size)
{
	while (size > 0) {
		ssize_t got = read(fd, bytes, size);

		if (got == 0)
			errno = EIO; /* it shrinks meanwhile */
		if (got <= 0)
			return -1;
		bytes += got;
		size -= (size_t)got;
	}
	return 0;
}

static int write_all(int fd, const struct text *text)
{
	const char *bytes = text->bytes;
	size_t left = text->size;

	while (left > 0) {
		ssize_t written = write(fd, bytes, left);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -1;
		bytes += written;
		left -= (size_t)written;
	}
	return 0;
}

/* Reads a file that may be missing. */
static int text_read(const char *path, struct text *text, struct error *err)
{
	/* A pipe would otherwise wait for its writer. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat status;
	int result = 0;

	*text = (struct text){ NULL, 0 };
	if (fd < 0)
		return errno == ENOENT ? 0 : fail(path, "open", err);
	if (fstat(fd, &status) != 0) {
		result = fail(path, "read", err);
	} else if (!S_ISREG(status.st_mode)) {
		result = error_set(err, ERROR_SYSTEM, S_ISDIR(status.st_mode) ? EISDIR : EINVAL,
				   "the state file %s is no regular file", path);
		error_detail(err, "state file", NULL, path, "a regular file, or none yet");
	} else {
		text->size = (size_t)status.st_size;
		text->bytes = malloc(text->size + 1);
		if (text->bytes == NULL)
			result = out_of_memory(err);
		else if (read_all(fd, text->bytes, text->size) != 0)
			result = fail(path, "read", err);
	}
	close(fd);
	if (result != 0) {
		free(text->bytes);
		text->bytes = NULL;
	}
	return result;
}

int state_load(const char *path, json_t **content, struct error *err)
{
	json_error_t fault;
	struct text text;
	int result;

	*content = NULL;
	result = text_read(path, &text, err);
	if (result != 0 || text.bytes == NULL)
		return result;
	*content = json_loadb(text.bytes, text.size, JSON_REJECT_DUPLICATES, &fault);
	free(text.bytes);
	if (*content == NULL)
		return error_set(err, ERROR_INVALID, EINVAL, "%s, line %d, column %d: %s", path,
				 fault.line, fault.column, fault.text);
	if (json_is_object(*content))
		return 0;
	json_decref(*content);
	*content = NULL;
	return error_set(err, ERROR_INVALID, EINVAL, "%s holds no JSON object", path);
}

/* ---- replacing the file ---- */

static int draft_write(const struct state *state, int directory, const struct text *text,
		       struct error *err)
{
	int result = 0;
	int fd;

	/* What somebody who was killed has left, whoever owns it and wherever it points. */
	(void)unlinkat(directory, state->draft, 0);
	fd = openat(directory, state->draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(state->path, "create a draft of", err);
	if (write_all(fd, text) != 0 || (state->mode != 0 && fchmod(fd, state->mode) != 0))
		result = fail(state->path, "write", err);
	else if (fsync(fd) != 0)
		result = fail(state->path, "sync", err);
	close(fd);
	if (result != 0)
		(void)unlinkat(directory, state->draft, 0);
	return result;
}

static int file_replace(const struct state *state, int directory, const struct text *text,
			struct error *err)
{
	int result = draft_write(state, directory, text, err);

	if (result == 0 &&
	    renameat(directory, state->draft, directory, state->name) != 0) {
		result = fail(state->path, "replace", err);
		(void)unlinkat(directory, state->draft, 0);
	}
	return result;
}

/* Takes a new content away again which is there, but may not survive. */
static void file_restore(const struct state *state, int directory)
{
	struct error err;
	int result = 0;

	if (state->safe.bytes != NULL)
		result = file_replace(state, directory, &state->safe, &err);
	else if (unlinkat(directory, state->name, 0) != 0)
		result = fail(state->path, "remove", &err);
	if (result != 0)
		log_error("state", "%s; it holds a change that was refused", err.message);
}

/* Some file systems cannot sync a directory, and say so with EINVAL. */
static int directory_sync(int directory)
{
	return fsync(directory) == 0 || errno == EINVAL ? 0 : -1;
}

/* Opened anew each time: the directory may have been replaced as well. */
static int directory_open(const struct state *state, struct error *err)
{
	int directory = open(state->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return directory < 0 ? fail(state->path, "open the directory of", err) : directory;
}

/* Makes state->text the content of the file. */
static int put(const struct state *state, struct error *err)
{
	int directory = directory_open(state, err);
	int result;

	if (directory < 0)
		return directory;
	result = file_replace(state, directory, &state->text, err);
	if (result == 0 && directory_sync(directory) != 0) {
		result = fail(state->path, "sync the directory of", err);
		file_restore(state, directory);
	}
	close(directory);
	return result;
}

/* Writes state->text, and remembers it as safe or forgets it. Either thread. */
static int save(struct state *state, struct error *err)
{
	int result = put(state, err);

	if (result == 0) {
		free(state->safe.bytes);
		state->safe = state->text;
	} else {
		LOG_LIMITED(LOG_ERROR, "state", "%s", err->message);
		free(state->text.bytes);
	}
	state->text = (struct text){ NULL, 0 };
	return result;
}

/* ---- many changes in one write ---- */

/* Makes the text of what is newest. Returns 0 or -ENOMEM; newest is gone in any case. */
static int take_newest(struct state *state)
{
	char *bytes = json_dumps(state->newest, JSON_INDENT(2));

	json_decref(state->newest);
	state->newest = NULL;
	if (bytes == NULL)
		return -ENOMEM;
	state->text = (struct text){ bytes, strlen(bytes) + 1 };
	/* The size is known, so a newline can have the place of the NUL. */
	bytes[state->text.size - 1] = '\n';
	return 0;
}

static void finished(void *argument);

static void write_text(void *argument)
{
	struct state *state = argument;

	state->failed = save(state, &state->fault) != 0;
	/* Requests wait for this. */
	while (loop_post(state->loop, finished, state) != 0)
		usleep(RETRY_US);
}

/* Hands what is newest to the thread. Returns 0, or -ENOMEM with the waiters still waiting. */
static int begin(struct state *state)
{
	if (take_newest(state) != 0)
		return -ENOMEM;
	if (background_run(state->background, write_text, state) != 0) {
		free(state->text.bytes);
		state->text.bytes = NULL;
		return -ENOMEM;
	}
	state->busy = true;
	TAILQ_CONCAT(&state->writing, &state->waiting, link);
	return 0;
}

static void call_all(struct waiters *list, const struct error *fault)
{
	struct waiter *waiter;

	while (!TAILQ_EMPTY(list)) {
		waiter = fault == NULL ? TAILQ_FIRST(list) : TAILQ_LAST(list, waiters);
		TAILQ_REMOVE(list, waiter, link);
		if (waiter->done != NULL)
			waiter->done(waiter->argument, fault);
		free(waiter);
	}
}

/* The thread is done with one write. */
static void finished(void *argument)
{
	struct waiters ended = TAILQ_HEAD_INITIALIZER(ended);
	struct state *state = argument;
	struct error fault = state->fault;

	TAILQ_CONCAT(&ended, &state->writing, link);
	if (state->failed) {
		TAILQ_CONCAT(&ended, &state->waiting, link);
		json_decref(state->newest);
		state->newest = NULL;
	}
	/* Still busy: what is written from in there becomes one. */
	call_all(&ended, state->failed ? &fault : NULL);
	state->busy = false;
	if (state->newest != NULL && begin(state) != 0) {
		out_of_memory(&fault);
		TAILQ_CONCAT(&ended, &state->waiting, link);
		call_all(&ended, &fault);
	}
}

int state_write(struct state *state, json_t *content,
		void (*done)(void *argument, const struct error *fault), void *argument)
{
	struct waiter *waiter = malloc(sizeof(*waiter));

	if (waiter == NULL || content == NULL) {
		free(waiter);
		json_decref(content);
		return -ENOMEM;
	}
	*waiter = (struct waiter){ .done = done, .argument = argument };
	TAILQ_INSERT_TAIL(&state->waiting, waiter, link);
	json_decref(state->newest);
	state->newest = content;
	if (!state->busy && begin(state) != 0) {
		TAILQ_REMOVE(&state->waiting, waiter, link);
		free(waiter);
		return -ENOMEM;
	}
	return 0;
}

/* ---- beginning and end ---- */

static void forget(struct waiters *list)
{
	struct waiter *waiter;

	while ((waiter = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, waiter, link);
		free(waiter);
	}
}

static void release(struct state *state)
{
	free(state->path);
	free(state->directory);
	free(state->name);
	free(state->draft);
	free(state->safe.bytes);
	free(state);
}

static int set_path(struct state *state, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash == NULL ? path : slash + 1;

	state->path = strdup(path);
	state->name = strdup(name);
	/* "/" belongs to the directory, since it may be all of it; no name at all has none. */
	state->directory = slash == NULL && name[0] != '\0' ? strdup(".")
							   : strndup(path, (size_t)(name - path));
	if (asprintf(&state->draft, "%s.new", name) < 0)
		state->draft = NULL;
	return state->path != NULL && state->name != NULL && state->directory != NULL &&
			       state->draft != NULL ? 0 : -ENOMEM;
}

/* Writes a draft and takes it away again. */
static int try_directory(const struct state *state, struct error *err)
{
	int directory = directory_open(state, err);
	int result;

	if (directory < 0)
		return directory;
	result = draft_write(state, directory, &(struct text){ NULL, 0 }, err);
	if (result == 0)
		(void)unlinkat(directory, state->draft, 0);
	close(directory);
	return result;
}

int state_new(struct state **state, struct loop *loop, const char *path, struct error *err)
{
	struct state *new = calloc(1, sizeof(*new));
	int result;

	if (new == NULL)
		return out_of_memory(err);
	new->loop = loop;
	TAILQ_INIT(&new->writing);
	TAILQ_INIT(&new->waiting);
	result = set_path(new, path);
	if (result != 0)
		out_of_memory(err);
	if (result == 0)
		result = text_read(path, &new->safe, err);
	if (result == 0)
		result = try_directory(new, err);
	if (result == 0) {
		new->background = background_new("state");
		if (new->background == NULL)
			result = error_set(err, ERROR_SYSTEM, EAGAIN,
					   "no thread to write the state file");
	}
	if (result != 0) {
		release(new);
		return result;
	}
	signal(SIGXFSZ, SIG_IGN);
	*state = new;
	return 0;
}

void state_free(struct state *state)
{
	struct error err;

	if (state == NULL)
		return;
	background_free(state->background);
	if (state->newest != NULL && take_newest(state) == 0)
		(void)save(state, &err);
	forget(&state->writing);
	forget(&state->waiting);
	release(state);
}

int state_replace(const char *path, const char *text, struct error *err)
{
	struct state state = { .text = { .bytes = (char *)(uintptr_t)text,
					 .size = strlen(text) } };
	int result = set_path(&state, path);
	struct stat status;

	state.mode = stat(path, &status) == 0 ? status.st_mode & 0777 : 0644;
	if (result == 0)
		result = put(&state, err);
	else
		out_of_memory(err);
	free(state.path);
	free(state.directory);
	free(state.name);
	free(state.draft);
	return result;
}
