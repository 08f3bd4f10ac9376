/* SPDX-License-Identifier: BSD-3-Clause */
/* What every fuzzer says when something is not as it must be. */
#pragma once

/* Stops the run: says what is wrong and how to see it again. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			check_failed(#condition, __FILE__, __LINE__);                              \
	} while (0)

void check_failed(const char *condition, const char *file, int line) __attribute__((noreturn));
