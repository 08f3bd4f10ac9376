/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Framing: where one JSON value ends in a stream of bytes.
 *
 * Values stand back to back, with or without white space between them. The scanner looks at each
 * byte once, however the stream is cut; whether the bytes are good JSON is left to the parser,
 * which then sees them once too. The caller keeps the bytes: when a value is complete it is
 * [skipped, skipped + length) of what was scanned since the last framing_reset.
 *
 *     status = framing_scan(&framing, data, size, &used);
 *     if (status == FRAMING_VALUE) {
 *         json = json_loadb(stream + framing.skipped, framing.length, JSON_DECODE_ANY, &error);
 *         framing_reset(&framing);
 *     }
 *
 * No thread rules: the state belongs to the caller.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct framing {
	size_t max_length;      /* of one value, in bytes */
	unsigned int max_depth; /* of arrays and objects in each other */
	size_t skipped;         /* bytes of white space before the value */
	size_t length;          /* bytes of the value seen so far; 0: none has begun */
	unsigned int depth;
	bool scalar;            /* a number, true, false, null or a bare word outside everything */
	bool string;
	bool escape;            /* the byte before was a backslash inside a string */
};

enum framing_status {
	FRAMING_MORE,     /* all bytes were used, the value goes on */
	FRAMING_VALUE,    /* a value is complete */
	FRAMING_BAD,      /* no JSON value begins like this */
	FRAMING_TOO_LONG,
	FRAMING_TOO_DEEP,
};

void framing_init(struct framing *framing, size_t max_length, unsigned int max_depth);

/* Forgets the value, keeps the limits. */
void framing_reset(struct framing *framing);

/* Scans on. *used: how many bytes were looked at and need not be given again. */
enum framing_status framing_scan(struct framing *framing, const char *data, size_t size,
				 size_t *used);

/*
 * The stream is over. FRAMING_VALUE: that ended a number or a word; FRAMING_MORE: nothing was
 * begun; FRAMING_BAD: a value was cut off.
 */
enum framing_status framing_end(const struct framing *framing);
