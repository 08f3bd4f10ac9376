/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The JSON-RPC server: a unix stream socket on the control loop.
 *
 * Requests are JSON values back to back, a newline between them is optional; a client may send many
 * without waiting (each is answered in order of completion), and may close its sending side before
 * it has read the answers. Limits: 256 clients, 256 KiB a request, nesting 32, 1,024 requests a
 * batch, 4 MiB an answer. A client that does not read its answers is dropped once 8 MiB wait for
 * it; from one that has 64 requests under way nothing more is read until one is done. A request
 * that is no JSON is answered with -32700 and the connection is closed; one that is too long or
 * nested too deeply with -32006, and closed as well, as is the 257th client.
 *
 * A client may also have a feed: notifications that it is sent as fast as it reads them, in between
 * the answers to its requests. One that does not read them is not dropped for that.
 *
 *     rpc_server_new(&server, loop, "/run/ringway/ringway.sock", 0660, tables, daemon, err);
 *
 * All functions: control thread.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "rpc/method.h"

struct rpc_server;

/* What the server did; it alone counts. */
struct rpc_counters {
	uint64_t clients;     /* connected now */
	uint64_t connects;
	uint64_t turned_away; /* clients over the limit */
	uint64_t deaf;        /* clients dropped, as they did not read */
	uint64_t requests;    /* values: batches are one */
	uint64_t refusals;    /* answers that are errors, those in batches too */
	uint64_t received_bytes;
	uint64_t sent_bytes;  /* of answers */
};

/*
 * Listens on path. A socket file left behind by a dead daemon is replaced; a living one is refused
 * with ERROR_EXISTS (`path`.lock, held with flock for the server's life, decides; the lock file
 * stays, since two daemons could lock two different files if it were removed). What is no socket is
 * never replaced. mode: of the socket file, as 0660. Returns 0 or -errno with err filled.
 */
int rpc_server_new(struct rpc_server **server, struct loop *loop, const char *path, uint32_t mode,
		   const struct method *const *tables, void *context, struct error *err);

/*
 * Closes all connections, removes the socket file. Calls kept by handlers stay valid: their answers
 * go nowhere. Not from within a handler. NULL is fine.
 */
void rpc_server_free(struct rpc_server *server);

const struct rpc_counters *rpc_server_counters(const struct rpc_server *server);

/*
 * Notifications for one client. The owner embeds it; it is the server's from rpc_feed_begin until
 * `ended` is called or rpc_feed_end has returned.
 */
struct rpc_feed {
	/*
	 * The next text, whole JSON values and a newline, valid until the next call; NULL: there is
	 * none for now. Called as long as little waits to be sent.
	 */
	const char *(*next)(struct rpc_feed *feed, size_t *size);
	void (*ended)(struct rpc_feed *feed); /* the client is gone */
	struct call_client *client;           /* NULL: not in use; w: the server */
};

/*
 * Gives the client a feed; the handler's answer goes out first. Within a handler, with
 * call_client(call). Returns 0, or -EBUSY where it has one.
 */
int rpc_feed_begin(struct call_client *client, struct rpc_feed *feed);

/* The feed of a client, or NULL. */
struct rpc_feed *rpc_feed_of(const struct call_client *client);

/* There is something to be sent, after `next` had nothing. The feed may end in here. */
void rpc_feed_wake(struct rpc_feed *feed);

/* Nothing more is sent, and `ended` not called. One not in use is fine. */
void rpc_feed_end(struct rpc_feed *feed);

/*
 * Answers that wait to be sent are given up to `milliseconds` to leave; for shutdown, between
 * loop_run and rpc_server_free: from then on nothing is accepted or read any more.
 */
void rpc_server_drain(struct rpc_server *server, unsigned int milliseconds);
