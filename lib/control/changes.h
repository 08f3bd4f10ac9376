/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The queue of changes, past control_submit: for those that the parts of control/ make themselves.
 * apply.c has them done.
 *
 * Control thread.
 */
#pragma once

#include "control/apply.h"

/* Has a change done in its turn, or before all others; also while the switch stops. */
void changes_append(struct control *control, struct change *change);
void changes_prepend(struct control *control, struct change *change);

/* The `done` of a change from calloc that nobody waits for: a fault goes to the log. */
void change_log(struct change *change, const struct error *fault);
