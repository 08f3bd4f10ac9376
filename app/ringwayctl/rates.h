/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rates: what two readings of the daemon's counters say of the time between them.
 *
 *     reading_take(&now, client, err);
 *     rates_make(&rates, &before, &now);
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "rpc/client.h"

/* stats.get, port.list and system.info, and when they were asked for. All zero: none yet. */
struct reading {
	json_t *stats, *ports, *info;
	double at; /* seconds, CLOCK_MONOTONIC */
};

enum way { RX, TX };

struct port_rates {
	const char *name;        /* in the reading */
	bool up;
	double packets[2];       /* by enum way; a second, as all that follow */
	double bits[2];
	double drops;
	double held;             /* share of the time */
	const char *why;         /* "", or the commonest reason of drops, or why it is down */
};

struct worker_rates {
	int worker, cpu;
	double load;             /* share of its CPU's time */
	double packets;
};

/* Valid as long as the later reading. */
struct rates {
	size_t port_count, worker_count, up;
	struct port_rates *ports;
	struct worker_rates *workers;
	json_int_t addresses;
};

/* Returns as rpc_client_call does; *reading is all zero then. */
int reading_take(struct reading *reading, struct rpc_client *client, struct error *err);
void reading_release(struct reading *reading);

/* Fills *rates, to be released. A port that was not there before has none yet. */
void rates_make(struct rates *rates, const struct reading *before, const struct reading *now);
void rates_release(struct rates *rates);

enum rates_order { BY_PACKETS, BY_BITS, BY_DROPS, BY_NAME };

/* Sorts the ports: most first, or by name. */
void rates_sort(struct rates *rates, enum rates_order order);
