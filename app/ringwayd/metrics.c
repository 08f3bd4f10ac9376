/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All metrics as text; stats.h says more. Everything is gathered first, since a family's samples
 * stand together, and so that what is written belongs to one moment.
 */
#include "stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_version.h>

#include "control/events.h"
#include "rpc/server.h"
#include "telemetry/http.h"

#define LABELS_SIZE 128 /* of names, numbers and fixed words */
#define INFO_SIZE 2048

/* A queue pair. */
struct queue_sample {
	char labels[LABELS_SIZE];
	struct port_counters counters;
};

struct port_sample {
	char labels[LABELS_SIZE];
	struct port_facts facts;
};

struct vhost_sample {
	char labels[LABELS_SIZE];
	struct port_connection connection;
};

struct limiter_sample {
	char labels[LABELS_SIZE];
	struct limiter_facts facts;
};

struct worker_sample {
	char labels[LABELS_SIZE];
	struct worker_facts facts;
};

/* How many of each there are. */
struct extent {
	unsigned int ports, queues;
};

static struct extent measure(const struct control *control)
{
	struct extent extent = { 0, 0 };

	for (uint16_t i = 0; i < control->port_count; i++) {
		const struct control_port *slot = &control->ports[i];

		extent.ports += slot->model != NULL;
		extent.queues += slot->port != NULL ? slot->port->queue_count : 1u;
	}
	return extent;
}

/* Writes rows whose structs lie in an array, behind their labels. */
static void write_array(struct text *text, const char *object, const struct text_part *parts,
			unsigned int part_count, const void *array, size_t size,
			unsigned int count)
{
	struct text_source *sources = calloc(count + 1u, sizeof(*sources));

	if (sources == NULL) {
		text->failed = true;
		return;
	}
	for (unsigned int i = 0; i < count; i++) {
		const char *element = (const char *)array + i * size;

		sources[i] = (struct text_source){ element, element };
	}
	text_rows(text, object, parts, part_count, sources, count);
	free(sources);
}

static void label(char *labels, const char *name, const char *value)
{
	text_add_label(labels, LABELS_SIZE, name, value);
}

static void label_number(char *labels, const char *name, unsigned int value)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", value);
	label(labels, name, number);
}

/* ---- ports ---- */

/* A port that is not open counts nothing, and shows that. */
static unsigned int gather_queues(const struct control *control, struct queue_sample *samples)
{
	unsigned int count = 0;

	for (uint16_t i = 0; i < control->port_count; i++) {
		const struct control_port *slot = &control->ports[i];
		unsigned int queues = slot->port != NULL ? slot->port->queue_count : 1;

		for (uint16_t q = 0; slot->model != NULL && q < queues; q++) {
			struct queue_sample *sample = &samples[count++];

			label(sample->labels, "port", slot->model->name);
			label_number(sample->labels, "queue", q);
			if (slot->port != NULL)
				port_add_counters(slot->port, q, &sample->counters);
		}
	}
	return count;
}

static void write_counters(struct text *text, const struct control *control, unsigned int queues)
{
	static const struct text_part parts[] = {
		{ metric_rx, offsetof(struct queue_sample, counters.rx) },
		{ metric_tx, offsetof(struct queue_sample, counters.tx) },
	};
	size_t size = (queues + 1) * sizeof(struct queue_sample);
	struct queue_sample *samples = aligned_alloc(64, (size + 63) / 64 * 64);

	if (samples == NULL) {
		text->failed = true;
		return;
	}
	memset(samples, 0, size);
	queues = gather_queues(control, samples);
	write_array(text, "port", parts, 2, samples, sizeof(*samples), queues);
	free(samples);
}

static void write_ports(struct text *text, struct control *control, unsigned int ports)
{
	static const struct text_part part = { metric_port, offsetof(struct port_sample, facts) };
	static const struct text_part vhost = { metric_vhost,
						offsetof(struct vhost_sample, connection) };
	static const struct text_part limits = { metric_limiter,
						 offsetof(struct limiter_sample, facts) };
	struct port_sample *samples = calloc(ports + 1, sizeof(*samples));
	struct vhost_sample *connections = calloc(ports + 1, sizeof(*connections));
	struct limiter_sample *limiters = calloc(ports * STATS_LIMITERS + 1, sizeof(*limiters));
	unsigned int count = 0, connection_count = 0, limiter_count = 0;

	text->failed |= samples == NULL || connections == NULL || limiters == NULL;
	for (uint16_t i = 0; i < control->port_count && !text->failed; i++) {
		struct control_port *slot = &control->ports[i];
		struct stats_limiter limiter;

		if (slot->model == NULL)
			continue;
		label(samples[count].labels, "port", slot->model->name);
		stats_port_facts(slot, &samples[count++].facts);
		if (slot->state != PORT_OPEN)
			continue;
		if (slot->port->ops->connection != NULL) {
			struct vhost_sample *sample = &connections[connection_count++];

			label(sample->labels, "port", slot->model->name);
			slot->port->ops->connection(slot->port, &sample->connection);
		}
		for (unsigned int l = 0; l < STATS_LIMITERS; l++) {
			struct limiter_sample *sample = &limiters[limiter_count];

			if (!stats_limiter(slot->port, l, &limiter))
				continue;
			limiter_count++;
			label(sample->labels, "port", slot->model->name);
			label(sample->labels, "direction", limiter.direction);
			label(sample->labels, "type", limiter.type);
			stats_limiter_facts(&limiter, &sample->facts);
		}
	}
	write_array(text, "port", &part, 1, samples, sizeof(*samples), count);
	write_array(text, "vhost", &vhost, 1, connections, sizeof(*connections),
		    connection_count);
	write_array(text, "limiter", &limits, 1, limiters, sizeof(*limiters), limiter_count);
	free(samples);
	free(connections);
	free(limiters);
}

static bool is_plain(char letter)
{
	return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
	       (letter >= '0' && letter <= '9');
}

/* A label of the operator's, whose name may be anything there. Its own: letters, digits and `_`. */
static void add_own_label(char *labels, const char *key, const char *value)
{
	char name[64] = "label_", sign[sizeof(name) + 4];
	size_t used = strlen(name);

	for (; *key != '\0' && used + 1 < sizeof(name); key++)
		name[used++] = is_plain(*key) ? *key : '_';
	name[used] = '\0';
	/* Of two that become the same the first is shown. */
	snprintf(sign, sizeof(sign), ",%s=\"", name);
	if (strstr(labels, sign) == NULL)
		text_add_label(labels, INFO_SIZE, name, value);
}

static void write_port_info(struct text *text, const struct control *control)
{
	for (uint16_t i = 0, first = 1; i < control->port_count; i++) {
		const struct model_port *model = control->ports[i].model;
		char labels[INFO_SIZE] = "";
		const char *key;
		json_t *value;

		if (model == NULL)
			continue;
		text_add_label(labels, sizeof(labels), "port", model->name);
		text_add_label(labels, sizeof(labels), "type", model->ops->type);
		json_object_foreach(model->labels, key, value)
			add_own_label(labels, key, json_string_value(value));
		text_info(text, &metric_info_port, labels, first);
		first = 0;
	}
}

/* ---- the rest ---- */

static void write_workers(struct text *text, const struct daemon *daemon)
{
	static const struct text_part facts = { metric_worker_facts,
						offsetof(struct worker_sample, facts) };
	static const struct text_part counters = { metric_worker, 0 };
	const struct control *control = daemon->control;
	struct worker_sample samples[WORKERS_MAX] = { 0 };
	struct text_source sources[WORKERS_MAX];

	for (uint16_t i = 0; i < control->worker_count; i++) {
		const struct worker *worker = control->workers[i];
		char info[LABELS_SIZE] = "";

		label_number(samples[i].labels, "worker", i);
		stats_worker_facts(daemon, i, &samples[i].facts);
		sources[i] = (struct text_source){ samples[i].labels, &worker->counters };
		memcpy(info, samples[i].labels, sizeof(info));
		label_number(info, "cpu", worker->cpu);
		label(info, "idle", worker_idle_names[worker->idle]);
		text_info(text, &metric_info_worker, info, i == 0);
	}
	text_rows(text, "worker", &counters, 1, sources, control->worker_count);
	write_array(text, "worker", &facts, 1, samples, sizeof(*samples), control->worker_count);
}

/* Rows of what there is one of. */
static void write_one(struct text *text, const char *object, const struct metric *rows,
		      const void *from)
{
	const struct text_part part = { rows, 0 };
	const struct text_source source = { "", from };

	text_rows(text, object, &part, 1, &source, 1);
}

static void write_rest(struct text *text, const struct daemon *daemon)
{
	const struct control *control = daemon->control;
	struct process_facts process;
	struct control_facts facts;
	struct fdb_facts fdb;
	char build[LABELS_SIZE] = "";

	stats_fdb_facts(control, &fdb);
	stats_control_facts(control, &facts);
	stats_process_facts(daemon, &process);
	write_one(text, "fdb", metric_fdb, &control->fdb->counters);
	write_one(text, "fdb", metric_fdb_facts, &fdb);
	write_one(text, "control", metric_control, &facts);
	if (daemon->server != NULL)
		write_one(text, "control", metric_rpc, rpc_server_counters(daemon->server));
	write_one(text, "http", metric_http, &http_counters);
	write_one(text, "events", metric_events, events_counters(daemon->control->events));
	write_one(text, "process", metric_process, &process);
	label(build, "version", RINGWAY_VERSION);
	label(build, "dpdk", rte_version());
	text_info(text, &metric_info_build, build, true);
}

bool metrics_write(const struct daemon *daemon, struct text *text)
{
	struct extent extent = measure(daemon->control);

	write_port_info(text, daemon->control);
	write_counters(text, daemon->control, extent.queues);
	write_ports(text, daemon->control, extent.ports);
	write_workers(text, daemon);
	write_rest(text, daemon);
	text_end(text);
	return !text->failed;
}
