/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A change of the running switch, and having it done.
 *
 * Whatever shall change is a `struct change`: it makes the model that is wanted from the one that
 * runs, and apply compares the two and does what is different. Changes are done one at a time, in
 * order; each as a whole or not at all:
 *
 *   1. metrics are served where that is wanted, and ports that are new are opened;
 *   2. those that go, or must be opened anew, are taken out of the snapshot and closed;
 *   3. what had to wait for that is opened;
 *   4. what can change while it runs is changed, one snapshot with all of it is published, and the
 *      wanted model becomes the one that runs.
 *
 * A change that fails on its way is undone by the same steps towards the old model. Workers are
 * neither stopped nor waited for. With a state file a change is done when it is on the disk; if it
 * cannot be saved it is undone, too.
 *
 * A port that the world does not let us open (a permission, a path) is down with its reason and is
 * tried again every few seconds; that fails only a change that is strict. The same holds for the
 * address where metrics are served.
 *
 * Control thread, all of it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/error.h"
#include "control/control.h"
#include "control/model.h"

struct change {
	/*
	 * Makes the wanted model, to be freed by apply in any case, of the one that runs. Returns 0
	 * or -errno with err filled, which ends the change.
	 */
	int (*make)(struct change *change, const struct model *now, struct model **wanted,
		    struct error *err);
	/* The change has ended; fault: NULL, or why nothing has changed. Frees the change. */
	void (*done)(struct change *change, const struct error *fault);
	bool strict;      /* a port that cannot be opened is a failure */
	bool unsaved;     /* not the operator's: neither saved nor counted as a revision */
	bool renegotiate; /* ports that are set may break what they promised their peers */
	bool retry;       /* opens again what is faulty or lost */
	void *argument;   /* the submitter's own */

	/* Filled by apply. */
	bool reopened;    /* a port was closed and opened anew */
	bool changed;     /* something is different now */
	bool undoing, failed;
	unsigned int phase;
	uint64_t sequence;
	uint64_t revision; /* of the model that it made */
	struct error fault;
	struct model *wanted;
	STAILQ_ENTRY(change) next;
};

/* Has a change done, now or when its turn comes. While the switch stops it is refused. */
void control_submit(struct control *control, struct change *change);
