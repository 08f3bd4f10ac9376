/* SPDX-License-Identifier: BSD-3-Clause */
/* What a change has to do to each slot, as models differ; control/plan.h is the contract. */
#include "control/plan.h"

#include <errno.h>
#include <stdio.h>

#include "control/slots.h"

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

	if (!change->strict || slot->state != PORT_OPEN)
		return 0;
	if (port_reserve(slot->port, &wanted->settings, err) == 0 &&
	    (ops->check_set == NULL ||
	     ops->check_set(slot->port, wanted->config, &wanted->settings, err) == 0))
		return 0;
	snprintf(object, sizeof(object), "port %s", wanted->name);
	error_detail(err, object, NULL, NULL, NULL);
	return -1;
}

int plan_change(struct control *control, const struct model *wanted, struct error *err)
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

bool plan_must_wait(const struct control *control, const struct control_port *slot)
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
bool plan_has_retries(const struct control *control)
{
	bool due = false;

	for (uint16_t i = 0; i < control->port_count; i++)
		due |= control->ports[i].model != NULL &&
		       (control->ports[i].state == PORT_FAULTY || is_lost(&control->ports[i]));
	return due;
}
