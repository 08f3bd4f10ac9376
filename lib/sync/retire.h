/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Retiring: freeing an object once no worker can still see it.
 *
 * Workers load what they use (the snapshot, a ring) once an iteration and report quiescence at its
 * end; while they sleep they are offline. Whoever takes something away publishes that first, then
 * either waits for all workers (retire_wait) or leaves a callback that runs when they have moved on
 * (retire_later). The mechanism is rte_rcu_qsbr.
 *
 *     snapshot = snapshot_swap(new);
 *     retire_later(retire, free_snapshot, snapshot);
 */
#pragma once

#include <stdint.h>

struct retire;

/* For `workers` readers (1 to 128), numbered from 0, all offline. Returns NULL without memory. */
struct retire *retire_new(unsigned int workers);

/* Runs what is still waiting; all workers must have ended. NULL is fine. */
void retire_free(struct retire *retire);

/* The worker's own calls. A worker is online while it may hold anything. */
void retire_online(struct retire *retire, unsigned int worker);
void retire_offline(struct retire *retire, unsigned int worker);
void retire_quiescent(struct retire *retire, unsigned int worker);

/*
 * Returns when every worker has been quiescent or offline since the call. Sleeps between checks,
 * for the waiting thread may share a CPU with a worker; logs when it takes longer than a second.
 * Any thread but a worker and the control thread.
 */
void retire_wait(struct retire *retire);

/*
 * Has run(argument) called by a later retire_poll, when no worker can still see what was published
 * before. Control thread. Returns 0, or -ENOMEM: then nothing will be called.
 */
int retire_later(struct retire *retire, void (*run)(void *argument), void *argument);

/* Runs what is ripe. Returns how many still wait. Control thread, on a timer. */
unsigned int retire_poll(struct retire *retire);
