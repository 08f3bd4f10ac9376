/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory port: lists of frames under a lock; port/memory.h is the contract. */
#include "port/memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/loop.h"
#include "frame/vnet.h"

/*
 * A frame with its bytes. One on its way in has the bytes behind its head in pieces of their own.
 */
struct item {
	STAILQ_ENTRY(item) next;
	struct memory_frame frame;
	uint8_t *bytes;
	uint16_t head;
	struct view views[FRAME_VIEWS_MAX];
};

STAILQ_HEAD(item_list, item);

struct memory_queue {
	struct item_list waiting, taken, sent;
	struct memory_counts counts;
	int fd; /* an eventfd; -1: the queue cannot tell of frames */
	bool armed;
	uint32_t room, busy;
	bool connected;
};

struct memory {
	pthread_mutex_t lock; /* of all that follows */
	struct memory_config config;
	uint32_t longest;
	bool wanted[2]; /* by enum port_direction */
	struct memory_queue queues[];
};

/* An opening or closing that ends in a later round of the loop. */
struct ending {
	port_opened opened;
	void (*closed)(void *argument);
	void *argument;
};

static void item_free(struct item *item)
{
	for (uint16_t i = 0; i < FRAME_VIEWS_MAX; i++)
		free((void *)(uintptr_t)item->views[i].address);
	free(item->bytes);
	free(item);
}

static void list_free(struct item_list *list)
{
	struct item *item;

	while ((item = STAILQ_FIRST(list)) != NULL) {
		STAILQ_REMOVE_HEAD(list, next);
		item_free(item);
	}
}

static struct memory_queue *lock_queue(struct port *port, uint16_t queue)
{
	struct memory *memory = port->driver;

	pthread_mutex_lock(&memory->lock);
	return &memory->queues[queue];
}

static void unlock(struct port *port)
{
	struct memory *memory = port->driver;

	pthread_mutex_unlock(&memory->lock);
}

/* ---- control thread ---- */

static void finish(void *argument)
{
	struct ending *ending = argument;

	if (ending->opened != NULL)
		ending->opened(ending->argument, NULL);
	else
		ending->closed(ending->argument);
	free(ending);
}

/* Ends an opening or closing: later where there is a loop, as the contract says, else at once. */
static int finish_soon(struct port *port, const struct ending *template)
{
	struct ending *ending = malloc(sizeof(*ending));

	if (ending == NULL)
		return -ENOMEM;
	*ending = *template;
	if (port->host.loop == NULL) {
		finish(ending);
		return 0;
	}
	if (loop_post(port->host.loop, finish, ending) != 0) {
		free(ending);
		return -ENOMEM;
	}
	return 0;
}

static void destroy(struct port *port)
{
	struct memory *memory = port->driver;

	port->driver = NULL;
	for (uint16_t i = 0; i < port->queue_count; i++) {
		list_free(&memory->queues[i].waiting);
		list_free(&memory->queues[i].taken);
		list_free(&memory->queues[i].sent);
		if (memory->queues[i].fd >= 0)
			close(memory->queues[i].fd);
	}
	pthread_mutex_destroy(&memory->lock);
	free(memory);
}

static int open_port(struct port *port, const void *config, const json_t *remembered,
		     port_opened done, void *argument, struct error *err)
{
	static const struct memory_config all = { NEEDS_ALL, NEEDS_ALL, MEMORY_KEPT, false };
	const struct ending ending = { .opened = done, .argument = argument };
	uint16_t queues[PORT_QUEUES_MAX];
	struct memory *memory;

	(void)remembered;
	memory = calloc(1, sizeof(*memory) + port->queue_count * sizeof(memory->queues[0]));
	if (memory == NULL)
		return error_set(err, ERROR_SYSTEM, ENOMEM, "out of memory");
	pthread_mutex_init(&memory->lock, NULL);
	memory->config = config != NULL ? *(const struct memory_config *)config : all;
	memory->longest = UINT32_MAX;
	for (uint16_t i = 0; i < port->queue_count; i++) {
		STAILQ_INIT(&memory->queues[i].waiting);
		STAILQ_INIT(&memory->queues[i].taken);
		STAILQ_INIT(&memory->queues[i].sent);
		memory->queues[i].fd = memory->config.tells ?
			eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
		memory->queues[i].room = UINT32_MAX;
		queues[i] = i;
	}
	port->driver = memory;
	if (memory->config.fails) {
		destroy(port);
		return error_set(err, ERROR_SYSTEM, EACCES, "this port was told to fail");
	}
	memory_connect(port, queues, port->queue_count, memory->config.accepts);
	if (finish_soon(port, &ending) != 0) {
		destroy(port);
		return error_set(err, ERROR_SYSTEM, ENOMEM, "out of memory");
	}
	return 0;
}

static void close_port(struct port *port, void (*done)(void *argument), void *argument)
{
	const struct ending ending = { .closed = done, .argument = argument };

	destroy(port);
	if (finish_soon(port, &ending) != 0)
		done(argument);
}

static bool is_up(struct port *port, const char **reason)
{
	bool connected = __atomic_load_n(&port->tx_ready, __ATOMIC_ACQUIRE) > 0;

	*reason = connected ? NULL : "not connected";
	return connected;
}

static void status(struct port *port, json_t *object)
{
	bool connected = __atomic_load_n(&port->tx_ready, __ATOMIC_ACQUIRE) > 0;

	json_object_set_new(object, "connected", json_boolean(connected));
}

/* ---- workers ---- */

/* Fills the slot behind the burst's frames. */
static struct frame *fill_frame(struct burst *burst, struct item *item)
{
	const struct memory_frame *from = &item->frame;
	struct frame *frame = &burst->frames[burst->count];

	memset(frame, 0, offsetof(struct frame, head));
	frame_set_vnet(burst, frame, &from->vnet);
	frame_drop(frame, (enum drop)from->drop);
	frame->segments = 1;
	frame->length = from->length;
	frame->head_length = item->head;
	memcpy(frame->head, item->bytes, item->head);
	frame->view_count = from->pieces;
	frame->views = &burst->views[burst->view_count];
	memcpy(&burst->views[burst->view_count], item->views, from->pieces * sizeof(struct view));
	burst->view_count = (uint16_t)(burst->view_count + from->pieces);
	return frame;
}

static uint16_t rx_burst(struct port_queue *queue, struct burst *burst, uint16_t max)
{
	struct memory_queue *own = lock_queue(queue->port, queue->index);
	struct memory *memory = queue->port->driver;
	struct item *item;

	own->counts.polled++;
	burst_reset(burst);
	burst->allowed = memory->config.sends;
	if (burst->budget.bytes == 0) {
		burst->held = own->counts.waiting > 0;
		max = 0;
	}
	while (burst->count < max && (item = STAILQ_FIRST(&own->waiting)) != NULL &&
	       burst->view_count + item->frame.pieces <= BURST_VIEWS) {
		struct frame *frame = fill_frame(burst, item);

		if (!burst_admits(burst, frame, burst->count == 0))
			break;
		burst->count++;
		STAILQ_REMOVE_HEAD(&own->waiting, next);
		STAILQ_INSERT_TAIL(&own->taken, item, next);
	}
	if (burst->count > 0)
		own->armed = false;
	own->counts.waiting -= burst->count;
	own->counts.unreleased += burst->count;
	unlock(queue->port);
	return burst->count;
}

static void expect(struct port_queue *queue, enum port_direction direction, unsigned int step)
{
	lock_queue(queue->port, queue->index)->counts.expected[direction][step]++;
	unlock(queue->port);
}

static void rx_release(struct port_queue *queue)
{
	struct memory_queue *own = lock_queue(queue->port, queue->index);

	list_free(&own->taken);
	own->counts.unreleased = 0;
	unlock(queue->port);
}

static int watch(struct port_queue *queue)
{
	int fd = lock_queue(queue->port, queue->index)->fd;

	unlock(queue->port);
	return fd >= 0 ? fd : -ENOTSUP;
}

static void arm(struct port_queue *queue)
{
	lock_queue(queue->port, queue->index)->armed = true;
	unlock(queue->port);
}

static bool is_waiting(struct port_queue *queue)
{
	bool waiting = lock_queue(queue->port, queue->index)->counts.waiting > 0;

	unlock(queue->port);
	return waiting;
}

/* A copy of a frame in one piece, or NULL without memory. */
static struct item *copy_frame(const struct frame *frame)
{
	struct item *item = calloc(1, sizeof(*item));
	uint8_t *to;

	if (item == NULL)
		return NULL;
	item->bytes = malloc(frame->length > 0 ? frame->length : 1);
	if (item->bytes == NULL) {
		free(item);
		return NULL;
	}
	memcpy(item->bytes, frame->head, frame->head_length);
	to = item->bytes + frame->head_length;
	for (uint16_t i = 0; i < frame->view_count; i++) {
		memcpy(to, frame->views[i].address, frame->views[i].length);
		to += frame->views[i].length;
	}
	item->frame = (struct memory_frame){
		.vnet = frame->vnet, .bytes = item->bytes, .length = frame->length,
		.pieces = frame->view_count, .needs = frame->needs, .segments = frame->segments,
		.from = frame->port,
	};
	return item;
}

static int tx_burst(struct port_queue *queue, struct frame *const *frames, uint16_t count,
		    struct tx_outcome *outcome)
{
	struct memory_queue *own = lock_queue(queue->port, queue->index);
	struct memory *memory = queue->port->driver;

	if (!own->connected) {
		unlock(queue->port);
		return -ENOTCONN;
	}
	if (own->busy > 0) {
		own->busy--;
		count = 0;
	}
	for (uint16_t i = 0; i < count && own->room > 0; i++) {
		struct item *item;

		if (frames[i]->length > memory->longest) {
			outcome->too_long++;
			outcome->lost |= UINT64_C(1) << i;
			continue;
		}
		if (own->counts.kept < memory->config.kept) {
			item = copy_frame(frames[i]);
			if (item == NULL)
				break;
			STAILQ_INSERT_TAIL(&own->sent, item, next);
			own->counts.kept++;
		}
		if (own->room != UINT32_MAX)
			own->room--;
		own->counts.sent++;
		outcome->packets++;
		outcome->segments += frames[i]->segments;
		outcome->bytes += frames[i]->length;
	}
	unlock(queue->port);
	return 0;
}

static bool notify(struct port_queue *queue, enum port_direction direction)
{
	struct memory_queue *own = lock_queue(queue->port, queue->index);
	struct memory *memory = queue->port->driver;
	bool wanted = memory->wanted[direction];

	own->counts.notified[direction]++;
	unlock(queue->port);
	return wanted;
}

/* ---- tests ---- */

int memory_inject(struct port *port, uint16_t queue, const struct memory_frame *frame)
{
	uint16_t head = vnet_is_plain(&frame->vnet) ? FRAME_HEAD_PLAIN : FRAME_HEAD_MAX;
	struct item *item = calloc(1, sizeof(*item));
	struct memory_queue *own;
	uint32_t at, left;

	if (item == NULL)
		return -ENOMEM;
	item->frame = *frame;
	item->head = frame->length < head ? (uint16_t)frame->length : head;
	left = frame->length - item->head;
	if (item->frame.pieces == 0)
		item->frame.pieces = left > 0;
	if (item->frame.pieces > FRAME_VIEWS_MAX || item->frame.pieces > left) {
		free(item);
		return -EINVAL;
	}
	item->bytes = malloc(item->head > 0 ? item->head : 1);
	if (item->bytes == NULL)
		goto no_memory;
	if (item->head > 0)
		memcpy(item->bytes, frame->bytes, item->head);
	at = item->head;
	for (uint16_t i = 0; i < item->frame.pieces; i++) {
		uint32_t part = left / (uint32_t)(item->frame.pieces - i);
		uint8_t *piece = malloc(part);

		if (piece == NULL)
			goto no_memory;
		memcpy(piece, frame->bytes + at, part);
		item->views[i] = (struct view){ piece, part };
		at += part;
		left -= part;
	}
	own = lock_queue(port, queue);
	STAILQ_INSERT_TAIL(&own->waiting, item, next);
	own->counts.waiting++;
	if (own->armed && eventfd_write(own->fd, 1) == 0)
		own->counts.told++;
	unlock(port);
	return 0;

no_memory:
	item_free(item);
	return -ENOMEM;
}

void memory_connect(struct port *port, const uint16_t *queues, uint16_t count, uint8_t accepts)
{
	struct memory *memory = port->driver;

	pthread_mutex_lock(&memory->lock);
	for (uint16_t i = 0; i < port->queue_count; i++)
		memory->queues[i].connected = false;
	for (uint16_t i = 0; i < count; i++)
		memory->queues[queues[i]].connected = true;
	port_set_tx(port, queues, count, accepts);
	pthread_mutex_unlock(&memory->lock);
}

void memory_set_room(struct port *port, uint16_t queue, uint32_t frames)
{
	lock_queue(port, queue)->room = frames;
	unlock(port);
}

void memory_set_busy(struct port *port, uint16_t queue, uint32_t bursts)
{
	lock_queue(port, queue)->busy = bursts;
	unlock(port);
}

void memory_set_longest(struct port *port, uint32_t length)
{
	struct memory *memory = port->driver;

	pthread_mutex_lock(&memory->lock);
	memory->longest = length;
	pthread_mutex_unlock(&memory->lock);
}

void memory_set_wants(struct port *port, enum port_direction direction, bool wanted)
{
	struct memory *memory = port->driver;

	pthread_mutex_lock(&memory->lock);
	memory->wanted[direction] = wanted;
	pthread_mutex_unlock(&memory->lock);
}

struct memory_counts memory_counts(struct port *port, uint16_t queue)
{
	struct memory_counts counts = lock_queue(port, queue)->counts;

	unlock(port);
	return counts;
}

const struct memory_frame *memory_sent(struct port *port, uint16_t queue, uint32_t index)
{
	struct item *item = STAILQ_FIRST(&lock_queue(port, queue)->sent);

	while (item != NULL && index-- > 0)
		item = STAILQ_NEXT(item, next);
	unlock(port);
	return item != NULL ? &item->frame : NULL;
}

void memory_forget(struct port *port, uint16_t queue)
{
	struct memory_queue *own = lock_queue(port, queue);

	list_free(&own->sent);
	own->counts.kept = 0;
	unlock(port);
}

static void opened(void *argument, const struct error *fault)
{
	(void)argument;
	(void)fault;
}

static void closed(void *argument)
{
	(void)argument;
}

struct port *memory_port_new(const char *name, uint16_t number, uint16_t queues, uint16_t workers,
			     const struct memory_config *config)
{
	struct port *port = port_new(&memory_ops, name, number, queues, workers, NULL);
	struct error err;

	if (port != NULL && memory_ops.open(port, config, NULL, opened, NULL, &err) != 0) {
		port_free(port);
		return NULL;
	}
	return port;
}

void memory_port_free(struct port *port)
{
	if (port == NULL)
		return;
	memory_ops.close(port, closed, NULL);
	port_free(port);
}

static const struct param params[] = { { NULL } };

const struct port_ops memory_ops = {
	.type = "memory",
	.params = params,
	.config_size = sizeof(struct memory_config),
	.open = open_port,
	.close = close_port,
	.status = status,
	.is_up = is_up,
	.rx_burst = rx_burst,
	.expect = expect,
	.rx_release = rx_release,
	.watch = watch,
	.arm = arm,
	.is_waiting = is_waiting,
	.tx_burst = tx_burst,
	.notify = notify,
};
