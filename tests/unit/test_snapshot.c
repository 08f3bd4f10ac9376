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
	assert_int_equal(snapshot->table.first[VLAN_COUNT], 0);
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
		assert_ptr_equal(snapshot->ports[i].port, ports[i]);
		assert_int_equal(snapshot->table.ports[i].present, ports[i] != NULL);
	}
	assert_int_equal(snapshot->table.first[1], 2);
	assert_int_equal(snapshot->table.flood[0].port, 1);
	assert_int_equal(snapshot->table.flood[1].port, 4);
	assert_int_equal(snapshot->workers[0].queue_count, 2);
	assert_ptr_equal(snapshot->workers[0].queues[0], &ports[1]->queues[0]);
	assert_ptr_equal(snapshot->workers[0].queues[1], &ports[4]->queues[0]);
	snapshot_free(snapshot);
	memory_port_free(ports[1]);
	memory_port_free(ports[4]);
	fdb_free(fdb);
}

/* The worker whose queues these are; fails if it is not exactly one. */
static uint16_t worker_of(const struct snapshot *snapshot, const struct port_queue *queue)
{
	uint16_t worker = PORT_NO_WORKER;

	for (uint16_t w = 0; w < snapshot->worker_count; w++) {
		for (uint16_t q = 0; q < snapshot->workers[w].queue_count; q++) {
			if (snapshot->workers[w].queues[q] != queue)
				continue;
			assert_int_equal(worker, PORT_NO_WORKER);
			worker = w;
		}
	}
	return worker;
}

/*
 * 3 + 1 + 7 queues over 1 to 5 workers: each queue has one worker, the same whatever ports there
 * are, and neither queues of a port nor ports of one queue all have the same.
 */
static void queues_are_dealt_out(void **state)
{
	static const uint16_t queues[] = { 3, 1, 7 };

	(void)state;
	for (uint16_t workers = 1; workers <= 5; workers++) {
		struct port *ports[3];
		struct snapshot *snapshot, *without;

		for (uint16_t i = 0; i < 3; i++) {
			ports[i] = memory_port_new("p", i, queues[i], workers, NULL);
			assert_non_null(ports[i]);
		}
		snapshot = snapshot_new(ports, 3, workers, NULL);
		without = snapshot_new((struct port *[]){ NULL, NULL, ports[2] }, 3, workers,
				       NULL);
		assert_non_null(snapshot);
		assert_non_null(without);
		for (uint16_t i = 0; i < 3; i++)
			for (uint16_t q = 0; q < queues[i]; q++)
				assert_int_equal(worker_of(snapshot, &ports[i]->queues[q]),
						 (i + q) % workers);
		for (uint16_t q = 0; q < queues[2]; q++)
			assert_int_equal(worker_of(without, &ports[2]->queues[q]),
					 (2 + q) % workers);
		assert_int_equal(worker_of(without, &ports[0]->queues[0]), PORT_NO_WORKER);
		snapshot_free(snapshot);
		snapshot_free(without);
		for (uint16_t i = 0; i < 3; i++)
			memory_port_free(ports[i]);
	}
}

/* A queue goes to the worker that it has, or to none. */
static void queues_have_the_worker_that_is_set(void **state)
{
	struct port *port = memory_port_new("p", 0, 3, 2, NULL);
	struct snapshot *snapshot;

	(void)state;
	assert_non_null(port);
	port->queues[0].worker = 1;
	port->queues[1].worker = PORT_NO_WORKER;
	port->queues[2].worker = 1;
	snapshot = snapshot_new(&port, 1, 2, NULL);
	assert_non_null(snapshot);
	assert_int_equal(snapshot->workers[0].queue_count, 0);
	assert_int_equal(snapshot->workers[1].queue_count, 2);
	assert_int_equal(worker_of(snapshot, &port->queues[0]), 1);
	assert_int_equal(worker_of(snapshot, &port->queues[1]), PORT_NO_WORKER);
	assert_int_equal(worker_of(snapshot, &port->queues[2]), 1);
	snapshot_free(snapshot);
	memory_port_free(port);
}

/* Settings as they are when it is built; a later change is for the next one. */
static void settings_are_taken_over(void **state)
{
	struct port *ports[2] = { memory_port_new("a", 0, 1, 1, NULL),
				  memory_port_new("b", 1, 1, 1, NULL) };
	struct snapshot *snapshot;

	(void)state;
	assert_non_null(ports[0]);
	assert_non_null(ports[1]);
	ports[1]->settings.enabled = false;
	ports[1]->settings.mtu = 1500;
	ports[1]->settings.ingress.excess = EXCESS_DROP;
	snapshot = snapshot_new(ports, 2, 1, NULL);
	assert_non_null(snapshot);
	ports[0]->settings.enabled = false;
	assert_true(snapshot->table.ports[0].enabled);
	assert_true(snapshot->ports[0].enabled);
	assert_true(snapshot->ports[0].pauses);
	assert_int_equal(snapshot->ports[0].max_length, ETHERNET_HEADER + PORT_MTU_MAX);
	assert_false(snapshot->table.ports[1].enabled);
	assert_false(snapshot->ports[1].enabled);
	assert_false(snapshot->ports[1].pauses);
	assert_int_equal(snapshot->ports[1].max_length, ETHERNET_HEADER + 1500);
	snapshot_free(snapshot);
	memory_port_free(ports[0]);
	memory_port_free(ports[1]);
}

/* Workers may see the old snapshot while the port has another guard already, or is gone. */
static void guards_live_as_long_as_needed(void **state)
{
	struct guard_addresses addresses = { .mac_count = 1, .macs = { { 2, 0, 0, 0, 0, 1 } } };
	struct port *port = memory_port_new("a", 0, 1, 1, NULL);
	struct port_settings settings = { .mtu = 1500 };
	struct snapshot *first, *second;
	struct guard *guard = guard_new(GUARD_MAC, &addresses);

	(void)state;
	assert_non_null(port);
	settings.guard = guard;
	port_set(port, &settings);
	port_set(port, &settings);
	guard_release(guard);
	first = snapshot_new(&port, 1, 1, NULL);
	assert_non_null(first);
	assert_ptr_equal(first->table.ports[0].guard, guard);
	settings.guard = guard_new(GUARD_ARP, &addresses);
	port_set(port, &settings);
	guard_release(settings.guard);
	second = snapshot_new(&port, 1, 1, NULL);
	assert_ptr_equal(second->table.ports[0].guard, settings.guard);
	memory_port_free(port);
	assert_int_equal(first->table.ports[0].guard->references, 1);
	assert_int_equal(first->table.ports[0].guard->level, GUARD_MAC);
	assert_int_equal(second->table.ports[0].guard->references, 1);
	assert_int_equal(second->table.ports[0].guard->level, GUARD_ARP);
	snapshot_free(first);
	snapshot_free(second);
}

static void in_access(struct port *port, uint16_t vlan)
{
	port->settings.vlan = (struct vlan_settings){ .mode = VLAN_ACCESS, .native = vlan };
}

static void in_trunk(struct port *port, uint16_t native, uint16_t first, uint16_t last)
{
	port->settings.vlan = (struct vlan_settings){ .mode = VLAN_TRUNK, .native = native };
	vlan_set_add(&port->settings.vlan.trunk, first, last);
}

/* The ports that are no trunks, in the order of their VLANs and then of their numbers. */
static void flood_lists(void **state)
{
	static const uint16_t order[] = { 1, 6, 8, 5, 3, 0 };
	struct port *ports[9] = { NULL };
	const struct forward_table *table;
	struct snapshot *snapshot;

	(void)state;
	for (uint16_t i = 0; i < 9; i++)
		if (i != 2)
			assert_non_null(ports[i] = memory_port_new("p", i, 1, 1, NULL));
	in_access(ports[0], 4094);
	in_access(ports[3], 20);
	in_trunk(ports[4], 0, VLAN_FIRST, VLAN_LAST);
	in_access(ports[5], 1);
	in_trunk(ports[7], 20, 20, 30);
	ports[6]->settings.isolated = true;
	ports[6]->settings.flood.broadcast = false;
	ports[8]->settings.link_local = true;
	ports[7]->settings.flood.unknown = ports[7]->settings.flood.multicast = false;
	snapshot = snapshot_new(ports, 9, 1, NULL);
	assert_non_null(snapshot);
	table = &snapshot->table;
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(table->flood[i].port, order[i]);
	assert_int_equal(table->first[0], 0);
	for (uint16_t vlan = 1; vlan <= VLAN_COUNT; vlan++)
		assert_int_equal(table->first[vlan], vlan <= 1 ? 3 : vlan <= 20 ? 4
						     : vlan <= 4094 ? 5 : 6);
	assert_int_equal(table->trunk_count, 2);
	assert_int_equal(table->trunks[0].port, 4);
	assert_int_equal(table->trunks[1].port, 7);
	assert_int_equal(table->flood[0].classes, 7);
	assert_false(table->flood[0].isolated);
	assert_int_equal(table->flood[1].classes, 1 << FLOOD_UNKNOWN | 1 << FLOOD_MULTICAST);
	assert_true(table->flood[1].isolated);
	assert_int_equal(table->flood[2].classes, 15);
	assert_int_equal(table->trunks[1].classes, 1 << FLOOD_BROADCAST);
	snapshot_free(snapshot);
	for (uint16_t i = 0; i < 9; i++)
		memory_port_free(ports[i]);
}

/* Memberships are the snapshot's own: what a port is set to later is for the next one. */
static void memberships_are_taken_over(void **state)
{
	struct port *ports[3];
	struct snapshot *snapshot;
	const struct forward_port *facts;

	(void)state;
	for (uint16_t i = 0; i < 3; i++)
		assert_non_null(ports[i] = memory_port_new("p", i, 1, 1, NULL));
	in_trunk(ports[0], 7, 7, 9);
	ports[0]->settings.vlan.native_tagged = true;
	in_access(ports[1], 10);
	ports[1]->settings.learning = false;
	ports[1]->settings.storm.multicast = 1;
	in_trunk(ports[2], 0, 100, 200);
	ports[2]->settings.link_local = ports[2]->settings.isolated = true;
	snapshot = snapshot_new(ports, 3, 1, NULL);
	assert_non_null(snapshot);
	facts = snapshot->table.ports;
	in_access(ports[0], 50);
	in_trunk(ports[1], 0, 1, 4094);
	in_trunk(ports[2], 0, 1, 4094);
	for (uint16_t i = 0; i < 3; i++)
		assert_memory_equal(&snapshot->ports[i].vlan, &facts[i].vlan,
				    sizeof(facts[i].vlan));
	for (uint16_t vlan = 0; vlan < 4096; vlan++) {
		assert_int_equal(vlan_is_member(&facts[0].vlan, vlan), vlan >= 7 && vlan <= 9);
		assert_int_equal(vlan_is_member(&facts[1].vlan, vlan), vlan == 10);
		assert_int_equal(vlan_is_member(&facts[2].vlan, vlan), vlan >= 100 && vlan <= 200);
	}
	assert_int_equal(facts[0].vlan.native, 7);
	assert_true(facts[0].vlan.native_tagged);
	assert_int_equal(snapshot->ports[0].tags, NEEDS_TAGGED);
	assert_int_equal(snapshot->ports[1].tags, NEEDS_UNTAGGED);
	assert_true(facts[0].learning && !facts[1].learning);
	assert_true(facts[2].link_local && facts[2].isolated);
	assert_null(facts[0].storm);
	assert_ptr_equal(facts[1].storm, ports[1]->storm);
	snapshot_free(snapshot);
	for (uint16_t i = 0; i < 3; i++)
		memory_port_free(ports[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty),
		cmocka_unit_test(free_numbers_stay_free),
		cmocka_unit_test(queues_are_dealt_out),
		cmocka_unit_test(queues_have_the_worker_that_is_set),
		cmocka_unit_test(settings_are_taken_over),
		cmocka_unit_test(guards_live_as_long_as_needed),
		cmocka_unit_test(flood_lists),
		cmocka_unit_test(memberships_are_taken_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
