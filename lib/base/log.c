/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The log: a line is put together on the stack and leaves with a single write.
 */
#include "base/log.h"

#include "base/units.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE 1024
#define LIMIT_LINES 10U
#define LIMIT_SECONDS 10

static _Atomic int max_level = LOG_INFO;

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&max_level, memory_order_relaxed);
}

const char *log_level_name(enum log_level level)
{
	switch (level) {
	case LOG_ERROR:
		return "error";
	case LOG_WARNING:
		return "warning";
	case LOG_INFO:
		return "info";
	case LOG_DEBUG:
		return "debug";
	}
	return "unknown";
}

static void write_line(const char *line, size_t length)
{
	while (length > 0) {
		ssize_t written = write(STDERR_FILENO, line, length);

		if (written < 0 && errno == EINTR)
			continue;
		/* Where the log itself fails there is nobody left to tell. */
		if (written <= 0)
			return;
		line += written;
		length -= (size_t)written;
	}
}

/* C0 and DEL; and C1, which UTF-8 writes as C2 and one byte more, and terminals obey as well. */
static void hide_controls(char *line, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		const unsigned char byte = (unsigned char)line[i];

		if (byte == 0xc2 && ((unsigned char)line[i + 1] & 0xe0) == 0x80)
			line[i] = line[i + 1] = '?';
		else if (byte < ' ' || byte == 0x7f)
			line[i] = '?';
	}
}

void log_line(enum log_level level, const char *module, const char *format, ...)
{
	char line[LINE_SIZE];
	int saved_errno = errno;
	size_t length;
	va_list arguments;

	if (level > log_get_level())
		return;
	snprintf(line, sizeof(line), "%s %s: ", log_level_name(level), module);
	length = strlen(line);
	va_start(arguments, format);
	if (vsnprintf(line + length, sizeof(line) - length, format, arguments) >=
	    (int)(sizeof(line) - length))
		text_cut(line, sizeof(line));
	va_end(arguments);
	length = strlen(line);
	hide_controls(line, length);
	line[length] = '\n';
	write_line(line, length + 1);
	errno = saved_errno;
}

bool log_limit_pass(struct log_limit *limit, const char *module)
{
	struct timespec now;
	long start = atomic_load(&limit->window_start);

	clock_gettime(CLOCK_MONOTONIC, &now);
	/* Of several threads that see the window end, the one that moves its start goes on. */
	if (now.tv_sec - start >= LIMIT_SECONDS &&
	    atomic_compare_exchange_strong(&limit->window_start, &start, (long)now.tv_sec)) {
		unsigned int suppressed = atomic_exchange(&limit->suppressed, 0);

		atomic_store(&limit->lines, 0);
		if (suppressed > 0)
			log_line(LOG_WARNING, module, "%u lines like the next one were held back",
				 suppressed);
	}
	if (atomic_fetch_add(&limit->lines, 1) < LIMIT_LINES)
		return true;
	atomic_fetch_add(&limit->suppressed, 1);
	return false;
}
