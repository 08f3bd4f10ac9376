/* SPDX-License-Identifier: BSD-3-Clause */
/* Facts, and counters as JSON; stats.h says more. */
#include "stats.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "control/events.h"
#include "rpc/server.h"
#include "sync/counter.h"
#include "telemetry/http.h"
#include "worker/watchdog.h"

#define LOAD_MS 1000

/* ---- facts ---- */

void stats_port_facts(struct control_port *port, struct port_facts *facts)
{
	const struct fdb_port *addresses =
		&port->control->fdb->ports[port - port->control->ports];
	const char *reason;

	*facts = (struct port_facts){
		.up = control_port_is_up(port, &reason),
		.enabled = port->model->settings.enabled,
		.open = port->state == PORT_OPEN,
		.addresses = addresses->held,
		.addresses_refused = addresses->refused,
	};
	if (port->state == PORT_OPEN && port->port->ops->missed != NULL)
		facts->missed = port->port->ops->missed(port->port);
}

bool stats_limiter(const struct port *port, unsigned int i, struct stats_limiter *found)
{
	const struct port_settings *settings = &port->settings;
	const struct stats_limiter all[STATS_LIMITERS] = {
		{ &port->ingress.bandwidth, settings->ingress.bandwidth.rate, "rx", "bandwidth" },
		{ &port->ingress.packets, settings->ingress.packets.rate, "rx", "packets" },
		{ &port->egress.bandwidth, settings->egress.bandwidth.rate, "tx", "bandwidth" },
		{ &port->egress.packets, settings->egress.packets.rate, "tx", "packets" },
		{ &port->storm[FLOOD_UNKNOWN], settings->storm.unknown, "rx", "unknown" },
		{ &port->storm[FLOOD_BROADCAST], settings->storm.broadcast, "rx", "broadcast" },
		{ &port->storm[FLOOD_MULTICAST], settings->storm.multicast, "rx", "multicast" },
	};

	*found = all[i];
	return found->rate != 0;
}

void stats_limiter_facts(const struct stats_limiter *limiter, struct limiter_facts *facts)
{
	*facts = (struct limiter_facts){
		.rate = limiter->rate,
		.burst = limiter_burst(limiter->limiter),
		.tokens = limiter_tokens(limiter->limiter, limiter_now()),
		.one_time_tokens = limiter_one_time(limiter->limiter),
	};
}

/* Polls, or sleeps; it has as long for an iteration as the watchdog gives it. */
static bool is_running(const struct worker *worker)
{
	return __atomic_load_n(&worker->runs, __ATOMIC_ACQUIRE) && !watchdog_is_late(worker);
}

void stats_worker_facts(const struct daemon *daemon, uint16_t index, struct worker_facts *facts)
{
	const struct worker *worker = daemon->control->workers[index];

	*facts = (struct worker_facts){
		.running = is_running(worker),
		.load_ppm = daemon->loads[index].ppm,
		.cycles_hz = rte_get_tsc_hz(),
		.freed = worker->freed,
		.inject_refused = worker->injector.refused,
	};
}

void stats_fdb_facts(const struct control *control, struct fdb_facts *facts)
{
	*facts = (struct fdb_facts){
		.entries = control->fdb->entries,
		.capacity = control->fdb->capacity,
	};
	for (uint16_t i = 0; i < control->worker_count; i++)
		facts->overflowed += counter_read(&control->workers[i]->learner.overflowed);
}

void stats_control_facts(const struct control *control, struct control_facts *facts)
{
	*facts = (struct control_facts){
		.revision = control->revision,
		.retired = control->retired,
	};
}

static uint64_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long long size, resident = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	fclose(file);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void stats_process_facts(const struct daemon *daemon, struct process_facts *facts)
{
	const char *reason;
	struct timespec cpu = { 0 };

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	*facts = (struct process_facts){
		.ready = stats_is_ready(daemon, &reason),
		.start_time_seconds = daemon->started_wall,
		.cpu_ns = (uint64_t)cpu.tv_sec * 1000000000 + (uint64_t)cpu.tv_nsec,
		.resident_memory_bytes = resident_bytes(),
	};
}

bool stats_is_ready(const struct daemon *daemon, const char **reason)
{
	static char text[PORT_NAME_SIZE + sizeof(((struct error *)0)->message) + 16];
	const struct control *control = daemon->control;

	*reason = text;
	if (control->stopping) {
		*reason = "the switch is being shut down";
		return false;
	}
	if (!daemon->opened) {
		*reason = "the ports are being opened";
		return false;
	}
	for (uint16_t i = 0; i < control->worker_count; i++) {
		if (is_running(control->workers[i]))
			continue;
		snprintf(text, sizeof(text), "worker %u does not run", i);
		return false;
	}
	for (uint16_t i = 0; i < control->port_count; i++) {
		const struct control_port *port = &control->ports[i];

		if (port->model == NULL || port->state != PORT_FAULTY)
			continue;
		snprintf(text, sizeof(text), "port %s: %s", port->model->name,
			 port->fault.message);
		return false;
	}
	return true;
}

/* ---- load ---- */

static void look_at_load(void *argument)
{
	struct daemon *daemon = argument;
	const uint64_t now = rte_get_tsc_cycles();

	for (uint16_t i = 0; i < daemon->control->worker_count; i++) {
		struct worker_load *load = &daemon->loads[i];
		const struct worker *worker = daemon->control->workers[i];
		uint64_t busy = counter_read(&worker->counters.busy_cycles);
		uint64_t passed = now - load->at;

		if (load->at != 0 && passed > 0)
			load->ppm = (busy - load->busy) * 1000000 / passed;
		if (load->ppm > 1000000)
			load->ppm = 1000000;
		load->busy = busy;
		load->at = now;
	}
}

int stats_watch_load(struct daemon *daemon)
{
	look_at_load(daemon);
	return loop_timer_start(&daemon->load_timer, daemon->loop, LOAD_MS, look_at_load, daemon);
}

/* ---- as JSON ---- */

json_t *stats_port_summary(struct control_port *port)
{
	const char *reason = NULL;
	bool up = control_port_is_up(port, &reason);
	json_t *labels = port->model->labels != NULL ? json_incref(port->model->labels)
						     : json_object();

	return json_pack("{s:s, s:s, s:s, s:s?, s:o}", "name", port->model->name, "type",
			 port->model->ops->type, "state", up ? "up" : "down", "reason",
			 up ? NULL : reason, "labels", labels);
}

/* How a port's frames are spread over its queue pairs. */
static json_t *queues_to_json(const struct port *port)
{
	json_t *list = json_array();

	for (uint16_t q = 0; q < port->queue_count; q++) {
		struct port_counters sum = { .rx.packets = 0 };

		port_add_counters(port, q, &sum);
		json_array_append_new(list, json_pack("{s:I, s:I}", "rx_packets",
						      (json_int_t)sum.rx.packets, "tx_packets",
						      (json_int_t)sum.tx.packets));
	}
	return list;
}

static json_t *limiters_to_json(const struct port *port)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < STATS_LIMITERS; i++) {
		struct stats_limiter limiter;
		struct limiter_facts facts;
		json_t *object;

		if (!stats_limiter(port, i, &limiter))
			continue;
		object = json_pack("{s:s, s:s}", "direction", limiter.direction, "type",
				   limiter.type);
		stats_limiter_facts(&limiter, &facts);
		metric_add_json(metric_limiter, &facts, object);
		json_array_append_new(list, object);
	}
	return list;
}

static void add_connection(struct port *port, json_t *object)
{
	struct port_connection connection;

	if (port->ops->connection == NULL)
		return;
	port->ops->connection(port, &connection);
	metric_add_json(metric_vhost, &connection, object);
}

static void add_counters(const struct port_counters *counters, json_t *object)
{
	metric_add_json(metric_rx, &counters->rx, object);
	metric_add_json(metric_tx, &counters->tx, object);
}

json_t *stats_queue_to_json(const struct port *port, uint16_t queue)
{
	struct port_counters sum = { .rx.packets = 0 };
	json_t *object = json_object();

	port_add_counters(port, queue, &sum);
	add_counters(&sum, object);
	return object;
}

json_t *stats_port_to_json(struct control_port *slot)
{
	struct port_counters sum = { .rx.packets = 0 };
	json_t *object = json_pack("{s:s}", "name", slot->model->name);
	struct port *port = slot->port;
	struct port_facts facts;

	stats_port_facts(slot, &facts);
	if (port != NULL)
		port_sum_counters(port, &sum);
	add_counters(&sum, object);
	metric_add_json(metric_port, &facts, object);
	if (slot->state != PORT_OPEN)
		return object;
	add_connection(port, object);
	json_object_set_new(object, "limiters", limiters_to_json(port));
	if (port->queue_count > 1)
		json_object_set_new(object, "queues", queues_to_json(port));
	return object;
}

json_t *stats_worker_to_json(const struct daemon *daemon, uint16_t index)
{
	const struct worker *worker = daemon->control->workers[index];
	json_t *object = json_pack("{s:i, s:i, s:s}", "worker", index, "cpu", worker->cpu, "idle",
				   worker_idle_names[worker->idle]);
	struct worker_facts facts;

	stats_worker_facts(daemon, index, &facts);
	metric_add_json(metric_worker_facts, &facts, object);
	metric_add_json(metric_worker, &worker->counters, object);
	return object;
}

json_t *stats_workers_to_json(const struct daemon *daemon)
{
	json_t *list = json_array();

	for (uint16_t i = 0; i < daemon->control->worker_count; i++)
		json_array_append_new(list, stats_worker_to_json(daemon, i));
	return list;
}

json_t *stats_fdb_to_json(const struct control *control)
{
	json_t *object = json_object();
	struct fdb_facts facts;

	stats_fdb_facts(control, &facts);
	metric_add_json(metric_fdb_facts, &facts, object);
	metric_add_json(metric_fdb, &control->fdb->counters, object);
	return object;
}

json_t *stats_control_to_json(const struct daemon *daemon)
{
	json_t *object = json_object();
	struct control_facts facts;

	stats_control_facts(daemon->control, &facts);
	metric_add_json(metric_control, &facts, object);
	if (daemon->server != NULL)
		metric_add_json(metric_rpc, rpc_server_counters(daemon->server), object);
	return object;
}

json_t *stats_http_to_json(void)
{
	json_t *object = json_object();

	metric_add_json(metric_http, &http_counters, object);
	return object;
}

json_t *stats_events_to_json(const struct control *control)
{
	json_t *object = json_object();

	metric_add_json(metric_events, events_counters(control->events), object);
	return object;
}

json_t *stats_process_to_json(const struct daemon *daemon)
{
	json_t *object = json_object();
	struct process_facts facts;

	stats_process_facts(daemon, &facts);
	metric_add_json(metric_process, &facts, object);
	return object;
}

json_t *stats_to_json(const struct daemon *daemon)
{
	struct control *control = daemon->control;
	json_t *ports = json_array();

	for (uint16_t i = 0; i < control->port_count; i++)
		if (control->ports[i].model != NULL)
			json_array_append_new(ports, stats_port_to_json(&control->ports[i]));
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "ports", ports, "workers",
			 stats_workers_to_json(daemon), "fdb", stats_fdb_to_json(control),
			 "control", stats_control_to_json(daemon), "http", stats_http_to_json(),
			 "events", stats_events_to_json(control), "process",
			 stats_process_to_json(daemon));
}
