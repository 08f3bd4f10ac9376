/* SPDX-License-Identifier: BSD-3-Clause */
/* Texts for the targets, made and damaged; text.h and target.h are the contracts. */
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_MAX_MADE 8192

const char target_unit[] = "texts";

/* Of the address sanitizer; gcc comes without the header. */
size_t __sanitizer_get_current_allocated_bytes(void);

/* Returns the bytes that are held more than before. */
static size_t run_once(const char *text, size_t size, struct entropy *entropy)
{
	size_t held = __sanitizer_get_current_allocated_bytes();
	/* Of exactly this size, so that reading on is noticed. */
	char *exact = malloc(size > 0 ? size : 1);

	CHECK(exact != NULL);
	memcpy(exact, text, size);
	text_run(exact, size, entropy);
	free(exact);
	return __sanitizer_get_current_allocated_bytes() - held;
}

/* text_run, and a check that no memory is left over. */
static void run_text(const char *text, size_t size, struct entropy *entropy)
{
	struct entropy same = *entropy;

	/* What a library keeps for later, or the engine's own thread takes, it takes once. */
	for (int i = 0; run_once(text, size, entropy) != 0; i++) {
		CHECK(i < 3);
		*entropy = same;
	}
}

/* Puts `count` bytes at a place, in front of what stands there. Returns the new size. */
static size_t insert(char *text, size_t size, size_t max, size_t at, const char *bytes,
		     size_t count)
{
	if (count > max - size)
		count = max - size;
	memmove(text + at + count, text + at, size - at);
	memcpy(text + at, bytes, count);
	return size + count;
}

static size_t insert_token(struct entropy *entropy, char *text, size_t size, size_t max, size_t at)
{
	static const struct {
		const char *bytes;
		size_t count;
	} tokens[] = {
#define TOKEN(text) { text, sizeof(text) - 1 }
		TOKEN("{"), TOKEN("}"), TOKEN("["), TOKEN("]"), TOKEN("\""), TOKEN(","), TOKEN(":"),
		TOKEN("\\"), TOKEN("\\u0000"), TOKEN("\\ud800"), TOKEN("\\udc00\\ud800"),
		TOKEN("\0"), TOKEN("\xff"), TOKEN("\xc3"), TOKEN("\xf4\x90\x80\x80"), TOKEN("\n"),
		TOKEN("null"), TOKEN("true"), TOKEN("-"), TOKEN("1e999"), TOKEN("-0"), TOKEN("0.1"),
		TOKEN("99999999999999999999"), TOKEN("9223372036854775807"), TOKEN("{}"),
		TOKEN("\"id\":1,"), TOKEN("\"id\":null,"), TOKEN("\"name\":\"vm1\","), TOKEN("[],"),
		TOKEN("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["), TOKEN("{\"a\":{\"a\":{\"a\":{\"a\":"),
		TOKEN("]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"), TOKEN("//"), TOKEN("NaN"),
		TOKEN("\"jsonrpc\":\"2.0\","), TOKEN("\"__proto__\":{},"), TOKEN("  \t\r\n"),
#undef TOKEN
	};
	uint32_t i = entropy_below(entropy, sizeof(tokens) / sizeof(tokens[0]));

	return insert(text, size, max, at, tokens[i].bytes, tokens[i].count);
}

static size_t damage_once(struct entropy *entropy, char *text, size_t size, size_t max)
{
	size_t at = entropy_below(entropy, (uint32_t)size + 1);
	size_t count = entropy_below(entropy, 24) + 1;
	char part[24];

	if (count > size - at)
		count = size - at;
	switch (entropy_below(entropy, 6)) {
	case 0:
		if (at < size)
			text[at] = (char)(text[at] ^ 1 << entropy_below(entropy, 8));
		return size;
	case 1:
		memmove(text + at, text + at + count, size - at - count);
		return size - count;
	case 2:
		/* The same again, here or elsewhere. */
		memcpy(part, text + at, count);
		return insert(text, size, max, entropy_below(entropy, (uint32_t)size + 1), part,
			      count);
	case 3:
		return entropy_chance(entropy, 4) ? at : size;
	default:
		return insert_token(entropy, text, size, max, at);
	}
}

size_t text_damage(struct entropy *entropy, char *text, size_t size, size_t max)
{
	for (uint32_t i = entropy_below(entropy, 4) + 1; i > 0; i--)
		size = damage_once(entropy, text, size, max);
	return size;
}

/* Adds a value to a text, if it fits. */
static size_t add_value(struct entropy *entropy, char *text, size_t size, size_t max)
{
	json_t *value = text_value(entropy);
	size_t flags = entropy_chance(entropy, 4) ? JSON_INDENT(1) : JSON_COMPACT;
	size_t added = json_dumpb(value, text + size, max - size, JSON_ENCODE_ANY | flags);

	json_decref(value);
	if (added == 0 || added > max - size)
		return size;
	size += added;
	if (size < max && entropy_chance(entropy, 2))
		text[size++] = '\n';
	return size;
}

size_t text_make(struct entropy *entropy, char *text, size_t max)
{
	uint32_t count = text_takes_many ? entropy_below(entropy, 4) + 1 : 1;
	size_t size = 0;

	for (uint32_t i = 0; i < count; i++)
		size = add_value(entropy, text, size, max);
	return entropy_chance(entropy, 3) ? text_damage(entropy, text, size, max) : size;
}

bool target_choose(const char *what)
{
	(void)what;
	return false;
}

void target_input(const uint8_t *bytes, size_t count)
{
	struct entropy entropy;

	/* Nothing of the input is spent on choices; it seeds them. */
	entropy_init(&entropy, 0, bytes, count);
	entropy.left = 0;
	run_text((const char *)bytes, count, &entropy);
}

/* One of the files that are not too long, damaged; or a text that is made. */
static size_t pick_text(struct entropy *entropy, const struct target_file *files,
			uint32_t file_count, char *text)
{
	const struct target_file *file;

	if (file_count == 0 || !entropy_chance(entropy, 4))
		return text_make(entropy, text, SIZE_MAX_MADE);
	file = &files[entropy_below(entropy, file_count)];
	if (file->count > SIZE_MAX_MADE)
		return text_make(entropy, text, SIZE_MAX_MADE);
	memcpy(text, file->bytes, file->count);
	return text_damage(entropy, text, file->count, SIZE_MAX_MADE);
}

uint64_t target_make(uint64_t seed, const struct target_file *files, uint32_t file_count,
		     bool show)
{
	static char text[SIZE_MAX_MADE];
	struct entropy entropy;
	size_t size;

	entropy_init(&entropy, seed, NULL, 0);
	size = pick_text(&entropy, files, file_count, text);
	if (show)
		printf("%.*s\n", (int)size, text);
	run_text(text, size, &entropy);
	return 1;
}
