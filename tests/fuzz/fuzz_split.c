/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring fuzzer as a target of libFuzzer: each input is one scenario of a few bursts. */
#include <stdio.h>
#include <stdlib.h>

#include "guest.h"
#include "split.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

void check_failed(const char *condition, const char *file, int line)
{
	fprintf(stderr, "%s:%d: not true: %s\n", file, line, condition);
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct entropy entropy;

	entropy_init(&entropy, 0, bytes, count);
	split_run(&entropy, 8, false);
	return 0;
}
