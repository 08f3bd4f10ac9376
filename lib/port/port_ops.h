/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A type of port: the contract that each fills with a const table of functions, and whom it may
 * call.
 *
 * To write a new type: fill a `struct port_ops`, and add its address to the rows in port.c.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/event.h"
#include "frame/frame.h"
#include "port/port_settings.h"
#include "rpc/param.h"

struct background;
struct loop;
struct port;
struct port_queue;
struct retire;

enum port_direction { PORT_RX, PORT_TX };

/* The other side's connection, where a port has one that comes and goes. */
struct port_connection {
	uint64_t connected;
	uint64_t since; /* when that began, or ended; seconds since 1970 */
	uint64_t connects, reconnects, disconnects, refused;
};

/* What a port type is told when it is made, and whom it may call. All outlive the port. */
struct port_host {
	struct retire *retire;
	struct loop *loop;
	struct background *background;
	/* What ops->remember would say has changed. Control thread; NULL: nobody wants to know. */
	void (*remember)(void *argument, struct port *port);
	/*
	 * Sends a copy of a frame as if the port had: worker/inject.h. Control thread. Returns 0 or
	 * -errno. NULL: cannot be done.
	 */
	int (*inject)(void *argument, const struct port *port, const uint8_t *bytes,
		      uint32_t length);
	/* A queue has something new to watch or to receive. Any thread. NULL: nobody sleeps. */
	void (*wake)(void *argument);
	/* Something has happened at the other side; `fields` is taken over. As remember. */
	void (*tell)(void *argument, struct port *port, enum event_kind kind, json_t *fields);
	/* What is_up says may have changed. The two are NULL together. As remember. */
	void (*look)(void *argument, struct port *port);
	void *argument;
	/* Where a type keeps, as files, what is to outlive the process; NULL: nowhere. */
	const char *directory;
};

/* fault: NULL for success; valid during the call. */
typedef void (*port_opened)(void *argument, const struct error *fault);

struct port_ops {
	const char *type;           /* as in the configuration: "vhost-user" */
	const struct param *params; /* the type's own keys, beside the common ones */
	size_t config_size;         /* of the struct that params fill */
	size_t place;               /* offset in it of the string that no two ports share */
	const char *place_key;      /* and its key: "socket", "interface" */
	bool waits;                 /* opening may take for ever: not on others' thread */
	bool parallel;              /* tx_burst keeps nothing: several workers may be in it */
	size_t space;               /* offset of a string: the space of that name; 0: "" */

	/*
	 * Refuses keys that contradict each other; may set *queues, the pairs that were asked for,
	 * where the configuration implies them. `object` is what messages call the port. Returns 0,
	 * or -errno with err filled. NULL: nothing to say.
	 */
	int (*check)(const void *config, uint32_t *queues, const char *object, struct error *err);

	/* ---- control thread ---- */

	/*
	 * Makes the port reachable. `config` and `remembered` (what `remember` said of a port of
	 * this name before the switch was started again, or NULL) are valid during the call only.
	 * Returns 0 and later, on the control thread, calls done(argument, fault): fault is NULL,
	 * or why it could not be opened (then nothing is left behind). Returns -errno with err
	 * filled, and never calls done, where that is known at once.
	 */
	int (*open)(struct port *port, const void *config, const json_t *remembered,
		    port_opened done, void *argument, struct error *err);

	/*
	 * Can an open port go from one configuration to the other with `set`, or must it be closed
	 * and opened anew? NULL: any difference means anew.
	 */
	bool (*can_set)(const void *from, const void *to);

	/*
	 * Can the world give an open port what `set` would ask of it? Returns 0, or -errno with err
	 * filled, and changes nothing. NULL: always.
	 */
	int (*check_set)(struct port *port, const void *config,
			 const struct port_settings *settings, struct error *err);

	/*
	 * port->settings have changed, or what `can_set` allowed: cannot fail. `renegotiate`: what
	 * was promised to the other side need not be kept when it connects next. NULL: the type
	 * has nothing to do for either.
	 */
	void (*set)(struct port *port, const void *config, bool renegotiate);

	/*
	 * What the type must know of this port after a restart of the switch: a new reference to
	 * any JSON value, or NULL for nothing. NULL: never anything.
	 */
	json_t *(*remember)(struct port *port);

	/*
	 * The port, closed by now, is no part of the configuration any more: removes its files from
	 * the host's directory. NULL: there are none.
	 */
	void (*forget)(const char *directory, const char *name);

	/*
	 * Has the world taken the way in away (a socket's directory is gone)? Then *reason is a
	 * sentence, valid until the next call, and the port is closed and opened again until it
	 * works. Asked every few seconds; where port->own_mtu is found to have changed, workers
	 * are told then. NULL: cannot happen.
	 */
	bool (*is_lost)(struct port *port, const char **reason);

	/*
	 * No worker sees the port any more. Calls done(argument) on the control thread when all is
	 * closed, later or at once. Not called while opening is under way or after it failed.
	 */
	void (*close)(struct port *port, void (*done)(void *argument), void *argument);

	/* Adds what the operator may see to an object that has the common keys. */
	void (*status)(struct port *port, json_t *object);

	/* Fills all of *connection. NULL: the type has none. */
	void (*connection)(struct port *port, struct port_connection *connection);

	/*
	 * How many frames the kernel or the device lost since the port was opened, as it had no
	 * room for what the switch did not take in time. NULL: the type does not know.
	 */
	uint64_t (*missed)(struct port *port);

	/* Is traffic possible? If not, *reason is a sentence, valid until the next call. */
	bool (*is_up)(struct port *port, const char **reason);

	/* ---- the worker that the queue's rx side belongs to ---- */

	/*
	 * Fills the burst with up to max frames, as far as burst->budget admits them
	 * (burst_admits), and sets burst->allowed, and burst->held where the budget left frames
	 * behind. Each frame has its vnet header set by frame_set_vnet, head, views and lengths, is
	 * a drop (DROP_NO_DESTINATION, or a reason of its own), needs nothing and is one segment.
	 * Returns burst->count.
	 */
	uint16_t (*rx_burst)(struct port_queue *queue, struct burst *burst, uint16_t max);

	/*
	 * The queue will probably be used soon, in this direction: asks for what rx_burst or
	 * tx_burst will read, without waiting for it. By whoever may call these, and for PORT_TX
	 * with the same lock. Called with steps 0, 1, 2 as time goes by,
	 * each going further along what the last one brought. NULL: nothing to ask for.
	 */
	void (*expect)(struct port_queue *queue, enum port_direction direction, unsigned int step);

	/*
	 * Hands the buffers of the last rx_burst back to where they came from. Their views end
	 * here.
	 */
	void (*rx_release)(struct port_queue *queue);

	/*
	 * For a worker that means to sleep until a frame comes.
	 *
	 * watch: the descriptor on which the other side of an armed queue tells of a frame. It is
	 * watched for edges, never read, and valid until the worker reports quiescence. -ENOTCONN:
	 * nobody is connected, and who connects wakes the workers (port_host.wake). -ENOTSUP, as
	 * where all three are NULL: the worker must not sleep for long.
	 *
	 * arm: asks the other side to tell of the next frame, until rx_burst has returned some.
	 *
	 * is_waiting: would rx_burst find anything? Between arm and this look comes a full fence.
	 */
	int (*watch)(struct port_queue *queue);
	void (*arm)(struct port_queue *queue);
	bool (*is_waiting)(struct port_queue *queue);

	/* ---- any worker ---- */

	/*
	 * Takes copies of the frames, as many as find room, in order. Returns 0 with the outcome
	 * filled, or -ENOTCONN with nothing taken. The frames need nothing that is not in
	 * port->tx_accepts. One worker at a time per queue (port/tx_lock.h), but where `parallel`
	 * says that it need not be.
	 */
	int (*tx_burst)(struct port_queue *queue, struct frame *const *frames, uint16_t count,
			struct tx_outcome *outcome);

	/*
	 * Tells the other side about what was released or sent, if it asked for that. Called once a
	 * burst and queue, and before a retry, behind a full fence. Returns whether it was told.
	 * PORT_RX: the worker of the rx side. PORT_TX: several workers at a time, while others are
	 * in tx_burst; the type takes the lock for what it shares with that, and not for the call
	 * that tells. NULL: nothing to tell.
	 */
	bool (*notify)(struct port_queue *queue, enum port_direction direction);
};
