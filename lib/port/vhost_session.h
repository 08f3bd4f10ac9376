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
 * Guests mask and unmask their interrupts under traffic, for which VMMs send another call
 * descriptor. That alone changes while a ring is attached: the new one takes the old one's place.
 *
 * A guest's transmit ring that is switched off while started is attached on: from 100 ms later its
 * frames are taken and dropped (vhost-user, "Ring states"). A VMM that switches rings off only to
 * stop them, as for a pause, so loses nothing.
 *
 * Several connections may stand at one socket in server mode: the active one, and others that wait
 * their turn, for a VMM that restarts may connect before the library has seen its old connection
 * end. One of another process, while the active one's process goes on, is refused after a second.
 * In client mode there is one connection; the library makes it, and tries again every second.
 *
 * Callbacks come from four threads of the library, but for one connection never two at once. `lock`
 * is a leaf: no function of the library is called while it is held.
 *
 * vhost_session.c: connections; vhost_messages.c: what they say; vhost_rings.c: rings and memory;
 * vhost_entries.h, vhost_journal.h, vhost_offer.h, vhost_peer.h, vhost_socket.h: parts that know
 * nothing of sessions; vhost_status.c: what the operator sees.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/error.h"
#include "base/loop.h"
#include "port/features.h"
#include "port/port.h"
#include "port/vhost_journal.h"
#include "port/vhost_news.h"
#include "port/vhost_offer.h"
#include "port/vhost_peer.h"
#include "port/vhost_socket.h"
#include "virtqueue/virtqueue.h"

/*
 * The active one and those that wait. More than one can wait: a VMM that gives up and tries again
 * is faster than the library is in noticing.
 */
#define SESSION_CONNECTIONS 4

/* The port's fault and the last disconnect's reason when a VMM truncated its memory. */
#define MEMORY_LOST "memory_fault: the VMM took its memory away"

/* The same where the guest's writes never arrive, or its VMM has none to share. */
#define NOT_SHARED                                                                                 \
	"the guest's memory is not shared with the switch: give the VMM shared memory "            \
	"(QEMU: share=on with the memory backend, and the machine's memory-backend)"

struct session;
struct connection;

enum ring_state { RING_DETACHED, RING_ATTACHED, RING_MALFORMED };

/* One ring of the port. */
struct ring {
	struct virtqueue *attached; /* w: vhost threads, r: workers; &vq or NULL */
	uint64_t drain_from;        /* the same; cycles, or 0: from then on frames are dropped */
	struct virtqueue vq;
	int call_fd;                /* as attached; ours, -1: the guest wants no interrupts */
	bool deaf;                  /* w: a worker that it held, vhost threads with a new one */

	/* w: vhost threads under the lock, r: control under the lock */
	enum ring_state state;
	const char *reason;         /* why it is not attached; NULL: nothing was tried */
	uint32_t size;
	int kick_fd;                /* ours, -1: the guest does not kick; r: workers, attached */
	bool fresh;                 /* when it was attached, nothing had ever been used of it */
};

/* What stays as it is while the session is open. */
struct session_config {
	char path[SOCKET_PATH_MAX + 1];
	bool client;
	bool any_memory;            /* guest memory need not be in RAM */
	struct socket_permissions permissions;
};

/* What may change. */
struct session_wish {
	struct feature_switches switches;
	uint32_t mtu;
	struct param_mac mac;
	bool renegotiate;           /* forget what the VMM was offered */
};

/* A point in time. */
struct moment {
	time_t wall;
	uint64_t ms;                /* of CLOCK_MONOTONIC */
};

/* The last thing of a kind that happened to a session. */
struct session_event {
	char reason[160];           /* "": nothing yet */
	pid_t pid;
	time_t time;
};

struct session {
	struct port *port;
	struct retire *retire;
	struct journal *journal;    /* NULL: packed rings are not offered, no_journal says why */
	const char *no_journal;
	struct session_config config;
	struct socket_place place;
	uint16_t ring_count;        /* two a queue pair; even ones are our tx, odd ones our rx */
	bool listening;             /* the library serves the socket */
	uint64_t protocol;          /* protocol features that the library may offer */

	/* Control thread. */
	struct loop_timer watch;    /* runs while somebody waits */
	bool closed;                /* or about to be */

	pthread_mutex_t lock;
	/* under the lock */
	bool closing;
	bool dead;                  /* client mode: the library will not connect any more */
	struct offer offer;
	struct session_wish wish;
	struct connection *connections[SESSION_CONNECTIONS]; /* the first is the active one */
	uint64_t connects, reconnects, disconnects, refused;
	struct moment since;        /* it is connected, or is not */
	struct session_event last_disconnect, last_refusal;
	const char *fault;          /* what the active VMM did wrong last; NULL: nothing */
	uint64_t suspected;         /* ms since when its memory seems not to be shared; 0: not */
	uint64_t announced_ms;      /* when the VMM announced an address first, of those counted */
	unsigned int announced;

	struct news news;

	struct session *next;       /* in the list of all sessions */
	struct ring rings[];
};

struct moment moment_now(void);

/*
 * remembered: what session_remember said before the switch was started again, or NULL. Returns NULL
 * without memory. The port outlives the session. Control thread, as all that follow but two.
 */
struct session *session_new(struct port *port, const struct session_config *config,
			    const struct session_wish *wish, const json_t *remembered);
void session_free(struct session *session);

/*
 * Starts to listen, or to connect. The background thread. Returns 0 or -errno with err filled.
 */
int session_open(struct session *session, struct error *err);

/* Ends all connections and removes the socket; blocks. The background thread. */
void session_close(struct session *session);

/* Before session_close. */
void session_prepare_close(struct session *session);

void session_set(struct session *session, const struct session_wish *wish);

/* As port_ops->remember and is_lost. */
json_t *session_remember(struct session *session);
bool session_is_lost(struct session *session, const char **reason);
