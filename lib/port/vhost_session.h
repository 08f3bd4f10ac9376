/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vhost-user session: which rings of which VMM are attached to a port, at every moment.
 *
 * This is the seam to librte_vhost, which owns the protocol: sockets, negotiation, memory mapping.
 * We own the rings. What this file promises to the rest: `ring->attached` is a virtqueue that a
 * worker may use until it next reports quiescence, or NULL.
 *
 * The state machine. A ring is attached while all of this holds: its connection is the active one,
 * the device runs (between new_device and destroy_device), the memory map is valid, and the library
 * says that the ring is ready. One function, sync, compares that with what workers have, and it
 * alone attaches. Everything else detaches: before each message that changes rings, memory or
 * features, and when the device stops. Attached, we own the ring's indices; detached, the library
 * does: so a detach publishes that the ring is gone, waits for all workers, and writes the indices
 * back.
 *
 * Several connections may stand at one socket: the active one, and others that wait their turn. A
 * VMM that restarts may connect before the library has seen its old connection end.
 *
 * Callbacks come from four threads of the library, but for one connection never two at once. `lock`
 * is a leaf: no function of the library is called while it is held.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/error.h"
#include "port/port.h"
#include "port/vhost_socket.h"
#include "virtqueue/virtqueue.h"

/*
 * The active one and those that wait. More than one can wait: a VMM that gives up and tries again
 * is faster than the library is in noticing.
 */
#define SESSION_CONNECTIONS 4

struct session;
struct connection;

enum ring_state { RING_DETACHED, RING_ATTACHED, RING_MALFORMED };

/* One ring of the port. */
struct ring {
	struct virtqueue *attached; /* w: vhost threads, r: workers; &vq or NULL */
	struct virtqueue vq;
	int call_fd;                /* ours, -1: the guest wants no interrupts */

	/* w: vhost threads under the lock, r: control under the lock */
	enum ring_state state;
	const char *reason;         /* why it is not attached; NULL: nothing was tried */
	uint32_t size;
};

struct session {
	struct port *port;
	struct retire *retire;
	struct socket_place place;
	uint64_t offered;           /* virtio features */
	uint16_t ring_count;        /* two a queue pair; even ones are our tx, odd ones our rx */
	bool listening;             /* the library serves the socket */

	pthread_mutex_t lock;
	/* under the lock */
	bool closing;
	struct connection *connections[SESSION_CONNECTIONS]; /* the first is the active one */
	uint64_t connects, disconnects;
	char last_disconnect[96];
	const char *fault;          /* what the active VMM did wrong last; NULL: nothing */

	struct session *next;       /* in the list of all sessions */
	struct ring rings[];
};

/* What the operator sees of a session. */
struct session_view {
	bool connected, waiting;
	pid_t pid;
	uint64_t connects, disconnects;
	uint64_t features;          /* negotiated with the active connection */
	bool memory_valid;
	uint32_t regions;
	uint64_t bytes;
	uint32_t mtu;               /* told by the VMM, 0: not told */
	const char *fault;
	char last_disconnect[96];
};

/* Returns NULL without memory. The port outlives the session. Control thread. */
struct session *session_new(struct port *port);
void session_free(struct session *session);

/*
 * Starts to serve a socket in server mode. Background thread. Returns 0 or -errno with err filled.
 */
int session_listen(struct session *session, const char *path,
		   const struct socket_permissions *permissions, struct error *err);

/* Ends all connections and removes the socket; blocks. Background thread. */
void session_close(struct session *session);

/* Any thread but a worker. */
void session_view(struct session *session, struct session_view *view);
