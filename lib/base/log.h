/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The log: lines on stderr, one event a line, `LEVEL module: message`.
 *
 * A line is one write, so lines of several threads do not mix; control characters in it become '?',
 * so nobody can forge a second line. Any thread but a worker may log; errno is left as it was.
 * Whatever a guest or a VMM can trigger goes through LOG_LIMITED, which lets ten lines of one place
 * pass in ten seconds and counts the rest.
 *
 *     log_info("port", "%s: the VMM connected, pid %d", name, pid);
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* The most talkative level that is printed; LOG_INFO at start. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
const char *log_level_name(enum log_level level);

void log_line(enum log_level level, const char *module, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(module, ...) log_line(LOG_ERROR, module, __VA_ARGS__)
#define log_warning(module, ...) log_line(LOG_WARNING, module, __VA_ARGS__)
#define log_info(module, ...) log_line(LOG_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) log_line(LOG_DEBUG, module, __VA_ARGS__)

/* State of one rate-limited place; all zero at start. w, r: any thread that logs there. */
struct log_limit {
	_Atomic long window_start; /* seconds of CLOCK_MONOTONIC */
	_Atomic unsigned int lines;
	_Atomic unsigned int suppressed;
};

/* True if this place may print now. A new window begins with a line on what was held back. */
bool log_limit_pass(struct log_limit *limit, const char *module);

#define LOG_LIMITED(level, module, ...)                                                            \
	do {                                                                                       \
		static struct log_limit log_limit_here;                                            \
		if ((int)(level) <= (int)log_get_level() &&                                        \
		    log_limit_pass(&log_limit_here, module))                                       \
			log_line(level, module, __VA_ARGS__);                                      \
	} while (0)
