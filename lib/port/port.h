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

#include "base/descriptors.h"
#include "base/error.h"
#include "base/event.h"
#include "bridge/forward.h"
#include "bridge/vlan.h"
#include "frame/frame.h"
#include "frame/frame_ring.h"
#include "policy/guard.h"
#include "policy/limits.h"
#include "port/throttling.h"
#include "rpc/param.h"

#define PORT_NAME_SIZE 64
#define PORT_QUEUES_MAX 128 /* queue pairs; what librte_vhost has room for */

/* The MTU of a port: bytes behind the Ethernet header; VLAN tags do not count. */
#define PORT_MTU_MIN 68 /* RFC 791 */
#define PORT_MTU_MAX 65535

/* The most of port_settings.retry: what a worker may stand still for the others, now and then. */
#define PORT_RETRY_MAX 1000

struct port;
struct port_queue;
struct capture_set; /* worker/capture.h */

enum port_direction { PORT_RX, PORT_TX };

/*
 * The second ledger: each copy that is offered to a port gets one end, and so does each segment of
 * one that was cut for it: offered + cut = packets + queued + all of dropped. What never came to a
 * queue, or waits, is counted with the first one. w: a worker, r: anyone.
 */
struct tx_counters {
	uint64_t offered;
	uint64_t mirrored; /* of offered: copies of the frames of a mirrored port */
	uint64_t cut; /* frames that cutting made, beyond those that were cut */
	uint64_t packets;
	uint64_t bytes;
	uint64_t segments;
	uint64_t notifications;
	uint64_t retries; /* of tx_burst, for frames that had found no room */
	uint64_t queued;  /* frames that wait for the port's limits now: a gauge */
	uint64_t queued_bytes;  /* and the memory that they take: a gauge */
	uint64_t delayed;       /* frames that waited and went on */
	uint64_t throttled;     /* times that the limits began to hold frames back */
	uint64_t throttled_ns;  /* and for how long they did */
	uint64_t limited_bytes; /* of frames that the limits dropped as `limit` */
	uint64_t dropped[DROP_COUNT];
};

/* What one worker counted of one queue pair. */
struct port_counters {
	struct rx_counters rx;
	struct tx_counters tx;
} __attribute__((aligned(64)));

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

/* One direction's limits. */
struct port_limits {
	struct limit_settings bandwidth; /* bits a second, burst in bytes */
	struct limit_settings packets;
	uint32_t excess;                 /* enum limit_excess */
};

/* One value for each class that a switch or a storm limit is set for: bridge/forward.h. */
struct port_flood {
	bool unknown, broadcast, multicast; /* is it sent to the port? */
};
struct port_storm {
	uint64_t unknown, broadcast, multicast; /* packets a second from the port; 0: any number */
};

/* What may wait of what goes to a port: bytes of memory for each worker, and ms for each frame. */
#define EGRESS_QUEUE_MIN 65536
#define EGRESS_QUEUE_MAX (16 << 20)
#define EGRESS_QUEUE_TIME_MAX 10000

struct port_queue_limits {
	uint32_t bytes;
	uint32_t time; /* ms */
};

/* Where copies of a port's frames go. */
struct port_mirror {
	char to[PORT_NAME_SIZE]; /* "": nowhere */
	uint32_t direction;      /* enum mirror_direction */
};
enum mirror_direction { MIRROR_IN, MIRROR_OUT, MIRROR_BOTH };

/* What every type of port has and may change while it runs. */
struct port_settings {
	bool enabled;          /* false: rings are kept, frames dropped as `disabled` */
	struct param_mac mac;  /* the address that lives behind the port */
	uint32_t mtu;          /* PORT_MTU_MIN to PORT_MTU_MAX, enforced towards the port */
	struct port_limits ingress, egress;
	struct port_queue_limits queue; /* egress: where its excess waits */
	uint32_t retry;        /* us that a burst may wait for room: worker/egress.h */
	struct guard *guard;   /* of what comes from the port; NULL: none; a port uses its own */
	struct vlan_settings vlan;
	bool isolated;         /* nothing passes between two isolated ports */
	bool learning;
	bool link_local;       /* see bridge/forward.h */
	struct port_flood flood;
	struct port_storm storm;
	uint32_t max_addresses; /* that are learned; 0: any number */
	struct port_mirror mirror;
};

/* Those of a port of which nothing is said: the largest MTU, no VLANs, no limits. */
extern const struct port_settings port_default_settings;

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

/* The MTU that was asked for; 0: none was, as the largest stands for none in particular. */
static inline uint32_t port_wanted_mtu(const struct port_settings *settings)
{
	return settings->mtu == PORT_MTU_MAX ? 0 : settings->mtu;
}

/*
 * For types: publishes which tx queues take frames, and what their receiver accepts. queues NULL:
 * the first ones.
 */
void port_set_tx(struct port *port, const uint16_t *queues, uint16_t count, uint32_t accepts);
