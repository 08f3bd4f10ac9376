/* SPDX-License-Identifier: BSD-3-Clause */
/* The TAP port; port/tap.h is the contract. */
#include "port/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/units.h"
#include "frame/vnet.h"
#include "port/opening.h"
#include "port/readable.h"
#include "port/tap_config.h"
#include "port/tap_device.h"

/* A frame that was read before the limiter would let it in waits here. */
struct pending {
	bool waits;
	struct virtio_net_hdr vnet;
	uint32_t length;
	uint8_t bytes[FRAME_LENGTH_MAX];
};

struct tap_queue {
	int fd;
	uint32_t header; /* bytes of the offload header before each frame: 0, 10 or 12 */
	bool swap;       /* its byte order is not this host's */
	bool active;     /* w: control; a queue that is not is detached from the interface */
	struct pending *pending; /* w: the worker of the rx side */
};

struct tap {
	struct tap_wish wish;
	struct tap_facts facts;
	int fds[PORT_QUEUES_MAX];
	struct tap_queue queues[];
};

/* ---- bursts: on workers ---- */

/*
 * The slot behind the burst's frames gets what is in its head and the scratch memory already, of
 * `length` bytes.
 */
static struct frame *begin_frame(struct burst *burst, const struct virtio_net_hdr *vnet,
				 uint32_t length)
{
	struct frame *frame = &burst->frames[burst->count];

	memset(frame, 0, offsetof(struct frame, head));
	frame_set_vnet(burst, frame, vnet);
	frame_drop(frame, length < ETHERNET_HEADER ? DROP_TOO_SHORT : DROP_NO_DESTINATION);
	frame->segments = 1;
	frame->length = length;
	frame->head_length = length < FRAME_HEAD_MAX ? (uint16_t)length : FRAME_HEAD_MAX;
	if (length > FRAME_HEAD_MAX) {
		struct view *view = &burst->views[burst->view_count];

		view->address = burst->scratch + burst->scratch_used;
		view->length = length - FRAME_HEAD_MAX;
		frame->views = view;
		frame->view_count = 1;
	}
	return frame;
}

/* The burst has the frame now. */
static void take_frame(struct burst *burst, const struct frame *frame)
{
	burst->count++;
	burst->view_count = (uint16_t)(burst->view_count + frame->view_count);
	if (frame->view_count > 0)
		burst->scratch_used += frame->views[0].length;
}

/* Between this host's byte order and the other one. */
static void swap_header(struct virtio_net_hdr *vnet)
{
	vnet->hdr_len = __builtin_bswap16(vnet->hdr_len);
	vnet->gso_size = __builtin_bswap16(vnet->gso_size);
	vnet->csum_start = __builtin_bswap16(vnet->csum_start);
	vnet->csum_offset = __builtin_bswap16(vnet->csum_offset);
}

/* Reads a frame into the next slot. NULL: there is none, or no room for the largest. */
static struct frame *read_frame(const struct tap_queue *own, struct burst *burst)
{
	struct virtio_net_hdr_mrg_rxbuf header = { .num_buffers = 0 };
	struct iovec parts[3] = {
		{ &header, own->header },
		{ burst->frames[burst->count].head, FRAME_HEAD_MAX },
		{ burst->scratch + burst->scratch_used, FRAME_LENGTH_MAX },
	};
	ssize_t length;

	if (burst->scratch_used + FRAME_LENGTH_MAX > BURST_SCRATCH)
		return NULL;
	do
		length = readv(own->fd, parts, 3);
	while (length < 0 && errno == EINTR);
	if (length < (ssize_t)own->header)
		return NULL;
	if (own->swap)
		swap_header(&header.hdr);
	return begin_frame(burst, &header.hdr, (uint32_t)length - own->header);
}

/* The frame that waited, in the first slot of a burst. */
static struct frame *recall_frame(const struct pending *pending, struct burst *burst)
{
	const uint32_t head = pending->length < FRAME_HEAD_MAX ? pending->length : FRAME_HEAD_MAX;

	memcpy(burst->frames[burst->count].head, pending->bytes, head);
	memcpy(burst->scratch + burst->scratch_used, pending->bytes + head, pending->length - head);
	return begin_frame(burst, &pending->vnet, pending->length);
}

/* The limiter does not let it in now. */
static void keep_frame(struct pending *pending, const struct frame *frame)
{
	pending->waits = true;
	pending->vnet = frame->vnet;
	pending->length = frame->length;
	memcpy(pending->bytes, frame->head, frame->head_length);
	if (frame->view_count > 0)
		memcpy(pending->bytes + frame->head_length, frame->views[0].address,
		       frame->views[0].length);
}

static uint16_t rx_burst(struct port_queue *queue, struct burst *burst, uint16_t max)
{
	struct tap_queue *own = queue->driver;
	struct pending *pending = own->pending;

	burst_reset(burst);
	/* The kernel says what it was allowed to when it made the frame, and may vouch for it. */
	burst->allowed = NEEDS_ALL;
	if (burst->budget.bytes == 0) {
		burst->held = pending->waits || readable(own->fd);
		return 0;
	}
	while (burst->count < max) {
		struct frame *frame = pending->waits ? recall_frame(pending, burst)
						     : read_frame(own, burst);

		if (frame == NULL)
			break;
		if (!burst_admits(burst, frame, burst->count == 0)) {
			if (!pending->waits)
				keep_frame(pending, frame);
			break;
		}
		/* Its queue was taken out of use while it waited. */
		if (pending->waits && !__atomic_load_n(&own->active, __ATOMIC_RELAXED))
			frame_drop(frame, DROP_DISABLED);
		pending->waits = false;
		take_frame(burst, frame);
	}
	return burst->count;
}

static void rx_release(struct port_queue *queue)
{
	(void)queue;
}

static int watch(struct port_queue *queue)
{
	const struct tap_queue *own = queue->driver;

	return own->fd;
}

static bool is_waiting(struct port_queue *queue)
{
	const struct tap_queue *own = queue->driver;

	return own->pending->waits || readable(own->fd);
}

/* Returns 0, or the errno of the kernel. */
static int write_frame(const struct tap_queue *own, const struct frame *frame)
{
	struct virtio_net_hdr_mrg_rxbuf header = { .hdr = frame->vnet };
	struct iovec parts[2 + FRAME_VIEWS_MAX] = {
		{ &header, own->header },
		{ (void *)(uintptr_t)frame->head, frame->head_length },
	};
	ssize_t written;

	if (own->swap)
		swap_header(&header.hdr);
	for (uint16_t i = 0; i < frame->view_count; i++) {
		parts[2 + i].iov_base = (void *)(uintptr_t)frame->views[i].address;
		parts[2 + i].iov_len = frame->views[i].length;
	}
	do
		written = writev(own->fd, parts, 2 + frame->view_count);
	while (written < 0 && errno == EINTR);
	return written < 0 ? errno : 0;
}

static int tx_burst(struct port_queue *queue, struct frame *const *frames, uint16_t count,
		    struct tx_outcome *outcome)
{
	const struct tap_queue *own = queue->driver;

	for (uint16_t i = 0; i < count; i++) {
		int errnum = write_frame(own, frames[i]);

		if (errnum == EAGAIN)
			break;
		if (errnum != 0) {
			outcome->refused++;
			outcome->lost |= UINT64_C(1) << i;
			continue;
		}
		outcome->packets++;
		outcome->segments += frames[i]->segments;
		outcome->bytes += frames[i]->length;
	}
	return 0;
}

/* ---- opening and closing ---- */

static void tap_free(struct port *port)
{
	struct tap *tap = port->driver;

	port->driver = NULL;
	for (uint16_t i = 0; tap != NULL && i < port->queue_count; i++) {
		free(tap->queues[i].pending);
		if (tap->fds[i] >= 0)
			close(tap->fds[i]);
	}
	free(tap);
}

/* What the queues and the other side of the switch must know of the wish that holds now. */
static void publish(struct port *port)
{
	struct tap *tap = port->driver;
	const uint32_t active = tap->wish.config.active_queues;
	uint16_t count = active != 0 ? (uint16_t)active : port->queue_count;
	uint32_t accepts = 0;

	for (uint16_t i = 0; i < port->queue_count; i++)
		__atomic_store_n(&tap->queues[i].active, i < count, __ATOMIC_RELAXED);
	if (tap->facts.header > 0)
		accepts = offload_needs(&tap->wish.config.offloads);
	if (tap->facts.uso)
		accepts |= NEEDS_USO;
	port_set_tx(port, NULL, count, accepts);
}

static int open_device(struct port *port, struct error *err)
{
	struct tap *tap = port->driver;
	int result;

	result = tap_device_open(&tap->wish, tap->fds, port->queue_count, &tap->facts, err);
	for (uint16_t i = 0; i < port->queue_count; i++) {
		struct tap_queue *queue = &tap->queues[i];

		queue->fd = tap->fds[i];
		queue->header = tap->facts.header;
		queue->swap = tap->facts.swap;
	}
	return result;
}

static void finish_open(struct port *port)
{
	const struct tap *tap = port->driver;

	port->own_mtu = tap->facts.found.mtu;
	publish(port);
}

/* Closing waits for the kernel, which lets nobody see the interface any more. */
static void close_device(struct port *port)
{
	struct tap *tap = port->driver;

	tap_device_close(&tap->wish, tap->fds, port->queue_count);
}

static const struct opening_steps steps = {
	.open = open_device,
	.opened = finish_open,
	.close = close_device,
	.free = tap_free,
};

static void make_wish(const struct port *port, const struct tap_config *config,
		      struct tap_wish *wish)
{
	const json_t *element;
	size_t i;

	memset(wish, 0, sizeof(*wish));
	wish->config = *config;
	wish->config.addresses = NULL;
	wish->mtu = port_wanted_mtu(&port->settings);
	wish->mac = port->settings.mac;
	json_array_foreach(config->addresses, i, element)
		interface_parse_address(json_string_value(element),
					&wish->addresses[wish->address_count++]);
}

/* Our own of the descriptors that came with the request, which must outlive a second opening. */
static int copy_descriptors(const struct port *port, int *fds, struct error *err)
{
	const struct descriptors *given = port->given;
	uint16_t i = 0;

	if (given == NULL) {
		error_set(err, ERROR_SYSTEM, EBADF,
			  "port %s was made of descriptors, which nobody has passed since the "
			  "switch was started", port->name);
		error_detail(err, NULL, "fds", NULL,
			     "port.add with \"replace\": true, and the descriptors with it");
		return -EBADF;
	}
	while (i < given->count && i < port->queue_count) {
		fds[i] = fcntl(given->fds[i], F_DUPFD_CLOEXEC, 0);
		if (fds[i] < 0)
			return error_set(err, ERROR_SYSTEM, errno,
					 "port %s: a descriptor cannot be copied: %s", port->name,
					 strerror(errno));
		i++;
	}
	return 0;
}

static struct tap *tap_new(struct port *port, const struct tap_config *config)
{
	struct tap *tap = calloc(1, sizeof(*tap) + port->queue_count * sizeof(tap->queues[0]));

	port->driver = tap;
	if (tap == NULL)
		return NULL;
	make_wish(port, config, &tap->wish);
	memset(tap->fds, 0xff, sizeof(tap->fds));
	for (uint16_t i = 0; i < port->queue_count; i++) {
		port->queues[i].driver = &tap->queues[i];
		/* Not resident before a frame has to wait. */
		tap->queues[i].pending = calloc(1, sizeof(struct pending));
		if (tap->queues[i].pending != NULL)
			continue;
		tap_free(port);
		return NULL;
	}
	return tap;
}

static int open_port(struct port *port, const void *settings, const json_t *remembered,
		     port_opened done, void *argument, struct error *err)
{
	const struct tap_config *config = settings;
	struct tap *tap = tap_new(port, config);

	(void)remembered;
	if (tap != NULL && config->place.fds > 0 && copy_descriptors(port, tap->fds, err) != 0) {
		tap_free(port);
		return -err->errnum;
	}
	return opening_start(port, &steps, done, argument, err);
}

static void close_port(struct port *port, void (*done)(void *argument), void *argument)
{
	opening_end(port, &steps, done, argument);
}

/* ---- changes ---- */

static bool can_set(const void *from, const void *to)
{
	const struct tap_config *old = from, *new = to;

	/* All of it was zero before it was filled. */
	return memcmp(&old->place, &new->place, sizeof(old->place)) == 0 &&
	       (old->addresses == new->addresses || json_equal(old->addresses, new->addresses));
}

static int check_set(struct port *port, const void *config, const struct port_settings *settings,
		     struct error *err)
{
	(void)port;
	return tap_device_check(config, port_wanted_mtu(settings), err);
}

/* Whoever has the interface may have changed its MTU meanwhile. */
static void follow_mtu(struct port *port)
{
	const struct tap *tap = port->driver;
	uint32_t mtu = tap_device_mtu(tap->fds[0]);

	if (mtu != 0)
		port->own_mtu = mtu;
}

static void set(struct port *port, const void *settings, bool renegotiate)
{
	struct tap *tap = port->driver;
	struct error err;
	uint32_t old_mtu;
	bool had_mac;

	(void)renegotiate;
	if (tap == NULL)
		return;
	old_mtu = tap->wish.mtu;
	had_mac = tap->wish.mac.given;
	make_wish(port, settings, &tap->wish);
	tap->wish.mtu_left = old_mtu != 0;
	tap->wish.mac_left = had_mac;
	if (tap_device_change(&tap->wish, tap->fds, port->queue_count, &tap->facts, &err) != 0)
		log_warning("tap", "port %s: %s", port->name, err.message);
	follow_mtu(port);
	publish(port);
}

static bool is_lost(struct port *port, const char **reason)
{
	const struct tap *tap = port->driver;
	char name[IFNAMSIZ];

	*reason = NULL;
	if (tap == NULL)
		return false;
	if (tap_device_is_there(tap->fds[0], name)) {
		follow_mtu(port);
		return false;
	}
	*reason = "the interface was deleted";
	return true;
}

static bool is_up(struct port *port, const char **reason)
{
	*reason = "not open";
	return port->driver != NULL && !is_lost(port, reason);
}

static void status(struct port *port, json_t *object)
{
	const struct tap *tap = port->driver;
	char name[IFNAMSIZ], mac[MAC_TEXT_SIZE];

	if (tap == NULL || !tap_device_is_there(tap->fds[0], name))
		return;
	mac_format(port->settings.mac.given ? port->settings.mac.mac : tap->facts.found.mac, mac);
	json_object_set_new(object, "interface", json_string(name));
	json_object_set_new(object, "origin", json_string(tap->facts.origin));
	json_object_set_new(object, "mac", json_string(mac));
	json_object_set_new(object, "mtu", json_integer(port_mtu(port)));
	json_object_set_new(object, "vnet_header", json_integer(tap->facts.header));
	json_object_set_new(object, "active_queues", json_integer(port->tx_ready));
}

const struct port_ops tap_ops = {
	.type = "tap",
	.params = tap_params,
	.config_size = sizeof(struct tap_config),
	.place = offsetof(struct tap_config, place.interface),
	.place_key = "interface",
	.space = offsetof(struct tap_config, place.netns),
	.check = tap_config_check,
	.open = open_port,
	.can_set = can_set,
	.check_set = check_set,
	.set = set,
	.is_lost = is_lost,
	.close = close_port,
	.status = status,
	.is_up = is_up,
	.rx_burst = rx_burst,
	.rx_release = rx_release,
	.watch = watch,
	.is_waiting = is_waiting,
	.parallel = true,
	.tx_burst = tx_burst,
};
