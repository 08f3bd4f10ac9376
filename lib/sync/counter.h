/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Counters: plain 64-bit fields with one writer, a worker, and any number of readers.
 *
 * The writer adds with relaxed loads and stores, which cost what plain ones cost; a reader sums
 * over the workers. They are never reset: whoever wants a rate takes two readings.
 */
#pragma once

#include <stdint.h>

static inline void counter_add(uint64_t *counter, uint64_t amount)
{
	__atomic_store_n(counter, *counter + amount, __ATOMIC_RELAXED);
}

static inline uint64_t counter_read(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}
