/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How changes end: on the disk, or taken back with all that came after them; control/settle.h is
 * the contract. saving.c writes what runs.
 */
#include "control/settle.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "control/changes.h"
#include "control/events.h"
#include "control/saving.h"

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

void settle_stop(struct control *control)
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
	settle_stop(control);
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
	change_log(change, fault);
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
	changes_prepend(control, undo);
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
	settle_stop(control);
}

void settle_change(struct control *control, struct change *change)
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
