/* SPDX-License-Identifier: BSD-3-Clause */
/* Text that a terminal shows and does not obey; text.h is the contract. */
#include "text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Decodes one character. Returns its length in bytes, 0 where the bytes are no UTF-8. */
static size_t decode(const char *text, uint32_t *character)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned char first = (unsigned char)text[0];
	size_t length = 1;

	if (first >= 0x80)
		length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
	if ((first >= 0x80 && first < 0xc0) || first >= 0xf8)
		return 0;
	*character = length == 1 ? first : first & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		/* The NUL at the end is no continuation, so nothing behind it is read. */
		if (((unsigned char)text[i] & 0xc0) != 0x80)
			return 0;
		*character = *character << 6 | ((unsigned char)text[i] & 0x3f);
	}
	return *character < smallest[length] || *character > 0x10ffff ? 0 : length;
}

static bool is_control(uint32_t character)
{
	return character < 0x20 || (character >= 0x7f && character < 0xa0) ||
	       character == 0x061c || character == 0x200e || character == 0x200f ||
	       (character >= 0x2028 && character <= 0x202e) ||
	       (character >= 0x2066 && character <= 0x2069);
}

void text_write(FILE *out, const char *text)
{
	while (*text != '\0') {
		uint32_t character = 0;
		size_t length = decode(text, &character);

		if (length == 0) {
			fprintf(out, "\\x%02x", (unsigned char)*text);
			length = 1;
		} else if (character == '\n') {
			fputs("\\n", out);
		} else if (character == '\t') {
			fputs("\\t", out);
		} else if (is_control(character)) {
			fprintf(out, character < 0x100 ? "\\x%02x" : "\\u%04x", character);
		} else {
			fwrite(text, 1, length, out);
		}
		text += length;
	}
}

char *text_safe(const char *text)
{
	char *safe = NULL;
	size_t size;
	FILE *out = open_memstream(&safe, &size);

	if (out == NULL)
		return NULL;
	text_write(out, text);
	if (fclose(out) != 0) {
		free(safe);
		return NULL;
	}
	return safe;
}

size_t text_width(const char *text)
{
	size_t width = 0;

	for (; *text != '\0'; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

void text_fit(char *text, size_t width)
{
	size_t left = width - 3;

	if (text_width(text) <= width)
		return;
	while (left > 0) {
		text++;
		left -= ((unsigned char)*text & 0xc0) != 0x80;
	}
	memcpy(text, "...", 4);
}
