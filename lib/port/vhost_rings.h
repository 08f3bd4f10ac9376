/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rings and the memory of one connection, for vhost_session.c alone: what is attached, and
 * when.
 *
 * rings_sync is the one place that attaches; memory_take the one place that asks the library for
 * its memory table, for it may have none. All functions are called from the callbacks of one
 * connection, of which the library never runs two at once, and call nothing of the library that
 * takes a lock.
 */
#pragma once

#include "port/vhost_session.h"

/* The port's fault and the last disconnect's reason when a VMM truncated its memory. */
#define MEMORY_LOST "memory_fault: the VMM took its memory away"

/*
 * One VMM at the socket. Its fields belong to whichever library thread handles it now; those that
 * session_view reads are written under the session's lock.
 */
struct connection {
	struct session *session;
	int vid;
	struct socket_peer peer;
	bool running;
	bool memory_valid;
	bool memory_lost; /* w: the fault handler, atomic */
	bool ready[2 * PORT_QUEUES_MAX];
	uint64_t features;
	uint32_t mtu;
	uint64_t bytes;
	struct guest_memory memory;
};

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
