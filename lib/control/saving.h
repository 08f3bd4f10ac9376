/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is saved of the running switch, so that a restart brings it back: the model and its
 * revision, what the ports must remember, and which configuration file was applied last.
 *
 * State wins over the configuration file, unless the file has changed since it was last applied.
 *
 * Control thread.
 */
#pragma once

#include "control/control.h"

/* What a start finds. */
struct saving_start {
	struct model *model;
	uint64_t revision;
	json_t *remembered; /* an object */
	json_t *configured; /* of the file, or NULL without one */
	bool from_state;    /* else from the file, or empty */
};

/*
 * Reads the state file and the configuration file (each may be NULL) and decides. Returns 0, or
 * -errno with err filled where what counts cannot be read or is wrong.
 */
int saving_load(const char *state, const char *config, uint32_t default_cpu,
		struct saving_start *start, struct error *err);
void saving_start_release(struct saving_start *start);

/* Takes over what was found, all but the model; `state` may be NULL. */
void saving_begin(struct control *control, struct saving_start *start, struct state *state);

/*
 * Identifies a configuration file by its path and content: a new reference, or NULL with err filled
 * if it cannot be read.
 */
json_t *saving_identify(const char *config, struct error *err);

/* The configuration file with this identity (taken over) is what runs. Saved soon. */
void saving_configured(struct control *control, json_t *identity);

/*
 * Saves what runs now; done as state_write says, also where nothing is saved (at once). Without it
 * a failure is logged. Returns 0 or -ENOMEM.
 */
int saving_write(struct control *control, void (*done)(void *argument, const struct error *fault),
		 void *argument);

/* What a port of this name said before; borrowed, or NULL. */
const json_t *saving_remembered(const struct control *control, const char *name);

/* Keeps what a port says (taken over; NULL: nothing) and saves it soon. */
void saving_remember(struct control *control, const char *name, json_t *value);
void saving_forget_port(struct control *control, const char *name);
