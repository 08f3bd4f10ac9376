/* SPDX-License-Identifier: BSD-3-Clause */
/* Methods about the daemon: system, log, rpc, worker, and stats.get. */
#include "methods.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_version.h>

#include "base/log.h"
#include "control/slots.h"
#include "rpc/describe.h"
#include "stats.h"

static int system_info(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct daemon *daemon = call_context(call);
	struct timespec now;

	(void)params;
	(void)err;
	clock_gettime(CLOCK_MONOTONIC, &now);
	*result = json_pack("{s:s, s:s, s:s, s:i, s:I, s:s, s:I, s:i, s:s}", "name", "ringway",
			    "version", RINGWAY_VERSION, "dpdk", rte_version(), "pid", (int)getpid(),
			    "uptime", (json_int_t)(now.tv_sec - daemon->started), "socket",
			    daemon->socket, "revision", (json_int_t)daemon->control->revision,
			    "retired", (int)daemon->control->retired, "runtime_directory",
			    rte_eal_get_runtime_dir());
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

/* Adds to each of the workers the queues that it polls. */
static void add_polled(const struct control *control, json_t *workers)
{
	for (uint16_t i = 0; i < control->worker_count; i++)
		json_object_set_new(json_array_get(workers, i), "queues", json_array());
	for (uint16_t i = 0; i < control->port_count; i++) {
		const struct port *port = control->ports[i].port;

		for (uint16_t q = 0; port != NULL && q < port->queue_count; q++) {
			const struct port_queue *queue = &port->queues[q];
			json_t *worker = json_array_get(workers, queue->worker);

			if (queue->published && worker != NULL)
				json_array_append_new(json_object_get(worker, "queues"),
						      json_pack("{s:s, s:i}", "port", port->name,
								"queue", q));
		}
	}
}

static int worker_list(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct daemon *daemon = call_context(call);

	(void)params;
	(void)err;
	*result = stats_workers_to_json(daemon);
	add_polled(daemon->control, *result);
	return 0;
}

static int stats_get(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)params;
	(void)err;
	*result = stats_to_json(call_context(call));
	return 0;
}

/* ---- worker.place ---- */

struct place_wish {
	char port[PORT_NAME_SIZE];
	uint32_t queue, worker;
};

static const struct param place_params[] = {
	{ "port", PARAM_STRING, PARAM_AT(struct place_wish, port), .required = true,
	  .help = "the port's name" },
	{ "worker", PARAM_UINT, PARAM_AT(struct place_wish, worker), .required = true,
	  .max = WORKERS_MAX - 1, .help = "the worker that is to poll it, as in worker.list" },
	{ "queue", PARAM_UINT, PARAM_AT(struct place_wish, queue), .max = PORT_QUEUES_MAX - 1,
	  .help = "a queue pair of it, from 0" },
	{ NULL }
};

static int refuse_number(const char *field, uint32_t given, unsigned int count, struct error *err)
{
	char value[16], accepted[32];

	snprintf(value, sizeof(value), "%u", given);
	snprintf(accepted, sizeof(accepted), "0 to %u", count - 1);
	error_set(err, ERROR_NOT_FOUND, ENOENT, "there is no %s %s", field, value);
	error_detail(err, "worker.place", field, value, accepted);
	return -ENOENT;
}

struct place_request {
	struct request request;
	struct place_wish wish;
};

/* The port's queues as they are, but for this one. NULL without memory. */
static json_t *place_patch(const struct model_port *port, const struct control_port *slot,
			   const struct place_wish *wish)
{
	json_t *workers = json_array();

	for (uint16_t q = 0; q < port->queues; q++) {
		uint32_t worker = q == wish->queue ? wish->worker : slot_wish(slot, q);

		json_array_append_new(workers, json_integer(worker));
	}
	return json_pack("{s:o}", "workers", workers);
}

static int make_placed(struct change *change, const struct model *now, struct model **wanted,
		       struct error *err)
{
	struct place_request *request = (struct place_request *)change;
	const struct place_wish *wish = &request->wish;
	struct control *control = request->request.daemon->control;
	const struct control_port *slot = control_find_port(control, wish->port);
	const struct model_port *port = model_find_port(now, wish->port);
	struct model_port *placed;
	json_t *patch;
	int result;

	if (port == NULL || slot == NULL)
		return no_such_port(wish->port, err);
	if (wish->queue >= port->queues)
		return refuse_number("queue", wish->queue, port->queues, err);
	if (wish->worker >= control->worker_count)
		return refuse_number("worker", wish->worker, control->worker_count, err);
	patch = place_patch(port, slot, wish);
	result = model_port_patch(port, patch, &placed, err);
	json_decref(patch);
	if (result == 0) {
		result = model_copy_to(now, wanted, err);
		if (result == 0)
			result = model_put_port(*wanted, placed, err);
		else
			model_port_release(placed);
	}
	return result;
}

static int worker_place(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct place_request *request = request_new(call, sizeof(*request), err);

	(void)result;
	if (request == NULL)
		return -ENOMEM;
	request->wish = *(const struct place_wish *)params;
	request->request.change.make = make_placed;
	return request_submit(&request->request);
}

/* ---- log.set ---- */

static const char *const level_names[] = { "error", "warning", "info", "debug", NULL };

struct log_wish {
	uint32_t level;
};

static const struct param log_params[] = {
	{ "level", PARAM_CHOICE, PARAM_AT(struct log_wish, level), .choices = level_names,
	  .required = true, .help = "the least important that is logged" },
	{ NULL }
};

static int log_set(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct log_wish *wish = params;

	(void)call;
	(void)result;
	(void)err;
	log_set_level((enum log_level)wish->level);
	return 0;
}

/* ---- rpc.discover ---- */

json_t *daemon_schema(void)
{
	return describe_methods(methods, RINGWAY_VERSION, model_schema());
}

static int rpc_discover(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)call;
	(void)params;
	*result = daemon_schema();
	return *result != NULL ? 0 : error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
}

const struct method methods_system[] = {
	{ "worker.list", "The workers, what they do, and which queues they poll",
	  .handle = worker_list },
	{ "worker.place",
	  "Moves a queue of a port to a worker; afterwards the port's `workers` names all of them",
	  place_params, sizeof(struct place_wish), worker_place, .changes = true },
	{ "stats.get", "All counters", .handle = stats_get },
	{ "log.set", "Sets how much is logged", log_params, sizeof(struct log_wish), log_set,
	  .changes = true },
	{ "system.info", "Version, process, uptime and revision", .handle = system_info },
	{ "system.shutdown", "Closes all ports and ends the daemon", .handle = system_shutdown,
	  .changes = true },
	{ "rpc.discover", "The methods and their parameters, as OpenRPC", .handle = rpc_discover },
	{ NULL }
};

const struct method *const methods[] = { methods_port, methods_fdb, methods_config, methods_event,
					 methods_capture, methods_system, NULL };
