/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port: a way in and out of the switch. A type of port is one const table and one file.
 *
 * rx is into the switch from the port, tx out of it to the port: a guest's receive ring is our tx.
 * A port has queue pairs. Each pair's rx side is polled by one worker; its tx side may be used by
 * any worker whose frames go there.
 *
 * Life: the control thread makes the port (port_new), opens it (the type may do that on a thread of
 * its own), and publishes it in a snapshot. It goes away in the opposite order: a snapshot without
 * it, then port_close once no worker can see it, then port_free. A port that is open but has nobody
 * connected is an ordinary state: rx finds nothing, tx counts `not_connected`.
 *
 * port/port_ops.h is what a type fills, port/port_settings.h what an operator may set, and
 * port/port_counters.h what is counted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/descriptors.h"
#include "bridge/forward.h"
#include "frame/frame.h"
#include "frame/frame_ring.h"
#include "policy/limits.h"
#include "port/port_counters.h"
#include "port/port_ops.h"
#include "port/port_settings.h"
#include "port/throttling.h"

#define PORT_QUEUES_MAX 128 /* queue pairs; what librte_vhost has room for */

struct capture_set; /* worker/capture.h */

#define PORT_NO_WORKER UINT16_MAX

/* What workers write lies in other cache lines than what they all read. */
struct port_queue {
	struct port *port;
	const struct port_ops *ops;
	void *driver;                   /* the type's own; w: control, before publication */
	struct port_counters *counters; /* by worker */
	uint16_t index;
	bool locks;                     /* several workers transmit: port/tx_lock.h */

	/* Control thread. */
	bool published;                 /* a snapshot has it, or had */
	uint16_t worker;                /* polls it from the next snapshot on; PORT_NO_WORKER */
	uint64_t left;                  /* out since this publication, and held; or 0 */

	/* w: the worker of the rx side */
	_Alignas(64)
	uint64_t held_since; /* by the limiter, counted up to then: frames wait; 0: none do */
	struct charge typical; /* of a frame of the last burst that was limited */
	uint32_t empty;      /* visits in a row that found nothing */
	uint64_t visited;    /* of an idle queue: when it was visited last, TSC */
	struct port_queue *next_idle;

	/* w, r: workers that transmit, as port/tx_lock.h says */
	_Alignas(64) bool tx_locked;
};

/* What one worker keeps of frames that wait for the port's limits. w: the worker */
struct port_waiting {
	struct frame_ring ring;
	uint64_t held_since; /* they waited, counted up to then; ns */
	uint32_t vlans_set;  /* as of the port when they came: now it may be in other VLANs */
	bool listed;         /* the worker looks after them */
} __attribute__((aligned(64)));

struct port {
	const struct port_ops *ops;
	struct port_host host;
	struct port_settings settings;  /* w: control; workers see what a snapshot took of them */
	uint32_t own_mtu;               /* of the interface; w: the type, control thread */
	const struct descriptors *given; /* that came with the request; NULL: none; for `open` */
	char name[PORT_NAME_SIZE];
	uint16_t number;                /* index in snapshots and the fdb */
	uint64_t serial;                /* no other port has it, or ever had */
	uint32_t vlans_set;             /* how often its VLANs have changed; control thread */
	uint16_t queue_count;           /* pairs */
	uint16_t worker_count;
	void *driver;                   /* the type's own */

	/*
	 * w: the type; the map while the tx side concerned is detached from all workers, what is
	 * accepted at any time; r: workers
	 */
	uint32_t tx_accepts;            /* enum frame_needs that the receiver takes */
	uint16_t tx_ready; /* tx queues that frames are spread over; 0: not connected */
	uint16_t tx_map[PORT_QUEUES_MAX];

	/* By worker; NULL: nothing was ever to wait. w: control, workers see it in a snapshot */
	struct port_waiting *waiting;
	struct throttling throttling; /* control thread's own */
	struct limits ingress, egress; /* w: as policy/limits.h says */
	struct limiter storm[STORM_CLASSES]; /* of packets, by enum flood_class */
	const struct capture_set *captures;  /* for the next snapshot; NULL: none; w: control */

	struct port_queue queues[];
};

/* The type with this name, or NULL. `port_types` lists their names for error messages. */
const struct port_ops *port_find_type(const char *type);
extern const char port_types[];

/* The types, one after another, NULL behind the last. */
const struct port_ops *port_type(unsigned int index);

/*
 * Takes new settings over, the limiters' too, and reserves memory where frames are to wait for the
 * first time. What a snapshot takes of them holds from the next one
 * on. Control thread.
 */
void port_set(struct port *port, const struct port_settings *settings);

/*
 * Reserves the memory that settings take: a queue for each worker, where what is over the limits on
 * the way out waits. It stays until the port goes. Whoever cannot refuse the settings sets them all
 * the same: what would wait is dropped as `no_memory` then, until they are set again. Returns 0 or
 * -ENOMEM with *err. Control thread.
 */
int port_reserve(struct port *port, const struct port_settings *settings, struct error *err);

/*
 * A closed port of this type with default settings, its queues with the workers that port_worker
 * says. queues: pairs, 1 to PORT_QUEUES_MAX; workers: how many there are. Returns NULL without
 * memory. Control thread.
 */
struct port *port_new(const struct port_ops *ops, const char *name, uint16_t number,
		      uint16_t queues, uint16_t workers, const struct port_host *host);
void port_free(struct port *port);

/*
 * Which of so many workers polls a queue of the port with this number, unless somebody wishes for
 * another one. Others may come and go; queues of one port, and ports of one queue, are spread.
 */
static inline uint16_t port_worker(uint16_t number, uint16_t queue, uint16_t workers)
{
	return (uint16_t)((number + queue) % workers);
}

/* Adds the counters of one queue pair, of all workers, to *sum. Any thread. */
void port_add_counters(const struct port *port, uint16_t queue, struct port_counters *sum);

/* Sums the counters of all queues and workers. Any thread. */
void port_sum_counters(const struct port *port, struct port_counters *sum);

/* Is there a limit, or may frames still wait for one? Control thread. */
static inline bool port_has_limits(const struct port *port)
{
	return limits_are_on(&port->ingress) || limits_are_on(&port->egress) ||
	       port->waiting != NULL;
}

/* The MTU that holds: the smaller of what was set and what the interface has. Control thread. */
static inline uint32_t port_mtu(const struct port *port)
{
	return port->settings.mtu < port->own_mtu ? port->settings.mtu : port->own_mtu;
}

/*
 * For types: publishes which tx queues take frames, and what their receiver accepts. queues NULL:
 * the first ones.
 */
void port_set_tx(struct port *port, const uint16_t *queues, uint16_t count, uint32_t accepts);
