/* SPDX-License-Identifier: BSD-3-Clause */
/* From counters to rates; rates.h is the contract. */
#include "rates.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int reading_take(struct reading *reading, struct rpc_client *client, struct error *err)
{
	double begun;
	int rc;

	*reading = (struct reading){ NULL };
	rc = rpc_client_call(client, "system.info", NULL, &reading->info, NULL, err);
	if (rc == 0)
		rc = rpc_client_call(client, "port.list", NULL, &reading->ports, NULL, err);
	begun = seconds_now();
	if (rc == 0)
		rc = rpc_client_call(client, "stats.get", NULL, &reading->stats, NULL, err);
	/* The counters are from between the two. */
	reading->at = (begun + seconds_now()) / 2;
	if (rc != 0)
		reading_release(reading);
	return rc;
}

void reading_release(struct reading *reading)
{
	json_decref(reading->stats);
	json_decref(reading->ports);
	json_decref(reading->info);
	*reading = (struct reading){ NULL };
}

static json_int_t number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* How much a counter has grown; one that has begun anew has not. */
static double grown(const json_t *before, const json_t *now, const char *key)
{
	json_int_t difference = number(now, key) - number(before, key);

	return difference > 0 ? (double)difference : 0;
}

/* An object of the list's rows by their names. A new reference. */
static json_t *by_name(const json_t *list)
{
	json_t *index = json_object();
	json_t *row;
	size_t i;

	json_array_foreach(list, i, row) {
		const char *name = json_string_value(json_object_get(row, "name"));

		if (name != NULL)
			json_object_set(index, name, row);
	}
	return index;
}

/* Adds the drops of one way, and finds their commonest reason. */
static void add_drops(struct port_rates *rates, const json_t *before, const json_t *now,
		      double elapsed, double *most)
{
	const char *reason;
	json_t *count;

	json_object_foreach((json_t *)(uintptr_t)now, reason, count) {
		double rate = grown(before, now, reason) / elapsed;

		rates->drops += rate;
		if (rate <= *most)
			continue;
		*most = rate;
		rates->why = reason;
	}
}

static void fill_port(struct port_rates *rates, const json_t *before, const json_t *now,
		      double elapsed)
{
	static const char *const packets[] = { "rx_packets", "tx_packets" };
	static const char *const bytes[] = { "rx_bytes", "tx_bytes" };
	static const char *const dropped[] = { "rx_dropped", "tx_dropped" };
	double most = 0;

	for (enum way way = RX; way <= TX; way++) {
		rates->packets[way] = grown(before, now, packets[way]) / elapsed;
		rates->bits[way] = 8 * grown(before, now, bytes[way]) / elapsed;
		add_drops(rates, json_object_get(before, dropped[way]),
			  json_object_get(now, dropped[way]), elapsed, &most);
	}
	rates->held = grown(before, now, "rx_throttled_ns") / 1e9 / elapsed;
	if (rates->held > 1)
		rates->held = 1;
}

static void make_ports(struct rates *rates, const struct reading *before,
		       const struct reading *now, double elapsed)
{
	json_t *old = by_name(json_object_get(before->stats, "ports"));
	json_t *new = by_name(json_object_get(now->stats, "ports"));
	json_t *port;
	size_t i;

	rates->ports = calloc(json_array_size(now->ports) + 1, sizeof(*rates->ports));
	json_array_foreach(now->ports, i, port) {
		struct port_rates *row = &rates->ports[rates->port_count];
		const char *reason = json_string_value(json_object_get(port, "reason"));
		const char *state = json_string_value(json_object_get(port, "state"));
		const char *name = json_string_value(json_object_get(port, "name"));

		if (name == NULL || state == NULL || rates->ports == NULL)
			continue;
		row->name = name;
		row->why = "";
		row->up = strcmp(state, "up") == 0;
		rates->up += row->up;
		if (json_object_get(old, name) != NULL)
			fill_port(row, json_object_get(old, name), json_object_get(new, name),
				  elapsed);
		if (row->drops == 0 && !row->up && reason != NULL)
			row->why = reason;
		rates->port_count++;
	}
	json_decref(old);
	json_decref(new);
}

static void make_workers(struct rates *rates, const struct reading *before,
			 const struct reading *now, double elapsed)
{
	json_t *old = json_object_get(before->stats, "workers");
	json_t *new = json_object_get(now->stats, "workers");
	json_t *worker;
	size_t i;

	rates->workers = calloc(json_array_size(new) + 1, sizeof(*rates->workers));
	json_array_foreach(new, i, worker) {
		struct worker_rates *row = &rates->workers[rates->worker_count];
		const json_t *last = json_array_get(old, i);
		double hz = (double)number(worker, "cycles_hz");

		if (rates->workers == NULL)
			return;
		row->worker = (int)number(worker, "worker");
		row->cpu = (int)number(worker, "cpu");
		rates->worker_count++;
		if (last == NULL || hz == 0)
			continue;
		row->packets = grown(last, worker, "packets") / elapsed;
		row->load = grown(last, worker, "busy_cycles") / hz / elapsed;
		if (row->load > 1)
			row->load = 1;
	}
}

void rates_make(struct rates *rates, const struct reading *before, const struct reading *now)
{
	double elapsed = now->at - before->at;

	memset(rates, 0, sizeof(*rates));
	if (elapsed <= 0)
		elapsed = 1;
	make_ports(rates, before, now, elapsed);
	make_workers(rates, before, now, elapsed);
	rates->addresses = number(json_object_get(now->stats, "fdb"), "entries");
}

void rates_release(struct rates *rates)
{
	free(rates->ports);
	free(rates->workers);
	memset(rates, 0, sizeof(*rates));
}

static int by_names(const struct port_rates *a, const struct port_rates *b)
{
	/* vm10 behind vm9. */
	return strverscmp(a->name, b->name);
}

static int by_numbers(double a, double b, const struct port_rates *left,
		      const struct port_rates *right)
{
	return a > b ? -1 : a < b ? 1 : by_names(left, right);
}

static int compare_packets(const void *a, const void *b)
{
	const struct port_rates *left = a, *right = b;

	return by_numbers(left->packets[RX] + left->packets[TX],
			  right->packets[RX] + right->packets[TX], left, right);
}

static int compare_bits(const void *a, const void *b)
{
	const struct port_rates *left = a, *right = b;

	return by_numbers(left->bits[RX] + left->bits[TX], right->bits[RX] + right->bits[TX], left,
			  right);
}

static int compare_drops(const void *a, const void *b)
{
	const struct port_rates *left = a, *right = b;

	return by_numbers(left->drops, right->drops, left, right);
}

static int compare_names(const void *a, const void *b)
{
	return by_names(a, b);
}

void rates_sort(struct rates *rates, enum rates_order order)
{
	static int (*const compare[])(const void *a, const void *b) = {
		[BY_PACKETS] = compare_packets, [BY_BITS] = compare_bits,
		[BY_DROPS] = compare_drops, [BY_NAME] = compare_names,
	};

	if (rates->port_count > 0)
		qsort(rates->ports, rates->port_count, sizeof(*rates->ports), compare[order]);
}
