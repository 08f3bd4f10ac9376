/* SPDX-License-Identifier: BSD-3-Clause */
/* The time of limiters (policy/limiter.h), alone in its file: tests have another one. */
#include "policy/limiter.h"

#include <time.h>

/*
 * Not from the TSC by DPDK's figure for it, which is rounded to 10 MHz where the processor does not
 * tell: the kernel's is exact, and as good as free to ask for.
 */
uint64_t limiter_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
