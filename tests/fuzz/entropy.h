/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a fuzzer's choices come from: first the bytes of an input, one or a few a choice, so that a
 * fuzzing engine can steer them; behind their end a generator that the input has seeded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct entropy {
	const uint8_t *bytes;
	size_t left;
	uint64_t state;
};

/* `bytes` may be NULL with 0 of them: then the seed decides everything. */
static inline void entropy_init(struct entropy *entropy, uint64_t seed, const uint8_t *bytes,
				size_t count)
{
	entropy->bytes = bytes;
	entropy->left = count;
	entropy->state = seed * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u;
	for (size_t i = 0; i < count; i++)
		entropy->state = (entropy->state ^ bytes[i]) * 0x100000001b3u;
	if (entropy->state == 0)
		entropy->state = 1;
}

static inline uint64_t entropy_next(struct entropy *entropy)
{
	/* xorshift64*: shifts 12, 25, 27 (Vigna, 2014). */
	entropy->state ^= entropy->state >> 12;
	entropy->state ^= entropy->state << 25;
	entropy->state ^= entropy->state >> 27;
	return entropy->state * 0x2545f4914f6cdd1du;
}

/* 0 to n - 1; n is not 0. Takes no more bytes of the input than it needs. */
static inline uint32_t entropy_below(struct entropy *entropy, uint32_t n)
{
	size_t take = n <= 0x100 ? 1 : n <= 0x10000 ? 2 : 4;
	uint32_t value = 0;

	if (entropy->left < take) {
		entropy->left = 0;
		return (uint32_t)(entropy_next(entropy) >> 32) % n;
	}
	for (size_t i = 0; i < take; i++)
		value |= (uint32_t)*entropy->bytes++ << 8 * i;
	entropy->left -= take;
	return value % n;
}

/* True once in n times. */
static inline bool entropy_chance(struct entropy *entropy, uint32_t n)
{
	return entropy_below(entropy, n) == 0;
}
