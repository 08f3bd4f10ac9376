/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every fuzzer is: something that takes an input or makes one, and stops at a CHECK that does
 * not hold. Each fuzz_*.c is one. engine.c runs it under libFuzzer, stress.c on its own.
 */
#pragma once

#include "check.h"
#include "entropy.h"

extern const char target_name[];
extern const char target_unit[]; /* what is counted: "bursts" */

struct target_file {
	const char *path;
	uint8_t *bytes;
	size_t count;
};

/* Called once, before all else. */
void target_init(void);

/* Narrows what is made (--layout). False if there is no such choice. */
bool target_choose(const char *what);

/* Runs one input, of a corpus or a fuzzing engine. */
void target_input(const uint8_t *bytes, size_t count);

/*
 * Makes an input after the seed, perhaps of one of the files, and runs it; prints it first with
 * `show`, if it can be printed. Returns how many units it was.
 */
uint64_t target_make(uint64_t seed, const struct target_file *files, uint32_t file_count,
		     bool show);
