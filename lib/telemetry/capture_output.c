/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a capture goes, written without waiting; telemetry/capture_output.h is the contract. */
#include "telemetry/capture_output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/counter.h"
#include "telemetry/pcapng.h"

#define OUTPUT_SIZE ((size_t)256 << 10)

static int open_file(struct capture_output *output, const char *file, struct error *err)
{
	int rc;

	output->fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (output->fd >= 0)
		return 0;
	rc = error_set(err, errno == EEXIST ? ERROR_EXISTS : ERROR_SYSTEM, errno,
		       "cannot make %s: %s", file, strerror(errno));
	error_detail(err, "capture", "file", file,
		     "the absolute path of a file that is not there yet");
	return rc;
}

/*
 * A pipe that came from elsewhere blocks, and its flags are not ours to change: they are shared
 * with whoever opened it. Opened once more it has flags of its own.
 */
static void unblock_pipe(struct capture_output *output)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", output->fd);
	again = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	output->is_shared = again < 0;
	if (again < 0)
		return;
	close(output->fd);
	output->fd = again;
}

int capture_output_open(struct capture_output *output, const char *file, struct error *err)
{
	struct stat status;
	int rc;

	if (output->fd < 0) {
		rc = open_file(output, file, err);
		if (rc != 0)
			return rc;
	}
	if (fstat(output->fd, &status) != 0)
		return error_set(err, ERROR_SYSTEM, errno, "the output cannot be used: %s",
				 strerror(errno));
	output->is_file = S_ISREG(status.st_mode);
	output->is_socket = S_ISSOCK(status.st_mode);
	if (S_ISFIFO(status.st_mode))
		unblock_pipe(output);
	output->bytes = malloc(OUTPUT_SIZE);
	if (output->bytes == NULL)
		return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
	return 0;
}

void capture_output_close(struct capture_output *output)
{
	if (output->fd >= 0)
		close(output->fd);
	output->fd = -1;
	free(output->bytes);
	output->bytes = NULL;
}

static ssize_t write_some(const struct capture_output *output)
{
	const uint8_t *bytes = output->bytes + output->sent;
	size_t length = output->used - output->sent;
	struct pollfd ready = { .fd = output->fd, .events = POLLOUT };

	if (output->is_socket)
		return send(output->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (!output->is_shared)
		return write(output->fd, bytes, length);
	/* A pipe that says it has room takes this much without waiting. */
	if (poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT)) {
		errno = ready.revents & POLLERR ? EPIPE : EAGAIN;
		return -1;
	}
	return write(output->fd, bytes, length < PIPE_BUF ? length : PIPE_BUF);
}

int capture_output_write(struct capture_output *output)
{
	while (output->sent < output->used) {
		ssize_t written = write_some(output);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return errno == EAGAIN ? 0 : -errno;
		output->sent += (size_t)written;
		counter_add(&output->written, (uint64_t)written);
	}
	output->used = 0;
	output->sent = 0;
	return 0;
}

size_t capture_output_break(struct capture_output *output)
{
	size_t whole = 0, lost = 0;

	for (size_t at = 0; at < output->used; at += pcapng_block_length(output->bytes + at)) {
		const size_t behind = at + pcapng_block_length(output->bytes + at);

		if (behind <= output->sent)
			whole = behind;
		else
			lost += pcapng_is_frame(output->bytes + at);
	}
	if (output->is_file && output->sent > whole) {
		off_t position = lseek(output->fd, 0, SEEK_CUR);

		if (position < 0 ||
		    ftruncate(output->fd, position - (off_t)(output->sent - whole)) != 0)
			whole = output->sent;
	}
	counter_add(&output->written, whole - output->sent);
	output->is_broken = true;
	output->used = 0;
	output->sent = 0;
	return lost;
}

bool capture_output_is_pending(const struct capture_output *output)
{
	return output->sent < output->used;
}

bool capture_output_has_room(const struct capture_output *output)
{
	return OUTPUT_SIZE - output->used >= PCAPNG_FRAME_MAX + PCAPNG_END_MAX;
}
