/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state file: what the switch has to know when it starts again.
 *
 * It is one JSON object, replaced as a whole by a thread of its own: a draft beside it (FILE.new,
 * mode 0600) is written, synced and renamed over it, and the directory synced. Whoever is killed at
 * any moment leaves the old content or the new, and perhaps a draft, which the next one replaces.
 * While one write is under way, all later ones wait and become one.
 *
 *     state_load(path, &content, err);
 *     state_new(&state, loop, path, err);
 *     state_write(state, model_to_json(model), reply, call);
 *
 * Control thread, but for the writing itself.
 */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "base/loop.h"

struct state;

/*
 * Reads a state file. Returns 0 with *content a new reference, or NULL where there is no file; or
 * -errno with err filled (path, and line and column of what is no JSON).
 */
int state_load(const char *path, json_t **content, struct error *err);

/*
 * Makes sure that the file can be written, and starts the writing thread, on the CPUs of the
 * caller. From then on the process ignores SIGXFSZ: a limit on file sizes is an error like a full
 * disk. Returns 0 or -errno with err filled.
 */
int state_new(struct state **state, struct loop *loop, const char *path, struct error *err);

/*
 * Has `content` written, and calls done(argument, fault) on the loop when it, or something newer,
 * is safe on the disk: oldest first, fault NULL. Or it is not, and the file is as it was: then
 * everything that waits fails with this write, for it builds on what could not be kept. Then done
 * is called newest first, so that each caller can undo its own change.
 * done may be NULL, and may write again. Takes over the reference, in any case; the content must
 * not be changed any more. Returns 0, or -ENOMEM, also where content is NULL; then done is not
 * called.
 */
int state_write(struct state *state, json_t *content,
		void (*done)(void *argument, const struct error *fault), void *argument);

/*
 * Replaces any file in the same way, at once, and keeps its mode (0644 for a new one): blocks, and
 * so is not for the control thread. Returns 0 or -errno with err filled and the file as it was.
 */
int state_replace(const char *path, const char *text, struct error *err);

/*
 * Ends the thread after what waits has been written; nothing is called any more. After loop_run,
 * before loop_free. NULL is fine.
 */
void state_free(struct state *state);
