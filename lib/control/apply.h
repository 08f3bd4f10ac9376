/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Applying a model: the running switch as the control thread sees it.
 *
 * Apply opens what the model names, builds a snapshot off to the side, publishes it with one
 * release store and retires the old one; workers are neither stopped nor waited for. A port that
 * the world does not let us open (a permission, a path) is down with its reason and is tried again;
 * the others run.
 *
 * Control thread, all of it.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/loop.h"
#include "bridge/fdb.h"
#include "control/model.h"
#include "port/port.h"
#include "worker/worker.h"

/* Slots for ports; what the vhost library has devices for. */
#define CONTROL_PORTS_MAX 1024

enum control_port_state { PORT_OPENING, PORT_OPEN, PORT_FAULTY, PORT_CLOSING, PORT_CLOSED };

/* A port of the model and what became of it. */
struct control_port {
	struct control *control;
	const struct model_port *model;
	struct port *port;
	enum control_port_state state;
	struct error fault; /* why it is faulty */
};

struct control {
	struct loop *loop;
	struct background *background;
	struct retire *retire;
	struct fdb *fdb;
	const struct model *model;
	uint16_t worker_count;
	struct worker *workers[WORKERS_MAX];
	uint16_t port_count; /* slots in use of ports */
	struct control_port *ports;
	struct snapshot *snapshot; /* w: control, r: workers */
	struct loop_timer tick, retry;
	unsigned int pending;      /* openings and closings under way */
	void (*ready)(void *argument);   /* all first openings have ended */
	void (*stopped)(void *argument); /* everything is closed */
	void *argument;
};

/*
 * Makes the running parts for a model, which must outlive it; opens nothing yet. EAL must be up.
 * Returns 0 or -errno with err filled.
 */
int control_new(struct control **control, struct loop *loop, const struct model *model,
		struct error *err);

/* Opens the ports; calls ready(argument) once each is open or faulty. */
void control_start(struct control *control, void (*ready)(void *argument), void *argument);

/* Takes all ports away and closes them; then calls stopped(argument). Workers keep running. */
void control_stop(struct control *control, void (*stopped)(void *argument), void *argument);

/* After the workers have ended. NULL is fine. */
void control_free(struct control *control);

/* A port by name, or NULL. */
struct control_port *control_find_port(struct control *control, const char *name);

/* Is the port up? If not, *reason is a sentence, valid until the next call. */
bool control_port_is_up(struct control_port *port, const char **reason);

/* Seconds as the fdb counts them. */
uint16_t control_now(void);
