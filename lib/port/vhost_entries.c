/* SPDX-License-Identifier: BSD-3-Clause */
/* Ring entries, charged to what all connections share; port/vhost_entries.h is the contract. */
#include "port/vhost_entries.h"

#include <stdbool.h>
#include <stddef.h>

#include "port/vhost_user.h"
#include "virtqueue/virtqueue.h"

/* 4 Mi entries are 2,048 queue pairs of 1,024. */
#define ENTRIES_ALWAYS (2 * VIRTQUEUE_SIZE_MAX)
#define ENTRIES_RING 2048
#define ENTRIES_ALL (4u << 20)
#define ENTRY_BYTES 40
_Static_assert((uint64_t)ENTRIES_ALL * ENTRY_BYTES <= VHOST_USER_HEAP_MB * 3ull / 4 << 20,
	       "a quarter is left for all else, and for holes");

static uint32_t entries_all; /* atomic; by library threads */

const char *entries_charge(struct entries *own, uint32_t rings, uint32_t index, uint32_t entries)
{
	uint32_t most = rings * ENTRIES_RING;
	uint32_t change = entries - own->of[index]; /* modulo 2^32, as all of these */
	uint32_t now = __atomic_load_n(&entries_all, __ATOMIC_RELAXED);

	if (most < ENTRIES_ALWAYS)
		most = ENTRIES_ALWAYS;
	if (own->sum + change > most)
		return "the VMM asked for more ring entries than a port may have";
	do {
		if (now + change > ENTRIES_ALL)
			return "the VMM asked for more ring entries than are left for all ports";
	} while (!__atomic_compare_exchange_n(&entries_all, &now, now + change, false,
					      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	own->of[index] = (uint16_t)entries;
	own->sum += change;
	return NULL;
}

void entries_release(const struct entries *own)
{
	__atomic_fetch_sub(&entries_all, own->sum, __ATOMIC_RELAXED);
}
