/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * telemetry/metric.c: each row shows the field that its name says, no field is forgotten, and
 * sync/counter.h adds up under it.
 */
#include "telemetry/metric.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/fdb.h"
#include "frame/drop.h"
#include "port/memory.h"
#include "rpc/server.h"
#include "telemetry/http.h"
#include "worker/worker.h"

static json_int_t value_of(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	if (!json_is_integer(value))
		fail_msg("there is no %s", name);
	return json_integer_value(value);
}

static void names_show_their_fields(void **state)
{
	static struct worker_counters worker = { .iterations = 41, .packets = 42, .busy_cycles = 43,
						 .idle_cycles = 44, .sleep_ns = 45 };
	const struct rx_counters rx = { .packets = 1, .bytes = 2, .segments = 3, .forwarded = 4,
					.flooded = 5, .copies = 6, .notifications = 7,
					.throttled = 8, .throttled_ns = 9, .limited_bytes = 10 };
	const struct tx_counters tx = { .offered = 11, .packets = 12, .bytes = 1ull << 40,
					.segments = 14, .notifications = 15, .cut = 16 };
	const struct fdb_counters fdb = { .learned = 21, .moved = 22, .aged = 23, .evicted = 24,
					  .refused = 25 };
	json_t *object = json_object();

	(void)state;
	metric_add_json(metric_rx, &rx, object);
	metric_add_json(metric_tx, &tx, object);
	assert_int_equal(value_of(object, "rx_packets"), 1);
	assert_int_equal(value_of(object, "rx_bytes"), 2);
	assert_int_equal(value_of(object, "rx_segments"), 3);
	assert_int_equal(value_of(object, "rx_forwarded"), 4);
	assert_int_equal(value_of(object, "rx_flooded"), 5);
	assert_int_equal(value_of(object, "rx_copies"), 6);
	assert_int_equal(value_of(object, "rx_notifications"), 7);
	assert_int_equal(value_of(object, "rx_throttled"), 8);
	assert_int_equal(value_of(object, "rx_throttled_ns"), 9);
	assert_int_equal(value_of(object, "rx_limited_bytes"), 10);
	assert_int_equal(value_of(object, "tx_offered"), 11);
	assert_int_equal(value_of(object, "tx_packets"), 12);
	assert_int_equal(value_of(object, "tx_bytes"), 1ll << 40);
	assert_int_equal(value_of(object, "tx_segments"), 14);
	assert_int_equal(value_of(object, "tx_notifications"), 15);
	assert_int_equal(value_of(object, "tx_cut"), 16);
	json_object_clear(object);
	metric_add_json(metric_fdb, &fdb, object);
	assert_int_equal(value_of(object, "learned"), 21);
	assert_int_equal(value_of(object, "moved"), 22);
	assert_int_equal(value_of(object, "aged"), 23);
	assert_int_equal(value_of(object, "evicted"), 24);
	assert_int_equal(value_of(object, "refused"), 25);
	json_object_clear(object);
	metric_add_json(metric_worker, &worker, object);
	assert_int_equal(value_of(object, "iterations"), 41);
	assert_int_equal(value_of(object, "packets"), 42);
	assert_int_equal(value_of(object, "busy_cycles"), 43);
	assert_int_equal(value_of(object, "idle_cycles"), 44);
	assert_int_equal(value_of(object, "sleep_ns"), 45);
	json_decref(object);
}

static void drops_are_shown_by_reason(void **state)
{
	struct rx_counters rx = { .packets = 9 };
	struct tx_counters tx = { .offered = 9 };
	json_t *object = json_object(), *dropped;

	(void)state;
	metric_add_json(metric_rx, &rx, object);
	assert_int_equal(json_object_size(json_object_get(object, "rx_dropped")), 0);
	rx.dropped[DROP_HAIRPIN] = 3;
	tx.dropped[0] = 4;
	tx.dropped[DROP_COUNT - 1] = 5;
	metric_add_json(metric_rx, &rx, object);
	metric_add_json(metric_tx, &tx, object);
	dropped = json_object_get(object, "rx_dropped");
	assert_int_equal(json_object_size(dropped), 1);
	assert_int_equal(value_of(dropped, "hairpin"), 3);
	dropped = json_object_get(object, "tx_dropped");
	assert_int_equal(json_object_size(dropped), 2);
	assert_int_equal(value_of(dropped, drop_name((enum drop)0)), 4);
	assert_int_equal(value_of(dropped, drop_name((enum drop)(DROP_COUNT - 1))), 5);
	json_decref(object);
}

static size_t fields_of(const struct metric *row)
{
	return row->kind == METRIC_DROPS ? DROP_COUNT : row->kind == METRIC_BURSTS ? WORKER_BURSTS
										   : 1;
}

/* A counter without a row is one that nobody ever sees. */
static void check_complete(const struct metric *rows, size_t size)
{
	size_t covered = 0;

	for (const struct metric *row = rows; row->name != NULL; row++) {
		covered += fields_of(row);
		assert_int_equal(row->offset % sizeof(uint64_t), 0);
		assert_true(row->offset + fields_of(row) * sizeof(uint64_t) <= size);
		assert_true(strlen(row->unit) > 0);
		assert_true(strlen(row->help) > 0);
		for (const struct metric *other = rows; other != row; other++) {
			assert_string_not_equal(row->name, other->name);
			assert_int_not_equal(row->offset, other->offset);
		}
	}
	assert_int_equal(covered * sizeof(uint64_t), size);
}

static void no_counter_is_forgotten(void **state)
{
	(void)state;
	check_complete(metric_rx, sizeof(struct rx_counters));
	check_complete(metric_tx, sizeof(struct tx_counters));
	check_complete(metric_fdb, sizeof(struct fdb_counters));
	check_complete(metric_worker, sizeof(struct worker_counters));
	check_complete(metric_port, sizeof(struct port_facts));
	check_complete(metric_limiter, sizeof(struct limiter_facts));
	check_complete(metric_vhost, sizeof(struct port_connection));
	check_complete(metric_worker_facts, sizeof(struct worker_facts));
	check_complete(metric_fdb_facts, sizeof(struct fdb_facts));
	check_complete(metric_control, sizeof(struct control_facts));
	check_complete(metric_rpc, sizeof(struct rpc_counters));
	check_complete(metric_http, sizeof(struct http_counters));
	check_complete(metric_process, sizeof(struct process_facts));
}

static bool is_listed(const struct metric *rows)
{
	for (const struct metric_table *table = metric_tables; table->object != NULL; table++)
		if (table->rows == rows)
			return true;
	return false;
}

static void no_table_is_forgotten(void **state)
{
	const struct metric *const tables[] = { metric_rx, metric_tx, metric_worker, metric_fdb,
						metric_port, metric_limiter, metric_vhost,
						metric_worker_facts, metric_fdb_facts,
						metric_control, metric_rpc, metric_http,
						metric_process };

	(void)state;
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		assert_true(is_listed(tables[i]));
}

static void check_family(const char *object, const char *name, const char *family_name,
			 const char *direction, const char *unit, uint32_t parts)
{
	const struct metric row = { name, METRIC_COUNTER, 0, "ns", "help" };
	struct metric_family family;

	metric_name_family(object, &row, &family);
	assert_string_equal(family.name, family_name);
	assert_int_equal(family.parts, parts);
	if (direction != NULL)
		assert_string_equal(family.direction, direction);
	else
		assert_null(family.direction);
	if (unit != NULL)
		assert_string_equal(family.unit, unit);
	else
		assert_null(family.unit);
}

static void families_follow_from_rows(void **state)
{
	(void)state;
	check_family("port", "rx_packets", "ringway_port_packets", "rx", "packets", 1);
	check_family("port", "tx_bytes", "ringway_port_bytes", "tx", "bytes", 1);
	check_family("port", "rx_throttled_ns", "ringway_port_throttled_seconds", "rx", "seconds",
		     1000000000);
	check_family("port", "rx_throttled", "ringway_port_throttled", "rx", NULL, 1);
	check_family("worker", "load_ppm", "ringway_worker_load_ratio", NULL, "ratio", 1000000);
	check_family("worker", "busy_cycles", "ringway_worker_busy_cycles", NULL, "cycles", 1);
	check_family("fdb", "learned", "ringway_fdb_learned", NULL, NULL, 1);
}

/* What stands for one thing in one output must not stand for another in the next. */
static void families_have_one_meaning(void **state)
{
	json_t *list = metric_describe(), *one, *other;
	size_t i, j;

	(void)state;
	json_array_foreach(list, i, one) {
		const char *name = json_string_value(json_object_get(one, "family"));

		assert_true(strncmp(name, "ringway_", 8) == 0);
		assert_null(strstr(name, "_total"));
		json_array_foreach(list, j, other) {
			if (i == j || !json_equal(json_object_get(one, "family"),
						  json_object_get(other, "family")))
				continue;
			if (strcmp(json_string_value(json_object_get(one, "type")), "info") == 0)
				continue;
			assert_true(json_equal(json_object_get(one, "type"),
					       json_object_get(other, "type")));
			assert_true(json_equal(json_object_get(one, "labels"),
					       json_object_get(other, "labels")));
			assert_false(json_equal(json_object_get(one, "row"),
						json_object_get(other, "row")));
		}
	}
	json_decref(list);
}

static void counters_of_a_port_are_summed(void **state)
{
	struct port *port = port_new(&memory_ops, "sum", 0, 3, 2, NULL);
	struct port_counters sum;

	(void)state;
	assert_non_null(port);
	for (uint16_t queue = 0; queue < 3; queue++) {
		for (uint16_t worker = 0; worker < 2; worker++) {
			struct port_counters *own = &port->queues[queue].counters[worker];

			counter_add(&own->rx.packets, 1ull << (8 * queue + 4 * worker));
			counter_add(&own->tx.dropped[DROP_COUNT - 1], 5);
			counter_add(&own->tx.dropped[DROP_COUNT - 1], 6);
		}
	}
	memset(&sum, 0xff, sizeof(sum));
	port_sum_counters(port, &sum);
	assert_int_equal(sum.rx.packets, 0x111111);
	assert_int_equal(sum.tx.dropped[DROP_COUNT - 1], 66);
	assert_int_equal(sum.tx.packets, 0);
	port_free(port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_show_their_fields),
		cmocka_unit_test(drops_are_shown_by_reason),
		cmocka_unit_test(no_counter_is_forgotten),
		cmocka_unit_test(no_table_is_forgotten),
		cmocka_unit_test(families_follow_from_rows),
		cmocka_unit_test(families_have_one_meaning),
		cmocka_unit_test(counters_of_a_port_are_summed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
