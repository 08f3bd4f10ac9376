/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of the running switch and their life: made, looked after every few milliseconds,
 * started, stopped; control/control.h is the contract.
 */
#include "control/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/background.h"
#include "base/log.h"
#include "control/captures.h"
#include "control/changes.h"
#include "control/events.h"
#include "control/plan.h"
#include "control/settle.h"
#include "control/slots.h"
#include "sync/retire.h"
#include "worker/watchdog.h"

/* Learned addresses are taken over, and what is retired is freed, this often. */
#define TICK_MS 10
/* The whole forwarding table is looked over for old entries in this many ticks. */
#define AGE_TICKS 500
#define RETRY_MS 5000
/* What limits do is looked at this often. */
#define LOOK_NS 1000000000

uint16_t control_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint16_t)now.tv_sec;
}

/* What limits did in the last second, for those who ask why a port is slow. */
static void look_at_limits(struct control *control)
{
	const uint64_t now = limiter_now();

	if (now - control->looked < LOOK_NS)
		return;
	control->looked = now;
	for (uint16_t i = 0; i < control->port_count; i++)
		if (control->ports[i].state == PORT_OPEN &&
		    port_has_limits(control->ports[i].port))
			throttling_look(control->ports[i].port, now);
}

static void tick(void *argument)
{
	struct control *control = argument;
	uint16_t now = control_now();

	for (uint16_t i = 0; i < control->worker_count; i++) {
		learner_drain(&control->workers[i]->learner, control->fdb, now);
		if (watchdog_look(control->workers[i]))
			LOG_LIMITED(LOG_WARNING, "control",
				    "worker %u did nothing for 100 ms and was interrupted", i);
	}
	observer_tick(control);
	fdb_age(control->fdb, now, control->fdb->mask / AGE_TICKS + 1);
	look_at_limits(control);
	control->retired = retire_poll(control->retire);
}

static int make_same(struct change *change, const struct model *now, struct model **wanted,
		     struct error *err)
{
	(void)change;
	return model_copy_to(now, wanted, err);
}

/* Do workers go by an MTU that an interface has no more? Its port noticed when it was asked. */
static bool mtu_has_changed(const struct control *control)
{
	for (uint16_t i = 0; i < control->port_count; i++) {
		const struct control_port *slot = &control->ports[i];

		if (slot->state == PORT_OPEN && i < control->snapshot->port_count &&
		    control->snapshot->ports[i].port == slot->port &&
		    control->snapshot->ports[i].max_length !=
			    port_mtu(slot->port) + ETHERNET_HEADER)
			return true;
	}
	return false;
}

static void retry(void *argument)
{
	struct control *control = argument;
	struct change *change;
	const bool due = plan_has_retries(control);

	if (control->current != NULL || control->stopping)
		return;
	listening_retry(&control->listening, control->loop);
	if (mtu_has_changed(control) && slots_publish(control) != 0)
		log_error("control", "out of memory: the workers go by an old MTU");
	if (!due)
		return;
	change = calloc(1, sizeof(*change));
	if (change == NULL)
		return;
	change->make = make_same;
	change->done = change_log;
	change->retry = true;
	change->unsaved = true;
	control_submit(control, change);
}

int control_new(struct control **result, struct loop *loop, const struct model *start,
		struct error *err)
{
	struct control *control = calloc(1, sizeof(*control));

	if (control == NULL)
		goto fail;
	control->loop = loop;
	STAILQ_INIT(&control->waiting);
	STAILQ_INIT(&control->captures);
	control->worker_count = (uint16_t)start->worker_count;
	control->model = model_copy_without_ports(start);
	control->saved = model_copy_without_ports(start);
	control->ports = calloc(CONTROL_PORTS_MAX, sizeof(*control->ports));
	control->remembered = json_object();
	control->background = background_new("ringway-back");
	control->waiting_room = background_new("ringway-wait");
	control->retire = retire_new(start->worker_count);
	control->fdb = fdb_new(start->bridge.capacity, start->bridge.ageing);
	control->events = events_new();
	if (control->model == NULL || control->saved == NULL || control->ports == NULL ||
	    control->remembered == NULL || control->background == NULL ||
	    control->waiting_room == NULL ||
	    control->retire == NULL || control->fdb == NULL || control->events == NULL ||
	    slots_publish(control) != 0)
		goto fail;
	control->fdb->tell = observer_address;
	control->fdb->tell_argument = control;
	for (uint16_t i = 0; i < control->worker_count; i++) {
		const struct model_worker *wish = &start->workers[i];

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

/* The first change and the last: whoever waits for it, and for the first, the model. */
struct milestone {
	struct change change;
	struct model *model;
	void (*reached)(void *argument);
	void *argument;
};

static int make_milestone(struct change *change, const struct model *now, struct model **wanted,
			  struct error *err)
{
	struct milestone *milestone = (struct milestone *)change;

	*wanted = milestone->model != NULL ? milestone->model : model_copy_without_ports(now);
	return *wanted != NULL ? 0 : error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
}

static void milestone_done(struct change *change, const struct error *fault)
{
	struct milestone *milestone = (struct milestone *)change;

	if (fault != NULL)
		log_error("control", "%s", fault->message);
	milestone->reached(milestone->argument);
	free(milestone);
}

static void submit_milestone(struct control *control, struct model *model,
			     void (*reached)(void *argument), void *argument)
{
	struct milestone *milestone = calloc(1, sizeof(*milestone));

	if (milestone == NULL) {
		log_error("control", "out of memory");
		model_free(model);
		reached(argument);
		return;
	}
	milestone->change.make = make_milestone;
	milestone->change.done = milestone_done;
	milestone->change.unsaved = true;
	milestone->model = model;
	milestone->reached = reached;
	milestone->argument = argument;
	changes_append(control, &milestone->change);
}

void control_start(struct control *control, struct model *model, void (*ready)(void *argument),
		   void *argument)
{
	model_free(control->saved);
	control->saved = model_copy(model);
	submit_milestone(control, model, ready, argument);
}

static void all_closed(void *argument)
{
	struct control *control = argument;

	control->stopped = control->stop_callback;
	settle_stop(control);
}

void control_stop(struct control *control, void (*stopped)(void *argument), void *argument)
{
	control->stopping = true;
	control->stopped_argument = argument;
	control->stop_callback = stopped;
	submit_milestone(control, NULL, all_closed, control);
}

void control_free(struct control *control)
{
	if (control == NULL)
		return;
	loop_timer_stop(&control->tick);
	loop_timer_stop(&control->retry);
	loop_timer_stop(&control->hurry);
	listening_close(&control->listening);
	state_free(control->state);
	for (uint16_t i = 0; i < control->worker_count; i++)
		worker_free(control->workers[i]);
	snapshot_free(control->snapshot);
	background_free(control->background);
	background_free(control->waiting_room);
	retire_free(control->retire);
	captures_close(control);
	fdb_free(control->fdb);
	events_free(control->events);
	model_free(control->model);
	model_free(control->saved);
	json_decref(control->remembered);
	json_decref(control->configured);
	free(control->statics);
	free(control->ports);
	free(control);
}

struct control_port *control_find_port(struct control *control, const char *name)
{
	for (uint16_t i = 0; i < control->port_count; i++)
		if (control->ports[i].model != NULL &&
		    strcmp(control->ports[i].model->name, name) == 0)
			return &control->ports[i];
	return NULL;
}

bool control_port_is_up(struct control_port *port, const char **reason)
{
	switch (port->state) {
	case PORT_OPEN:
		if (port->model->settings.enabled)
			return port->port->ops->is_up(port->port, reason);
		*reason = "switched off";
		return false;
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

bool control_restart_required(const struct control *control, const struct model *model)
{
	if (model->worker_count != control->worker_count ||
	    model->bridge.capacity != control->fdb->capacity)
		return true;
	for (uint16_t i = 0; i < control->worker_count; i++)
		if (model->workers[i].cpu != control->workers[i]->cpu ||
		    model->workers[i].idle != control->workers[i]->idle)
			return true;
	return false;
}
