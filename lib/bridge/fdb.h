/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The forwarding database: (VLAN, MAC) to port, one table for all VLANs.
 *
 * Buckets are one cache line; an address may stand in either of two. One writer, the control
 * thread, inserts, moves, ages and deletes; workers look up without a lock and refresh an entry's
 * age at most once a second. A reader that races with the writer finds the entry or does not; it
 * never gets another entry's port.
 *
 * Learning: a worker that sees an unknown or moved address puts it on its own single-producer ring
 * (learner); the control thread inserts what it finds there. When the ring is full the address is
 * not learned yet, and counted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/event.h"
#include "bridge/vlan.h"
#include "sync/counter.h"

#define FDB_CAPACITY_MIN 64
#define FDB_CAPACITY_MAX (1u << 20)
#define FDB_BUCKET_ENTRIES 5
#define FDB_NO_PORT 0xffff
#define FDB_ANY_VLAN 0xffff  /* for fdb_flush */
#define FDB_BLACKHOLE 0xfffe /* stands for a port: what is sent there is dropped */
#define FDB_PORT_MAX 0x7fff

/*
 * MAC in the low 48 bits as read from the frame (first byte lowest), VLAN above. Never 0: see
 * fdb_key.
 */
typedef uint64_t fdb_key_t;

/* One cache line. w: control, but age also workers; r: workers and control. */
struct fdb_bucket {
	fdb_key_t key[FDB_BUCKET_ENTRIES]; /* 0: free */
	uint16_t port[FDB_BUCKET_ENTRIES];
	uint16_t age[FDB_BUCKET_ENTRIES]; /* second of the last refresh, modulo 65,536 */
	uint8_t fixed;                    /* bit i: entry i is static */
	uint8_t spare;
	uint16_t version;                 /* of new entries: readers begin again when it changed */
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct fdb_bucket) == 64, "a bucket is one cache line");

/* w: control, r: anyone, with counter_read. */
struct fdb_counters {
	uint64_t learned;
	uint64_t moved;
	uint64_t aged;
	uint64_t evicted;
	uint64_t refused;
};

/* What is known of one port's addresses. Control thread. */
struct fdb_port {
	uint32_t held;    /* learned ones */
	uint32_t most;    /* that may be learned; 0: any number */
	uint64_t refused; /* beyond that */
};

/*
 * A port's own address in VLANs where it has no static entry: it may be learned there, but of no
 * other port. Control thread.
 */
struct fdb_claim {
	fdb_key_t address; /* in VLAN 0 */
	uint16_t port;
	const struct vlan_set *vlans;
};

/* What became of an address that a worker saw behind a port. */
struct fdb_news {
	enum event_kind kind; /* EVENT_ADDRESS_... */
	fdb_key_t key;
	uint16_t port;
	uint16_t from;        /* moved: the port where it was before */
	const char *reason;   /* refused: a phrase; else NULL */
};

struct fdb {
	struct fdb_bucket *buckets;
	uint32_t mask; /* buckets - 1 */
	uint32_t capacity;
	uint32_t entries;
	uint32_t sweep;  /* the next bucket that ageing looks at */
	uint32_t ageing; /* seconds, 0: never */
	struct fdb_counters counters;
	struct fdb_port *ports; /* FDB_PORT_MAX + 1 */
	struct fdb_claim *claims; /* sorted by address */
	uint32_t claim_count;
	/* Called with what fdb_learn does; NULL: nobody wants to know. w: the owner of the fdb */
	void (*tell)(void *argument, const struct fdb_news *news);
	void *tell_argument;
};

/* A readable entry, for lists. */
struct fdb_entry {
	uint8_t mac[6];
	uint16_t vlan;
	uint16_t port;
	bool fixed;
	uint32_t age; /* seconds since the last refresh */
};

/*
 * capacity: entries, 64 to 1,048,576; ageing: seconds, 0 to 65,000, 0 keeps for ever. NULL: no
 * memory.
 */
struct fdb *fdb_new(uint32_t capacity, uint32_t ageing);
void fdb_free(struct fdb *fdb);

/*
 * The key of six bytes in a frame. The guarding bit keeps an all-zero address apart from a free
 * slot.
 */
static inline fdb_key_t fdb_key(const uint8_t *mac, uint16_t vlan)
{
	uint32_t low;
	uint16_t high;

	__builtin_memcpy(&low, mac, 4);
	__builtin_memcpy(&high, mac + 4, 2);
	return (uint64_t)1 << 63 | (uint64_t)vlan << 48 | (uint64_t)high << 32 | low;
}

static inline void fdb_key_mac(fdb_key_t key, uint8_t mac[6])
{
	for (unsigned int byte = 0; byte < 6; byte++)
		mac[byte] = (uint8_t)(key >> (8 * byte));
}

static inline uint16_t fdb_key_vlan(fdb_key_t key)
{
	return key >> 48 & 0x7fff;
}

/*
 * A bit of a product depends only on those below it. Folding the key first lets the VLAN and the
 * last bytes of the address, which differ most, reach all bits that are used.
 */
static inline uint64_t fdb_hash(fdb_key_t key)
{
	return (key ^ key >> 32) * 0x9e3779b97f4a7c15ull;
}

static inline struct fdb_bucket *fdb_first(const struct fdb *fdb, uint64_t hash)
{
	return &fdb->buckets[hash >> 24 & fdb->mask];
}

static inline struct fdb_bucket *fdb_second(const struct fdb *fdb, uint64_t hash)
{
	return &fdb->buckets[hash >> 44 & fdb->mask];
}

static inline void fdb_prefetch(const struct fdb *fdb, fdb_key_t key)
{
	__builtin_prefetch(fdb_first(fdb, fdb_hash(key)));
}

/* The port if the key stands in this bucket, else FDB_NO_PORT; *slot says where. */
static inline uint16_t fdb_bucket_find(const struct fdb_bucket *bucket, fdb_key_t key,
				       unsigned int *slot)
{
	uint16_t port, version;

	/*
	 * The key alone would not do: between two looks at it its slot may have been another
	 * entry's, and its own again.
	 */
	do {
		port = FDB_NO_PORT;
		version = __atomic_load_n(&bucket->version, __ATOMIC_ACQUIRE);
		for (unsigned int i = 0; i < FDB_BUCKET_ENTRIES; i++) {
			if (__atomic_load_n(&bucket->key[i], __ATOMIC_ACQUIRE) != key)
				continue;
			port = __atomic_load_n(&bucket->port[i], __ATOMIC_ACQUIRE);
			*slot = i;
			break;
		}
	} while (port != FDB_NO_PORT &&
		 __atomic_load_n(&bucket->version, __ATOMIC_RELAXED) != version);
	return port;
}

/* Where a key is forwarded to, or FDB_NO_PORT. Any thread. */
static inline uint16_t fdb_lookup(const struct fdb *fdb, fdb_key_t key)
{
	uint64_t hash = fdb_hash(key);
	unsigned int slot;
	uint16_t port = fdb_bucket_find(fdb_first(fdb, hash), key, &slot);

	if (port == FDB_NO_PORT)
		port = fdb_bucket_find(fdb_second(fdb, hash), key, &slot);
	return port;
}

/*
 * The same for a source address, whose age is set to `now` (seconds) unless it is that already: at
 * most one store a second and address, for a line that other workers read.
 */
static inline uint16_t fdb_refresh(struct fdb *fdb, fdb_key_t key, uint16_t now)
{
	uint64_t hash = fdb_hash(key);
	struct fdb_bucket *bucket = fdb_first(fdb, hash);
	unsigned int slot;
	uint16_t port = fdb_bucket_find(bucket, key, &slot);

	if (port == FDB_NO_PORT) {
		bucket = fdb_second(fdb, hash);
		port = fdb_bucket_find(bucket, key, &slot);
		if (port == FDB_NO_PORT)
			return port;
	}
	if (__atomic_load_n(&bucket->age[slot], __ATOMIC_RELAXED) != now)
		__atomic_store_n(&bucket->age[slot], now, __ATOMIC_RELAXED);
	return port;
}

/*
 * Learns or moves an address. Control thread. A static entry is not moved. When the table is full,
 * or both buckets are and none of their entries can stand elsewhere, the oldest entry of the port
 * that holds most there gives way. Returns 0; -ENOSPC where only static entries are in the way, or
 * the port has learned as many as it may; -EPERM where it is another port's own (fdb_claim). Both
 * are counted as refused.
 */
int fdb_learn(struct fdb *fdb, fdb_key_t key, uint16_t port, uint16_t now);

/*
 * Removes learned entries not refreshed for the ageing time; looks at a part of the table a call.
 */
void fdb_age(struct fdb *fdb, uint16_t now, uint32_t buckets);

/*
 * Sets an address static, wherever it was learned before: it neither moves nor ages. Control
 * thread. Returns 0, or -ENOSPC where only static entries are in the way.
 */
int fdb_fix(struct fdb *fdb, fdb_key_t key, uint16_t port, uint16_t now);

/* Removes an entry, static or not. Control thread. Returns 0 or -ENOENT. */
int fdb_remove(struct fdb *fdb, fdb_key_t key);

/*
 * Removes what was learned of a port, or of all with FDB_NO_PORT, in a VLAN, or FDB_ANY_VLAN.
 * Control thread. Returns how many.
 */
uint32_t fdb_flush(struct fdb *fdb, uint16_t port, uint16_t vlan);

/* Removes all entries of a port, static ones too. Control thread. */
void fdb_forget_port(struct fdb *fdb, uint16_t port);

/*
 * Takes over these claims (sorted by address, from malloc) in the place of those before, and
 * removes what others had learned of such addresses. The sets that they point to must outlive them.
 * Control thread.
 */
void fdb_set_claims(struct fdb *fdb, struct fdb_claim *claims, uint32_t count);

/* Calls visit for every entry. Control thread. */
void fdb_walk(const struct fdb *fdb, uint16_t now,
	      void (*visit)(void *argument, const struct fdb_entry *entry), void *argument);

/* ---- the way from workers to the control thread ---- */

#define LEARNER_SLOTS 1024
#define LEARNER_RECENT 64

struct learner_item {
	fdb_key_t key;
	uint16_t port;
};

/* One per worker. */
struct learner {
	/* w: worker */
	_Alignas(64) uint32_t head;
	uint64_t overflowed; /* addresses not learned yet because the ring was full; r: control */
	struct learner_item recent[LEARNER_RECENT]; /* posted lately: not again */
	/* w: control */
	_Alignas(64) uint32_t tail;
	struct learner_item items[LEARNER_SLOTS];
};

/* Worker: has the address learned soon. */
void learner_post(struct learner *learner, fdb_key_t key, uint16_t port);

/* Worker: from time to time (some ten times a second), so that what was lost is posted again. */
void learner_forget(struct learner *learner);

/* Control: learns what was posted. Returns how many. */
unsigned int learner_drain(struct learner *learner, struct fdb *fdb, uint16_t now);
