/* SPDX-License-Identifier: BSD-3-Clause */
/* The TAP port; port/tap.h is the contract. */
#include "port/tap.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "frame/vnet.h"
#include "port/opening.h"
#include "port/tap_device.h"

struct tap_config {
	/* A port must be closed and opened anew for a change of these. */
	struct {
		char interface[IFNAMSIZ];
		bool persist;
	} place;
	json_t *addresses;
	struct offload_switches offloads;
};

/* A frame that was read before the limiter would let it in waits here. */
struct pending {
	bool waits;
	struct virtio_net_hdr vnet;
	uint32_t length;
	uint8_t bytes[FRAME_LENGTH_MAX];
};

struct tap_queue {
	int fd;
	struct pending *pending; /* NULL: none ever waited; w: the worker of the rx side */
};

struct tap {
	struct tap_wish wish;
	struct tap_facts facts;
	struct tap_queue queues[];
};

/* ---- parameters ---- */

static int check_interface(const void *value, struct error *err)
{
	const char *name = value;

	if (name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	    strpbrk(name, "/: \t\n%") == NULL)
		return 0;
	error_detail(err, NULL, NULL, NULL,
		     "1 to 15 bytes without white space, '/', ':' and '%'; none for a name that "
		     "the kernel chooses");
	return -EINVAL;
}

static int check_addresses(const void *value, struct error *err)
{
	const char *accepted = "at most 16 of the form \"192.0.2.1/24\" or \"2001:db8::1/64\"";
	struct interface_address address;
	const json_t *element;
	json_t *list;
	size_t i;

	memcpy(&list, value, sizeof(list));
	if (json_array_size(list) > TAP_ADDRESSES_MAX) {
		error_detail(err, NULL, NULL, NULL, accepted);
		return -EINVAL;
	}
	json_array_foreach(list, i, element) {
		const char *text = json_string_value(element);

		if (text == NULL || interface_parse_address(text, &address) != 0) {
			error_detail(err, NULL, NULL, text, accepted);
			return -EINVAL;
		}
	}
	return 0;
}

static json_t *describe_addresses(void)
{
	return json_pack("{s:s, s:i, s:{s:s}}", "type", "array", "maxItems", TAP_ADDRESSES_MAX,
			 "items", "type", "string");
}

static const struct param params[] = {
	{ "interface", PARAM_STRING, PARAM_AT(struct tap_config, place.interface),
	  .check = check_interface,
	  .help = "name of the interface, at most 15 bytes; without it the kernel chooses one" },
	{ "persist", PARAM_BOOL, PARAM_AT(struct tap_config, place.persist), .initial = "false",
	  .help = "the interface stays when the port goes" },
	{ "addresses", PARAM_JSON, PARAM_AT(struct tap_config, addresses), .json_kind = JSON_ARRAY,
	  .check = check_addresses, .schema = describe_addresses,
	  .help = "IP addresses that the interface gets, as \"192.0.2.1/24\"" },
	{ "offloads", PARAM_OBJECT, PARAM_AT(struct tap_config, offloads), .fields = offload_params,
	  .help = "offloads that frames may need to and from the interface" },
	{ "fds", PARAM_LATER }, { "helper", PARAM_LATER }, { "bridge", PARAM_LATER },
	{ "netns", PARAM_LATER }, { "vnet_header", PARAM_LATER }, { "endian", PARAM_LATER },
	{ "sndbuf", PARAM_LATER }, { "up_script", PARAM_LATER }, { "down_script", PARAM_LATER },
	{ "steering", PARAM_LATER },
	{ NULL }
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

/* Reads a frame into the next slot. NULL: there is none, or no room for the largest. */
static struct frame *read_frame(int fd, struct burst *burst)
{
	struct virtio_net_hdr vnet;
	struct iovec parts[3] = {
		{ &vnet, sizeof(vnet) },
		{ burst->frames[burst->count].head, FRAME_HEAD_MAX },
		{ burst->scratch + burst->scratch_used, FRAME_LENGTH_MAX },
	};
	ssize_t length;

	if (burst->scratch_used + FRAME_LENGTH_MAX > BURST_SCRATCH)
		return NULL;
	do
		length = readv(fd, parts, 3);
	while (length < 0 && errno == EINTR);
	if (length < (ssize_t)sizeof(vnet))
		return NULL;
	return begin_frame(burst, &vnet, (uint32_t)(length - (ssize_t)sizeof(vnet)));
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

static bool is_readable(int fd)
{
	struct pollfd wish = { .fd = fd, .events = POLLIN };

	return poll(&wish, 1, 0) > 0 && (wish.revents & POLLIN);
}

static uint16_t rx_burst(struct port_queue *queue, struct burst *burst, uint16_t max)
{
	struct tap_queue *own = queue->driver;
	struct pending *pending = own->pending;

	burst_reset(burst);
	/* The kernel says what it was allowed to when it made the frame. */
	burst->allowed = NEEDS_ALL;
	if (burst->budget == 0) {
		burst->held = pending->waits || is_readable(own->fd);
		return 0;
	}
	while (burst->count < max) {
		struct frame *frame = pending->waits ? recall_frame(pending, burst)
						     : read_frame(own->fd, burst);

		if (frame == NULL)
			break;
		if (burst->budget != BURST_UNLIMITED &&
		    !burst_admits(burst, vnet_charge_bound(frame), burst->count == 0)) {
			if (!pending->waits)
				keep_frame(pending, frame);
			break;
		}
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

	return own->pending->waits || is_readable(own->fd);
}

/* Returns 0, or the errno of the kernel. */
static int write_frame(int fd, const struct frame *frame)
{
	struct iovec parts[2 + FRAME_VIEWS_MAX] = {
		{ (void *)(uintptr_t)&frame->vnet, sizeof(frame->vnet) },
		{ (void *)(uintptr_t)frame->head, frame->head_length },
	};
	ssize_t written;

	for (uint16_t i = 0; i < frame->view_count; i++) {
		parts[2 + i].iov_base = (void *)(uintptr_t)frame->views[i].address;
		parts[2 + i].iov_len = frame->views[i].length;
	}
	do
		written = writev(fd, parts, 2 + frame->view_count);
	while (written < 0 && errno == EINTR);
	return written < 0 ? errno : 0;
}

static int tx_burst(struct port_queue *queue, struct frame *const *frames, uint16_t count,
		    struct tx_outcome *outcome)
{
	const struct tap_queue *own = queue->driver;

	for (uint16_t i = 0; i < count; i++) {
		int errnum = write_frame(own->fd, frames[i]);

		if (errnum == EAGAIN)
			break;
		if (errnum != 0) {
			outcome->refused++;
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
	for (uint16_t i = 0; tap != NULL && i < port->queue_count; i++)
		free(tap->queues[i].pending);
	free(tap);
}

static void publish(struct port *port)
{
	const struct tap *tap = port->driver;
	uint16_t queues[PORT_QUEUES_MAX];

	for (uint16_t i = 0; i < port->queue_count; i++)
		queues[i] = i;
	port_set_tx(port, queues, port->queue_count, offload_needs(&tap->wish.offloads));
}

static int open_device(struct port *port, struct error *err)
{
	struct tap *tap = port->driver;
	int fds[PORT_QUEUES_MAX];
	int result = tap_device_open(&tap->wish, fds, port->queue_count, &tap->facts, err);

	for (uint16_t i = 0; result == 0 && i < port->queue_count; i++)
		tap->queues[i].fd = fds[i];
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

	for (uint16_t i = 0; i < port->queue_count; i++)
		close(tap->queues[i].fd);
}

static const struct opening_steps steps = {
	.open = open_device,
	.opened = finish_open,
	.close = close_device,
	.free = tap_free,
};

/* The largest MTU stands for none in particular: no TAP interface can have it. */
static uint32_t wanted_mtu(const struct port *port)
{
	return port->settings.mtu == PORT_MTU_MAX ? 0 : port->settings.mtu;
}

static void make_wish(const struct port *port, const struct tap_config *config,
		      struct tap_wish *wish)
{
	const json_t *element;
	size_t i;

	memset(wish, 0, sizeof(*wish));
	memcpy(wish->interface, config->place.interface, sizeof(wish->interface));
	wish->persist = config->place.persist;
	wish->mtu = wanted_mtu(port);
	wish->mac = port->settings.mac;
	wish->offloads = config->offloads;
	json_array_foreach(config->addresses, i, element)
		interface_parse_address(json_string_value(element),
				  &wish->addresses[wish->address_count++]);
}

static struct tap *tap_new(const struct port *port, const struct tap_config *config)
{
	struct tap *tap = calloc(1, sizeof(*tap) + port->queue_count * sizeof(tap->queues[0]));

	if (tap != NULL)
		make_wish(port, config, &tap->wish);
	return tap;
}

static int open_port(struct port *port, const void *settings, const json_t *remembered,
		     port_opened done, void *argument, struct error *err)
{
	struct tap *tap = tap_new(port, settings);

	(void)remembered;
	port->driver = tap;
	for (uint16_t i = 0; tap != NULL && i < port->queue_count; i++) {
		port->queues[i].driver = &tap->queues[i];
		/* Not resident before a frame has to wait. */
		tap->queues[i].pending = calloc(1, sizeof(struct pending));
		if (tap->queues[i].pending == NULL) {
			tap_free(port);
			tap = NULL;
		}
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

static void set(struct port *port, const void *settings, bool renegotiate)
{
	struct tap *tap = port->driver;
	const struct tap_config *config = settings;
	char name[IFNAMSIZ];
	struct error err;

	(void)renegotiate;
	if (tap == NULL)
		return;
	tap->wish.offloads = config->offloads;
	for (uint16_t i = 0; i < port->queue_count; i++)
		if (tap_device_offload(tap->queues[i].fd, &config->offloads) != 0)
			log_warning("tap", "port %s: its offloads cannot be set", port->name);
	if (!tap_device_is_there(tap->queues[0].fd, name))
		return;
	if (interface_set(name, wanted_mtu(port), &port->settings.mac, &err) != 0)
		log_warning("tap", "port %s: %s", port->name, err.message);
	else if (wanted_mtu(port) != 0)
		port->own_mtu = wanted_mtu(port);
	publish(port);
}

static bool is_lost(struct port *port, const char **reason)
{
	const struct tap *tap = port->driver;
	char name[IFNAMSIZ];

	*reason = NULL;
	if (tap == NULL || tap_device_is_there(tap->queues[0].fd, name))
		return false;
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
	char name[IFNAMSIZ], mac[18];
	const uint8_t *m;

	if (tap == NULL || !tap_device_is_there(tap->queues[0].fd, name))
		return;
	m = port->settings.mac.given ? port->settings.mac.mac : tap->facts.found.mac;
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
		 m[5]);
	json_object_set_new(object, "interface", json_string(name));
	json_object_set_new(object, "origin", json_string(tap->facts.made ? "made" : "taken over"));
	json_object_set_new(object, "mac", json_string(mac));
	json_object_set_new(object, "mtu", json_integer(port_mtu(port)));
}

const struct port_ops tap_ops = {
	.type = "tap",
	.params = params,
	.config_size = sizeof(struct tap_config),
	.place = offsetof(struct tap_config, place.interface),
	.place_key = "interface",
	.open = open_port,
	.can_set = can_set,
	.set = set,
	.is_lost = is_lost,
	.close = close_port,
	.status = status,
	.is_up = is_up,
	.rx_burst = rx_burst,
	.rx_release = rx_release,
	.watch = watch,
	.is_waiting = is_waiting,
	.tx_burst = tx_burst,
};
