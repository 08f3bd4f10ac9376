/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Endpoints of DPDK's telemetry (rte_telemetry.h): what dpdk-telemetry.py asks for.
 *
 * DPDK calls on threads of its own. Such a thread posts its question to the control loop, waits for
 * at most a second, and turns the answer, a JSON object or a list of one kind of value, into
 * DPDK's: integers, and booleans as 0 and 1, are u64 (those below 0 are int), objects within are
 * flattened (`bursts_1`), lists of integers or strings stay lists, strings are cut at 127 bytes and
 * have `?` for each byte that is not ASCII (names never have any).
 * DPDK's keys are letters, digits, `_` and `/`, 256 an object at most, and an answer has 16 KiB: an
 * endpoint keeps to that, with names as values and long lists in pages.
 *
 *     endpoints_open(loop, table, argument);
 */
#pragma once

#include <jansson.h>

#include "base/loop.h"

struct endpoint {
	const char *command; /* "/ringway/port" */
	const char *help;
	/*
	 * Control thread: a new reference to the answer. `parameters`: what stands behind the
	 * command and a comma, or "".
	 */
	json_t *(*answer)(void *argument, const char *parameters);
};

/*
 * Registers the table, which is ended by a row without command and outlives the process, as does
 * argument. Once, after EAL has started. Returns 0 or -errno.
 */
int endpoints_open(struct loop *loop, const struct endpoint *table, void *argument);

/*
 * The answer to a question as the control loop gives it, a new reference; or NULL, after a second
 * at most, with *fault a sentence. Any thread but the control thread. Part of what DPDK's threads
 * do; tests call it alone.
 */
json_t *endpoints_ask(const char *command, const char *parameters, const char **fault);

/* From now on questions are answered with an error. Before the loop is freed. */
void endpoints_close(void);
