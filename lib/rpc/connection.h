/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One client's connection to the server: what its three files share.
 *
 * connection.c makes and frees it, connection_in.c reads requests and has them handled,
 * connection_out.c sends answers and notifications. server.c owns the list of all.
 *
 * An answer may come long after its request, when the client or the whole server is gone: what
 * method.c holds on to is a `struct pending`, which outlives both and knows whether its client is
 * still there.
 *
 * A client is never freed while its own input is being handled, because any handler may complete
 * any call; it is marked and freed at the end (connection_settle).
 *
 * Control thread.
 */
#pragma once

#include <event2/util.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/loop.h"
#include "rpc/framing.h"
#include "rpc/method.h"
#include "rpc/server.h"
#include "rpc/socket.h"

struct bufferevent;
struct evbuffer;
struct evconnlistener;
struct event;

/* A client that reads nothing for so long, while answers wait for it, is dropped. */
#define CONNECTION_PATIENCE_S 5

struct call_client {
	struct rpc_feed *feed; /* NULL: none */
};

struct connection {
	struct call_client handle; /* the first member */
	LIST_ENTRY(connection) link;
	struct rpc_server *server;
	struct bufferevent *stream; /* sends; what comes in is read here, for its descriptors */
	struct event *readable;
	struct evbuffer *input;
	struct framing framing;
	struct call_peer peer;
	struct call_descriptors descriptors;
	uint64_t received, handled; /* bytes; descriptors came with those up to... */
	uint64_t descriptors_until;
	LIST_HEAD(, pending) pending;
	unsigned int pending_count;
	bool stalled;    /* too many answers are due: nothing more is read */
	bool processing; /* its input is being handled further up the stack */
	bool eof;        /* the client sends no more */
	bool closing;    /* we read no more: freed once the answers have left */
	bool dropped;    /* freed as soon as nobody up the stack uses it */
};

/* A request that method.c has and that has not been answered. */
struct pending {
	LIST_ENTRY(pending) link;
	struct connection *client; /* NULL once it is gone */
};

struct rpc_server {
	struct loop *loop;
	struct rpc_socket socket;
	struct evconnlistener *listener;
	struct loop_timer accept_retry;
	const struct method *const *tables;
	void *context;
	LIST_HEAD(, connection) clients;
	struct rpc_counters counters;
};

/* Takes over the descriptor. Without memory it is closed. */
void connection_new(struct rpc_server *server, int fd);
void connection_free(struct connection *client);

/* Frees the client if nothing is left to be done for it. */
void connection_settle(struct connection *client);

/* ---- connection_in.c ---- */

/* Something can be read, or requests that waited can be handled: a callback of libevent. */
void connection_readable(evutil_socket_t fd, short events, void *argument);

/*
 * Handles what is there. Further requests of a client that has too many answers due must wait. The
 * client may be freed.
 */
void connection_process(struct connection *client);

/* Closes the descriptors that no request has taken. */
void connection_close_descriptors(struct connection *client);

/* ---- connection_out.c ---- */

/* Takes over the response. */
void connection_send(struct connection *client, json_t *response);

/* Tells the client why, and closes once it has read that. */
void connection_refuse(struct connection *client, const struct error *err);

/* Has the feed fill what is free of its share of the output. */
void connection_feed(struct connection *client);

/*
 * From a client that is owed an answer we want to see that it reads. Who only follows events may
 * stop for as long as it likes.
 */
void connection_set_patience(struct connection *client, bool owed);

/* The client does not read: it is to be dropped. */
void connection_drop_deaf(struct connection *client);

/*
 * Sends what the socket takes now, with the bufferevent off. Returns false once the client needs no
 * more care.
 */
bool connection_flush(struct connection *client);
