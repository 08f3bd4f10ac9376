/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The scanner. It counts brackets without telling their kinds apart: a `]` that closes a `{` ends
 * the value all the same, and the parser then says what is wrong with it.
 */
#include "rpc/framing.h"

#include <string.h>

void framing_init(struct framing *framing, size_t max_length, unsigned int max_depth)
{
	memset(framing, 0, sizeof(*framing));
	framing->max_length = max_length;
	framing->max_depth = max_depth;
}

void framing_reset(struct framing *framing)
{
	framing_init(framing, framing->max_length, framing->max_depth);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Bytes of numbers and of true, false and null, and of words that could be mistaken for them. */
static bool is_scalar(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '+' || c == '-' || c == '.';
}

static bool begins_scalar(char c)
{
	return (c >= '0' && c <= '9') || c == '-' || c == 't' || c == 'f' || c == 'n';
}

/* The first byte of a value. */
static enum framing_status begin(struct framing *framing, char c)
{
	if (c == '{' || c == '[') {
		framing->depth = 1;
		if (framing->max_depth < 1)
			return FRAMING_TOO_DEEP;
	} else if (c == '"') {
		framing->string = true;
	} else if (begins_scalar(c)) {
		framing->scalar = true;
	} else {
		return FRAMING_BAD;
	}
	framing->length = 1;
	return FRAMING_MORE;
}

/* One more byte of an array, an object or a string. */
static enum framing_status proceed(struct framing *framing, char c)
{
	if (framing->length == framing->max_length)
		return FRAMING_TOO_LONG;
	framing->length++;
	if (framing->escape) {
		framing->escape = false;
	} else if (framing->string) {
		framing->escape = c == '\\';
		framing->string = c != '"';
		if (!framing->string && framing->depth == 0)
			return FRAMING_VALUE;
	} else if (c == '"') {
		framing->string = true;
	} else if (c == '{' || c == '[') {
		if (framing->depth == framing->max_depth)
			return FRAMING_TOO_DEEP;
		framing->depth++;
	} else if (c == '}' || c == ']') {
		framing->depth--;
		if (framing->depth == 0)
			return FRAMING_VALUE;
	}
	return FRAMING_MORE;
}

enum framing_status framing_scan(struct framing *framing, const char *data, size_t size,
				 size_t *used)
{
	enum framing_status status = FRAMING_MORE;
	size_t i = 0;

	while (i < size && status == FRAMING_MORE) {
		if (framing->length == 0 && is_space(data[i])) {
			framing->skipped++;
		} else if (framing->length == 0) {
			status = begin(framing, data[i]);
		} else if (framing->scalar) {
			/* Only the byte after it ends a number, and belongs to what follows. */
			if (!is_scalar(data[i])) {
				status = FRAMING_VALUE;
				break;
			}
			if (framing->length == framing->max_length)
				status = FRAMING_TOO_LONG;
			else
				framing->length++;
		} else {
			status = proceed(framing, data[i]);
		}
		i++;
	}
	*used = i;
	return status;
}

enum framing_status framing_end(const struct framing *framing)
{
	if (framing->length == 0)
		return FRAMING_MORE;
	return framing->scalar ? FRAMING_VALUE : FRAMING_BAD;
}
