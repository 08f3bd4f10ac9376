/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker/snapshot.c: what of the ports is in a snapshot, and how their queues are dealt out to
 * workers.
 */
#include "worker/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "port/memory.h"

static void empty(void **state)
{
	struct snapshot *snapshot = snapshot_new(NULL, 0, 2, NULL);

	(void)state;
	assert_non_null(snapshot);
	assert_int_equal(snapshot->port_count, 0);
	assert_int_equal(snapshot->worker_count, 2);
	assert_int_equal(snapshot->table.flood_count, 0);
	assert_int_equal(snapshot->workers[0].queue_count, 0);
	assert_int_equal(snapshot->workers[1].queue_count, 0);
	snapshot_free(snapshot);
	snapshot_free(NULL);
}

static void free_numbers_stay_free(void **state)
{
	struct port *ports[5] = { NULL };
	struct fdb *fdb = fdb_new(64, 300);
	struct snapshot *snapshot;

	(void)state;
	ports[1] = memory_port_new("a", 1, 1, 1, NULL);
	ports[4] = memory_port_new("b", 4, 1, 1, NULL);
	assert_non_null(ports[1]);
	assert_non_null(ports[4]);
	snapshot = snapshot_new(ports, 5, 1, fdb);
	assert_non_null(snapshot);
	assert_int_equal(snapshot->port_count, 5);
	assert_int_equal(snapshot->table.port_count, 5);
	assert_ptr_equal(snapshot->table.fdb, fdb);
	for (uint16_t i = 0; i < 5; i++) {
		assert_ptr_equal(snapshot->ports[i], ports[i]);
		assert_int_equal(snapshot->table.ports[i].present, ports[i] != NULL);
	}
	assert_int_equal(snapshot->table.flood_count, 2);
	assert_int_equal(snapshot->table.flood[0], 1);
	assert_int_equal(snapshot->table.flood[1], 4);
	assert_int_equal(snapshot->workers[0].queue_count, 2);
	assert_ptr_equal(snapshot->workers[0].queues[0], &ports[1]->queues[0]);
	assert_ptr_equal(snapshot->workers[0].queues[1], &ports[4]->queues[0]);
	snapshot_free(snapshot);
	memory_port_free(ports[1]);
	memory_port_free(ports[4]);
	fdb_free(fdb);
}

/*
 * 3 + 1 + 7 queues over 1 to 5 workers: each queue has one worker, and nobody has two more than
 * another.
 */
static void queues_are_dealt_out(void **state)
{
	static const uint16_t queues[] = { 3, 1, 7 };

	(void)state;
	for (uint16_t workers = 1; workers <= 5; workers++) {
		struct port *ports[3];
		unsigned int seen[3][7] = { { 0 } };
		struct snapshot *snapshot;
		uint16_t total = 0;

		for (uint16_t i = 0; i < 3; i++) {
			ports[i] = memory_port_new("p", i, queues[i], workers, NULL);
			assert_non_null(ports[i]);
		}
		snapshot = snapshot_new(ports, 3, workers, NULL);
		assert_non_null(snapshot);
		for (uint16_t w = 0; w < workers; w++) {
			const struct snapshot_worker *worker = &snapshot->workers[w];

			assert_in_range(worker->queue_count, 11 / workers,
					(11 + workers - 1) / workers);
			total = (uint16_t)(total + worker->queue_count);
			for (uint16_t q = 0; q < worker->queue_count; q++)
				seen[worker->queues[q]->port->number][worker->queues[q]->index]++;
		}
		assert_int_equal(total, 11);
		for (uint16_t i = 0; i < 3; i++)
			for (uint16_t q = 0; q < queues[i]; q++)
				assert_int_equal(seen[i][q], 1);
		snapshot_free(snapshot);
		for (uint16_t i = 0; i < 3; i++)
			memory_port_free(ports[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty),
		cmocka_unit_test(free_numbers_stay_free),
		cmocka_unit_test(queues_are_dealt_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
