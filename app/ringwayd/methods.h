/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The daemon's methods, and what their handlers get as context.
 */
#pragma once

#include "control/apply.h"
#include "rpc/method.h"

struct daemon {
	struct loop *loop;
	struct control *control;
	const char *socket;
	long started; /* seconds, CLOCK_MONOTONIC */
	void (*shutdown)(struct daemon *daemon);
};

extern const struct method methods_port[], methods_system[];

/* All of the above, ended by NULL. */
extern const struct method *const methods[];
