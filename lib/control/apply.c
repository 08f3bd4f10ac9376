/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes, one after another, each step by step; control/apply.h is the contract. plan.c says what
 * there is to do, slots.c opens, closes and publishes, settle.c has the end of a change saved.
 */
#include "control/apply.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "control/changes.h"
#include "control/plan.h"
#include "control/settle.h"
#include "control/slots.h"

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
		    plan_must_wait(control, slot))
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
		settle_change(control, change);
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

void changes_append(struct control *control, struct change *change)
{
	STAILQ_INSERT_TAIL(&control->waiting, change, next);
	begin_next(control);
}

void changes_prepend(struct control *control, struct change *change)
{
	STAILQ_INSERT_HEAD(&control->waiting, change, next);
	begin_next(control);
}

void change_log(struct change *change, const struct error *fault)
{
	if (fault != NULL)
		log_error("control", "%s", fault->message);
	free(change);
}

void control_submit(struct control *control, struct change *change)
{
	struct error fault;

	if (!control->stopping) {
		changes_append(control, change);
		return;
	}
	error_set(&fault, ERROR_BUSY, ESHUTDOWN, "the switch is being shut down");
	change->done(change, &fault);
}
