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
 * To write a new type: fill a `struct port_ops`, and add its address to the rows in port.c.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "bridge/forward.h"
#include "frame/frame.h"
#include "rpc/param.h"

#define PORT_NAME_SIZE 64
#define PORT_QUEUES_MAX 128 /* queue pairs; what librte_vhost has room for */

struct port;
struct port_queue;

enum port_direction { PORT_RX, PORT_TX };

/* The second ledger: each copy that is offered to a port gets one end. w: a worker, r: anyone. */
struct tx_counters {
	uint64_t offered; /* = packets + all of dropped */
	uint64_t packets;
	uint64_t bytes;
	uint64_t segments;
	uint64_t notifications;
	uint64_t dropped[DROP_COUNT];
};

/* What one worker counted of one queue pair. */
struct port_counters {
	struct rx_counters rx;
	struct tx_counters tx;
} __attribute__((aligned(64)));

/* What a port type is told when it is opened, and whom it may call. All outlive the port. */
struct port_host {
	struct retire *retire;
	struct loop *loop;
	struct background *background;
};

/* fault: NULL for success; valid during the call. */
typedef void (*port_opened)(void *argument, const struct error *fault);

struct port_ops {
	const char *type;           /* as in the configuration: "vhost-user" */
	const struct param *params; /* the type's own keys, beside the common ones */
	size_t config_size;         /* of the struct that params fill */
	size_t place;               /* offset in it of the string that no two ports share */
	const char *place_key;      /* and its key: "socket", "interface" */

	/* ---- control thread ---- */

	/*
	 * Makes the port reachable. `config` is valid during the call only. Returns 0 and later, on
	 * the control thread, calls done(argument, fault): fault is NULL, or why it could not be
	 * opened (then nothing is left behind). Returns -errno with err filled, and never calls
	 * done, where that is known at once.
	 */
	int (*open)(struct port *port, const void *config, port_opened done, void *argument,
		    struct error *err);

	/*
	 * No worker sees the port any more. Calls done(argument) on the control thread when all is
	 * closed, later or at once. Not called while opening is under way or after it failed.
	 */
	void (*close)(struct port *port, void (*done)(void *argument), void *argument);

	/* Adds what the operator may see to an object that has the common keys. */
	void (*status)(struct port *port, json_t *object);

	/* Is traffic possible? If not, *reason is a sentence, valid until the next call. */
	bool (*is_up)(struct port *port, const char **reason);

	/* ---- the worker that the queue's rx side belongs to ---- */

	/*
	 * Fills the burst with up to max frames and sets burst->allowed. Each frame has its vnet
	 * header as the sender wrote it, head, views and lengths, is a drop (DROP_NO_DESTINATION,
	 * or a reason of its own), needs nothing and is one segment. Returns burst->count.
	 */
	uint16_t (*rx_burst)(struct port_queue *queue, struct burst *burst, uint16_t max);

	/*
	 * The queue will probably be used soon, in this direction: asks for what rx_burst or
	 * tx_burst will read, without waiting for it. Called with steps 0, 1, 2 as time goes by,
	 * each going further along what the last one brought. NULL: nothing to ask for.
	 */
	void (*expect)(struct port_queue *queue, enum port_direction direction, unsigned int step);

	/*
	 * Hands the buffers of the last rx_burst back to where they came from. Their views end
	 * here.
	 */
	void (*rx_release)(struct port_queue *queue);

	/* ---- any worker, one at a time per queue ---- */

	/*
	 * Takes copies of the frames, as many as find room, in order. Returns 0 with the outcome
	 * filled, or -ENOTCONN with nothing taken. The frames need nothing that is not in
	 * port->tx_accepts.
	 */
	int (*tx_burst)(struct port_queue *queue, struct frame *const *frames, uint16_t count,
			struct tx_outcome *outcome);

	/*
	 * Tells the other side about what was released or sent, if it asked for that. Called once a
	 * burst and queue, behind a full fence. Returns whether it was told. NULL: nothing to tell.
	 */
	bool (*notify)(struct port_queue *queue, enum port_direction direction);
};

struct port_queue {
	struct port *port;
	const struct port_ops *ops;
	void *driver;                   /* the type's own; w: control, before publication */
	uint16_t index;
	struct port_counters *counters; /* by worker */
};

struct port {
	const struct port_ops *ops;
	struct port_host host;
	char name[PORT_NAME_SIZE];
	uint16_t number;                /* index in snapshots and the fdb */
	uint16_t queue_count;           /* pairs */
	uint16_t worker_count;
	void *driver;                   /* the type's own */

	/* w: the type, while the tx side concerned is detached from all workers; r: workers */
	uint32_t tx_accepts;            /* enum frame_needs that the receiver negotiated */
	uint16_t tx_ready; /* tx queues that frames are spread over; 0: not connected */
	uint16_t tx_map[PORT_QUEUES_MAX];

	struct port_queue queues[];
};

/* The type with this name, or NULL. `port_types` lists their names for error messages. */
const struct port_ops *port_find_type(const char *type);
extern const char port_types[];

/*
 * A closed port of this type. queues: pairs, 1 to PORT_QUEUES_MAX; workers: how many may count.
 * Returns NULL without memory. Control thread.
 */
struct port *port_new(const struct port_ops *ops, const char *name, uint16_t number,
		      uint16_t queues, uint16_t workers, const struct port_host *host);
void port_free(struct port *port);

/* Sums the counters of all queues and workers. Any thread. */
void port_sum_counters(const struct port *port, struct port_counters *sum);

/* For types: publishes which tx queues take frames, and what their receiver accepts. */
void port_set_tx(struct port *port, const uint16_t *queues, uint16_t count, uint32_t accepts);
