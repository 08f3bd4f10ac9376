/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a change has to do to each slot: for apply.c, which does it.
 *
 * Control thread.
 */
#pragma once

#include "control/apply.h"

/*
 * Plans all slots for the change under way and gives new ports one. Returns 0 or -errno with err
 * filled.
 */
int plan_change(struct control *control, const struct model *wanted, struct error *err);

/* Is the way in that the port wants still held by one that will be closed? */
bool plan_must_wait(const struct control *control, const struct control_port *slot);

/* Is there a port that a change with `retry` would open again? Asks each whether it is lost. */
bool plan_has_retries(const struct control *control);
