/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A metric: one counter or gauge as a row with its name, unit and help. Every output reads the same
 * rows.
 *
 * A row names a 64-bit field of a struct by its offset, or an array of drop counters. A new counter
 * is a field and a row.
 *
 * Any thread, on structs whose fields are written with counter_add or belong to the caller.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

enum metric_kind {
	METRIC_COUNTER,
	METRIC_GAUGE, /* what is so now: it may go down again */
	METRIC_DROPS, /* uint64_t[DROP_COUNT]: an object by reason, without those that are 0 */
};

struct metric {
	const char *name;
	enum metric_kind kind;
	size_t offset;
	const char *unit;
	const char *help;
};

/* Tables for struct rx_counters, tx_counters (one port), worker_counters and fdb_counters. */
extern const struct metric metric_rx[], metric_tx[], metric_worker[], metric_fdb[];

/* Adds the rows' values of `from` to an object. */
void metric_add_json(const struct metric *rows, const void *from, json_t *object);
