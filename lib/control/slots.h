/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The slots of the running switch: opening and closing the port in one, publishing what is open to
 * the workers, and the static addresses that follow from it. For apply.c, which decides what is to
 * be opened and closed and when.
 *
 * Control thread.
 */
#pragma once

#include "control/control.h"

/* A free slot for a port, of which it takes a reference; NULL if all are taken. */
struct control_port *slot_take(struct control *control, struct model_port *model);

/* The port leaves its slot, which is free again. */
void slot_release(struct control_port *slot);

/* Has the slot run (or, next time, be opened) with this port of the model. */
void slot_assign(struct control_port *slot, struct model_port *model);

/* Gives the slot's port the settings of its model. */
void slot_set(struct control_port *slot);

/* Starts to open the port. Counts as pending until slot_step_ended. */
void slot_open(struct control_port *slot);

/*
 * Starts to close all slots that are PORT_CLOSING, once no worker sees them; the caller has
 * published a snapshot without them. They end as PORT_CLOSED, with nothing of them left in the
 * fdb. Counts as pending. Returns 0 or -ENOMEM with nothing done.
 */
int slots_close(struct control *control);

/* One pending step has ended: implemented by apply.c. */
void slots_step_ended(struct control *control);

/*
 * Builds the snapshot of all open ports and swaps it in. Returns 0 or -ENOMEM.
 *
 * A queue that is to have another worker is left out; once no worker sees it any more, the next
 * publication, which comes by itself, gives it to the new one. Those in between leave it out.
 */
int slots_publish(struct control *control);

/* The worker that is to poll a queue of the port, if it is open. */
uint16_t slot_wish(const struct control_port *slot, uint16_t queue);

/* Makes the fdb's static entries what the model says, for the ports that have a slot. */
void slots_sync_addresses(struct control *control, const struct model *model);
