/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Applying models: the running switch as the control thread sees it.
 *
 * Whatever shall change is a `struct change`: it makes the model that is wanted from the one that
 * runs, and apply compares the two and does what is different. Changes are done one at a time, in
 * order; each as a whole or not at all:
 *
 *   1. metrics are served where that is wanted, and ports that are new are opened;
 *   2. those that go, or must be opened anew, are taken out of the snapshot and closed;
 *   3. what had to wait for that is opened;
 *   4. what can change while it runs is changed, one snapshot with all of it is published, and the
 *      wanted model becomes the one that runs.
 *
 * A change that fails on its way is undone by the same steps towards the old model. Workers are
 * neither stopped nor waited for. With a state file a change is done when it is on the disk; if it
 * cannot be saved it is undone, too.
 *
 * A port that the world does not let us open (a permission, a path) is down with its reason and is
 * tried again every few seconds; that fails only a change that is strict. The same holds for the
 * address where metrics are served.
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

struct change {
	/*
	 * Makes the wanted model, to be freed by apply in any case, of the one that runs. Returns 0
	 * or -errno with err filled, which ends the change.
	 */
	int (*make)(struct change *change, const struct model *now, struct model **wanted,
		    struct error *err);
	/* The change has ended; fault: NULL, or why nothing has changed. Frees the change. */
	void (*done)(struct change *change, const struct error *fault);
	bool strict;      /* a port that cannot be opened is a failure */
	bool unsaved;     /* not the operator's: neither saved nor counted as a revision */
	bool renegotiate; /* ports that are set may break what they promised their peers */
	bool retry;       /* opens again what is faulty or lost */
	void *argument;   /* the submitter's own */

	/* Filled by apply. */
	bool reopened;    /* a port was closed and opened anew */
	bool changed;     /* something is different now */
	bool undoing, failed;
	unsigned int phase;
	uint64_t sequence;
	uint64_t revision; /* of the model that it made */
	struct error fault;
	struct model *wanted;
	STAILQ_ENTRY(change) next;
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

/* Has a change done, now or when its turn comes. While the switch stops it is refused. */
void control_submit(struct control *control, struct change *change);

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
