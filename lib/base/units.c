/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Units: text to numbers and back. Parsers are strict: what they take is what an operator reads in
 * the documentation, and nothing that only the C library happens to understand.
 */
#include "base/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int mac_parse(const char *text, uint8_t mac[MAC_LENGTH])
{
	uint8_t parsed[MAC_LENGTH];

	if (strlen(text) != MAC_TEXT_SIZE - 1)
		return -EINVAL;
	for (unsigned int i = 0; i < MAC_LENGTH; i++) {
		int high = hex_digit(text[3 * i]);
		int low = hex_digit(text[3 * i + 1]);

		if (high < 0 || low < 0 || (i < MAC_LENGTH - 1 && text[3 * i + 2] != ':'))
			return -EINVAL;
		parsed[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(mac, parsed, MAC_LENGTH);
	return 0;
}

void mac_format(const uint8_t mac[MAC_LENGTH], char text[MAC_TEXT_SIZE])
{
	snprintf(text, MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
}

bool mac_is_station(const uint8_t mac[MAC_LENGTH])
{
	static const uint8_t zero[MAC_LENGTH];

	return !(mac[0] & 1) && memcmp(mac, zero, sizeof(zero)) != 0;
}

int name_check(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789_.:-";
	size_t length = strlen(name);

	if (length < 1 || length > NAME_MAX_LENGTH || strspn(name, allowed) != length)
		return -EINVAL;
	return 0;
}

int mode_parse(const char *text, uint32_t *mode)
{
	size_t length = strlen(text);
	uint32_t parsed = 0;

	if (length < 1 || length > 4 || strspn(text, "01234567") != length)
		return -EINVAL;
	for (const char *digit = text; *digit != '\0'; digit++)
		parsed = parsed << 3 | (uint32_t)(*digit - '0');
	if (parsed > 0777)
		return -EINVAL;
	*mode = parsed;
	return 0;
}

struct suffix {
	const char *text;
	uint64_t factor;
};

/* "12.5" and one of the suffixes, of which the longest that fits counts. */
static int number_parse(const char *text, const struct suffix *suffixes, const char *const *tails,
			uint64_t *number)
{
	size_t whole = strspn(text, "0123456789");
	size_t part = text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
	const char *rest = text + whole + (part > 0 ? part + 1 : 0);
	__uint128_t value = 0, factor = 1;

	/* 128 bits hold 18 digits of either side and the largest factor. */
	if (whole == 0 || whole > 18 || part > 9)
		return -EINVAL;
	for (size_t i = 0; i < whole; i++)
		value = value * 10 + (unsigned int)(text[i] - '0');
	for (size_t i = 0; i < part; i++)
		value = value * 10 + (unsigned int)(text[whole + 1 + i] - '0');
	for (; suffixes->text != NULL; suffixes++) {
		size_t length = strlen(suffixes->text);

		if (strncmp(rest, suffixes->text, length) != 0)
			continue;
		factor = suffixes->factor;
		rest += length;
		break;
	}
	while (*tails != NULL && strcmp(rest, *tails) != 0)
		tails++;
	if (*tails == NULL)
		return -EINVAL;
	value *= factor;
	for (size_t i = 0; i < part; i++) {
		if (value % 10 != 0)
			return -EINVAL;
		value /= 10;
	}
	if (value > INT64_MAX)
		return -EINVAL;
	*number = (uint64_t)value;
	return 0;
}

int rate_parse(const char *text, uint64_t *rate)
{
	static const struct suffix suffixes[] = { { "k", 1000 },
						  { "M", 1000000 },
						  { "G", 1000000000 },
						  { "T", 1000000000000 },
						  { NULL, 0 } };
	static const char *const tails[] = { "", "bit", "bit/s", "bps", "/s", NULL };

	return number_parse(text, suffixes, tails, rate);
}

int size_parse(const char *text, uint64_t *size)
{
	static const struct suffix suffixes[] = { { "Ki", 1 << 10 }, { "Mi", 1 << 20 },
						  { "Gi", 1 << 30 }, { "k", 1000 },
						  { "M", 1000000 },  { "G", 1000000000 },
						  { NULL, 0 } };
	static const char *const tails[] = { "", "B", NULL };

	return number_parse(text, suffixes, tails, size);
}

/* Decimal digits, at most nine. Returns what follows, or NULL. */
static const char *digits_parse(const char *text, uint32_t *number)
{
	size_t count = strspn(text, "0123456789");

	if (count == 0 || count > 9)
		return NULL;
	*number = 0;
	for (size_t i = 0; i < count; i++)
		*number = *number * 10 + (uint32_t)(text[i] - '0');
	return text + count;
}

int range_parse(const char *text, uint32_t *first, uint32_t *last)
{
	uint32_t from, to;
	const char *rest = digits_parse(text, &from);

	if (rest == NULL)
		return -EINVAL;
	to = from;
	if (*rest == '-')
		rest = digits_parse(rest + 1, &to);
	if (rest == NULL || *rest != '\0' || from > to)
		return -EINVAL;
	*first = from;
	*last = to;
	return 0;
}

void text_cut(char *text, size_t size)
{
	size_t cut = size - 4;

	/* 10xxxxxx continues a character: go back to the byte that starts it. */
	while (cut > 0 && ((unsigned char)text[cut] & 0xc0) == 0x80)
		cut--;
	memcpy(text + cut, "...", 4);
}

void text_copy(char *to, size_t size, const char *from)
{
	size_t length = strnlen(from, size);
	bool fits = length < size;

	memmove(to, from, fits ? length : size - 1);
	to[fits ? length : size - 1] = '\0';
	if (!fits)
		text_cut(to, size);
}
