/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rings and the memory of one connection, for the files of the session alone: what is attached,
 * and when.
 *
 * rings_sync is the one place that attaches; memory_take the one place that asks the library for
 * its memory table, for it may have none. Functions that take a connection are called from its
 * callbacks, of which the library never runs two at once, and call nothing of the library that
 * takes a lock.
 */
#pragma once

#include "port/vhost_entries.h"
#include "port/vhost_session.h"

/*
 * One VMM at the socket. Its fields belong to whichever library thread handles it now; those that
 * the control thread reads are written under the session's lock.
 */
struct connection {
	struct session *session;
	int vid;
	struct peer peer;
	struct moment came;
	bool hung_up;      /* by us; under the lock */
	uint64_t offer;    /* features that it is offered, the same at any time */
	uint64_t protocol; /* protocol features */
	bool running;
	bool memory_valid;
	bool memory_lost; /* w: the fault handler, atomic; that of its dirty log, too */
	bool ready[2 * PORT_QUEUES_MAX];
	int32_t new_call; /* the attached ring whose call descriptor this message changes; or -1 */
	bool enabled[2 * PORT_QUEUES_MAX];  /* as SET_VRING_ENABLE said */
	bool known[2 * PORT_QUEUES_MAX];    /* was attached already: its position is not news */
	uint64_t drain_from[2 * PORT_QUEUES_MAX]; /* of started rings that are disabled; or 0 */
	struct entries entries;
	uint64_t features;      /* negotiated */
	struct moment started;  /* when they were; ms 0: not yet */
	uint32_t mtu;           /* told by the VMM, 0: not told */
	uint64_t bytes, page_size;
	bool sealed;            /* no file of its memory can shrink */
	struct guest_memory memory;
	struct dirty_log log; /* size 0: none */
};

/* By device number of the library, or NULL; implemented by vhost_session.c. */
struct connection *connection_find(int vid);

/* Is it the connection whose rings the port uses, not the one that waits? */
bool connection_is_active(const struct connection *connection);

/* Notes what the VMM did wrong (a constant; NULL: nothing), if its connection is the active one. */
void connection_set_fault(const struct connection *connection, const char *fault);

/* Attaches every ring that may be attached now and is not. */
void rings_sync(struct connection *connection);

/*
 * Detaches the rings first to last that are attached: publishes that they are gone, waits for all
 * workers, gives the indices back to the library. `reason` is a constant.
 */
void rings_detach(struct connection *connection, uint16_t first, uint16_t last, const char *reason);

/*
 * The library has another call descriptor for an attached ring. The ring stays attached: workers
 * write to the new one from now on, and to the old one never again when this returns. One that
 * cannot be used detaches the ring.
 */
void rings_change_call(struct connection *connection, uint16_t index);

/* Tells egress which queues take frames now, and what their receiver accepts. Any thread. */
void rings_publish(struct session *session);

/*
 * Does the guest kick although nothing has ever appeared in its rings? Then it writes into memory
 * of its own. True once that has been seen for a second. Control thread, under the lock.
 */
bool rings_look_unshared(struct session *session);

/* All rings of an active connection. */
void rings_detach_all(struct connection *connection, const char *reason);

/* The library has mapped a new table: checks and takes it. All rings are detached. */
void memory_take(struct connection *connection);

/*
 * The memory is gone from under us. In a signal handler: only atomic stores. `owner` is the
 * connection. The rings stay ours until the library's next callback.
 */
void memory_lose(void *owner);

/* Forgets the map. All rings are detached. */
void memory_drop(struct connection *connection);

/* Has the guest's driver or its VMM negotiated that writes are logged? */
bool log_is_wanted(const struct connection *connection);

/*
 * Why a dirty log that the VMM sends is not taken, or NULL: a constant. fd: -1 where it is not
 * known.
 */
const char *log_check(const struct connection *connection, int fd, uint64_t size, uint64_t offset);

/* The library has mapped a new log. All rings are detached. */
void log_take(struct connection *connection);

/* Forgets the log. All rings are detached. */
void log_drop(struct connection *connection);
