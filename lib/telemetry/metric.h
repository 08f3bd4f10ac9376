/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A metric: one counter or gauge as a row with its name, unit and help. Every output reads the same
 * rows: stats.get, the text at /metrics (telemetry/text.h), DPDK's telemetry, and the table in
 * docs/operations.md.
 *
 * A row names a 64-bit field of a struct by its offset, or an array of such fields. A new counter
 * is a field and a row. Rows that belong to one kind of object make a table, and what the text
 * calls a row follows from both: the row `rx_packets` of the object `port` is
 *
 *     ringway_port_packets_total{port="vm1",queue="0",direction="rx"}
 *
 * `rx_` and `tx_` at the beginning become the label `direction`; `_ns` at the end becomes
 * `_seconds` and `_ppm` becomes `_ratio`, with the values that belong to them; counters end in
 * `_total`. Two rows of one object that differ in their direction alone are one family.
 *
 * Any thread, on structs whose fields are written with counter_add or belong to the caller.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum metric_kind {
	METRIC_COUNTER,
	METRIC_GAUGE,  /* what is so now: it may go down, and below 0 */
	METRIC_DROPS,  /* uint64_t[DROP_COUNT]: in JSON without those that are 0 */
	METRIC_BURSTS, /* uint64_t[WORKER_BURSTS], of struct worker_counters: a histogram */
};

struct metric {
	const char *name;
	enum metric_kind kind;
	size_t offset;
	const char *unit;
	const char *help; /* continues the unit: "frames" "taken from the port" */
};

/* Rows of one kind of object, and the labels that tell one object from the other. */
struct metric_table {
	const char *object;
	const char *labels; /* as "port queue" */
	const struct metric *rows;
};

/* Each of them, ended by one without rows. */
extern const struct metric_table metric_tables[];

/* What has no value but only labels, for joins: `ringway_NAME_info`. */
struct metric_info {
	const char *name;
	const char *labels;
	const char *help;
};
extern const struct metric_info metric_info_port, metric_info_worker, metric_info_build;

/* Tables for struct rx_counters, tx_counters (one port), worker_, fdb_ and event_counters. */
extern const struct metric metric_rx[], metric_tx[], metric_worker[], metric_fdb[], metric_events[];

/*
 * What is worked out for whoever asks, as it is no counter of a worker. Filled by the control
 * thread; all are 64 bits wide.
 */
struct port_facts {
	uint64_t up;
	uint64_t enabled;
	uint64_t open;
	uint64_t addresses;
	uint64_t addresses_refused;
	uint64_t missed;
};
struct limiter_facts {
	uint64_t rate;
	uint64_t burst;
	int64_t tokens;
	uint64_t one_time_tokens;
};
struct worker_facts {
	uint64_t running;
	uint64_t load_ppm;
	uint64_t cycles_hz;
	uint64_t freed;
	uint64_t inject_refused;
};
struct fdb_facts {
	uint64_t entries;
	uint64_t capacity;
	uint64_t overflowed;
};
struct control_facts {
	uint64_t revision;
	uint64_t retired;
};
struct process_facts {
	uint64_t ready;
	uint64_t start_time_seconds; /* since 1970 */
	uint64_t cpu_ns;
	uint64_t resident_memory_bytes;
};

/*
 * Their rows, and those of struct port_connection (port/port_ops.h), rpc_counters (rpc/server.h)
 * and http_counters (telemetry/http.h).
 */
extern const struct metric metric_port[], metric_limiter[], metric_vhost[], metric_worker_facts[],
	metric_fdb_facts[], metric_control[], metric_rpc[], metric_http[], metric_process[];

/* Adds the rows' values of `from` to an object. */
void metric_add_json(const struct metric *rows, const void *from, json_t *object);

/* How the text has a row. */
struct metric_family {
	char name[96];         /* "ringway_port_packets" */
	const char *direction; /* "rx", "tx"; NULL: none */
	const char *unit;      /* the last word of the name, where that is one; NULL: it is not */
	uint32_t parts;        /* the field counts so many in one of the unit */
};

void metric_name_family(const char *object, const struct metric *row,
			struct metric_family *family);

/* The sentence about a row, "frames taken from the port", with the direction before it. */
void metric_explain(const struct metric *row, char *text, size_t size);

/* All families with their labels, as a list for documentation. A new reference. */
json_t *metric_describe(void);
