/* SPDX-License-Identifier: BSD-3-Clause */
/* The ethdev port; port/ethdev.h is the contract. */
#include "port/ethdev.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_mbuf.h>

#include "base/log.h"
#include "frame/checksum.h"
#include "frame/parse.h"
#include "frame/vnet.h"
#include "port/ethdev_device.h"
#include "port/opening.h"

#define TCP_CHECKSUM 16 /* offset of the field */
#define UDP_CHECKSUM 6
#define IPV4_LENGTH 2
#define IPV4_CHECKSUM 10
#define IPV6_LENGTH 4
#define IPV6_HEADER 40

struct ethdev_config {
	/* A port must be closed and opened anew for a change of these. */
	struct {
		char device[ETHDEV_ARGUMENTS_SIZE];
		struct offload_switches offloads;
	} place;
	bool promiscuous, allmulticast;
};

/* w, r: the worker of the rx side, but for what lies before the first opening */
struct ethdev_queue {
	const struct ethdev_device *device;
	uint16_t count; /* received of the driver and not yet handed back */
	uint16_t taken; /* of them: in the burst; the others wait for the limiter */
	struct rte_mbuf *mbufs[BURST_MAX];
};

struct ethdev {
	struct ethdev_wish wish;
	struct ethdev_device device;
	struct ethdev_queue queues[];
};

/* ---- parameters ---- */

static int check_device(const void *value, struct error *err)
{
	return ethdev_check_arguments(value, err);
}

static const struct param params[] = {
	{ "device", PARAM_STRING, PARAM_AT(struct ethdev_config, place.device), .required = true,
	  .check = check_device,
	  .help = "a PCI address as \"0000:03:00.0\", \"vhost-net:IFNAME\", or a device of DPDK "
		  "with its arguments, at most 255 bytes" },
	{ "promiscuous", PARAM_BOOL, PARAM_AT(struct ethdev_config, promiscuous),
	  .initial = "true", .help = "the device receives frames to all addresses" },
	{ "allmulticast", PARAM_BOOL, PARAM_AT(struct ethdev_config, allmulticast),
	  .initial = "true", .help = "the device receives frames to all groups" },
	{ "offloads", PARAM_OBJECT, PARAM_AT(struct ethdev_config, place.offloads),
	  .fields = offload_params,
	  .help = "offloads that frames may need to and from the interface" },
	{ NULL }
};

/* ---- checksums as DPDK wants them ---- */

/* Bytes of the transport header and what follows, as the IP header says. */
static uint32_t transport_length(const uint8_t *head, const struct transport *found)
{
	const bool v4 = found->ethertype == ETHERTYPE_IPV4;
	const uint8_t *field = head + found->network + (v4 ? IPV4_LENGTH : IPV6_LENGTH);
	const uint32_t length = (uint32_t)(field[0] << 8 | field[1]) + (v4 ? 0 : IPV6_HEADER);

	return length - (uint32_t)(found->offset - found->network);
}

/* Where the transport's checksum is, from its header on; 0: not a transport that has one here. */
static uint16_t checksum_field(const struct transport *found)
{
	return found->fragment			  ? 0
	       : found->protocol == IPPROTO_TCP ? TCP_CHECKSUM
	       : found->protocol == IPPROTO_UDP ? UDP_CHECKSUM
						  : 0;
}

/* Writes the sum of the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1) into the checksum's field. */
static void put_pseudo_sum(uint8_t *head, const struct transport *found, uint32_t length)
{
	const bool v4 = found->ethertype == ETHERTYPE_IPV4;
	const uint8_t rest[8] = { (uint8_t)(length >> 24), (uint8_t)(length >> 16),
				  (uint8_t)(length >> 8), (uint8_t)length, 0, 0, 0,
				  found->protocol };
	uint64_t sum = checksum_add(0, head + found->network + (v4 ? 12 : 8), v4 ? 8 : 32);
	uint16_t field = checksum_fold(checksum_add(sum, rest, sizeof(rest)));

	memcpy(head + found->offset + checksum_field(found), &field, sizeof(field));
}

/* ---- receiving: on workers ---- */

/*
 * The driver vouches for a checksum that is not there, or has merged segments: says so as a sender
 * with these offloads would. The field becomes what that sender leaves there.
 */
static void take_offloads(struct burst *burst, struct frame *frame, const struct rte_mbuf *mbuf)
{
	struct virtio_net_hdr vnet = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM };
	struct transport found = { 0 };
	uint16_t field;

	if (parse_transport(frame, &found) != 0)
		return;
	field = checksum_field(&found);
	if (field == 0 || found.offset + field + 2 > frame->head_length)
		return;
	put_pseudo_sum(frame->head, &found, transport_length(frame->head, &found));
	vnet.csum_start = found.offset;
	vnet.csum_offset = field;
	if ((mbuf->ol_flags & RTE_MBUF_F_RX_LRO) && found.protocol == IPPROTO_TCP) {
		vnet.gso_type = found.ethertype == ETHERTYPE_IPV4 ? VIRTIO_NET_HDR_GSO_TCPV4
								  : VIRTIO_NET_HDR_GSO_TCPV6;
		vnet.gso_size = mbuf->tso_segsz;
	}
	frame_set_vnet(burst, frame, &vnet);
}

static bool has_offloads(const struct rte_mbuf *mbuf)
{
	return (mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_NONE ||
	       (mbuf->ol_flags & RTE_MBUF_F_RX_LRO);
}

/* Views of what follows the head, of which `skip` bytes are in the first buffers. */
static void add_views(struct burst *burst, struct frame *frame, const struct rte_mbuf *mbuf,
		      uint32_t skip)
{
	struct view *views = &burst->views[burst->view_count];

	frame->views = views;
	for (; mbuf != NULL; mbuf = mbuf->next) {
		const uint32_t length = rte_pktmbuf_data_len(mbuf);

		if (skip < length) {
			views[frame->view_count++] = (struct view){
				rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, skip),
				length - skip
			};
			skip = length;
		}
		skip -= length;
	}
}

/* In too many pieces: what follows the head is gathered. */
static void add_gathered(struct burst *burst, struct frame *frame, const struct rte_mbuf *mbuf)
{
	const uint32_t length = frame->length - frame->head_length;
	uint8_t *to = burst->scratch + burst->scratch_used;
	const void *from = rte_pktmbuf_read(mbuf, frame->head_length, length, to);

	if (from != NULL && from != to)
		memcpy(to, from, length);
	frame->views = &burst->views[burst->view_count];
	burst->views[burst->view_count] = (struct view){ to, length };
	frame->view_count = 1;
	burst->scratch_used += length;
}

/*
 * Makes a frame of the packet in the slot behind the burst's frames. False: there is no room for
 * its pieces.
 */
static bool make_frame(struct burst *burst, const struct rte_mbuf *mbuf)
{
	struct frame *frame = &burst->frames[burst->count];
	const uint32_t length = rte_pktmbuf_pkt_len(mbuf);
	const bool offloads = has_offloads(mbuf);
	const uint32_t head = RTE_MIN(length, offloads ? FRAME_HEAD_MAX : FRAME_HEAD_PLAIN);
	const void *from;

	memset(frame, 0, offsetof(struct frame, head));
	frame->segments = 1;
	frame->length = length;
	frame->head_length = (uint16_t)head;
	from = rte_pktmbuf_read(mbuf, 0, head, frame->head);
	if (from != NULL && from != frame->head)
		copy_short(frame->head, from, head);
	if (length < ETHERNET_HEADER || length > FRAME_LENGTH_MAX) {
		frame_drop(frame, length < ETHERNET_HEADER ? DROP_TOO_SHORT : DROP_TOO_LONG);
		frame->length = head;
		return true;
	}
	frame_drop(frame, DROP_NO_DESTINATION);
	if (mbuf->nb_segs > FRAME_VIEWS_MAX) {
		if (burst->scratch_used + length > BURST_SCRATCH)
			return false;
		add_gathered(burst, frame, mbuf);
	} else if (length > head) {
		if (mbuf->nb_segs > 1 && burst->view_count + mbuf->nb_segs > BURST_VIEWS)
			return false;
		add_views(burst, frame, mbuf, head);
	}
	if (offloads)
		take_offloads(burst, frame, mbuf);
	return true;
}

static uint16_t rx_burst(struct port_queue *queue, struct burst *burst, uint16_t max)
{
	struct ethdev_queue *own = queue->driver;

	burst_reset(burst);
	/* The device is the host's, and its peer trusted; vnet_check sees to the rest. */
	burst->allowed = NEEDS_ALL;
	if (own->count == 0)
		own->count = rte_eth_rx_burst(own->device->id, queue->index, own->mbufs,
					      RTE_MIN(max, BURST_MAX));
	if (burst->budget.bytes == 0) {
		burst->held = own->count > 0;
		return 0;
	}
	for (uint16_t i = 0; i < own->count; i++)
		rte_prefetch0(rte_pktmbuf_mtod(own->mbufs[i], void *));
	while (burst->count < RTE_MIN(own->count, max)) {
		const struct frame *frame = &burst->frames[burst->count];

		if (!make_frame(burst, own->mbufs[burst->count]) ||
		    !burst_admits(burst, frame, burst->count == 0))
			break;
		burst->view_count = (uint16_t)(burst->view_count + frame->view_count);
		burst->count++;
	}
	own->taken = burst->count;
	return burst->count;
}

static void rx_release(struct port_queue *queue)
{
	struct ethdev_queue *own = queue->driver;

	rte_pktmbuf_free_bulk(own->mbufs, own->taken);
	own->count = (uint16_t)(own->count - own->taken);
	memmove(own->mbufs, own->mbufs + own->taken, own->count * sizeof(own->mbufs[0]));
	own->taken = 0;
}

/* ---- transmitting: on workers ---- */

/* A packet that is being written: its buffers are filled one after another. */
struct packet {
	struct rte_mempool *pool;
	struct rte_mbuf *first, *last;
	uint32_t room; /* in each buffer */
};

static bool write_bytes(struct packet *packet, const uint8_t *bytes, uint32_t length)
{
	while (length > 0) {
		const uint32_t left = packet->room - packet->last->data_len;
		const uint32_t part = RTE_MIN(left, length);

		if (left == 0) {
			struct rte_mbuf *next = rte_pktmbuf_alloc(packet->pool);

			if (next == NULL)
				return false;
			packet->last->next = next;
			packet->last = next;
			packet->first->nb_segs++;
			continue;
		}
		memcpy(rte_pktmbuf_mtod_offset(packet->last, uint8_t *, packet->last->data_len),
		       bytes, part);
		packet->last->data_len = (uint16_t)(packet->last->data_len + part);
		packet->first->pkt_len += part;
		bytes += part;
		length -= part;
	}
	return true;
}

/* What the shortest frame on a wire has, without FCS: not every device makes up for less. */
#define SHORTEST 60

/* Returns NULL without buffers. */
static struct rte_mbuf *copy_frame(const struct ethdev_device *device, const struct frame *frame)
{
	static const uint8_t zeros[SHORTEST];
	struct rte_mbuf *first = rte_pktmbuf_alloc(device->pool);
	struct packet packet = { device->pool, first, first, device->room };
	bool good = first != NULL && write_bytes(&packet, frame->head, frame->head_length);

	for (uint16_t i = 0; good && i < frame->view_count; i++)
		good = write_bytes(&packet, frame->views[i].address, frame->views[i].length);
	if (good && frame->length < SHORTEST)
		good = write_bytes(&packet, zeros, SHORTEST - frame->length);
	if (good)
		return first;
	rte_pktmbuf_free(first);
	return NULL;
}

/* Completes a checksum that no driver could be told of, such as one of an inner header. */
static void fill_checksum(struct rte_mbuf *mbuf, uint32_t start, uint32_t field)
{
	uint16_t sum = 0;
	uint8_t bytes[2];

	rte_raw_cksum_mbuf(mbuf, start, rte_pktmbuf_pkt_len(mbuf) - start, &sum);
	sum = sum == 0xffff ? 0xffff : (uint16_t)~sum; /* never 0: RFC 768 */
	memcpy(bytes, &sum, sizeof(sum));
	for (uint32_t i = 0; i < sizeof(bytes); i++) {
		struct rte_mbuf *at = mbuf;
		uint32_t offset = start + field + i;

		while (offset >= at->data_len) {
			offset -= at->data_len;
			at = at->next;
		}
		*rte_pktmbuf_mtod_offset(at, uint8_t *, offset) = bytes[i];
	}
}

/*
 * Says in the packet's flags what the frame's header asks for. The headers are in the first buffer.
 * False: DPDK has no words for it.
 */
static bool put_offloads(const struct ethdev_device *device, struct rte_mbuf *mbuf,
			 const struct frame *frame)
{
	const struct virtio_net_hdr *vnet = &frame->vnet;
	uint8_t *head = rte_pktmbuf_mtod(mbuf, uint8_t *);
	struct transport found = { 0 };
	bool v4;

	if (parse_transport(frame, &found) != 0 || found.offset != vnet->csum_start ||
	    checksum_field(&found) != vnet->csum_offset || vnet->csum_offset == 0)
		return false;
	v4 = found.ethertype == ETHERTYPE_IPV4;
	/* Drivers take what follows IPv6's own header for the transport, but for virtio's. */
	if (!v4 && found.offset - found.network != IPV6_HEADER &&
	    strncmp(device->driver, "net_virtio", 10) != 0)
		return false;
	mbuf->l2_len = found.network;
	mbuf->l3_len = (uint16_t)(found.offset - found.network) & 0x1ff;
	mbuf->ol_flags |= v4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		mbuf->ol_flags |= found.protocol == IPPROTO_TCP ? RTE_MBUF_F_TX_TCP_CKSUM
								: RTE_MBUF_F_TX_UDP_CKSUM;
		return true;
	}
	mbuf->l4_len = (uint8_t)(vnet->hdr_len - found.offset);
	mbuf->tso_segsz = vnet->gso_size;
	mbuf->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
	/* The length is each segment's own, so it is not in the sum (rte_mbuf_core.h). */
	put_pseudo_sum(head, &found, 0);
	if (v4 && (device->tx_offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)) {
		mbuf->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
		memset(head + found.network + IPV4_CHECKSUM, 0, sizeof(uint16_t));
	}
	return true;
}

/* The frame as the driver takes it, or NULL and which count of the outcome says why. */
static struct rte_mbuf *make_packet(const struct ethdev_device *device, const struct frame *frame,
				    struct tx_outcome *outcome, uint16_t **why)
{
	struct rte_mbuf *mbuf;

	*why = &outcome->too_long;
	if (frame->length > (uint64_t)device->room * device->tx_segments)
		return NULL;
	*why = &outcome->no_buffer;
	mbuf = copy_frame(device, frame);
	if (mbuf == NULL || vnet_is_plain(&frame->vnet) || put_offloads(device, mbuf, frame))
		return mbuf;
	if (frame->vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		fill_checksum(mbuf, frame->vnet.csum_start, frame->vnet.csum_offset);
		return mbuf;
	}
	*why = &outcome->refused;
	rte_pktmbuf_free(mbuf);
	return NULL;
}

/* Packets on their way to the driver, made of as many frames one behind another. */
struct batch {
	const struct port_queue *queue;
	struct frame *const *frames; /* of the burst */
	uint16_t count;
	struct rte_mbuf *mbufs[BURST_MAX];
	uint16_t index[BURST_MAX]; /* of their frames */
};

/* Hands the packets over. False: for some there was no room. */
static bool send_batch(struct batch *batch, uint16_t id, struct tx_outcome *outcome)
{
	const uint16_t index = batch->queue->index;
	uint16_t done = 0;

	while (done < batch->count) {
		struct rte_mbuf **next = batch->mbufs + done;
		uint16_t left = (uint16_t)(batch->count - done);
		uint16_t ready = rte_eth_tx_prepare(id, index, next, left);
		uint16_t sent = rte_eth_tx_burst(id, index, next, ready);

		for (uint16_t i = 0; i < sent; i++) {
			const struct frame *frame = batch->frames[batch->index[done++]];

			outcome->packets++;
			outcome->segments += frame->segments;
			outcome->bytes += frame->length;
		}
		if (sent < ready) {
			rte_pktmbuf_free_bulk(batch->mbufs + done,
					      (unsigned int)(batch->count - done));
			return false;
		}
		if (done < batch->count) {
			outcome->refused++;
			outcome->lost |= UINT64_C(1) << batch->index[done];
			rte_pktmbuf_free(batch->mbufs[done++]);
		}
	}
	batch->count = 0;
	return true;
}

/* What finds no room are the last frames, as the contract wants: nothing behind is looked at. */
static int tx_burst(struct port_queue *queue, struct frame *const *frames, uint16_t count,
		    struct tx_outcome *outcome)
{
	const struct ethdev_queue *own = queue->driver;
	const uint16_t id = own->device->id;
	struct batch batch = { .queue = queue, .frames = frames };
	uint16_t *why;

	for (uint16_t i = 0; i < count; i++) {
		struct rte_mbuf *mbuf = make_packet(own->device, frames[i], outcome, &why);

		if (mbuf != NULL) {
			batch.index[batch.count] = i;
			batch.mbufs[batch.count++] = mbuf;
		} else if (send_batch(&batch, id, outcome)) {
			++*why;
			outcome->lost |= UINT64_C(1) << i;
		} else {
			return 0;
		}
	}
	send_batch(&batch, id, outcome);
	return 0;
}

/* ---- opening and closing ---- */

static void make_wish(const struct port *port, const struct port_settings *settings,
		      const struct ethdev_config *config, struct ethdev_wish *wish)
{
	memcpy(wish->arguments, config->place.device, sizeof(wish->arguments));
	wish->serial = port->serial;
	wish->queues = port->queue_count;
	wish->workers = port->worker_count;
	wish->mtu = port_wanted_mtu(settings);
	wish->mac = settings->mac;
	wish->promiscuous = config->promiscuous;
	wish->allmulticast = config->allmulticast;
	wish->offloads = config->place.offloads;
}

static int open_device(struct port *port, struct error *err)
{
	struct ethdev *ethdev = port->driver;

	return ethdev_open(&ethdev->wish, &ethdev->device, err);
}

static void finish_open(struct port *port)
{
	const struct ethdev *ethdev = port->driver;

	port->own_mtu = ethdev->device.mtu;
	port_set_tx(port, NULL, port->queue_count, ethdev->device.accepts);
}

static void close_device(struct port *port)
{
	struct ethdev *ethdev = port->driver;

	for (uint16_t i = 0; i < port->queue_count; i++)
		rte_pktmbuf_free_bulk(ethdev->queues[i].mbufs, ethdev->queues[i].count);
	ethdev_close(&ethdev->device);
}

static void ethdev_free(struct port *port)
{
	free(port->driver);
	port->driver = NULL;
}

static const struct opening_steps steps = {
	.open = open_device,
	.opened = finish_open,
	.close = close_device,
	.free = ethdev_free,
};

static int open_port(struct port *port, const void *config, const json_t *remembered,
		     port_opened done, void *argument, struct error *err)
{
	struct ethdev *ethdev =
		calloc(1, sizeof(*ethdev) + port->queue_count * sizeof(ethdev->queues[0]));

	(void)remembered;
	port->driver = ethdev;
	if (ethdev != NULL)
		make_wish(port, &port->settings, config, &ethdev->wish);
	for (uint16_t i = 0; ethdev != NULL && i < port->queue_count; i++) {
		ethdev->queues[i].device = &ethdev->device;
		port->queues[i].driver = &ethdev->queues[i];
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
	const struct ethdev_config *old = from, *new = to;

	/* All of it was zero before it was filled. */
	return memcmp(&old->place, &new->place, sizeof(old->place)) == 0;
}

static int check_set(struct port *port, const void *config, const struct port_settings *settings,
		     struct error *err)
{
	const struct ethdev *ethdev = port->driver;
	struct ethdev_wish wish = { .serial = 0 };

	make_wish(port, settings, config, &wish);
	return ethdev_check(&wish, &ethdev->device, err);
}

static void set(struct port *port, const void *config, bool renegotiate)
{
	struct ethdev *ethdev = port->driver;
	struct error err;

	(void)renegotiate;
	if (ethdev == NULL)
		return;
	make_wish(port, &port->settings, config, &ethdev->wish);
	if (ethdev_set(&ethdev->wish, &ethdev->device, &err) != 0)
		log_warning("ethdev", "port %s: %s", port->name, err.message);
	port->own_mtu = ethdev->device.mtu;
}

static bool is_lost(struct port *port, const char **reason)
{
	const struct ethdev *ethdev = port->driver;

	*reason = NULL;
	return ethdev != NULL && ethdev_is_lost(&ethdev->device, reason);
}

static bool is_up(struct port *port, const char **reason)
{
	const struct ethdev *ethdev = port->driver;

	*reason = "not open";
	if (ethdev == NULL || is_lost(port, reason))
		return false;
	*reason = "no link";
	return ethdev_has_link(&ethdev->device);
}

static void status(struct port *port, json_t *object)
{
	const struct ethdev *ethdev = port->driver;

	if (ethdev == NULL)
		return;
	json_object_set_new(object, "ethdev", ethdev_describe(&ethdev->device));
	json_object_set_new(object, "mtu", json_integer(port_mtu(port)));
}

static uint64_t missed(struct port *port)
{
	const struct ethdev *ethdev = port->driver;

	return ethdev != NULL ? ethdev_missed(&ethdev->device) : 0;
}

const struct port_ops ethdev_ops = {
	.type = "ethdev",
	.params = params,
	.config_size = sizeof(struct ethdev_config),
	.place = offsetof(struct ethdev_config, place.device),
	.place_key = "device",
	.waits = true,
	.open = open_port,
	.can_set = can_set,
	.check_set = check_set,
	.set = set,
	.is_lost = is_lost,
	.close = close_port,
	.status = status,
	.missed = missed,
	.is_up = is_up,
	.rx_burst = rx_burst,
	.rx_release = rx_release,
	.tx_burst = tx_burst,
};
