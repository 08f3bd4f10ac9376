/* SPDX-License-Identifier: BSD-3-Clause */
/* The rows, and their JSON form; telemetry/metric.h is the contract. */
#include "telemetry/metric.h"

#include <stdio.h>
#include <string.h>

#include "base/event.h"
#include "bridge/fdb.h"
#include "bridge/forward.h"
#include "port/port.h"
#include "rpc/server.h"
#include "sync/counter.h"
#include "telemetry/http.h"
#include "worker/worker.h"

#define COUNTER(name, type, field, unit, help)                                                     \
	{ name, METRIC_COUNTER, offsetof(type, field), unit, help }

#define GAUGE(name, type, field, unit, help)                                                       \
	{ name, METRIC_GAUGE, offsetof(type, field), unit, help }

const struct metric metric_rx[] = {
	COUNTER("rx_packets", struct rx_counters, packets, "frames", "taken from the port"),
	COUNTER("rx_bytes", struct rx_counters, bytes, "bytes",
		"of frames taken from the port, without FCS"),
	COUNTER("rx_segments", struct rx_counters, segments, "packets",
		"that frames taken from the port stand for"),
	COUNTER("rx_forwarded", struct rx_counters, forwarded, "frames", "sent to one port"),
	COUNTER("rx_flooded", struct rx_counters, flooded, "frames", "sent to all other ports"),
	COUNTER("rx_copies", struct rx_counters, copies, "frames", "made of flooded frames"),
	COUNTER("rx_suppressed", struct rx_counters, suppressed, "frames",
		"forwarded, that were requests for a neighbour's address and not flooded"),
	COUNTER("rx_notifications", struct rx_counters, notifications, "interrupts",
		"that told the port its buffers are free again"),
	COUNTER("rx_throttled", struct rx_counters, throttled, "times",
		"that the port's limit began to hold frames back"),
	COUNTER("rx_throttled_ns", struct rx_counters, throttled_ns, "ns",
		"that the port's limit held frames back"),
	COUNTER("rx_limited_bytes", struct rx_counters, limited_bytes, "bytes",
		"of frames over the port's limit that were dropped"),
	{ "rx_dropped", METRIC_DROPS, offsetof(struct rx_counters, dropped), "frames",
	  "taken from the port and dropped, by reason" },
	{ NULL }
};

const struct metric metric_tx[] = {
	COUNTER("tx_offered", struct tx_counters, offered, "frames", "meant for the port"),
	COUNTER("tx_mirrored", struct tx_counters, mirrored, "frames",
		"meant for the port that were copies of a mirrored port's frames"),
	COUNTER("tx_cut", struct tx_counters, cut, "frames",
		"made by segmentation, beyond those that were cut"),
	COUNTER("tx_packets", struct tx_counters, packets, "frames", "delivered to the port"),
	COUNTER("tx_bytes", struct tx_counters, bytes, "bytes",
		"of frames delivered to the port, without FCS"),
	COUNTER("tx_segments", struct tx_counters, segments, "packets",
		"that frames delivered to the port stand for"),
	COUNTER("tx_notifications", struct tx_counters, notifications, "interrupts",
		"that told the port of frames"),
	COUNTER("tx_retries", struct tx_counters, retries, "times",
		"that frames were tried again which had found no room"),
	GAUGE("tx_queued", struct tx_counters, queued, "frames",
	      "that wait for the port's limit"),
	GAUGE("tx_queued_bytes", struct tx_counters, queued_bytes, "bytes",
	      "of memory that these frames take"),
	COUNTER("tx_delayed", struct tx_counters, delayed, "frames",
		"that waited for the port's limit and went on"),
	COUNTER("tx_throttled", struct tx_counters, throttled, "times",
		"that the port's limit began to hold frames back"),
	COUNTER("tx_throttled_ns", struct tx_counters, throttled_ns, "ns",
		"that the port's limit held frames back"),
	COUNTER("tx_limited_bytes", struct tx_counters, limited_bytes, "bytes",
		"of frames over the port's limit that were dropped"),
	{ "tx_dropped", METRIC_DROPS, offsetof(struct tx_counters, dropped), "frames",
	  "meant for the port and dropped, by reason" },
	{ NULL }
};

const struct metric metric_worker[] = {
	COUNTER("iterations", struct worker_counters, iterations, "rounds", "of the polling loop"),
	COUNTER("packets", struct worker_counters, packets, "frames", "received"),
	COUNTER("busy_cycles", struct worker_counters, busy_cycles, "cycles",
		"of the TSC, in visits that returned a frame"),
	COUNTER("idle_cycles", struct worker_counters, idle_cycles, "cycles",
		"of the TSC, neither busy nor asleep"),
	COUNTER("sleep_ns", struct worker_counters, sleep_ns, "ns", "asleep"),
	{ "bursts", METRIC_BURSTS, offsetof(struct worker_counters, bursts), "visits",
	  "by how many frames they returned" },
	{ NULL }
};

const struct metric metric_fdb[] = {
	COUNTER("learned", struct fdb_counters, learned, "addresses", "learned"),
	COUNTER("moved", struct fdb_counters, moved, "addresses", "seen at another port"),
	COUNTER("aged", struct fdb_counters, aged, "addresses", "forgotten after their time"),
	COUNTER("evicted", struct fdb_counters, evicted, "addresses", "that gave way to new ones"),
	COUNTER("refused", struct fdb_counters, refused, "addresses",
		"not learned for want of room"),
	{ NULL }
};

const struct metric metric_port[] = {
	GAUGE("up", struct port_facts, up, "1:", "traffic is possible, else 0"),
	GAUGE("enabled", struct port_facts, enabled, "1:", "not switched off, else 0"),
	GAUGE("open", struct port_facts, open, "1:", "the way in could be opened, else 0"),
	GAUGE("addresses", struct port_facts, addresses, "addresses", "learned behind the port"),
	COUNTER("addresses_refused", struct port_facts, addresses_refused, "addresses",
		"not learned, as the port had its max_addresses"),
	COUNTER("rx_missed", struct port_facts, missed, "frames",
		"that the kernel or the device lost, as the switch did not take them in time"),
	{ NULL }
};

const struct metric metric_limiter[] = {
	GAUGE("rate", struct limiter_facts, rate, "bits or packets", "a second, as set"),
	GAUGE("burst", struct limiter_facts, burst, "bytes or packets",
	      "that the full bucket holds"),
	GAUGE("tokens", struct limiter_facts, tokens, "bytes or packets",
	      "in the bucket; below 0: owed"),
	GAUGE("one_time_tokens", struct limiter_facts, one_time_tokens, "bytes or packets",
	      "left of the one-time burst"),
	{ NULL }
};

const struct metric metric_vhost[] = {
	GAUGE("connected", struct port_connection, connected, "1:", "a VMM is connected, else 0"),
	GAUGE("connection_since_seconds", struct port_connection, since, "seconds",
	      "since 1970 when that began"),
	COUNTER("connects", struct port_connection, connects, "times", "that a VMM connected"),
	COUNTER("reconnects", struct port_connection, reconnects, "times",
		"that the VMM which had been connected came back"),
	COUNTER("disconnects", struct port_connection, disconnects, "times",
		"that a connection ended"),
	COUNTER("connections_refused", struct port_connection, refused, "connections",
		"refused, as another process was connected"),
	{ NULL }
};

const struct metric metric_worker_facts[] = {
	GAUGE("running", struct worker_facts, running, "1:",
	      "polls or sleeps as it should, else 0"),
	GAUGE("load_ppm", struct worker_facts, load_ppm, "part",
	      "of the last second in visits that returned a frame"),
	GAUGE("cycles_hz", struct worker_facts, cycles_hz, "cycles", "of the TSC a second"),
	COUNTER("freed", struct worker_facts, freed, "times",
		"that it stood still for 100 ms and was interrupted"),
	COUNTER("inject_refused", struct worker_facts, inject_refused, "frames",
		"of the control thread that found no room"),
	{ NULL }
};

const struct metric metric_fdb_facts[] = {
	GAUGE("entries", struct fdb_facts, entries, "addresses", "in the table"),
	GAUGE("capacity", struct fdb_facts, capacity, "addresses", "that the table holds"),
	COUNTER("overflowed", struct fdb_facts, overflowed, "addresses",
		"not learned yet, as too many came at once"),
	{ NULL }
};

const struct metric metric_control[] = {
	GAUGE("revision", struct control_facts, revision, "changes",
	      "of the configuration since the start"),
	GAUGE("retired", struct control_facts, retired, "objects",
	      "that wait until no worker sees them"),
	{ NULL }
};

const struct metric metric_rpc[] = {
	GAUGE("clients", struct rpc_counters, clients, "clients", "that are connected"),
	COUNTER("connects", struct rpc_counters, connects, "clients", "that connected"),
	COUNTER("turned_away", struct rpc_counters, turned_away, "clients",
		"that were one too many"),
	COUNTER("deaf", struct rpc_counters, deaf, "clients",
		"dropped, as they did not read their answers"),
	COUNTER("requests", struct rpc_counters, requests, "requests",
		"and batches of them that were taken"),
	COUNTER("refusals", struct rpc_counters, refusals, "answers", "that were errors"),
	COUNTER("received_bytes", struct rpc_counters, received_bytes, "bytes", "received"),
	COUNTER("sent_bytes", struct rpc_counters, sent_bytes, "bytes", "of answers"),
	{ NULL }
};

const struct metric metric_http[] = {
	GAUGE("clients", struct http_counters, clients, "clients", "that are connected"),
	COUNTER("connects", struct http_counters, connects, "clients", "that connected"),
	COUNTER("late", struct http_counters, late, "clients",
		"dropped, as they took too long"),
	COUNTER("requests", struct http_counters, requests, "requests", "that were answered"),
	COUNTER("refusals", struct http_counters, refusals, "answers", "that were errors"),
	COUNTER("sent_bytes", struct http_counters, sent_bytes, "bytes", "of answers"),
	{ NULL }
};

const struct metric metric_process[] = {
	GAUGE("ready", struct process_facts, ready, "1:", "as /readyz says, else 0"),
	GAUGE("start_time_seconds", struct process_facts, start_time_seconds, "seconds",
	      "since 1970 when the process began"),
	COUNTER("cpu_ns", struct process_facts, cpu_ns, "ns",
		"of CPU time, of all threads together"),
	GAUGE("resident_memory_bytes", struct process_facts, resident_memory_bytes, "bytes",
	      "of memory that are resident, guests' memory included"),
	{ NULL }
};

const struct metric metric_events[] = {
	COUNTER("told", struct event_counters, told, "events", "that happened and were told of"),
	COUNTER("left_out", struct event_counters, left_out, "events",
		"not told of, for their port had too many"),
	COUNTER("missed", struct event_counters, missed, "events",
		"that subscribers were too slow for"),
	{ NULL }
};

const struct metric_table metric_tables[] = {
	{ "port", "port queue", metric_rx },
	{ "port", "port queue", metric_tx },
	{ "port", "port", metric_port },
	{ "limiter", "port direction type", metric_limiter },
	{ "vhost", "port", metric_vhost },
	{ "worker", "worker", metric_worker },
	{ "worker", "worker", metric_worker_facts },
	{ "fdb", "", metric_fdb },
	{ "fdb", "", metric_fdb_facts },
	{ "control", "", metric_control },
	{ "control", "", metric_rpc },
	{ "http", "", metric_http },
	{ "events", "", metric_events },
	{ "process", "", metric_process },
	{ NULL }
};

const struct metric_info metric_info_port = { "port", "port type label_*",
					      "a port's type, and its labels" };
const struct metric_info metric_info_worker = { "worker", "worker cpu idle",
						"a worker's CPU, and how it idles" };
const struct metric_info metric_info_build = { "build", "version dpdk",
					       "which version runs, on which DPDK" };

/* ---- as JSON ---- */

static json_t *drops_to_json(const uint64_t *drops)
{
	json_t *object = json_object();

	for (int reason = 0; reason < DROP_COUNT; reason++) {
		uint64_t count = counter_read(&drops[reason]);

		if (count > 0)
			json_object_set_new(object, drop_name((enum drop)reason),
					    json_integer((json_int_t)count));
	}
	return object;
}

/* Burst sizes by powers of two: "1", "2", "4" for 3 and 4, and so on. */
static json_t *bursts_to_json(const uint64_t *bursts)
{
	json_t *object = json_object();

	for (unsigned int class = 0; class < WORKER_BURSTS; class++) {
		char name[16];

		snprintf(name, sizeof(name), "%u", 1u << class);
		json_object_set_new(object, name,
				    json_integer((json_int_t)counter_read(&bursts[class])));
	}
	return object;
}

static json_t *value_to_json(const struct metric *row, const uint64_t *value)
{
	switch (row->kind) {
	case METRIC_DROPS:
		return drops_to_json(value);
	case METRIC_BURSTS:
		return bursts_to_json(value);
	default:
		return json_integer((json_int_t)counter_read(value));
	}
}

void metric_add_json(const struct metric *rows, const void *from, json_t *object)
{
	for (const struct metric *row = rows; row->name != NULL; row++) {
		const void *value = (const char *)from + row->offset;

		json_object_set_new(object, row->name, value_to_json(row, value));
	}
}

/* ---- as families ---- */

static bool ends_in(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);

	return length >= tail && strcmp(text + length - tail, end) == 0;
}

static const char *direction_of(const struct metric *row)
{
	if (strncmp(row->name, "rx_", 3) == 0)
		return "rx";
	return strncmp(row->name, "tx_", 3) == 0 ? "tx" : NULL;
}

void metric_name_family(const char *object, const struct metric *row,
			struct metric_family *family)
{
	static const struct {
		const char *end, *unit;
		uint32_t parts;
	} scales[] = { { "_ns", "seconds", 1000000000 }, { "_ppm", "ratio", 1000000 } };
	static const char *const units[] = { "_bytes", "_seconds", "_cycles", "_packets" };
	const char *name;

	*family = (struct metric_family){ .direction = direction_of(row), .parts = 1 };
	name = row->name + (family->direction != NULL ? 3 : 0);
	for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]); i++) {
		if (!ends_in(name, scales[i].end))
			continue;
		snprintf(family->name, sizeof(family->name), "ringway_%s_%.*s_%s", object,
			 (int)(strlen(name) - strlen(scales[i].end)), name, scales[i].unit);
		family->unit = scales[i].unit;
		family->parts = scales[i].parts;
		return;
	}
	snprintf(family->name, sizeof(family->name), "ringway_%s_%s", object, name);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (ends_in(family->name, units[i]))
			family->unit = units[i] + 1;
}

void metric_explain(const struct metric *row, char *text, size_t size)
{
	const char *direction = direction_of(row);
	const char *unit = strcmp(row->unit, "ns") == 0 ? "seconds" : row->unit;

	snprintf(text, size, "%s%s%s %s", direction != NULL ? direction : "",
		 direction != NULL ? ": " : "", unit, row->help);
}

/* ---- for documentation ---- */

static json_t *describe_row(const struct metric_table *table, const struct metric *row)
{
	static const char *const types[] = { "counter", "gauge", "counter", "histogram" };
	struct metric_family family;
	char help[200], labels[80];

	metric_name_family(table->object, row, &family);
	metric_explain(row, help, sizeof(help));
	snprintf(labels, sizeof(labels), "%s%s%s", table->labels,
		 family.direction != NULL ? " direction" : "",
		 row->kind == METRIC_DROPS ? " reason" : "");
	return json_pack("{s:s, s:s, s:s?, s:s, s:s, s:s, s:s}", "family", family.name, "type",
			 types[row->kind], "unit", family.unit, "labels", labels, "object",
			 table->object, "row", row->name, "help", help);
}

static json_t *describe_info(const struct metric_info *info)
{
	char name[64];

	snprintf(name, sizeof(name), "ringway_%s", info->name);
	return json_pack("{s:s, s:s, s:n, s:s, s:s, s:n, s:s}", "family", name, "type", "info",
			 "unit", "labels", info->labels, "object", info->name, "row", "help",
			 info->help);
}

json_t *metric_describe(void)
{
	json_t *list = json_array();

	for (const struct metric_table *table = metric_tables; table->object != NULL; table++)
		for (const struct metric *row = table->rows; row->name != NULL; row++)
			json_array_append_new(list, describe_row(table, row));
	json_array_append_new(list, describe_info(&metric_info_port));
	json_array_append_new(list, describe_info(&metric_info_worker));
	json_array_append_new(list, describe_info(&metric_info_build));
	return list;
}
