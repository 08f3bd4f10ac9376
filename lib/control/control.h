/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The running switch as the control thread sees it: its parts, its ports and their slots.
 *
 * control_new makes the parts, control_start opens the first ports; from then on all that changes
 * comes as a change (control/apply.h), until control_stop has closed everything.
 *
 * Control thread, all of it.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "base/loop.h"
#include "bridge/fdb.h"
#include "control/listening.h"
#include "control/model.h"
#include "control/observer.h"
#include "control/state.h"
#include "port/port.h"
#include "worker/worker.h"

/* Slots for ports; what the vhost library has devices for. */
#define CONTROL_PORTS_MAX 1024

enum control_port_state {
	PORT_FREE,
	PORT_OPENING,
	PORT_OPEN,
	PORT_FAULTY,  /* could not be opened, will be tried again */
	PORT_CLOSING,
	PORT_CLOSED,  /* by the change under way */
};

/* What a change does to a slot. */
enum control_plan { PLAN_KEEP, PLAN_SET, PLAN_OPEN, PLAN_CLOSE, PLAN_REOPEN };

/* A slot: a port of the model and what became of it. Its index is the port's number. */
struct control_port {
	struct control *control;
	struct model_port *model; /* what it runs with; NULL: the slot is free */
	struct port *port;        /* NULL: free, faulty or closed */
	enum control_port_state state;
	struct error fault;       /* why it is faulty */
	struct observed_port observed;
	struct capture_set *captures; /* on its port: control/captures.h */

	/* During a change. */
	enum control_plan plan;
	struct model_port *wanted;
};

/* A static entry of the fdb as it stands. */
struct control_static {
	fdb_key_t key;
	uint16_t port; /* or FDB_BLACKHOLE */
};

struct control {
	struct loop *loop;
	struct background *background;
	struct background *waiting_room; /* for types that may wait for ever */
	const char *directory; /* for the files of ports; NULL: none; set before control_start */
	struct retire *retire;
	unsigned int retired; /* objects that wait for the workers */
	struct fdb *fdb;
	struct vlan_set suppression; /* as in the model */
	struct events *events;
	struct model *model;  /* what runs */
	uint64_t revision;    /* of the model */
	struct listening listening; /* its handler: set before control_start */
	uint16_t worker_count;
	struct worker *workers[WORKERS_MAX];
	uint16_t port_count;  /* slots that were ever used */
	struct control_port *ports;
	struct snapshot *snapshot; /* w: control, r: workers */
	uint64_t publication; /* how many there were */
	unsigned int moving;  /* queues that the last one left out, for others may see them still */
	struct loop_timer tick, retry, hurry;
	uint64_t looked;      /* when limits were, ns */
	uint32_t observed_tick;
	struct observed_worker observed_workers[WORKERS_MAX];
	uint64_t last_capture; /* the number that the last one got */
	STAILQ_HEAD(, control_capture) captures; /* control/captures.h */

	struct change *current;
	bool beginning;       /* changes are being begun further up the stack */
	STAILQ_HEAD(, change) waiting;
	unsigned int pending; /* openings and closings under way */
	bool stopping;
	struct control_static *statics; /* sorted */
	uint32_t static_count;

	/* Saving. */
	struct state *state;      /* NULL: nothing is saved */
	json_t *remembered;       /* by port name: what ops->remember said */
	json_t *configured;       /* of the configuration file that was applied last; or NULL */
	struct model *saved;      /* the model that is on the disk */
	uint64_t sequence, failed_through;
	unsigned int saves;       /* changes, and what was taken back, that wait for the disk */
	bool taking_back;         /* what could not be saved; others build on it no more */
	void (*stop_callback)(void *argument);
	void (*stopped)(void *argument); /* the same, once all is closed */
	void *stopped_argument;
};

/*
 * Makes the running parts for the workers and the bridge of `start`; opens nothing yet. EAL must be
 * up. Returns 0 or -errno with err filled.
 */
int control_new(struct control **control, struct loop *loop, const struct model *start,
		struct error *err);

/* Opens the ports of a model (taken over); calls ready(argument) once each is open or faulty. */
void control_start(struct control *control, struct model *model, void (*ready)(void *argument),
		   void *argument);

/* Takes all ports away and closes them; then calls stopped(argument). Workers keep running. */
void control_stop(struct control *control, void (*stopped)(void *argument), void *argument);

/* After the workers have ended. NULL is fine. */
void control_free(struct control *control);

/* A port by name, or NULL. */
struct control_port *control_find_port(struct control *control, const char *name);

/* Is the port up? If not, *reason is a sentence, valid until the next call. */
bool control_port_is_up(struct control_port *port, const char **reason);

/* Does the model say something of workers or bridge that is read at start only? */
bool control_restart_required(const struct control *control, const struct model *model);

/* Seconds, modulo 65,536, as the fdb counts them. */
uint16_t control_now(void);
