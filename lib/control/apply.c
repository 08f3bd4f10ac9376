/* SPDX-License-Identifier: BSD-3-Clause */
/* Bringing a model to life and taking it down; control/apply.h is the contract. */
#include "control/apply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/background.h"
#include "base/log.h"
#include "sync/retire.h"

/* Learned addresses are taken over, and what is retired is freed, this often. */
#define TICK_MS 10
/* The whole forwarding table is looked over for old entries in this many ticks. */
#define AGE_TICKS 500
#define RETRY_MS 5000

uint16_t control_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint16_t)now.tv_sec;
}

static void free_snapshot(void *argument)
{
	snapshot_free(argument);
}

/* Builds the snapshot of all open ports and swaps it in. */
static int publish(struct control *control)
{
	struct port *ports[CONTROL_PORTS_MAX];
	struct snapshot *old = control->snapshot;
	struct snapshot *new;

	for (uint16_t i = 0; i < control->port_count; i++)
		ports[i] = control->ports[i].state == PORT_OPEN ? control->ports[i].port : NULL;
	new = snapshot_new(ports, control->port_count, control->worker_count, control->fdb);
	if (new == NULL)
		return -ENOMEM;
	__atomic_store_n(&control->snapshot, new, __ATOMIC_RELEASE);
	if (old != NULL && retire_later(control->retire, free_snapshot, old) != 0)
		log_error("control", "out of memory: an old snapshot is leaked");
	return 0;
}

static void tick(void *argument)
{
	struct control *control = argument;
	uint16_t now = control_now();

	for (uint16_t i = 0; i < control->worker_count; i++)
		learner_drain(&control->workers[i]->learner, control->fdb, now);
	fdb_age(control->fdb, now, control->fdb->mask / AGE_TICKS + 1);
	retire_poll(control->retire);
}

/* An opening or a closing has ended. */
static void step_ended(struct control *control)
{
	void (*next)(void *argument) = control->stopped != NULL ? control->stopped : control->ready;

	if (--control->pending > 0)
		return;
	control->ready = NULL;
	if (next != NULL)
		next(control->argument);
}

static void port_closed(void *argument)
{
	struct control_port *port = argument;

	port_free(port->port);
	port->port = NULL;
	port->state = PORT_CLOSED;
	step_ended(port->control);
}

static void close_port(struct control_port *port)
{
	port->state = PORT_CLOSING;
	port->control->pending++;
	port->model->ops->close(port->port, port_closed, port);
}

static void port_is_faulty(struct control_port *port, const struct error *fault)
{
	bool news = strcmp(port->fault.message, fault->message) != 0;

	port->fault = *fault;
	port->state = PORT_FAULTY;
	port_free(port->port);
	port->port = NULL;
	if (news)
		log_warning("control", "port %s is down: %s; will try again every %d s",
			    port->model->name, fault->message, RETRY_MS / 1000);
}

static void port_opened_now(void *argument, const struct error *fault)
{
	struct control_port *port = argument;

	if (fault != NULL) {
		port_is_faulty(port, fault);
	} else if (port->control->stopped != NULL) {
		close_port(port);
	} else {
		port->state = PORT_OPEN;
		if (publish(port->control) != 0)
			log_error("control", "port %s: out of memory for a snapshot",
				  port->model->name);
		else
			log_info("control", "port %s is open", port->model->name);
	}
	step_ended(port->control);
}

/* Starts to open a port; it ends in port_opened_now. */
static void open_port(struct control_port *port)
{
	struct control *control = port->control;
	const struct port_host host = { control->retire, control->loop, control->background };
	uint16_t number = (uint16_t)(port - control->ports);
	struct error fault;

	control->pending++;
	port->state = PORT_OPENING;
	port->port = port_new(port->model->ops, port->model->name, number,
			      (uint16_t)port->model->queues, control->worker_count, &host);
	if (port->port == NULL) {
		error_set(&fault, ERROR_SYSTEM, ENOMEM, "out of memory");
		port_opened_now(port, &fault);
	} else if (port->model->ops->open(port->port, port->model->config, port_opened_now, port,
					  &fault) != 0) {
		port_opened_now(port, &fault);
	}
}

static void retry(void *argument)
{
	struct control *control = argument;

	for (uint16_t i = 0; i < control->port_count; i++)
		if (control->ports[i].state == PORT_FAULTY)
			open_port(&control->ports[i]);
}

int control_new(struct control **result, struct loop *loop, const struct model *model,
		struct error *err)
{
	struct control *control = calloc(1, sizeof(*control));

	if (control == NULL)
		goto fail;
	control->loop = loop;
	control->model = model;
	control->worker_count = (uint16_t)model->worker_count;
	control->ports = calloc(CONTROL_PORTS_MAX, sizeof(*control->ports));
	control->background = background_new("ringway-back");
	control->retire = retire_new(model->worker_count);
	control->fdb = fdb_new(model->bridge.capacity, model->bridge.ageing);
	if (control->ports == NULL || control->background == NULL || control->retire == NULL ||
	    control->fdb == NULL || publish(control) != 0)
		goto fail;
	for (uint16_t i = 0; i < control->worker_count; i++) {
		const struct model_worker *wish = &model->workers[i];

		control->workers[i] = worker_new(i, (uint16_t)wish->cpu,
						 (enum worker_idle)wish->idle, CONTROL_PORTS_MAX,
						 control->retire, &control->snapshot);
		if (control->workers[i] == NULL)
			goto fail;
	}
	if (loop_timer_start(&control->tick, loop, TICK_MS, tick, control) != 0 ||
	    loop_timer_start(&control->retry, loop, RETRY_MS, retry, control) != 0)
		goto fail;
	*result = control;
	return 0;

fail:
	control_free(control);
	return error_set(err, ERROR_SYSTEM, ENOMEM, "out of memory for the switch's parts");
}

void control_start(struct control *control, void (*ready)(void *argument), void *argument)
{
	control->ready = ready;
	control->argument = argument;
	/* One more than there are ports, so that `ready` waits for the last. */
	control->pending++;
	for (uint32_t i = 0; i < control->model->port_count; i++) {
		struct control_port *port = &control->ports[control->port_count++];

		port->control = control;
		port->model = &control->model->ports[i];
		open_port(port);
	}
	step_ended(control);
}

/* No worker sees any port any more. */
static void close_ports(void *argument)
{
	struct control *control = argument;

	for (uint16_t i = 0; i < control->port_count; i++)
		if (control->ports[i].state == PORT_CLOSING)
			close_port(&control->ports[i]);
	step_ended(control);
}

void control_stop(struct control *control, void (*stopped)(void *argument), void *argument)
{
	loop_timer_stop(&control->retry);
	control->stopped = stopped;
	control->argument = argument;
	for (uint16_t i = 0; i < control->port_count; i++)
		if (control->ports[i].state == PORT_OPEN)
			control->ports[i].state = PORT_CLOSING;
	control->pending++;
	if (publish(control) != 0 || retire_later(control->retire, close_ports, control) != 0) {
		log_error("control", "out of memory: leaving without closing the ports");
		control->pending = 1;
		step_ended(control);
	}
}

void control_free(struct control *control)
{
	if (control == NULL)
		return;
	loop_timer_stop(&control->tick);
	loop_timer_stop(&control->retry);
	for (uint16_t i = 0; i < control->worker_count; i++)
		worker_free(control->workers[i]);
	snapshot_free(control->snapshot);
	background_free(control->background);
	retire_free(control->retire);
	fdb_free(control->fdb);
	free(control->ports);
	free(control);
}

struct control_port *control_find_port(struct control *control, const char *name)
{
	for (uint16_t i = 0; i < control->port_count; i++)
		if (strcmp(control->ports[i].model->name, name) == 0)
			return &control->ports[i];
	return NULL;
}

bool control_port_is_up(struct control_port *port, const char **reason)
{
	switch (port->state) {
	case PORT_OPEN:
		return port->port->ops->is_up(port->port, reason);
	case PORT_FAULTY:
		*reason = port->fault.message;
		return false;
	case PORT_OPENING:
		*reason = "being opened";
		return false;
	default:
		*reason = "being closed";
		return false;
	}
}
