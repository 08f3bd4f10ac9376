/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The watchdog: frees a worker that is held by a system call.
 *
 * All calls of a worker are such that do not block, but whether they do is a flag of a descriptor
 * that a VMM shares with us and may change at any time. A worker that has made no progress for 100
 * ms, and does not sleep, gets a signal. It interrupts the call (EINTR), and whoever made that call
 * makes it no more. A sleep of two seconds is none: the longest is one.
 *
 * Control thread, but for what watchdog_begin says.
 */
#pragma once

#include "worker/worker.h"

/* A worker without progress for so long is stalled: its CPU was taken from it, or it is held. */
#define WATCHDOG_STALLED_MS 1000

/* Lets signals interrupt calls. Once, before any worker runs. Returns 0 or -errno. */
int watchdog_init(void);

/* Of the calling worker: it can be watched from now on, or (with false) no longer. */
void watchdog_begin(struct worker *worker, bool runs);

/* Looks at the worker; every 10 ms. Returns whether it had to be freed. */
bool watchdog_look(struct worker *worker);

/* Did it have to be freed, and has not gone on since? */
bool watchdog_is_late(const struct worker *worker);

/* As of the last look. */
bool watchdog_is_stalled(const struct worker *worker);

/* For how long there was no progress then, the sleep that it began with included. */
unsigned int watchdog_stands_ms(const struct worker *worker);
