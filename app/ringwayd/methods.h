/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The daemon's methods, and what their handlers get as context.
 */
#pragma once

#include "control/apply.h"
#include "options.h"
#include "rpc/method.h"

struct rpc_server;
struct worker_load;

struct daemon {
	struct loop *loop;
	struct control *control;
	struct rpc_server *server; /* NULL: not yet */
	struct worker_load *loads; /* by worker: stats.h */
	struct loop_timer load_timer;
	const char *socket;
	const char *config;   /* the configuration file, or NULL */
	const char *state;    /* the state file, or NULL */
	const struct options *options;
	long started;         /* seconds, CLOCK_MONOTONIC */
	uint64_t started_wall; /* seconds since 1970 */
	bool opened;          /* the first configuration is applied */
	void (*shutdown)(struct daemon *daemon);
};

/*
 * A request that changes what runs: the change, and what its steps need. `answer` is called when
 * all went well and makes the result; NULL: the revision alone.
 */
struct request {
	struct change change;
	struct daemon *daemon;
	struct call *call;
	json_t *(*answer)(struct request *request);
	void (*release)(struct request *request); /* of what the rest of the struct holds */
};

/*
 * A request of `size` bytes that begins with a struct request, all else zero; NULL without memory
 * with err filled.
 */
void *request_new(struct call *call, size_t size, struct error *err);

/* Hands it to apply; the call is answered when it is done. Returns METHOD_LATER. */
int request_submit(struct request *request);

/* Fills err for a port that is not there. Returns -ENOENT. */
int no_such_port(const char *name, struct error *err);

extern const struct method methods_port[], methods_fdb[], methods_config[], methods_event[],
	methods_capture[], methods_system[];

/* All of the above, ended by NULL. */
extern const struct method *const methods[];

/* The OpenRPC document of all of it, with the schema of the configuration. */
json_t *daemon_schema(void);
