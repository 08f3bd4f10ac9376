/* SPDX-License-Identifier: BSD-3-Clause */
/* Methods about the daemon: system.info, system.shutdown, worker.list, stats.get. */
#include "methods.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_version.h>

#include "sync/counter.h"
#include "telemetry/metric.h"

static int system_info(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct daemon *daemon = call_context(call);
	struct timespec now;

	(void)params;
	(void)err;
	clock_gettime(CLOCK_MONOTONIC, &now);
	*result = json_pack("{s:s, s:s, s:s, s:i, s:I, s:s}", "name", "ringway", "version",
			    RINGWAY_VERSION, "dpdk", rte_version(), "pid", (int)getpid(), "uptime",
			    (json_int_t)(now.tv_sec - daemon->started), "socket", daemon->socket);
	return 0;
}

static int system_shutdown(struct call *call, const void *params, json_t **result,
			   struct error *err)
{
	struct daemon *daemon = call_context(call);

	(void)params;
	(void)result;
	(void)err;
	daemon->shutdown(daemon);
	return 0;
}

/* Burst sizes by powers of two: "1", "2", "4" for 3 and 4, and so on. */
static json_t *bursts_to_json(const struct worker_counters *counters)
{
	json_t *object = json_object();

	for (unsigned int class = 0; class < WORKER_BURSTS; class++) {
		char name[16];

		snprintf(name, sizeof(name), "%u", 1u << class);
		json_object_set_new(
			object, name,
			json_integer((json_int_t)counter_read(&counters->bursts[class])));
	}
	return object;
}

static json_t *workers_to_json(const struct control *control)
{
	json_t *list = json_array();

	for (uint16_t i = 0; i < control->worker_count; i++) {
		const struct worker *worker = control->workers[i];
		json_t *object = json_pack("{s:i, s:i, s:s, s:I}", "worker", i, "cpu", worker->cpu,
					   "idle", worker_idle_names[worker->idle], "cycles_hz",
					   (json_int_t)rte_get_tsc_hz());

		metric_add_json(metric_worker, &worker->counters, object);
		json_object_set_new(object, "bursts", bursts_to_json(&worker->counters));
		json_array_append_new(list, object);
	}
	return list;
}

static int worker_list(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct daemon *daemon = call_context(call);

	(void)params;
	(void)err;
	*result = workers_to_json(daemon->control);
	return 0;
}

static json_t *ports_to_json(const struct control *control)
{
	json_t *list = json_array();

	for (uint16_t i = 0; i < control->port_count; i++) {
		const struct control_port *port = &control->ports[i];
		json_t *object = json_pack("{s:s}", "name", port->model->name);
		struct port_counters sum = { .rx.packets = 0 };

		if (port->port != NULL)
			port_sum_counters(port->port, &sum);
		metric_add_json(metric_rx, &sum.rx, object);
		metric_add_json(metric_tx, &sum.tx, object);
		json_array_append_new(list, object);
	}
	return list;
}

static int stats_get(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct daemon *daemon = call_context(call);
	const struct control *control = daemon->control;
	json_t *fdb = json_pack("{s:i}", "entries", (int)control->fdb->entries);
	uint64_t overflowed = 0;

	(void)params;
	(void)err;
	metric_add_json(metric_fdb, &control->fdb->counters, fdb);
	for (uint16_t i = 0; i < control->worker_count; i++)
		overflowed += counter_read(&control->workers[i]->learner.overflowed);
	json_object_set_new(fdb, "overflowed", json_integer((json_int_t)overflowed));
	*result = json_pack("{s:o, s:o, s:o}", "ports", ports_to_json(control), "workers",
			    workers_to_json(control), "fdb", fdb);
	return 0;
}

const struct method methods_system[] = {
	{ "system.info", "Version, process and uptime", NULL, 0, system_info },
	{ "system.shutdown", "Closes all ports and ends the daemon", NULL, 0, system_shutdown },
	{ "worker.list", "The workers and what they do", NULL, 0, worker_list },
	{ "stats.get", "All counters", NULL, 0, stats_get },
	{ NULL }
};

const struct method *const methods[] = { methods_port, methods_system, NULL };
