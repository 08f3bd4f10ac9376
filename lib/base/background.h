/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The background thread: runs, one after another, what may block and so must not run on the control
 * loop.
 *
 *     background_run(background, open_socket, port);     later: loop_post(loop, opened, port)
 */
#pragma once

struct background;

/* Starts the thread, on the CPUs of the caller. Returns NULL if it could not be started. */
struct background *background_new(const char *name);

/* Finishes what was given, then ends the thread. NULL is fine. */
void background_free(struct background *background);

/* Has run(argument) called on the thread, in order. Any thread. Returns 0 or -ENOMEM. */
int background_run(struct background *background, void (*run)(void *argument), void *argument);
