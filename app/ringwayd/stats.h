/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every output says of the switch, gathered on the control thread: counters of workers by
 * relaxed reads, so that nobody is disturbed, and facts that only the control thread knows.
 *
 * metrics.c makes text of it, pages.c serves that and the status page over HTTP, endpoints.c
 * answers DPDK's telemetry, and stats.get is stats_to_json.
 */
#pragma once

#include <jansson.h>

#include "methods.h"
#include "telemetry/metric.h"
#include "telemetry/text.h"

/* ---- facts ---- */

void stats_port_facts(struct control_port *port, struct port_facts *facts);
void stats_worker_facts(const struct daemon *daemon, uint16_t index, struct worker_facts *facts);
void stats_fdb_facts(const struct control *control, struct fdb_facts *facts);
void stats_control_facts(const struct control *control, struct control_facts *facts);
void stats_process_facts(const struct daemon *daemon, struct process_facts *facts);

/* A limiter of a port, in the words of its labels. */
struct stats_limiter {
	const struct limiter *limiter;
	uint64_t rate;
	const char *direction; /* "rx", "tx" */
	const char *type;      /* "bandwidth", "packets", or a class of flooded frames */
};

/* The port's limiter number i of STATS_LIMITERS. Returns false where it limits nothing. */
#define STATS_LIMITERS 7
bool stats_limiter(const struct port *port, unsigned int i, struct stats_limiter *found);
void stats_limiter_facts(const struct stats_limiter *limiter, struct limiter_facts *facts);

/* Does the switch serve all that it was told to? If not, *reason is a sentence. */
bool stats_is_ready(const struct daemon *daemon, const char **reason);

/* ---- as JSON ---- */

/* What port.list shows: name, type, state, reason, labels. */
json_t *stats_port_summary(struct control_port *port);

/* One port's row of stats.get. */
json_t *stats_port_to_json(struct control_port *port);

/* Of one queue pair, all counters. */
json_t *stats_queue_to_json(const struct port *port, uint16_t queue);

json_t *stats_worker_to_json(const struct daemon *daemon, uint16_t index);
json_t *stats_workers_to_json(const struct daemon *daemon);
json_t *stats_fdb_to_json(const struct control *control);
json_t *stats_control_to_json(const struct daemon *daemon);
json_t *stats_http_to_json(void);
json_t *stats_events_to_json(const struct control *control);
json_t *stats_process_to_json(const struct daemon *daemon);

/* The whole: stats.get. */
json_t *stats_to_json(const struct daemon *daemon);

/* ---- the other outputs ---- */

/* All metrics as text. Returns false without memory. */
bool metrics_write(const struct daemon *daemon, struct text *text);

/* The HTTP handler; argument is the daemon. */
struct http_answer;
void pages_handle(void *argument, const char *path, const char *accept, struct http_answer *answer);

/* Registers DPDK's endpoints. Returns 0 or -errno. */
int stats_register_endpoints(struct daemon *daemon);

/* ---- load: how busy workers were in the last second ---- */

struct worker_load {
	uint64_t busy, at; /* at the last look, TSC */
	uint64_t ppm;
};

/* Looks once a second; stopped with the timer. Returns 0 or -ENOMEM. */
int stats_watch_load(struct daemon *daemon);
