/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Results and errors for people: lists as tables, objects as indented lines `key  value`. All of it
 * goes through text.h.
 *
 * On a terminal long numbers are grouped, and a table that is too wide is cut, or where that would
 * leave nothing, printed row by row. In a pipe nothing is cut or grouped.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct style {
	bool color;
	bool terminal;
	bool dumb;    /* a terminal that knows no escape sequences: TERM says so, or nothing */
	size_t width; /* of the terminal, in columns */
};

/* when: "auto" (a terminal, unless NO_COLOR is set), "always" or "never". Returns 0 or -EINVAL. */
int style_choose(struct style *style, const char *when);

/* On stdout. */
void print_result(json_t *result, const struct style *style);

/* The same as JSON. All of it is ASCII, so that it is safe on a terminal as well. */
void print_json(const json_t *result);

/* The same on one line. */
void print_json_line(const json_t *value);

/* One value as it stands in a table, of this key, without an end of the line. */
void print_value(const char *key, json_t *value, const struct style *style);

#define PRINT_BOLD "\033[1m"
#define PRINT_RED "\033[31m"
#define PRINT_GREEN "\033[32m"
#define PRINT_PLAIN "\033[0m"

/* On stderr: what is wrong, and below it object, field, value and what is accepted. */
void print_error(const struct error *err);

/* Two columns of text, the second one wrapped: for help. The line ends where `width` is reached. */
void print_pair(const char *first, size_t first_width, const char *second, size_t width);
