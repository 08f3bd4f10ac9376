/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How changes end: one that succeeded counts when it is on the disk, and is taken back, with all
 * that came after it, where it cannot be saved. For apply.c, which did it, and control.c.
 *
 * Control thread.
 */
#pragma once

#include "control/apply.h"

/* Ends the change, once what it changed, or found changed already, is on the disk. */
void settle_change(struct control *control, struct change *change);

/* Tells whoever waits for the switch to stop, if all is closed and nothing waits for the disk. */
void settle_stop(struct control *control);
