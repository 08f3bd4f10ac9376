/* SPDX-License-Identifier: BSD-3-Clause */
/* The AF_PACKET port; port/af_packet.h is the contract. */
#include "port/af_packet.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "frame/vnet.h"
#include "port/interface.h"
#include "port/offloads.h"
#include "port/opening.h"
#include "port/packet_socket.h"
#include "port/readable.h"

/* Frames that are received at a time. */
#define SLOTS 32
#define TAG_LENGTH 4
#define ADDRESSES_LENGTH (2 * ETH_ALEN)

struct af_packet_config {
	char interface[IFNAMSIZ];
	bool promiscuous;
	struct offload_switches offloads;
};

/*
 * A frame as the kernel handed it over. Such that the limiter does not let in yet wait here for the
 * next burst.
 */
struct slot {
	struct virtio_net_hdr vnet;
	uint8_t auxiliary[CMSG_SPACE(sizeof(struct tpacket_auxdata))]
		__attribute__((aligned(sizeof(size_t))));
	uint8_t bytes[FRAME_LENGTH_MAX];
};

struct packet_queue {
	int fd;

	/* w: the worker of the rx side */
	uint16_t next, filled; /* slots: those from `next` to `filled` are not taken yet */
	struct mmsghdr received[SLOTS];
	struct iovec received_parts[SLOTS][2];
	struct slot slots[SLOTS];

	/* w: who sends */
	struct mmsghdr sent[BURST_MAX];
	struct iovec sent_parts[BURST_MAX * (2 + FRAME_VIEWS_MAX)];
};

struct af_packet {
	struct af_packet_config config;
	int fds[PORT_QUEUES_MAX];
	int group;             /* of sockets, -1: there is but one */
	uint64_t kernel_drops; /* frames that found no room in the sockets */
	struct packet_queue *queues[];
};

/* ---- parameters ---- */

static const struct param params[] = {
	{ "interface", PARAM_STRING, PARAM_AT(struct af_packet_config, interface),
	  .required = true, .check = interface_check_name,
	  .help = "name of the interface, at most 15 bytes; it must be there, and stays the "
		  "kernel's" },
	{ "promiscuous", PARAM_BOOL, PARAM_AT(struct af_packet_config, promiscuous),
	  .initial = "true",
	  .help = "frames for any station come in, not only those for the interface's own "
		  "address, groups and all" },
	{ "offloads", PARAM_OBJECT, PARAM_AT(struct af_packet_config, offloads),
	  .fields = offload_params,
	  .help = "offloads that frames to the interface may need; what comes from it has those "
		  "of the kernel" },
	{ NULL }
};

/* ---- bursts: on workers ---- */

/*
 * Fills the slots, all of which have been taken. A frame whose offloads no header can express is
 * lost in the kernel, which says so with EINVAL: it becomes an empty slot. Returns whether any are
 * filled.
 */
static bool receive(struct packet_queue *own)
{
	int count;

	do
		count = recvmmsg(own->fd, own->received, SLOTS, MSG_DONTWAIT, NULL);
	while (count < 0 && errno == EINTR);
	if (count < 0 && errno == EINVAL) {
		own->received[0].msg_len = 0;
		count = 1;
	}
	own->next = 0;
	own->filled = count > 0 ? (uint16_t)count : 0;
	return count > 0;
}

/* The tag that the kernel took out of the frame, as it stands in one; NULL: there was none. */
static const uint8_t *find_tag(struct msghdr *message, uint8_t tag[TAG_LENGTH])
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	struct tpacket_auxdata data;
	uint16_t type = ETH_P_8021Q;

	if (header == NULL || header->cmsg_level != SOL_PACKET ||
	    header->cmsg_type != PACKET_AUXDATA || header->cmsg_len < CMSG_LEN(sizeof(data)))
		return NULL;
	memcpy(&data, CMSG_DATA(header), sizeof(data));
	if (!(data.tp_status & TP_STATUS_VLAN_VALID))
		return NULL;
	if (data.tp_status & TP_STATUS_VLAN_TPID_VALID)
		type = data.tp_vlan_tpid;
	tag[0] = (uint8_t)(type >> 8);
	tag[1] = (uint8_t)type;
	tag[2] = (uint8_t)(data.tp_vlan_tci >> 8);
	tag[3] = (uint8_t)data.tp_vlan_tci;
	return tag;
}

/* Copies the first bytes of the frame, so many with the tag. */
static void copy_head(uint8_t *head, const uint8_t *bytes, uint16_t length, const uint8_t *tag)
{
	if (tag == NULL) {
		copy_short(head, bytes, length);
		return;
	}
	memcpy(head, bytes, ADDRESSES_LENGTH);
	memcpy(head + ADDRESSES_LENGTH, tag, TAG_LENGTH);
	copy_short(head + ADDRESSES_LENGTH + TAG_LENGTH, bytes + ADDRESSES_LENGTH,
		   length - ADDRESSES_LENGTH - TAG_LENGTH);
}

/* Makes the next slot's frame the one behind the burst's. */
static struct frame *read_slot(struct packet_queue *own, struct burst *burst)
{
	struct mmsghdr *message = &own->received[own->next];
	const struct slot *slot = &own->slots[own->next];
	struct frame *frame = &burst->frames[burst->count];
	const uint32_t vnet_length = sizeof(slot->vnet);
	uint32_t length = message->msg_len > vnet_length ? message->msg_len - vnet_length : 0;
	uint8_t bytes[TAG_LENGTH];
	const uint8_t *tag = length < ETHERNET_HEADER ? NULL
						      : find_tag(&message->msg_hdr, bytes);
	const uint16_t added = tag != NULL ? TAG_LENGTH : 0;

	memset(frame, 0, offsetof(struct frame, head));
	frame->segments = 1;
	frame->length = length + added;
	frame->head_length =
		frame->length < FRAME_HEAD_MAX ? (uint16_t)frame->length : FRAME_HEAD_MAX;
	copy_head(frame->head, slot->bytes, frame->head_length, tag);
	if (frame->length > frame->head_length) {
		struct view *view = &burst->views[burst->view_count];

		view->address = slot->bytes + frame->head_length - added;
		view->length = frame->length - frame->head_length;
		frame->views = view;
		frame->view_count = 1;
	}
	frame_drop(frame, length < ETHERNET_HEADER ? DROP_TOO_SHORT : DROP_NO_DESTINATION);
	if (message->msg_len == 0)
		frame_drop(frame, DROP_BAD_OFFLOAD);
	else if (message->msg_hdr.msg_flags & MSG_TRUNC || frame->length > FRAME_LENGTH_MAX)
		frame_drop(frame, DROP_TOO_LONG);
	else if (!frame_set_vnet(burst, frame, &slot->vnet))
		frame->vnet.csum_start = (uint16_t)(frame->vnet.csum_start + added);
	return frame;
}

/* The burst has the frame now, and the slot's header is ready for another one. */
static void take_slot(struct packet_queue *own, struct burst *burst, const struct frame *frame)
{
	own->received[own->next].msg_hdr.msg_controllen = sizeof(own->slots[0].auxiliary);
	own->next++;
	burst->count++;
	burst->view_count = (uint16_t)(burst->view_count + frame->view_count);
}

static bool is_waiting(struct port_queue *queue)
{
	const struct packet_queue *own = queue->driver;

	return own->next < own->filled || readable(own->fd);
}

static uint16_t rx_burst(struct port_queue *queue, struct burst *burst, uint16_t max)
{
	struct packet_queue *own = queue->driver;

	burst_reset(burst);
	/* The kernel says what it was allowed to when it made the frame. */
	burst->allowed = NEEDS_ALL;
	if (burst->budget.bytes == 0) {
		burst->held = is_waiting(queue);
		return 0;
	}
	if (own->next == own->filled && !receive(own))
		return 0;
	while (burst->count < max && own->next < own->filled) {
		const struct frame *frame = read_slot(own, burst);

		if (!burst_admits(burst, frame, burst->count == 0))
			break;
		take_slot(own, burst, frame);
	}
	return burst->count;
}

/* What the burst's views lie in is read into by the next rx_burst at the earliest. */
static void rx_release(struct port_queue *queue)
{
	(void)queue;
}

static int watch(struct port_queue *queue)
{
	const struct packet_queue *own = queue->driver;

	return own->fd;
}

/* Describes the frames to the kernel. */
static void prepare(struct packet_queue *own, struct frame *const *frames, uint16_t count)
{
	struct iovec *part = own->sent_parts;

	for (uint16_t i = 0; i < count; i++) {
		const struct frame *frame = frames[i];

		own->sent[i].msg_hdr = (struct msghdr){ .msg_iov = part,
							.msg_iovlen = 2u + frame->view_count };
		*part++ = (struct iovec){ (void *)(uintptr_t)&frame->vnet, sizeof(frame->vnet) };
		*part++ = (struct iovec){ (void *)(uintptr_t)frame->head, frame->head_length };
		for (uint16_t v = 0; v < frame->view_count; v++)
			*part++ = (struct iovec){ (void *)(uintptr_t)frame->views[v].address,
						  frame->views[v].length };
	}
}

static void count_sent(struct frame *const *frames, uint16_t count, struct tx_outcome *outcome)
{
	outcome->packets = (uint16_t)(outcome->packets + count);
	for (uint16_t i = 0; i < count; i++) {
		outcome->segments += frames[i]->segments;
		outcome->bytes += frames[i]->length;
	}
}

static int tx_burst(struct port_queue *queue, struct frame *const *frames, uint16_t count,
		    struct tx_outcome *outcome)
{
	struct packet_queue *own = queue->driver;
	uint16_t done = 0;

	prepare(own, frames, count);
	while (done < count) {
		int sent = sendmmsg(own->fd, own->sent + done, count - done, MSG_DONTWAIT);

		if (sent > 0) {
			count_sent(frames + done, (uint16_t)sent, outcome);
			done = (uint16_t)(done + sent);
		} else if (errno == EAGAIN || errno == ENOBUFS) {
			break;
		} else if (errno != EINTR) {
			/* About the first frame alone. */
			if (errno == EMSGSIZE)
				outcome->too_long++;
			else
				outcome->refused++;
			outcome->lost |= UINT64_C(1) << done++;
		}
	}
	return 0;
}

/* ---- opening and closing ---- */

static void free_port(struct port *port)
{
	struct af_packet *own = port->driver;

	port->driver = NULL;
	for (uint16_t i = 0; own != NULL && i < port->queue_count; i++)
		free(own->queues[i]);
	free(own);
}

static int open_sockets(struct port *port, struct error *err)
{
	struct af_packet *own = port->driver;
	int result = packet_socket_open(own->config.interface, own->config.promiscuous, own->fds,
					port->queue_count, &own->group, err);

	for (uint16_t i = 0; result == 0 && i < port->queue_count; i++)
		own->queues[i]->fd = own->fds[i];
	return result;
}

static void publish(struct port *port)
{
	const struct af_packet *own = port->driver;

	port_set_tx(port, NULL, port->queue_count, offload_needs(&own->config.offloads));
}

static uint64_t missed(struct port *port)
{
	struct af_packet *own = port->driver;

	if (own == NULL)
		return 0;
	for (uint16_t i = 0; i < port->queue_count; i++)
		own->kernel_drops += packet_socket_take_drops(own->fds[i]);
	return own->kernel_drops;
}

/* Looks at the interface and takes over what has changed; false: it is gone. */
static bool look(struct port *port, struct packet_link *link)
{
	const struct af_packet *own = port->driver;

	/* The kernel counts them in 32 bits. */
	(void)missed(port);
	if (!packet_socket_find(own->fds[0], link))
		return false;
	port->own_mtu = link->mtu;
	return true;
}

static void finish_open(struct port *port)
{
	struct packet_link link;

	look(port, &link);
	publish(port);
}

static void close_sockets(struct port *port)
{
	const struct af_packet *own = port->driver;

	for (uint16_t i = 0; i < port->queue_count; i++)
		close(own->fds[i]);
}

static const struct opening_steps steps = {
	.open = open_sockets,
	.opened = finish_open,
	.close = close_sockets,
	.free = free_port,
};

/* Most of it is not resident before frames need it. */
static struct packet_queue *queue_new(void)
{
	struct packet_queue *own = calloc(1, sizeof(*own));

	for (int i = 0; own != NULL && i < SLOTS; i++) {
		struct slot *slot = &own->slots[i];
		struct iovec *parts = own->received_parts[i];

		parts[0] = (struct iovec){ &slot->vnet, sizeof(slot->vnet) };
		parts[1] = (struct iovec){ slot->bytes, sizeof(slot->bytes) };
		own->received[i].msg_hdr =
			(struct msghdr){ .msg_iov = parts,
					 .msg_iovlen = 2,
					 .msg_control = slot->auxiliary,
					 .msg_controllen = sizeof(slot->auxiliary) };
	}
	return own;
}

static int open_port(struct port *port, const void *config, const json_t *remembered,
		     port_opened done, void *argument, struct error *err)
{
	struct af_packet *own =
		calloc(1, sizeof(*own) + port->queue_count * sizeof(own->queues[0]));

	(void)remembered;
	port->driver = own;
	if (own != NULL)
		own->config = *(const struct af_packet_config *)config;
	for (uint16_t i = 0; port->driver != NULL && i < port->queue_count; i++) {
		own->queues[i] = queue_new();
		port->queues[i].driver = own->queues[i];
		if (own->queues[i] == NULL)
			free_port(port);
	}
	return opening_start(port, &steps, done, argument, err);
}

static void close_port(struct port *port, void (*done)(void *argument), void *argument)
{
	opening_end(port, &steps, done, argument);
}

/* ---- changes and questions: on the control thread ---- */

static bool can_set(const void *from, const void *to)
{
	const struct af_packet_config *old = from, *new = to;

	return strcmp(old->interface, new->interface) == 0;
}

static void set(struct port *port, const void *config, bool renegotiate)
{
	struct af_packet *own = port->driver;
	bool was_promiscuous;

	(void)renegotiate;
	if (own == NULL)
		return;
	was_promiscuous = own->config.promiscuous;
	own->config = *(const struct af_packet_config *)config;
	publish(port);
	if (own->config.promiscuous != was_promiscuous &&
	    packet_socket_set_promiscuous(own->fds, port->queue_count,
					  own->config.promiscuous) != 0)
		log_warning("af_packet", "port %s: \"promiscuous\" cannot be set", port->name);
}

static const char gone[] = "the interface was deleted or moved away";

static bool is_lost(struct port *port, const char **reason)
{
	struct packet_link link;

	*reason = NULL;
	if (port->driver == NULL || look(port, &link))
		return false;
	*reason = gone;
	return true;
}

static bool is_up(struct port *port, const char **reason)
{
	struct packet_link link;

	if (port->driver == NULL)
		*reason = "not open";
	else if (!look(port, &link))
		*reason = gone;
	else if (!link.up)
		*reason = "the interface is down";
	else if (!link.carrier)
		*reason = "the interface has no carrier";
	else
		return true;
	return false;
}

static void status(struct port *port, json_t *object)
{
	const struct af_packet *own = port->driver;
	struct packet_link link;

	if (own == NULL || !look(port, &link))
		return;
	json_object_set_new(object, "interface", json_string(link.name));
	json_object_set_new(object, "mtu", json_integer(port_mtu(port)));
	json_object_set_new(object, "promiscuous", json_boolean(own->config.promiscuous));
	json_object_set_new(object, "kernel",
			    json_pack("{s:i, s:b, s:b, s:I}", "index", link.index, "up", link.up,
				      "carrier", link.carrier, "mtu", (json_int_t)link.mtu));
	json_object_set_new(object, "kernel_drops", json_integer((json_int_t)missed(port)));
	json_object_set_new(object, "fanout",
			    own->group >= 0 ? json_integer(own->group) : json_null());
}

const struct port_ops af_packet_ops = {
	.type = "af_packet",
	.params = params,
	.config_size = sizeof(struct af_packet_config),
	.place = offsetof(struct af_packet_config, interface),
	.place_key = "interface",
	.open = open_port,
	.can_set = can_set,
	.set = set,
	.is_lost = is_lost,
	.close = close_port,
	.status = status,
	.missed = missed,
	.is_up = is_up,
	.rx_burst = rx_burst,
	.rx_release = rx_release,
	.watch = watch,
	.is_waiting = is_waiting,
	.tx_burst = tx_burst,
};
