/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A method: one JSON-RPC 2.0 method as a row of a table (https://www.jsonrpc.org/specification).
 *
 * A row has a name, a parameter table and a handler. Dispatch checks the parameters against the
 * table, calls the handler with the filled struct, and frames its answer. A handler answers at once
 * by returning, or later (from the same thread) by keeping the call and returning METHOD_LATER.
 *
 *     static int port_get(struct call *call, const void *params, json_t **result,
 *                         struct error *err);
 *     static const struct method methods[] = {
 *         { "port.get", "One port's configuration and state", port_get_params,
 *           sizeof(struct port_get), port_get },
 *         { NULL }
 *     };
 *
 * All of it runs on the control thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"
#include "rpc/param.h"

/* Returned by a handler that kept the call and will call call_done. */
#define METHOD_LATER 1

struct call; /* one request under way */

struct call_client; /* a connection of the server's: rpc/server.h */

/* Who sent a request: SO_PEERCRED of its connection. pid 0: it came over none. */
struct call_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	struct call_client *client; /* NULL: none */
};

/* Descriptors that came with a request (SCM_RIGHTS, unix(7)), in order; close-on-exec. */
struct call_descriptors {
	unsigned int count;
	int fds[253];
};

struct method {
	const char *name;
	const char *help;
	const struct param *params; /* NULL: takes none; those required first */
	size_t params_size;         /* of the struct that the handler gets */
	/*
	 * Returns 0 with a new reference in *result (left NULL: the answer is `true`), -errno with
	 * err filled, or METHOD_LATER. params is valid until the call is done.
	 */
	int (*handle)(struct call *call, const void *params, json_t **result, struct error *err);
	/* It changes what runs: one line of log says who asked for it, and how it ended. */
	bool changes;
	/*
	 * The handler gets the object of parameters itself, as `const json_t *`, and checks it. It
	 * comes by name only. `params` is NULL then; `describe` gives the JSON Schema of the object
	 * instead (a new reference).
	 */
	bool whole;
	json_t *(*describe)(void);
	json_t *(*describe_result)(void); /* the JSON Schema of its result; NULL: not described */
};

/* What the server was given as context at rpc_server_new: the daemon. */
void *call_context(const struct call *call);

/* Who sent the request; valid until the call is done. */
const struct call_peer *call_peer(const struct call *call);

/*
 * The connection that the request came over, for notifications to it (rpc_feed_begin); NULL: none.
 * Within the handler alone, for it may end at any time later.
 */
struct call_client *call_client(const struct call *call);

/* The method's name, and the parameter `name` ("" where there is none); for logs and events. */
const char *call_method(const struct call *call);
const char *call_name(const struct call *call);

/*
 * Takes the first `count` descriptors that came with the request and were not taken yet: they are
 * the caller's to close. Of those that nobody took none stays open. Within the handler alone.
 * Returns 0, or -ENOENT with nothing taken where there are fewer: *have says how many.
 */
int call_take_descriptors(struct call *call, int *fds, unsigned int count, unsigned int *have);

/*
 * Answers a call that was kept. Takes over `result` (may be NULL: the answer is `true`). err is
 * NULL for success. May come before the handler has returned METHOD_LATER. If the client is gone
 * meanwhile, nothing is sent; the call is freed in any case.
 */
void call_done(struct call *call, json_t *result, const struct error *err);

/* More requests in one batch are refused. */
#define METHOD_BATCH_MAX 1024

/* The longest answer, in bytes of compact JSON. What would be longer becomes an error. */
#define METHOD_ANSWER_MAX ((size_t)4 << 20)

/*
 * Handles one request, as the specification says: `request` is any JSON value (borrowed). Calls
 * `answer(argument, response)` once with a new reference, or with NULL where no response is due
 * (a notification), now or later.
 * Parameters may come by name, or by position in the order of the rows (without PARAM_LATER).
 * tables: array of method tables, ended by NULL. peer: who asks, NULL for a request without a
 * connection. descriptors: what came with it, NULL for none; those that are taken are taken out.
 */
void method_dispatch(const struct method *const *tables, void *context,
		     const struct call_peer *peer, struct call_descriptors *descriptors,
		     const json_t *request,
		     void (*answer)(void *argument, json_t *response), void *argument);

/*
 * A response object for an error; id NULL means null, for what fails before there is a request.
 * `data` has those of object, field, value, accepted and errno (the number) that are known. Returns
 * a new reference, or NULL when memory ran out.
 */
json_t *method_error_response(const json_t *id, const struct error *err);
