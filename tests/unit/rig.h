/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A switch without EAL for tests: some memory ports, a forwarding table, a snapshot of them and one
 * worker that is not running. Include after cmocka.h.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "port/memory.h"
#include "worker/egress.h"
#include "worker/worker.h"

#include "keys.h"

#define RIG_PORTS_MAX 200

struct rig {
	uint16_t port_count;
	struct port *ports[RIG_PORTS_MAX];
	struct fdb *fdb;
	struct retire *retire;
	struct snapshot *snapshot;
	struct worker *worker;
	uint8_t bytes[PACKET_SIZE_MAX]; /* to build a frame in */
};

/* MAC of the host behind a port, for tests. */
static inline uint64_t rig_mac(uint16_t port)
{
	return 0x525400000100 + port;
}

static inline struct rig *rig_new(uint16_t ports, uint16_t queues)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	assert_true(ports <= RIG_PORTS_MAX);
	rig->port_count = ports;
	for (uint16_t i = 0; i < ports; i++) {
		char name[16];

		snprintf(name, sizeof(name), "p%u", i);
		rig->ports[i] = memory_port_new(name, i, queues, 1, NULL);
		assert_non_null(rig->ports[i]);
	}
	rig->fdb = fdb_new(1024, 300);
	rig->retire = retire_new(1);
	assert_non_null(rig->fdb);
	assert_non_null(rig->retire);
	rig->snapshot = snapshot_new(rig->ports, ports, 1, rig->fdb);
	assert_non_null(rig->snapshot);
	rig->worker = worker_new(0, 0, IDLE_ADAPTIVE, ports, rig->retire, &rig->snapshot);
	assert_non_null(rig->worker);
	rig->worker->forward.table = &rig->snapshot->table;
	return rig;
}

static inline void rig_free(struct rig *rig)
{
	worker_free(rig->worker);
	snapshot_free(rig->snapshot);
	retire_free(rig->retire);
	fdb_free(rig->fdb);
	for (uint16_t i = 0; i < rig->port_count; i++)
		memory_port_free(rig->ports[i]);
	free(rig);
}

/* Has all hosts learned, as if each had sent a frame before. */
static inline void rig_learn_hosts(struct rig *rig)
{
	for (uint16_t i = 0; i < rig->port_count; i++)
		assert_int_equal(fdb_learn(rig->fdb, key_of(rig_mac(i), 0), i, 0), 0);
}

/* A plain frame from the host of `port`, to be received there on queue 0. */
static inline void rig_inject(struct rig *rig, uint16_t port, uint64_t to, uint32_t length)
{
	const struct memory_frame frame = { .bytes = rig->bytes, .length = length };

	packet_ethernet(rig->bytes, to, rig_mac(port), length);
	assert_int_equal(memory_inject(rig->ports[port], 0, &frame), 0);
}

static inline uint64_t rig_dropped(const uint64_t *dropped)
{
	uint64_t sum = 0;

	for (int i = 0; i < DROP_COUNT; i++)
		sum += dropped[i];
	return sum;
}

/* Both ledgers of design and docs, over all ports: nothing is lost between them. */
static inline void rig_check_ledgers(struct rig *rig)
{
	uint64_t staged = 0, offered = 0;

	for (uint16_t i = 0; i < rig->port_count; i++) {
		struct port_counters sum;

		port_sum_counters(rig->ports[i], &sum);
		assert_int_equal(sum.rx.packets,
				 sum.rx.forwarded + sum.rx.flooded + rig_dropped(sum.rx.dropped));
		assert_int_equal(sum.tx.offered + sum.tx.cut,
				 sum.tx.packets + sum.tx.queued + rig_dropped(sum.tx.dropped));
		staged += sum.rx.forwarded + sum.rx.copies + sum.tx.mirrored;
		offered += sum.tx.offered;
	}
	assert_int_equal(staged, offered);
}
