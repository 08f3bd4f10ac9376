/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The event loop of the control thread: a thin layer over libevent.
 *
 * One thread runs the loop; it alone calls these functions, except loop_post and loop_stop, which
 * any thread may call. Callbacks run on the loop's thread and must not block.
 *
 *     struct loop *loop = loop_new();
 *     loop_timer_start(&timer, loop, 10, tick, context);
 *     loop_run(loop);
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct event;
struct event_base;
struct loop;

/*
 * Returns NULL when memory or descriptors ran out. From then on the process ignores SIGPIPE: a peer
 * that closes its socket must not end the daemon.
 */
struct loop *loop_new(void);

/* Timers and signals must be stopped before. What was posted and has not run is forgotten. */
void loop_free(struct loop *loop);

/*
 * Runs until loop_stop, which may also come before it. Returns 0, or -EIO if libevent failed.
 * What was posted before the stop has run by then.
 */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* For modules that use libevent directly (the RPC server, the metrics endpoint). */
struct event_base *loop_base(struct loop *loop);

/*
 * Has `run(argument)` called on the loop's thread, in the order of posting. Never blocks, takes
 * only a leaf lock, so it may be called from any callback of any thread but a worker. Returns 0 or
 * -ENOMEM.
 */
int loop_post(struct loop *loop, void (*run)(void *argument), void *argument);

/*
 * A repeating timer. The owner embeds it and stops it before it frees it, also from its own
 * callback; stopping one twice, or one that is all zero, does nothing.
 */
struct loop_timer {
	struct event *event;
	void (*run)(void *argument);
	void *argument;
};

/* Calls run every `milliseconds` (1 to 3,600,000). Returns 0 or -ENOMEM. */
int loop_timer_start(struct loop_timer *timer, struct loop *loop, unsigned int milliseconds,
		     void (*run)(void *argument), void *argument);
void loop_timer_stop(struct loop_timer *timer);

/*
 * Calls run on the loop, not in the signal's context, when the process gets the signal. Returns 0
 * or -ENOMEM. Stopped as a timer is.
 */
int loop_signal_start(struct loop_timer *signal, struct loop *loop, int number,
		      void (*run)(void *argument), void *argument);
