/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes, step by step, and the life of the running switch; control/apply.h is the contract.
 * slots.c opens, closes and publishes; saving.c writes down what runs.
 */
#include "control/apply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/background.h"
#include "base/log.h"
#include "control/captures.h"
#include "control/events.h"
#include "control/saving.h"
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

/* ---- what a change has to do ---- */

static bool is_lost(const struct control_port *slot)
{
	const struct port_ops *ops = slot->model->ops;
	const char *reason;

	return slot->state == PORT_OPEN && ops->is_lost != NULL &&
	       ops->is_lost(slot->port, &reason);
}

static enum control_plan plan_slot(const struct change *change, const struct control_port *slot,
				   struct model_port *wanted)
{
	enum model_difference difference;

	if (wanted == NULL)
		return PLAN_CLOSE;
	if (slot->state == PORT_CLOSED || (change->retry && slot->state == PORT_FAULTY))
		return PLAN_OPEN;
	if (change->retry && is_lost(slot))
		return PLAN_REOPEN;
	difference = model_port_compare(slot->model, wanted);
	/* Whoever insists on a port that could not be opened wants it tried now. */
	if (difference == MODEL_SAME && change->strict && slot->state == PORT_FAULTY &&
	    wanted != slot->model)
		return PLAN_OPEN;
	/* Saying the same of a port once more is a wish of its own if it is to renegotiate. */
	if (difference == MODEL_SAME)
		return change->renegotiate && wanted != slot->model ? PLAN_SET : PLAN_KEEP;
	if (difference == MODEL_SET)
		return PLAN_SET;
	return slot->state == PORT_FAULTY ? PLAN_OPEN : PLAN_REOPEN;
}

/* Whoever insists learns before anything is changed what the world will not give an open port. */
static int check_set(const struct change *change, const struct control_port *slot,
		     struct error *err)
{
	const struct port_ops *ops = slot->model->ops;
	const struct model_port *wanted = slot->wanted;
	char object[PORT_NAME_SIZE + 8];

	if (!change->strict || ops->check_set == NULL || slot->state != PORT_OPEN ||
	    ops->check_set(slot->port, wanted->config, &wanted->settings, err) == 0)
		return 0;
	snprintf(object, sizeof(object), "port %s", wanted->name);
	error_detail(err, object, NULL, NULL, NULL);
	return -1;
}

/* Plans all slots and gives new ports one. Returns 0 or -errno with err filled. */
static int plan_change(struct control *control, const struct model *wanted, struct error *err)
{
	for (uint16_t i = 0; i < control->port_count; i++) {
		struct control_port *slot = &control->ports[i];

		if (slot->model == NULL)
			continue;
		slot->wanted = model_find_port(wanted, slot->model->name);
		if (slot->wanted != NULL)
			model_port_inherit(slot->wanted, slot->model);
		slot->plan = plan_slot(control->current, slot, slot->wanted);
		if (slot->plan == PLAN_SET && check_set(control->current, slot, err) != 0)
			return -err->errnum;
	}
	for (uint32_t i = 0; i < wanted->port_count; i++) {
		struct control_port *slot;

		if (control_find_port(control, wanted->ports[i]->name) != NULL)
			continue;
		slot = slot_take(control, wanted->ports[i]);
		if (slot == NULL)
			return error_set(err, ERROR_LIMIT, ENOSPC, "no room for more ports");
		slot->plan = PLAN_OPEN;
		slot->wanted = wanted->ports[i];
	}
	return 0;
}

/* Is the way in that the port wants still held by one that will be closed? */
static bool must_wait(const struct control *control, const struct control_port *slot)
{
	for (uint16_t i = 0; i < control->port_count; i++) {
		const struct control_port *other = &control->ports[i];

		if (other != slot && other->state == PORT_OPEN &&
		    (other->plan == PLAN_CLOSE || other->plan == PLAN_REOPEN) &&
		    model_port_shares(other->model, slot->wanted))
			return true;
	}
	return false;
}

/* ---- the steps ---- */

static void fail_change(struct change *change, const struct error *fault)
{
	if (!change->failed)
		change->fault = *fault;
	change->failed = true;
}

static void listen_planned(struct control *control)
{
	struct change *change = control->current;
	struct listening *listening = &control->listening;

	if (listening_set(listening, control->loop, change->wanted, change->strict) != 0 &&
	    change->strict)
		fail_change(change, &listening->fault);
}

static void open_planned(struct control *control)
{
	for (uint16_t i = 0; i < control->port_count; i++) {
		struct control_port *slot = &control->ports[i];

		if (slot->model == NULL || slot->plan != PLAN_OPEN || slot->state == PORT_OPEN ||
		    must_wait(control, slot))
			continue;
		slot_assign(slot, slot->wanted);
		slot->plan = PLAN_KEEP;
		control->current->changed = true;
		slot_open(slot);
	}
}

static void close_planned(struct control *control)
{
	struct change *change = control->current;
	struct error fault;
	bool any = false;

	for (uint16_t i = 0; i < control->port_count; i++) {
		struct control_port *slot = &control->ports[i];

		if (slot->model == NULL || (slot->plan != PLAN_CLOSE && slot->plan != PLAN_REOPEN))
			continue;
		change->changed = true;
		change->reopened |= slot->plan == PLAN_REOPEN;
		if (slot->plan == PLAN_REOPEN)
			slot->plan = PLAN_OPEN;
		if (slot->state != PORT_OPEN)
			continue;
		slot->state = PORT_CLOSING;
		any = true;
	}
	if (!any || (slots_publish(control) == 0 && slots_close(control) == 0))
		return;
	for (uint16_t i = 0; i < control->port_count; i++)
		if (control->ports[i].state == PORT_CLOSING)
			control->ports[i].state = PORT_OPEN;
	error_set(&fault, ERROR_INTERNAL, ENOMEM, "out of memory for a snapshot");
	fail_change(change, &fault);
}

/* A strict change fails with the first port that it could not open. */
static void check_opened(struct control *control)
{
	struct change *change = control->current;

	for (uint16_t i = 0; change->strict && i < control->port_count; i++) {
		const struct control_port *slot = &control->ports[i];

		if (slot->model == NULL || slot->state != PORT_FAULTY ||
		    model_find_port(control->model, slot->model->name) == slot->model)
			continue;
		fail_change(change, &slot->fault);
	}
}

/* From here on nothing can fail. */
static void commit(struct control *control)
{
	struct change *change = control->current;
	const struct model *wanted = change->wanted;

	for (uint16_t i = 0; i < control->port_count; i++) {
		struct control_port *slot = &control->ports[i];

		if (slot->model == NULL)
			continue;
		if (slot->plan == PLAN_CLOSE) {
			slot_release(slot);
			continue;
		}
		slot_assign(slot, slot->wanted);
		change->changed |= slot->plan == PLAN_SET;
		if (slot->plan != PLAN_SET || slot->port == NULL)
			continue;
		slot_set(slot);
		if (slot->model->ops->set != NULL)
			slot->model->ops->set(slot->port, slot->model->config,
					      change->renegotiate);
		observer_look(slot);
	}
	control->fdb->ageing = wanted->bridge.ageing;
	control->suppression = wanted->bridge.suppression;
	slots_sync_addresses(control, wanted);
	if (slots_publish(control) != 0)
		log_error("control", "out of memory for a snapshot: workers see the old one");
}

/* ---- from change to change ---- */

static void advance(struct control *control);
static void begin_next(struct control *control);

/* A change that waits for the disk. */
struct unsaved {
	struct control *control;
	struct change *change;
	struct model *model; /* as of this change */
};

/* Wanted again: the model that is on the disk. */
static int make_saved(struct change *change, const struct model *now, struct model **wanted,
		      struct error *err)
{
	struct control *control = change->argument;

	(void)now;
	return model_copy_to(control->saved, wanted, err);
}

static void internal_done(struct change *change, const struct error *fault)
{
	if (fault != NULL)
		log_error("control", "%s", fault->message);
	free(change);
}

static void report_stop(struct control *control)
{
	void (*stopped)(void *argument) = control->stopped;

	if (stopped == NULL || control->saves > 0)
		return;
	control->stopped = NULL;
	stopped(control->stopped_argument);
}

/* What runs after changes were taken back is on the disk, or still not. */
static void saved_again(void *argument, const struct error *fault)
{
	struct control *control = argument;

	if (fault != NULL)
		log_error("control", "the state is not saved: %s", fault->message);
	control->saves--;
	report_stop(control);
}

static void undone(struct change *change, const struct error *fault)
{
	struct control *control = change->argument;

	/* What was read meanwhile does not hold any more. */
	control->revision++;
	observer_changed(control, "undo", NULL, 0, 0);
	control->taking_back = false;
	control->saves++;
	if (saving_write(control, saved_again, control) != 0)
		control->saves--;
	internal_done(change, fault);
}

/*
 * Takes back all changes that are not on the disk, before others build on them. Only the stop
 * itself, the last of all changes, makes that needless.
 */
static void undo_unsaved(struct control *control, const struct error *fault)
{
	struct change *undo;

	log_error("control", "%s: what was changed since is taken back", fault->message);
	control->failed_through = control->sequence;
	if (control->taking_back || (control->stopping && STAILQ_EMPTY(&control->waiting)))
		return;
	undo = calloc(1, sizeof(*undo));
	if (undo == NULL)
		return;
	undo->make = make_saved;
	undo->done = undone;
	undo->argument = control;
	undo->unsaved = true;
	control->taking_back = true;
	STAILQ_INSERT_HEAD(&control->waiting, undo, next);
	begin_next(control);
}

static void change_saved(void *argument, const struct error *fault)
{
	struct unsaved *unsaved = argument;
	struct control *control = unsaved->control;
	struct change *change = unsaved->change;

	if (fault != NULL && change->sequence > control->failed_through)
		undo_unsaved(control, fault);
	if (change->sequence <= control->failed_through) {
		struct error lost;

		model_free(unsaved->model);
		error_set(&lost, ERROR_SYSTEM, fault != NULL ? fault->errnum : EIO,
			  "not changed, for it could not be saved: %s",
			  fault != NULL ? fault->message : "an earlier change was not saved");
		change->done(change, &lost);
	} else {
		model_free(control->saved);
		control->saved = unsaved->model;
		change->done(change, NULL);
	}
	free(unsaved);
	control->saves--;
	report_stop(control);
}

/* Ends the change, once what it changed, or found changed already, is on the disk. */
static void settle(struct control *control, struct change *change)
{
	struct unsaved *unsaved = NULL;

	if (change->unsaved || control->state == NULL ||
	    (!change->changed && control->saves == 0)) {
		change->done(change, NULL);
		return;
	}
	if (control->taking_back) {
		error_set(&change->fault, ERROR_SYSTEM, EIO,
			  "not changed, for an earlier change could not be saved");
		change->done(change, &change->fault);
		return;
	}
	change->sequence = ++control->sequence;
	unsaved = calloc(1, sizeof(*unsaved));
	if (unsaved != NULL) {
		unsaved->control = control;
		unsaved->change = change;
		unsaved->model = model_copy(control->model);
		control->saves++;
		if (unsaved->model != NULL &&
		    saving_write(control, change_saved, unsaved) == 0)
			return;
		control->saves--;
		model_free(unsaved->model);
		free(unsaved);
	}
	error_set(&change->fault, ERROR_INTERNAL, ENOMEM, "out of memory to save the change");
	undo_unsaved(control, &change->fault);
	change->done(change, &change->fault);
}

static void finish(struct control *control)
{
	struct change *change = control->current;

	control->current = NULL;
	if (change->failed) {
		model_free(change->wanted);
		change->wanted = NULL;
		change->done(change, &change->fault);
	} else {
		change->changed |= !model_same_bridge(control->model, change->wanted) ||
				   !model_same_metrics(control->model, change->wanted);
		model_free(control->model);
		control->model = change->wanted;
		change->wanted = NULL;
		if (change->changed && !change->unsaved)
			control->revision++;
		change->revision = control->revision;
		settle(control, change);
	}
	begin_next(control);
}

/* The same steps towards the model that ran. */
static void undo(struct control *control)
{
	struct change *change = control->current;
	struct error err;

	change->undoing = true;
	change->strict = false;
	change->phase = 0;
	model_free(change->wanted);
	change->wanted = model_copy(control->model);
	/* The old model's ports have their slots still. */
	if (change->wanted == NULL || plan_change(control, change->wanted, &err) != 0) {
		log_error("control", "out of memory: a change is left half undone");
		finish(control);
		return;
	}
	advance(control);
}

enum phase { PHASE_OPEN, PHASE_CLOSE, PHASE_OPEN_REST, PHASE_COMMIT };

static void advance(struct control *control)
{
	struct change *change = control->current;

	if (change->failed && !change->undoing) {
		undo(control);
		return;
	}
	control->pending = 1;
	switch (change->phase++) {
	case PHASE_OPEN:
		listen_planned(control);
		open_planned(control);
		break;
	case PHASE_OPEN_REST:
		open_planned(control);
		break;
	case PHASE_CLOSE:
		close_planned(control);
		break;
	default:
		control->pending = 0;
		commit(control);
		finish(control);
		return;
	}
	slots_step_ended(control);
}

void slots_step_ended(struct control *control)
{
	if (--control->pending > 0)
		return;
	check_opened(control);
	advance(control);
}

static void begin(struct control *control, struct change *change)
{
	control->current = change;
	if (change->make(change, control->model, &change->wanted, &change->fault) != 0) {
		change->failed = true;
		finish(control);
		return;
	}
	if (plan_change(control, change->wanted, &change->fault) != 0)
		change->failed = true;
	advance(control);
}

/* Not by recursion: many changes may wait that are done at once. */
static void begin_next(struct control *control)
{
	if (control->beginning)
		return;
	control->beginning = true;
	while (control->current == NULL && !STAILQ_EMPTY(&control->waiting)) {
		struct change *change = STAILQ_FIRST(&control->waiting);

		STAILQ_REMOVE_HEAD(&control->waiting, next);
		begin(control, change);
	}
	control->beginning = false;
}

static void queue_change(struct control *control, struct change *change)
{
	STAILQ_INSERT_TAIL(&control->waiting, change, next);
	begin_next(control);
}

void control_submit(struct control *control, struct change *change)
{
	struct error fault;

	if (!control->stopping) {
		queue_change(control, change);
		return;
	}
	error_set(&fault, ERROR_BUSY, ESHUTDOWN, "the switch is being shut down");
	change->done(change, &fault);
}

/* ---- the life of the switch ---- */

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
	bool due = false;

	for (uint16_t i = 0; i < control->port_count; i++)
		due |= control->ports[i].model != NULL &&
		       (control->ports[i].state == PORT_FAULTY || is_lost(&control->ports[i]));
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
	change->done = internal_done;
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
	queue_change(control, &milestone->change);
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
	report_stop(control);
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
