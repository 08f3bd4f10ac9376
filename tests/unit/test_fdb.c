/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge/fdb.c and fdb.h: learning, moving, ageing, giving way, static entries; readers that race
 * with the writer. test_learner.c has the rings on which workers post addresses.
 */
#include "bridge/fdb.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "keys.h"

static struct fdb *table(uint32_t capacity, uint32_t ageing)
{
	struct fdb *fdb = fdb_new(capacity, ageing);

	assert_non_null(fdb);
	return fdb;
}

static void learns_and_finds(void **state)
{
	struct fdb *fdb = table(64, 300);
	const fdb_key_t zero = key_of(0, 0), one = key_of(0x525400000001, 0);

	(void)state;
	assert_int_equal(fdb_lookup(fdb, one), FDB_NO_PORT);
	assert_int_equal(fdb_lookup(fdb, zero), FDB_NO_PORT);
	assert_int_equal(fdb_learn(fdb, one, 7, 1), 0);
	assert_int_equal(fdb_learn(fdb, zero, FDB_PORT_MAX, 1), 0);
	assert_int_equal(fdb_lookup(fdb, one), 7);
	assert_int_equal(fdb_lookup(fdb, zero), FDB_PORT_MAX);
	/* The same address in another VLAN is another entry. */
	assert_int_equal(fdb_lookup(fdb, key_of(0x525400000001, 1)), FDB_NO_PORT);
	assert_int_equal(fdb_learn(fdb, key_of(0x525400000001, 4095), 8, 1), 0);
	assert_int_equal(fdb_lookup(fdb, key_of(0x525400000001, 4095)), 8);
	assert_int_equal(fdb_lookup(fdb, one), 7);
	assert_int_equal(fdb->entries, 3);
	assert_int_equal(fdb->counters.learned, 3);
	/* Once more changes nothing. */
	assert_int_equal(fdb_learn(fdb, one, 7, 1), 0);
	assert_int_equal(fdb->entries, 3);
	assert_int_equal(fdb->counters.learned, 3);
	assert_int_equal(fdb->counters.moved, 0);
	fdb_free(fdb);
	fdb_free(NULL);
}

static void moves(void **state)
{
	struct fdb *fdb = table(64, 10);
	const fdb_key_t key = key_of(0x525400000001, 5);

	(void)state;
	fdb_learn(fdb, key, 1, 100);
	assert_int_equal(fdb_learn(fdb, key, 2, 108), 0);
	assert_int_equal(fdb_lookup(fdb, key), 2);
	assert_int_equal(fdb->entries, 1);
	assert_int_equal(fdb->counters.learned, 1);
	assert_int_equal(fdb->counters.moved, 1);
	/* Moving was a sign of life. */
	fdb_age(fdb, 117, fdb->mask + 1);
	assert_int_equal(fdb_lookup(fdb, key), 2);
	fdb_free(fdb);
}

/* Where an entry stands, or NULL. */
static struct fdb_bucket *place_of(const struct fdb *fdb, fdb_key_t key, unsigned int *slot)
{
	for (uint32_t b = 0; b <= fdb->mask; b++)
		for (*slot = 0; *slot < FDB_BUCKET_ENTRIES; (*slot)++)
			if (fdb->buckets[b].key[*slot] == key)
				return &fdb->buckets[b];
	return NULL;
}

static void make_static(struct fdb *fdb, fdb_key_t key)
{
	unsigned int slot;
	struct fdb_bucket *bucket = place_of(fdb, key, &slot);

	assert_non_null(bucket);
	bucket->fixed |= (uint8_t)(1u << slot);
}

static void static_entries_stay(void **state)
{
	struct fdb *fdb = table(64, 10);
	const fdb_key_t key = key_of(0x525400000001, 0);

	(void)state;
	fdb_learn(fdb, key, 1, 0);
	make_static(fdb, key);
	assert_int_equal(fdb_learn(fdb, key, 2, 0), 0);
	assert_int_equal(fdb_lookup(fdb, key), 1);
	assert_int_equal(fdb->counters.moved, 0);
	fdb_age(fdb, 1000, fdb->mask + 1);
	assert_int_equal(fdb_lookup(fdb, key), 1);
	/* And a learned entry that takes the place of one that was static is not static itself. */
	fdb_forget_port(fdb, 1);
	assert_int_equal(fdb_lookup(fdb, key), FDB_NO_PORT);
	fdb_learn(fdb, key, 3, 0);
	assert_int_equal(fdb_learn(fdb, key, 4, 0), 0);
	assert_int_equal(fdb_lookup(fdb, key), 4);
	fdb_free(fdb);
}

static void ages(void **state)
{
	struct fdb *fdb = table(64, 300);
	const fdb_key_t silent = key_of(1, 0), alive = key_of(2, 0), ahead = key_of(3, 0);

	(void)state;
	/* Around the wrap of the 16-bit clock. */
	fdb_learn(fdb, silent, 1, 65400);
	fdb_learn(fdb, alive, 2, 65400);
	fdb_learn(fdb, ahead, 3, 65400);
	assert_int_equal(fdb_refresh(fdb, alive, 65500), 2);
	fdb_age(fdb, 65400 + 299 - 65536, fdb->mask + 1);
	assert_int_equal(fdb->entries, 3);
	/* A worker's clock that is a second ahead makes nobody 65,535 seconds old. */
	assert_int_equal(fdb_refresh(fdb, ahead, 65400 + 301 - 65536), 3);
	fdb_age(fdb, 65400 + 300 - 65536, fdb->mask + 1);
	assert_int_equal(fdb_lookup(fdb, silent), FDB_NO_PORT);
	assert_int_equal(fdb_lookup(fdb, alive), 2);
	assert_int_equal(fdb_lookup(fdb, ahead), 3);
	assert_int_equal(fdb->entries, 2);
	assert_int_equal(fdb->counters.aged, 1);
	fdb_free(fdb);
}

static void ageing_of_zero_keeps(void **state)
{
	struct fdb *fdb = table(64, 0);

	(void)state;
	fdb_learn(fdb, key_of(1, 0), 1, 0);
	for (unsigned int now = 0; now < 65536; now += 1000)
		fdb_age(fdb, (uint16_t)now, fdb->mask + 1);
	assert_int_equal(fdb_lookup(fdb, key_of(1, 0)), 1);
	fdb_free(fdb);
}

static void ageing_goes_round(void **state)
{
	struct fdb *fdb = table(1024, 10);
	uint32_t left;

	(void)state;
	for (uint64_t i = 0; i < 512; i++)
		fdb_learn(fdb, random_key(i), 1, 0);
	fdb_age(fdb, 100, (fdb->mask + 1) / 2);
	left = fdb->entries;
	assert_in_range(left, 150, 350);
	fdb_age(fdb, 100, (fdb->mask + 1) / 2);
	assert_int_equal(fdb->entries, 0);
	assert_int_equal(fdb->counters.aged, 512);
	fdb_free(fdb);
}

static void forgets_a_port(void **state)
{
	struct fdb *fdb = table(1024, 300);

	(void)state;
	for (uint64_t i = 0; i < 600; i++)
		fdb_learn(fdb, random_key(i), (uint16_t)(i % 3), 0);
	fdb_forget_port(fdb, 1);
	assert_int_equal(fdb->entries, 400);
	for (uint64_t i = 0; i < 600; i++)
		assert_int_equal(fdb_lookup(fdb, random_key(i)), i % 3 == 1 ? FDB_NO_PORT : i % 3);
	fdb_free(fdb);
}

static void keep_entry(void *argument, const struct fdb_entry *entry)
{
	struct fdb_entry *entries = argument;

	assert_true(entry->port < 3);
	assert_int_equal(entries[entry->port].age, 0);
	entries[entry->port] = *entry;
}

static void walks(void **state)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0xab, 0xcd, 0xef };
	struct fdb_entry found[3] = { { .port = 0 } };
	struct fdb *fdb = table(64, 300);

	(void)state;
	fdb_learn(fdb, fdb_key(mac, 0), 0, 95);
	fdb_learn(fdb, fdb_key(mac, 4094), 1, 90);
	fdb_learn(fdb, key_of(0xffffffffffff, 1), 2, 101);
	make_static(fdb, fdb_key(mac, 4094));
	fdb_walk(fdb, 100, keep_entry, found);
	assert_memory_equal(found[0].mac, mac, 6);
	assert_int_equal(found[0].vlan, 0);
	assert_int_equal(found[0].age, 5);
	assert_false(found[0].fixed);
	assert_memory_equal(found[1].mac, mac, 6);
	assert_int_equal(found[1].vlan, 4094);
	assert_int_equal(found[1].age, 10);
	assert_true(found[1].fixed);
	assert_memory_equal(found[2].mac, "\xff\xff\xff\xff\xff\xff", 6);
	assert_int_equal(found[2].vlan, 1);
	assert_int_equal(found[2].age, 0);
	fdb_free(fdb);
}

/* Fills keys[] with addresses that may stand in the same two buckets and nowhere else. */
static void rivals(const struct fdb *fdb, fdb_key_t *keys, unsigned int count)
{
	uint64_t first = fdb_hash(random_key(0));

	for (uint64_t i = 0; count > 0; i++) {
		uint64_t hash = fdb_hash(random_key(i));

		if (fdb_first(fdb, hash) != fdb_first(fdb, first) ||
		    fdb_second(fdb, hash) != fdb_second(fdb, first))
			continue;
		*keys++ = random_key(i);
		count--;
	}
}

/* A lookup begins in the first bucket, so that is where an entry goes, unless it is much fuller. */
static void the_first_bucket_is_preferred(void **state)
{
	struct fdb *fdb = table(64, 300);
	struct fdb_bucket *first;
	unsigned int slot, in_first = 0;
	fdb_key_t keys[5];

	(void)state;
	rivals(fdb, keys, 5);
	first = fdb_first(fdb, fdb_hash(keys[0]));
	for (unsigned int i = 0; i < 5; i++) {
		fdb_learn(fdb, keys[i], 1, 0);
		in_first += place_of(fdb, keys[i], &slot) == first;
		if (i == 1)
			assert_int_equal(in_first, 2);
	}
	assert_in_range(in_first, 3, 4);
	fdb_free(fdb);
}

static void the_greediest_gives_way(void **state)
{
	struct fdb *fdb = table(64, 300);
	fdb_key_t keys[14];

	(void)state;
	rivals(fdb, keys, 14);
	assert_ptr_not_equal(fdb_first(fdb, fdb_hash(keys[0])), fdb_second(fdb, fdb_hash(keys[0])));
	/* Port 1 holds seven of ten, and key 5 is its oldest; a worker just refreshed key 6. */
	for (unsigned int i = 0; i < 10; i++)
		fdb_learn(fdb, keys[i], i < 3 ? 2 : 1, (uint16_t)(i < 3 ? 10 : 50));
	assert_int_equal(fdb_refresh(fdb, keys[5], 40), 1);
	assert_int_equal(fdb_refresh(fdb, keys[6], 101), 1);
	assert_int_equal(fdb->counters.evicted, 0);
	assert_int_equal(fdb_learn(fdb, keys[10], 3, 100), 0);
	assert_int_equal(fdb->counters.evicted, 1);
	assert_int_equal(fdb_lookup(fdb, keys[5]), FDB_NO_PORT);
	assert_int_equal(fdb_lookup(fdb, keys[10]), 3);
	for (unsigned int i = 0; i < 10; i++)
		if (i != 5)
			assert_int_equal(fdb_lookup(fdb, keys[i]), i < 3 ? 2 : 1);
	/* A port that floods the table with addresses evicts its own, not the quiet neighbours'. */
	for (unsigned int i = 11; i < 14; i++)
		assert_int_equal(fdb_learn(fdb, keys[i], 1, 100), 0);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(fdb_lookup(fdb, keys[i]), 2);
	assert_int_equal(fdb_lookup(fdb, keys[10]), 3);
	assert_int_equal(fdb_lookup(fdb, keys[6]), 1);
	assert_int_equal(fdb->entries, 10);
	fdb_free(fdb);
}

static void static_entries_do_not_give_way(void **state)
{
	struct fdb *fdb = table(64, 300);
	fdb_key_t keys[12];

	(void)state;
	rivals(fdb, keys, 12);
	for (unsigned int i = 0; i < 10; i++) {
		fdb_learn(fdb, keys[i], 1, 0);
		make_static(fdb, keys[i]);
	}
	assert_int_equal(fdb_learn(fdb, keys[10], 2, 0), -ENOSPC);
	assert_int_equal(fdb->counters.refused, 1);
	assert_int_equal(fdb->counters.evicted, 0);
	assert_int_equal(fdb_lookup(fdb, keys[10]), FDB_NO_PORT);
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(fdb_lookup(fdb, keys[i]), 1);
	fdb_free(fdb);
}

static void fixes(void **state)
{
	struct fdb *fdb = table(64, 10);
	const fdb_key_t known = key_of(1, 0), fresh = key_of(2, 0), hole = key_of(3, 0);

	(void)state;
	fdb_learn(fdb, known, 1, 0);
	assert_int_equal(fdb_fix(fdb, known, 2, 0), 0);
	assert_int_equal(fdb_fix(fdb, fresh, 3, 0), 0);
	assert_int_equal(fdb_fix(fdb, hole, FDB_BLACKHOLE, 0), 0);
	assert_int_equal(fdb->entries, 3);
	/* They neither move nor age. */
	assert_int_equal(fdb_learn(fdb, known, 9, 5), 0);
	assert_int_equal(fdb_learn(fdb, fresh, 9, 5), 0);
	assert_int_equal(fdb_learn(fdb, hole, 9, 5), 0);
	fdb_age(fdb, 1000, fdb->mask + 1);
	assert_int_equal(fdb_lookup(fdb, known), 2);
	assert_int_equal(fdb_lookup(fdb, fresh), 3);
	assert_int_equal(fdb_lookup(fdb, hole), FDB_BLACKHOLE);
	assert_int_equal(fdb->entries, 3);
	/* Only when they are told to. */
	assert_int_equal(fdb_fix(fdb, known, 4, 0), 0);
	assert_int_equal(fdb_fix(fdb, hole, 5, 0), 0);
	assert_int_equal(fdb_lookup(fdb, known), 4);
	assert_int_equal(fdb_lookup(fdb, hole), 5);
	assert_int_equal(fdb->entries, 3);
	fdb_free(fdb);
}

static void fixes_in_the_place_of_what_was_learned(void **state)
{
	struct fdb *fdb = table(64, 300);
	fdb_key_t keys[12];

	(void)state;
	rivals(fdb, keys, 12);
	for (unsigned int i = 0; i < 10; i++)
		fdb_learn(fdb, keys[i], 1, 0);
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(fdb_fix(fdb, keys[i < 5 ? i : i + 2], 2, 0), 0);
	assert_int_equal(fdb->entries, 10);
	/* Now only static ones are there, and these do not give way. */
	assert_int_equal(fdb_fix(fdb, keys[5], 2, 0), -ENOSPC);
	assert_int_equal(fdb_lookup(fdb, keys[5]), FDB_NO_PORT);
	for (unsigned int i = 0; i < 12; i++)
		if (i != 5 && i != 6)
			assert_int_equal(fdb_lookup(fdb, keys[i]), 2);
	fdb_free(fdb);
}

static void removes(void **state)
{
	struct fdb *fdb = table(64, 300);
	const fdb_key_t fixed = key_of(1, 0), learned = key_of(2, 0);

	(void)state;
	assert_int_equal(fdb_remove(fdb, fixed), -ENOENT);
	fdb_fix(fdb, fixed, 1, 0);
	fdb_learn(fdb, learned, 1, 0);
	assert_int_equal(fdb_remove(fdb, learned), 0);
	assert_int_equal(fdb_lookup(fdb, learned), FDB_NO_PORT);
	assert_int_equal(fdb_remove(fdb, learned), -ENOENT);
	assert_int_equal(fdb_remove(fdb, fixed), 0);
	assert_int_equal(fdb_lookup(fdb, fixed), FDB_NO_PORT);
	assert_int_equal(fdb->entries, 0);
	/* What comes in the place of a static entry is not static itself. */
	fdb_learn(fdb, fixed, 2, 0);
	fdb_learn(fdb, fixed, 3, 0);
	assert_int_equal(fdb_lookup(fdb, fixed), 3);
	/* An address in another VLAN is another one. */
	assert_int_equal(fdb_remove(fdb, key_of(1, 1)), -ENOENT);
	assert_int_equal(fdb->entries, 1);
	fdb_free(fdb);
}

static void flushes(void **state)
{
	struct fdb *fdb = table(1024, 300);

	(void)state;
	for (uint64_t i = 0; i < 600; i++)
		fdb_learn(fdb, random_key(i), (uint16_t)(i % 3), 0);
	for (uint64_t i = 0; i < 30; i++)
		fdb_fix(fdb, random_key(i), (uint16_t)(i % 3), 0);
	fdb_fix(fdb, random_key(1000), FDB_BLACKHOLE, 0);
	assert_int_equal(fdb_flush(fdb, 1, FDB_ANY_VLAN), 190);
	assert_int_equal(fdb->entries, 411);
	for (uint64_t i = 0; i < 600; i++)
		assert_int_equal(fdb_lookup(fdb, random_key(i)),
				 i >= 30 && i % 3 == 1 ? FDB_NO_PORT : i % 3);
	assert_int_equal(fdb_flush(fdb, 1, FDB_ANY_VLAN), 0);
	assert_int_equal(fdb_flush(fdb, FDB_NO_PORT, FDB_ANY_VLAN), 380);
	assert_int_equal(fdb->entries, 31);
	for (uint64_t i = 0; i < 30; i++)
		assert_int_equal(fdb_lookup(fdb, random_key(i)), i % 3);
	assert_int_equal(fdb_lookup(fdb, random_key(1000)), FDB_BLACKHOLE);
	/* A port that is gone leaves no static entries either. */
	fdb_forget_port(fdb, 1);
	assert_int_equal(fdb->entries, 21);
	fdb_free(fdb);
}

/*
 * Full buckets push an entry to the other bucket where it may stand, with all that belongs to it.
 */
static void full_buckets_make_room(void **state)
{
	struct fdb *fdb = table(64, 300);
	struct fdb_bucket *first, *second, *bucket;
	fdb_key_t keys[10], guest = 0;
	unsigned int slot;

	(void)state;
	rivals(fdb, keys, 10);
	first = fdb_first(fdb, fdb_hash(keys[0]));
	second = fdb_second(fdb, fdb_hash(keys[0]));
	/* One that begins in the rivals' first bucket, and could stand in a third. */
	for (uint64_t i = 0; guest == 0; i++) {
		uint64_t hash = fdb_hash(random_key(i));

		if (fdb_first(fdb, hash) == first && fdb_second(fdb, hash) != second &&
		    fdb_second(fdb, hash) != first)
			guest = random_key(i);
	}
	fdb_learn(fdb, guest, 5, 33);
	make_static(fdb, guest);
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(fdb_learn(fdb, keys[i], 1, 0), 0);
	assert_int_equal(fdb->counters.evicted, 0);
	assert_int_equal(fdb->entries, 11);
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(fdb_lookup(fdb, keys[i]), 1);
	assert_int_equal(fdb_lookup(fdb, guest), 5);
	/* Still static, and as old as it was. */
	assert_int_equal(fdb_learn(fdb, guest, 6, 0), 0);
	assert_int_equal(fdb_lookup(fdb, guest), 5);
	bucket = place_of(fdb, guest, &slot);
	assert_ptr_not_equal(bucket, first);
	assert_int_equal(bucket->age[slot], 33);
	fdb_free(fdb);
}

static void never_more_than_its_capacity(void **state)
{
	struct fdb *fdb = table(256, 300);

	(void)state;
	for (uint64_t i = 0; i < 5000; i++) {
		assert_int_equal(fdb_learn(fdb, random_key(i), (uint16_t)(i % 4),
					   (uint16_t)(i / 64)), 0);
		assert_int_equal(fdb_lookup(fdb, random_key(i)), i % 4);
		assert_true(fdb->entries <= 256);
	}
	assert_int_equal(fdb->entries, 256);
	assert_int_equal(fdb->counters.evicted, 5000 - 256);
	assert_int_equal(fdb->counters.refused, 0);
	fdb_free(fdb);
}

/*
 * Sets of addresses as they are met: numbered hosts, one router in many VLANs, cards of one maker,
 * containers, and no order at all. All of them fit up to the table's capacity.
 */
static fdb_key_t typical_key(unsigned int pattern, uint32_t i)
{
	switch (pattern) {
	case 0:
		return key_of(0x525400000000 + i, 0);
	case 1:
		return key_of(0x525400000000 + (i >> 12), i & 0xfff);
	case 2:
		return key_of(0x001b21000000 + i * 16, 0);
	case 3:
		return key_of(0x0242ac110000 + (i & 0xffff), (uint16_t)(10 + (i >> 16)));
	case 4:
		return key_of(0x020000000000 | (uint64_t)i << 8, 0);
	case 5:
		return key_of(0x020000000000 | (uint64_t)i << 16, 0);
	default:
		return random_key(i);
	}
}

static void typical_addresses_fit(void **state)
{
	static const uint32_t capacities[] = { 64, 256, 1024, 4096, 65536 };

	(void)state;
	for (unsigned int c = 0; c < sizeof(capacities) / sizeof(capacities[0]); c++) {
		for (unsigned int pattern = 0; pattern < 7; pattern++) {
			struct fdb *fdb = table(capacities[c], 300);

			for (uint32_t i = 0; i < capacities[c]; i++)
				fdb_learn(fdb, typical_key(pattern, i), (uint16_t)(i % 1000), 0);
			if (fdb->counters.evicted > 0)
				fail_msg("%u of %u addresses of pattern %u had to go",
					 (unsigned int)fdb->counters.evicted, capacities[c],
					 pattern);
			assert_int_equal(fdb->entries, capacities[c]);
			fdb_free(fdb);
		}
	}
}

static void a_million_fit(void **state)
{
	struct fdb *fdb = table(FDB_CAPACITY_MAX, 300);

	(void)state;
	for (uint32_t i = 0; i < FDB_CAPACITY_MAX; i++)
		fdb_learn(fdb, random_key(i), (uint16_t)(i % 1000), 0);
	assert_int_equal(fdb->entries, FDB_CAPACITY_MAX);
	assert_int_equal(fdb->counters.evicted, 0);
	for (uint32_t i = 0; i < FDB_CAPACITY_MAX; i++)
		if (fdb_lookup(fdb, random_key(i)) != i % 1000)
			fail_msg("address %u is not where it should be", i);
	fdb_free(fdb);
}

/* The second refresh in a second must not store: the page is read-only by then. */
static void refreshes_once_a_second(void **state)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	struct fdb *fdb = table(65536, 300);
	struct fdb_bucket *bucket = NULL;
	unsigned int slot = 0;
	fdb_key_t key = 0;
	void *start = NULL;

	(void)state;
	/* An entry on a page that holds nothing but buckets. */
	for (uint64_t i = 0; start == NULL; i++) {
		key = random_key(i);
		fdb_learn(fdb, key, 1, 100);
		bucket = place_of(fdb, key, &slot);
		if (bucket > fdb->buckets + 1000 && bucket < fdb->buckets + 20000)
			start = (void *)((uintptr_t)bucket / page * page);
	}
	assert_int_equal(fdb_refresh(fdb, key, 101), 1);
	assert_int_equal(bucket->age[slot], 101);
	assert_int_equal(mprotect(start, page, PROT_READ), 0);
	assert_int_equal(fdb_refresh(fdb, key, 101), 1);
	assert_int_equal(fdb_lookup(fdb, key), 1);
	assert_int_equal(mprotect(start, page, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(fdb_refresh(fdb, key, 102), 1);
	assert_int_equal(bucket->age[slot], 102);
	assert_int_equal(fdb_refresh(fdb, key_of(1, 1), 102), FDB_NO_PORT);
	fdb_free(fdb);
}

/* ---- readers that race with the writer ---- */

#define RACE_KEYS 64
#define RACE_MS 400
#define RACE_PATIENCE_MS 20000

struct race {
	struct fdb *fdb;
	fdb_key_t keys[RACE_KEYS];
	uint32_t stop;
};

struct reader {
	struct race *race;
	pthread_t thread;
	uint64_t found, wrong;
};

static uint16_t port_of(unsigned int key)
{
	return (uint16_t)(100 + key);
}

static void *read_always(void *argument)
{
	struct reader *reader = argument;
	struct race *race = reader->race;

	for (unsigned int i = 0; !__atomic_load_n(&race->stop, __ATOMIC_RELAXED); i++) {
		unsigned int key = i % RACE_KEYS;
		uint16_t port = i & 1024 ? fdb_refresh(race->fdb, race->keys[key], (uint16_t)i)
					 : fdb_lookup(race->fdb, race->keys[key]);

		if (port == port_of(key))
			counter_add(&reader->found, 1);
		else if (port != FDB_NO_PORT)
			reader->wrong++;
	}
	return NULL;
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

/*
 * Many addresses compete for two buckets, so that each slot goes from one to the other and back as
 * fast as the writer can: whoever reads port and key apart from each other is caught.
 */
static void readers_never_get_anothers_port(void **state)
{
	struct race race = { .fdb = table(64, 300) };
	struct reader readers[2] = { { .race = &race }, { .race = &race } };
	long start;

	(void)state;
	rivals(race.fdb, race.keys, RACE_KEYS);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_always,
						&readers[i]), 0);
	start = now_ms();
	/* The race must have taken place, however busy the machine is. */
	for (uint64_t i = 0; now_ms() < start + RACE_MS ||
			     (now_ms() < start + RACE_PATIENCE_MS &&
			      (counter_read(&readers[0].found) < 1000 ||
			       counter_read(&readers[1].found) < 1000)); i++) {
		for (unsigned int burst = 0; burst < 1000; burst++) {
			unsigned int key = (unsigned int)(scramble(i * 1000 + burst) % RACE_KEYS);

			fdb_learn(race.fdb, race.keys[key], port_of(key), (uint16_t)i);
			if (burst % 64 == 0)
				fdb_forget_port(race.fdb, port_of(key));
		}
	}
	__atomic_store_n(&race.stop, 1, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < 2; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].wrong, 0);
		assert_true(readers[i].found >= 1000);
	}
	assert_true(race.fdb->counters.evicted > 1000);
	fdb_free(race.fdb);
}

/* ---- how many addresses a port has ---- */

/* What is counted for each port is what a look at all entries finds. */
static void check_held(const struct fdb *fdb)
{
	uint32_t held[8] = { 0 };

	for (uint32_t b = 0; b <= fdb->mask; b++)
		for (unsigned int i = 0; i < FDB_BUCKET_ENTRIES; i++)
			if (fdb->buckets[b].key[i] != 0 && !(fdb->buckets[b].fixed >> i & 1))
				held[fdb->buckets[b].port[i]]++;
	for (unsigned int port = 0; port < 8; port++)
		assert_int_equal(fdb->ports[port].held, held[port]);
}

static void counts_what_ports_hold(void **state)
{
	struct fdb *fdb = table(64, 10);
	const fdb_key_t one = key_of(1, 0), two = key_of(2, 5), three = key_of(3, 6);

	(void)state;
	fdb_learn(fdb, one, 1, 0);
	fdb_learn(fdb, two, 1, 0);
	fdb_learn(fdb, three, 2, 0);
	assert_int_equal(fdb->ports[1].held, 2);
	fdb_learn(fdb, two, 2, 0);
	assert_int_equal(fdb->ports[1].held, 1);
	assert_int_equal(fdb->ports[2].held, 2);
	/* Static ones do not count, where they stood before and where they are moved to. */
	fdb_fix(fdb, two, 3, 0);
	assert_int_equal(fdb->ports[2].held, 1);
	assert_int_equal(fdb->ports[3].held, 0);
	fdb_fix(fdb, two, 4, 0);
	fdb_fix(fdb, two, FDB_BLACKHOLE, 0);
	fdb_fix(fdb, key_of(4, 0), FDB_BLACKHOLE, 0);
	check_held(fdb);
	assert_int_equal(fdb_remove(fdb, two), 0);
	assert_int_equal(fdb_remove(fdb, one), 0);
	assert_int_equal(fdb->ports[1].held, 0);
	check_held(fdb);
	fdb_age(fdb, 100, fdb->mask + 1);
	assert_int_equal(fdb->ports[2].held, 0);
	fdb_learn(fdb, one, 1, 100);
	fdb_learn(fdb, two, 1, 100);
	assert_int_equal(fdb_flush(fdb, FDB_NO_PORT, 5), 1);
	assert_int_equal(fdb->ports[1].held, 1);
	assert_int_equal(fdb_flush(fdb, 2, 0), 0);
	assert_int_equal(fdb_flush(fdb, 1, 0), 1);
	assert_int_equal(fdb->ports[1].held, 0);
	fdb_learn(fdb, one, 1, 100);
	fdb_forget_port(fdb, 1);
	assert_int_equal(fdb->ports[1].held, 0);
	fdb_free(fdb);
}

/* Whatever is done to a small table, in which entries are displaced and give way all the time. */
static void counts_through_everything(void **state)
{
	struct fdb *fdb = table(64, 10);
	uint16_t now = 0;

	(void)state;
	for (uint64_t i = 0; i < 20000; i++) {
		const uint64_t dice = scramble(i);
		const fdb_key_t key = key_of(dice >> 8 & 0x7f, dice >> 16 & 3);
		const uint16_t port = dice >> 20 & 7;

		switch (dice >> 24 & 31) {
		case 0:
			fdb_fix(fdb, key, port, now);
			break;
		case 1:
		case 2:
			fdb_remove(fdb, key);
			break;
		case 3:
			now++;
			fdb_age(fdb, now, fdb->mask / 4);
			break;
		case 4:
			if (i % 16 == 0)
				fdb_forget_port(fdb, port);
			break;
		case 5:
			if (i % 8 == 0)
				fdb_flush(fdb, port, dice >> 16 & 3);
			break;
		default:
			fdb_learn(fdb, key, port, now);
		}
		if (i % 64 == 0)
			check_held(fdb);
	}
	check_held(fdb);
	assert_true(fdb->counters.evicted > 100);
	assert_true(fdb->counters.moved > 100);
	fdb_free(fdb);
}

static void no_more_than_it_may(void **state)
{
	struct fdb *fdb = table(64, 10);

	(void)state;
	fdb->ports[1].most = 2;
	assert_int_equal(fdb_learn(fdb, key_of(1, 0), 1, 0), 0);
	assert_int_equal(fdb_learn(fdb, key_of(1, 1), 1, 0), 0);
	assert_int_equal(fdb_learn(fdb, key_of(2, 0), 1, 0), -ENOSPC);
	assert_int_equal(fdb_lookup(fdb, key_of(2, 0)), FDB_NO_PORT);
	assert_int_equal(fdb->ports[1].refused, 1);
	assert_int_equal(fdb->counters.refused, 1);
	/* Those that it has go on; other ports do not care. */
	assert_int_equal(fdb_learn(fdb, key_of(1, 0), 1, 0), 0);
	assert_int_equal(fdb_learn(fdb, key_of(2, 0), 2, 0), 0);
	/* It cannot take one away from another port either. */
	assert_int_equal(fdb_learn(fdb, key_of(2, 0), 1, 0), -ENOSPC);
	assert_int_equal(fdb_lookup(fdb, key_of(2, 0)), 2);
	assert_int_equal(fdb->ports[1].refused, 2);
	/* Static ones are the operator's, and beside the count. */
	assert_int_equal(fdb_fix(fdb, key_of(3, 0), 1, 0), 0);
	/* One that leaves makes room. */
	assert_int_equal(fdb_learn(fdb, key_of(1, 1), 2, 0), 0);
	assert_int_equal(fdb_learn(fdb, key_of(4, 0), 1, 0), 0);
	assert_int_equal(fdb_learn(fdb, key_of(5, 0), 1, 0), -ENOSPC);
	/* Fewer than it has: none is taken away, none comes. */
	fdb->ports[1].most = 1;
	assert_int_equal(fdb->ports[1].held, 2);
	fdb_remove(fdb, key_of(4, 0));
	assert_int_equal(fdb_learn(fdb, key_of(5, 0), 1, 0), -ENOSPC);
	fdb->ports[1].most = 0;
	assert_int_equal(fdb_learn(fdb, key_of(5, 0), 1, 0), 0);
	fdb_free(fdb);
}

/* ---- claims ---- */

static void claim(struct fdb *fdb, const struct fdb_claim *claims, uint32_t count)
{
	struct fdb_claim *copy = calloc(count + 1, sizeof(*copy));

	assert_non_null(copy);
	if (count > 0)
		memcpy(copy, claims, count * sizeof(*copy));
	fdb_set_claims(fdb, copy, count);
}

static void claims_keep_others_out(void **state)
{
	struct vlan_set low = { { 0 } }, high = { { 0 } }, all = { { 0 } };
	struct fdb_claim wider[4];
	/* One station on two trunks that do not meet, between two others. */
	const struct fdb_claim claims[] = {
		{ key_of(1, 0), 4, &low }, { key_of(2, 0), 1, &low }, { key_of(2, 0), 2, &high },
		{ key_of(0x0200000000ff, 0), 5, &high },
	};
	struct fdb *fdb = table(64, 300);

	(void)state;
	vlan_set_add(&low, 1, 99);
	vlan_set_add(&high, 100, 4094);
	fdb_learn(fdb, key_of(2, 50), 3, 0);  /* in the way of the claims */
	fdb_learn(fdb, key_of(2, 100), 2, 0); /* it is its own */
	fdb_learn(fdb, key_of(2, 0), 3, 0);   /* in no VLAN that is claimed */
	fdb_fix(fdb, key_of(2, 60), 3, 0);
	claim(fdb, claims, 4);
	assert_int_equal(fdb_lookup(fdb, key_of(2, 50)), FDB_NO_PORT);
	assert_int_equal(fdb_lookup(fdb, key_of(2, 100)), 2);
	assert_int_equal(fdb_lookup(fdb, key_of(2, 0)), 3);
	assert_int_equal(fdb_lookup(fdb, key_of(2, 60)), 3);
	assert_int_equal(fdb->ports[3].held, 1);
	for (uint16_t vlan = 1; vlan < 4095; vlan += 7) {
		const uint16_t owner = vlan < 100 ? 1 : 2;

		assert_int_equal(fdb_learn(fdb, key_of(2, vlan), 3, 0), -EPERM);
		assert_int_equal(fdb_learn(fdb, key_of(2, vlan), 3 - owner, 0), -EPERM);
		assert_int_equal(fdb_learn(fdb, key_of(2, vlan), owner, 0), 0);
		assert_int_equal(fdb_learn(fdb, key_of(2, vlan), 3, 0), -EPERM);
		assert_int_equal(fdb_lookup(fdb, key_of(2, vlan)), owner);
		fdb_remove(fdb, key_of(2, vlan));
	}
	assert_int_equal(fdb_learn(fdb, key_of(1, 10), 3, 0), -EPERM);
	assert_int_equal(fdb_learn(fdb, key_of(1, 100), 3, 0), 0);
	assert_int_equal(fdb_learn(fdb, key_of(0x0200000000ff, 100), 3, 0), -EPERM);
	assert_int_equal(fdb_learn(fdb, key_of(3, 10), 3, 0), 0);
	/* Said once more, they cost nothing; without them it is anybody's. */
	claim(fdb, claims, 4);
	claim(fdb, claims, 1);
	assert_int_equal(fdb_learn(fdb, key_of(2, 10), 3, 0), 0);
	claim(fdb, NULL, 0);
	assert_int_equal(fdb_learn(fdb, key_of(1, 10), 3, 0), 0);
	claim(fdb, claims, 4);
	assert_int_equal(fdb_lookup(fdb, key_of(1, 10)), FDB_NO_PORT);
	assert_int_equal(fdb_lookup(fdb, key_of(1, 100)), 3);
	/* A claim of which only the VLANs change is another one. */
	vlan_set_add(&all, 1, 4094);
	memcpy(wider, claims, sizeof(claims));
	wider[0].vlans = &all;
	claim(fdb, wider, 4);
	assert_int_equal(fdb_lookup(fdb, key_of(1, 100)), FDB_NO_PORT);
	fdb_free(fdb);
}

/* ---- VLANs ---- */

/* Few addresses in many VLANs, and many in few, find their places as well as random ones. */
static void vlans_spread(void **state)
{
	static const struct {
		uint64_t macs;
		uint16_t vlans;
		uint64_t step;
	} rows[] = {
		{ 1, 4094, 1 }, { 16, 4094, 1 }, { 16, 4094, 0x010000000000 },
		{ 256, 256, 0x100 }, { 16384, 4, 1 }, { 64, 1000, 0x01000000 },
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fdb *fdb = table(65536, 300);

		for (uint64_t mac = 0; mac < rows[i].macs; mac++)
			for (uint16_t vlan = 1; vlan <= rows[i].vlans; vlan++)
				assert_int_equal(fdb_learn(fdb,
							   key_of(0x525400000000 +
								  mac * rows[i].step, vlan),
							   1, 0), 0);
		assert_int_equal(fdb->counters.evicted, 0);
		assert_int_equal(fdb->entries, rows[i].macs * rows[i].vlans);
		for (uint16_t vlan = 1; vlan <= rows[i].vlans; vlan++)
			assert_int_equal(fdb_lookup(fdb, key_of(0x525400000000, vlan)), 1);
		fdb_free(fdb);
	}
}

static struct fdb_news heard[8];
static unsigned int heard_count;

static void hear(void *argument, const struct fdb_news *news)
{
	assert_ptr_equal(argument, heard);
	heard[heard_count++] = *news;
}

static void tells_what_it_learns(void **state)
{
	struct fdb *fdb = table(64, 300);
	const fdb_key_t one = key_of(1, 5), two = key_of(2, 5), own = key_of(3, 0);
	uint8_t mac[6];

	(void)state;
	fdb->tell = hear;
	fdb->tell_argument = heard;
	fdb->ports[7].most = 1;
	fdb_fix(fdb, own, 9, 1);
	fdb_learn(fdb, one, 7, 1);
	fdb_learn(fdb, one, 7, 2);
	fdb_learn(fdb, two, 7, 1);
	fdb_learn(fdb, one, 8, 1);
	/* A static address is where it is, whoever says otherwise. */
	fdb_learn(fdb, own, 7, 1);
	assert_int_equal(heard_count, 3);
	assert_int_equal(heard[0].kind, EVENT_ADDRESS_LEARNED);
	assert_int_equal(heard[0].key, one);
	assert_int_equal(heard[0].port, 7);
	assert_null(heard[0].reason);
	assert_int_equal(heard[1].kind, EVENT_ADDRESS_REFUSED);
	assert_int_equal(heard[1].key, two);
	assert_non_null(heard[1].reason);
	assert_int_equal(heard[2].kind, EVENT_ADDRESS_MOVED);
	assert_int_equal(heard[2].port, 8);
	assert_int_equal(heard[2].from, 7);
	fdb_key_mac(one, mac);
	assert_int_equal(fdb_key(mac, 5), one);
	fdb_free(fdb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(learns_and_finds),
		cmocka_unit_test(moves),
		cmocka_unit_test(static_entries_stay),
		cmocka_unit_test(ages),
		cmocka_unit_test(ageing_of_zero_keeps),
		cmocka_unit_test(ageing_goes_round),
		cmocka_unit_test(forgets_a_port),
		cmocka_unit_test(walks),
		cmocka_unit_test(the_first_bucket_is_preferred),
		cmocka_unit_test(the_greediest_gives_way),
		cmocka_unit_test(static_entries_do_not_give_way),
		cmocka_unit_test(fixes),
		cmocka_unit_test(fixes_in_the_place_of_what_was_learned),
		cmocka_unit_test(removes),
		cmocka_unit_test(flushes),
		cmocka_unit_test(counts_what_ports_hold),
		cmocka_unit_test(counts_through_everything),
		cmocka_unit_test(no_more_than_it_may),
		cmocka_unit_test(claims_keep_others_out),
		cmocka_unit_test(vlans_spread),
		cmocka_unit_test(full_buckets_make_room),
		cmocka_unit_test(never_more_than_its_capacity),
		cmocka_unit_test(typical_addresses_fit),
		cmocka_unit_test(a_million_fit),
		cmocka_unit_test(refreshes_once_a_second),
		cmocka_unit_test(readers_never_get_anothers_port),
		cmocka_unit_test(tells_what_it_learns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
