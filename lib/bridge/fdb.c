/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The writer's side of the forwarding database, and the learners' rings; bridge/fdb.h is the
 * contract.
 */
#include "bridge/fdb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Buckets that are searched for an entry to give way, when those of the new one are empty. */
#define EVICT_TRIES 64

/* Buckets a table gets for its capacity: at most two thirds of their entries are ever used. */
static uint32_t bucket_count(uint32_t capacity)
{
	uint32_t wanted = capacity * 3 / 2 / FDB_BUCKET_ENTRIES;
	uint32_t count = 16;

	while (count < wanted)
		count *= 2;
	return count;
}

struct fdb *fdb_new(uint32_t capacity, uint32_t ageing)
{
	struct fdb *fdb = calloc(1, sizeof(*fdb));
	uint32_t count = bucket_count(capacity);

	if (fdb == NULL)
		return NULL;
	fdb->buckets = aligned_alloc(64, count * sizeof(*fdb->buckets));
	/* Of pages that are never touched, but for those of the numbers in use. */
	fdb->ports = calloc(FDB_PORT_MAX + 1, sizeof(*fdb->ports));
	if (fdb->buckets == NULL || fdb->ports == NULL) {
		fdb_free(fdb);
		return NULL;
	}
	memset(fdb->buckets, 0, count * sizeof(*fdb->buckets));
	fdb->mask = count - 1;
	fdb->capacity = capacity;
	fdb->ageing = ageing;
	return fdb;
}

void fdb_free(struct fdb *fdb)
{
	if (fdb == NULL)
		return;
	free(fdb->buckets);
	free(fdb->ports);
	free(fdb->claims);
	free(fdb);
}

/* A port has one learned entry more, or less. */
static void count_held(struct fdb *fdb, uint16_t port, int change)
{
	if (port <= FDB_PORT_MAX)
		fdb->ports[port].held += (uint32_t)change;
}

static bool is_fixed(const struct fdb_bucket *bucket, unsigned int slot)
{
	return bucket->fixed >> slot & 1;
}

static void entry_clear(struct fdb *fdb, struct fdb_bucket *bucket, unsigned int slot)
{
	if (!is_fixed(bucket, slot))
		count_held(fdb, bucket->port[slot], -1);
	__atomic_store_n(&bucket->key[slot], 0, __ATOMIC_RELEASE);
	bucket->fixed &= (uint8_t)~(1u << slot);
	fdb->entries--;
}

static void entry_move(struct fdb *fdb, struct fdb_bucket *bucket, unsigned int slot, uint16_t port)
{
	if (!is_fixed(bucket, slot)) {
		count_held(fdb, bucket->port[slot], -1);
		count_held(fdb, port, 1);
	}
	__atomic_store_n(&bucket->port[slot], port, __ATOMIC_RELEASE);
}

static void entry_fix(struct fdb *fdb, struct fdb_bucket *bucket, unsigned int slot)
{
	if (!is_fixed(bucket, slot))
		count_held(fdb, bucket->port[slot], -1);
	bucket->fixed |= (uint8_t)(1u << slot);
}

/*
 * The key is stored last, and was 0 before: a reader that sees it sees its port. One that saw the
 * key that stood here before, and sees this port, sees the new version too.
 */
static void entry_set(struct fdb *fdb, struct fdb_bucket *bucket, unsigned int slot, fdb_key_t key,
		      uint16_t port, uint16_t second)
{
	__atomic_store_n(&bucket->version, (uint16_t)(bucket->version + 1), __ATOMIC_RELEASE);
	__atomic_store_n(&bucket->port[slot], port, __ATOMIC_RELEASE);
	__atomic_store_n(&bucket->age[slot], second, __ATOMIC_RELAXED);
	__atomic_store_n(&bucket->key[slot], key, __ATOMIC_RELEASE);
	fdb->entries++;
	count_held(fdb, port, 1);
}

/* Seconds since the last refresh. A worker's clock may be a second ahead of ours. */
static uint16_t entry_age(const struct fdb_bucket *bucket, unsigned int slot, uint16_t now)
{
	uint16_t age = (uint16_t)(now - __atomic_load_n(&bucket->age[slot], __ATOMIC_RELAXED));

	return age < UINT16_MAX - 1 ? age : 0;
}

static int free_slot(const struct fdb_bucket *bucket, unsigned int *slot)
{
	int count = 0;

	for (unsigned int i = FDB_BUCKET_ENTRIES; i-- > 0;) {
		if (bucket->key[i] == 0) {
			*slot = i;
			count++;
		}
	}
	return count;
}

/* How many entries of the two buckets belong to the port of entry `slot`. */
static unsigned int neighbours(struct fdb_bucket *const buckets[2], uint16_t port)
{
	unsigned int count = 0;

	for (unsigned int b = 0; b < 2; b++)
		for (unsigned int i = 0; i < FDB_BUCKET_ENTRIES; i++)
			count += buckets[b]->key[i] != 0 && buckets[b]->port[i] == port;
	return count;
}

/* Clears the oldest entry of the port that holds most of the two buckets. */
static int evict(struct fdb *fdb, struct fdb_bucket *const buckets[2], uint16_t now)
{
	struct fdb_bucket *victim = NULL;
	unsigned int victim_slot = 0, most = 0;
	uint16_t oldest = 0;

	for (unsigned int b = 0; b < 2; b++) {
		for (unsigned int i = 0; i < FDB_BUCKET_ENTRIES; i++) {
			unsigned int held;
			uint16_t age;

			if (buckets[b]->key[i] == 0 || is_fixed(buckets[b], i))
				continue;
			held = neighbours(buckets, buckets[b]->port[i]);
			age = entry_age(buckets[b], i, now);
			if (victim != NULL && (held < most || (held == most && age <= oldest)))
				continue;
			victim = buckets[b];
			victim_slot = i;
			most = held;
			oldest = age;
		}
	}
	if (victim == NULL)
		return -ENOSPC;
	entry_clear(fdb, victim, victim_slot);
	counter_add(&fdb->counters.evicted, 1);
	return 0;
}

/* Moves an entry of this bucket to the other one where it may stand, if there is room. */
static int displace(struct fdb *fdb, struct fdb_bucket *bucket)
{
	for (unsigned int i = 0; i < FDB_BUCKET_ENTRIES; i++) {
		uint64_t hash = fdb_hash(bucket->key[i]);
		struct fdb_bucket *other = fdb_first(fdb, hash);
		unsigned int slot;

		if (other == bucket)
			other = fdb_second(fdb, hash);
		if (free_slot(other, &slot) == 0)
			continue;
		/*
		 * For a moment it stands in both: only a reader that is between the two may miss
		 * it.
		 */
		entry_set(fdb, other, slot, bucket->key[i], bucket->port[i],
			  __atomic_load_n(&bucket->age[i], __ATOMIC_RELAXED));
		if (is_fixed(bucket, i))
			entry_fix(fdb, other, slot);
		entry_clear(fdb, bucket, i);
		return 0;
	}
	return -ENOSPC;
}

/* At capacity: makes room near the new entry, or else where the sweep finds entries next. */
static int make_room(struct fdb *fdb, struct fdb_bucket *const buckets[2], uint16_t now)
{
	if (evict(fdb, buckets, now) == 0)
		return 0;
	for (uint32_t tries = 0; tries < EVICT_TRIES; tries++) {
		struct fdb_bucket *bucket = &fdb->buckets[(fdb->sweep + tries) & fdb->mask];
		struct fdb_bucket *const both[2] = { bucket, bucket };

		if (evict(fdb, both, now) == 0)
			return 0;
	}
	return -ENOSPC;
}

static struct fdb_bucket *find(const struct fdb *fdb, fdb_key_t key, unsigned int *slot)
{
	uint64_t hash = fdb_hash(key);

	if (fdb_bucket_find(fdb_first(fdb, hash), key, slot) != FDB_NO_PORT)
		return fdb_first(fdb, hash);
	if (fdb_bucket_find(fdb_second(fdb, hash), key, slot) != FDB_NO_PORT)
		return fdb_second(fdb, hash);
	return NULL;
}

/* Adds an entry that is not there. */
static int insert(struct fdb *fdb, fdb_key_t key, uint16_t port, uint16_t now)
{
	uint64_t hash = fdb_hash(key);
	struct fdb_bucket *const buckets[2] = { fdb_first(fdb, hash), fdb_second(fdb, hash) };
	unsigned int slots[2] = { 0, 0 };
	int first, second;

	if (fdb->entries >= fdb->capacity && make_room(fdb, buckets, now) != 0)
		return -ENOSPC;
	first = free_slot(buckets[0], &slots[0]);
	second = free_slot(buckets[1], &slots[1]);
	if (first == 0 && second == 0) {
		if (displace(fdb, buckets[0]) != 0 && displace(fdb, buckets[1]) != 0 &&
		    evict(fdb, buckets, now) != 0)
			return -ENOSPC;
		first = free_slot(buckets[0], &slots[0]);
		second = free_slot(buckets[1], &slots[1]);
	}
	/* The first bucket is where a lookup begins: preferred unless it is much fuller. */
	if (first > 0 && first + 2 >= second)
		entry_set(fdb, buckets[0], slots[0], key, port, now);
	else
		entry_set(fdb, buckets[1], slots[1], key, port, now);
	return 0;
}

/* The first claim whose address is not below this one. */
static const struct fdb_claim *first_claim(const struct fdb *fdb, fdb_key_t address)
{
	uint32_t first = 0, count = fdb->claim_count;

	while (count > 0) {
		uint32_t half = count / 2;

		if (fdb->claims[first + half].address < address) {
			first += half + 1;
			count -= half + 1;
		} else {
			count = half;
		}
	}
	return fdb->claims + first;
}

static bool is_claimed(const struct fdb *fdb, fdb_key_t key, uint16_t port)
{
	const fdb_key_t address = key & ~((fdb_key_t)0x7fff << 48);
	const uint16_t vlan = fdb_key_vlan(key);

	if (fdb->claim_count == 0)
		return false;
	for (const struct fdb_claim *claim = first_claim(fdb, address);
	     claim < fdb->claims + fdb->claim_count && claim->address == address; claim++)
		if (claim->port != port && vlan_set_has(claim->vlans, vlan))
			return true;
	return false;
}

/* May the port have one learned entry more? */
static bool may_learn(struct fdb *fdb, uint16_t port)
{
	struct fdb_port *own = &fdb->ports[port];

	if (own->most == 0 || own->held < own->most)
		return true;
	own->refused++;
	return false;
}

static int refuse(struct fdb *fdb, int reason)
{
	counter_add(&fdb->counters.refused, 1);
	return reason;
}

static void tell(const struct fdb *fdb, const struct fdb_news *news)
{
	if (fdb->tell != NULL)
		fdb->tell(fdb->tell_argument, news);
}

/* Counts and tells of an address that was not learned. Returns `error`. */
static int refuse_learning(struct fdb *fdb, struct fdb_news *news, int error, const char *reason)
{
	news->kind = EVENT_ADDRESS_REFUSED;
	news->reason = reason;
	tell(fdb, news);
	return refuse(fdb, error);
}

int fdb_learn(struct fdb *fdb, fdb_key_t key, uint16_t port, uint16_t now)
{
	struct fdb_news news = { EVENT_ADDRESS_LEARNED, key, port, FDB_NO_PORT, NULL };
	unsigned int slot;
	struct fdb_bucket *bucket = find(fdb, key, &slot);

	if (bucket != NULL && (bucket->port[slot] == port || is_fixed(bucket, slot)))
		return 0;
	if (is_claimed(fdb, key, port))
		return refuse_learning(fdb, &news, -EPERM, "it is another port's own address");
	if (!may_learn(fdb, port))
		return refuse_learning(fdb, &news, -ENOSPC,
				       "the port has as many addresses as it may have");
	if (bucket != NULL) {
		news.kind = EVENT_ADDRESS_MOVED;
		news.from = bucket->port[slot];
		entry_move(fdb, bucket, slot, port);
		__atomic_store_n(&bucket->age[slot], now, __ATOMIC_RELAXED);
		counter_add(&fdb->counters.moved, 1);
		tell(fdb, &news);
		return 0;
	}
	if (insert(fdb, key, port, now) != 0)
		return refuse_learning(fdb, &news, -ENOSPC, "the table is full");
	counter_add(&fdb->counters.learned, 1);
	tell(fdb, &news);
	return 0;
}

void fdb_age(struct fdb *fdb, uint16_t now, uint32_t buckets)
{
	if (fdb->ageing == 0)
		return;
	while (buckets-- > 0) {
		struct fdb_bucket *bucket = &fdb->buckets[fdb->sweep++ & fdb->mask];

		for (unsigned int i = 0; i < FDB_BUCKET_ENTRIES; i++) {
			if (bucket->key[i] == 0 || is_fixed(bucket, i))
				continue;
			if (entry_age(bucket, i, now) >= fdb->ageing) {
				entry_clear(fdb, bucket, i);
				counter_add(&fdb->counters.aged, 1);
			}
		}
	}
}

int fdb_fix(struct fdb *fdb, fdb_key_t key, uint16_t port, uint16_t now)
{
	unsigned int slot = 0;
	struct fdb_bucket *bucket = find(fdb, key, &slot);

	if (bucket == NULL) {
		if (insert(fdb, key, port, now) != 0)
			return refuse(fdb, -ENOSPC);
		bucket = find(fdb, key, &slot);
	}
	entry_move(fdb, bucket, slot, port);
	entry_fix(fdb, bucket, slot);
	return 0;
}

int fdb_remove(struct fdb *fdb, fdb_key_t key)
{
	unsigned int slot = 0;
	struct fdb_bucket *bucket = find(fdb, key, &slot);

	if (bucket == NULL)
		return -ENOENT;
	entry_clear(fdb, bucket, slot);
	return 0;
}

uint32_t fdb_flush(struct fdb *fdb, uint16_t port, uint16_t vlan)
{
	uint32_t count = 0;

	for (uint32_t b = 0; b <= fdb->mask; b++) {
		struct fdb_bucket *bucket = &fdb->buckets[b];

		for (unsigned int i = 0; i < FDB_BUCKET_ENTRIES; i++) {
			if (bucket->key[i] == 0 || is_fixed(bucket, i) ||
			    (port != FDB_NO_PORT && bucket->port[i] != port) ||
			    (vlan != FDB_ANY_VLAN && fdb_key_vlan(bucket->key[i]) != vlan))
				continue;
			entry_clear(fdb, bucket, i);
			count++;
		}
	}
	return count;
}

void fdb_forget_port(struct fdb *fdb, uint16_t port)
{
	for (uint32_t b = 0; b <= fdb->mask; b++)
		for (unsigned int i = 0; i < FDB_BUCKET_ENTRIES; i++)
			if (fdb->buckets[b].key[i] != 0 && fdb->buckets[b].port[i] == port)
				entry_clear(fdb, &fdb->buckets[b], i);
}

static bool same_claims(const struct fdb *fdb, const struct fdb_claim *claims, uint32_t count)
{
	if (fdb->claim_count != count)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		const struct fdb_claim *old = &fdb->claims[i], *new = &claims[i];

		if (old->address != new->address || old->port != new->port ||
		    memcmp(old->vlans, new->vlans, sizeof(*new->vlans)) != 0)
			return false;
	}
	return true;
}

void fdb_set_claims(struct fdb *fdb, struct fdb_claim *claims, uint32_t count)
{
	const bool same = same_claims(fdb, claims, count);

	free(fdb->claims);
	fdb->claims = claims;
	fdb->claim_count = count;
	for (uint32_t b = 0; b <= fdb->mask && count > 0 && !same; b++) {
		struct fdb_bucket *bucket = &fdb->buckets[b];

		for (unsigned int i = 0; i < FDB_BUCKET_ENTRIES; i++)
			if (bucket->key[i] != 0 && !is_fixed(bucket, i) &&
			    is_claimed(fdb, bucket->key[i], bucket->port[i]))
				entry_clear(fdb, bucket, i);
	}
}

void fdb_walk(const struct fdb *fdb, uint16_t now,
	      void (*visit)(void *argument, const struct fdb_entry *entry), void *argument)
{
	for (uint32_t b = 0; b <= fdb->mask; b++) {
		const struct fdb_bucket *bucket = &fdb->buckets[b];

		for (unsigned int i = 0; i < FDB_BUCKET_ENTRIES; i++) {
			struct fdb_entry entry = { .port = bucket->port[i] };

			if (bucket->key[i] == 0)
				continue;
			fdb_key_mac(bucket->key[i], entry.mac);
			entry.vlan = fdb_key_vlan(bucket->key[i]);
			entry.fixed = is_fixed(bucket, i);
			entry.age = entry_age(bucket, i, now);
			visit(argument, &entry);
		}
	}
}

void learner_post(struct learner *learner, fdb_key_t key, uint16_t port)
{
	struct learner_item *recent =
		&learner->recent[fdb_hash(key) >> 40 & (LEARNER_RECENT - 1)];
	uint32_t used;

	if (recent->key == key && recent->port == port)
		return;
	used = learner->head - __atomic_load_n(&learner->tail, __ATOMIC_ACQUIRE);
	if (used == LEARNER_SLOTS) {
		counter_add(&learner->overflowed, 1);
		return;
	}
	*recent = (struct learner_item){ key, port };
	learner->items[learner->head % LEARNER_SLOTS] = (struct learner_item){ key, port };
	__atomic_store_n(&learner->head, learner->head + 1, __ATOMIC_RELEASE);
}

void learner_forget(struct learner *learner)
{
	memset(learner->recent, 0, sizeof(learner->recent));
}

unsigned int learner_drain(struct learner *learner, struct fdb *fdb, uint16_t now)
{
	uint32_t head = __atomic_load_n(&learner->head, __ATOMIC_ACQUIRE);
	unsigned int count = 0;

	while (learner->tail != head) {
		const struct learner_item *item = &learner->items[learner->tail % LEARNER_SLOTS];

		fdb_learn(fdb, item->key, item->port, now);
		__atomic_store_n(&learner->tail, learner->tail + 1, __ATOMIC_RELEASE);
		count++;
	}
	return count;
}
