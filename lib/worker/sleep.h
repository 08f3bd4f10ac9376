/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How an adaptive worker sleeps: while it does it is offline for retire, so nobody waits for it.
 *
 * First in naps, with nothing armed: nobody need tell that there are frames, the worker looks
 * itself. After a while without any it asks all its queues to tell (port_ops.arm), and sleeps until
 * one does, until worker_wake, or until a limiter lets frames go on that it holds back. No wake-up
 * can be lost: the worker looks once more after it has asked, and whoever else has something for it
 * (worker_wake) says so in a way that lasts. Where a queue cannot tell, the naps go on.
 *
 * A queue stays armed until it has a frame; so waking up means nothing but visiting the queues.
 */
#pragma once

#include "worker/worker.h"

#define NAP_FIRST_NS 5000
#define NAP_LAST_NS 100000
/* The longest sleep, lest something that nobody thought of be for ever. */
#define SLEEP_LAST_MS 1000

/* Closes what the last sleep needed. */
void sleep_forget(struct worker *worker);

/*
 * Sleeps this long, but no longer than a limiter holds frames back. Returns the next nap's length.
 */
long sleep_nap(struct worker *worker, long length);

/*
 * Sleeps until there is something to do; at once if there is, or if that could not be told. The
 * worker has just found its queues empty.
 */
void sleep_until_woken(struct worker *worker);
