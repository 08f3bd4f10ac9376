/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Units: text to numbers and back, the same on the command line, in the file and in answers.
 *
 *     if (mac_parse("52:54:00:00:00:01", mac) != 0)
 *         return error_set(err, ERROR_INVALID, EINVAL, "this is no MAC address");
 *
 * Thread-safe: no state of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAC_LENGTH 6
#define MAC_TEXT_SIZE 18 /* "52:54:00:00:00:01" and the NUL */

/* Six pairs of hexadecimal digits with colons. Returns 0 or -EINVAL. */
int mac_parse(const char *text, uint8_t mac[MAC_LENGTH]);
void mac_format(const uint8_t mac[MAC_LENGTH], char text[MAC_TEXT_SIZE]);

/* Can one station have this address? Not a group's, nor zero. */
bool mac_is_station(const uint8_t mac[MAC_LENGTH]);

#define NAME_MAX_LENGTH 63

/*
 * An object's name: 1 to 63 characters of A-Z a-z 0-9 _ . : -
 * Returns 0 or -EINVAL.
 */
int name_check(const char *name);

/* A file mode in octal, "0660" or "660", at most 0777. Returns 0 or -EINVAL. */
int mode_parse(const char *text, uint32_t *mode);

/*
 * A number with a suffix: of a rate, "1Gbit", "1.5G", "64kbit/s", whose k M G T are powers of 1000;
 * of a size, "64KiB", "1Mi", "1500", whose Ki Mi Gi are powers of 1024 and k M G powers of 1000.
 * A fraction must come out whole. Return 0, or -EINVAL, also for what exceeds 63 bits.
 */
int rate_parse(const char *text, uint64_t *rate);
int size_parse(const char *text, uint64_t *size);

/*
 * A range of whole numbers, "10-20", or one, "30": first not above last. Returns 0 or -EINVAL.
 */
int range_parse(const char *text, uint32_t *first, uint32_t *last);

/*
 * Copies text into a buffer of `size` bytes, at least 4. What does not fit is cut between two UTF-8
 * characters and ends in "...", so that the copy still is valid JSON text. The two may overlap.
 */
void text_copy(char *to, size_t size, const char *from);

/* The cut alone, for a buffer that is full: ends text[0 .. size - 1] in "..." and a NUL. */
void text_cut(char *text, size_t size);
