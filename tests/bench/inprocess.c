/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The worker's way of a frame in one process and thread: a guest sends bursts of 32 frames over its
 * transmit ring, worker_visit carries them to another guest's ring. The work is the same in every
 * run, so that its instructions can be counted, as count.sh does:
 *
 *     valgrind --tool=callgrind --toggle-collect=worker_visit inprocess --frames 32000 --size 64
 *
 * With --guard LEVEL guards of the guests look at each frame, with --limits their ports have all
 * four limits, which nothing exceeds.
 *
 * With --idle N the worker's loop does the visits, and N more guests say nothing. With --vlan both
 * guests are in one VLAN: by access ports, or the second by a trunk, where each frame gets a tag.
 *
 * Guests are simulated between the visits with as little work as possible: buffers, descriptors and
 * available rings are written once, and only indices or flags move. The time that is printed is
 * that of the whole, with warm caches and no other core: it compares two builds, not two switches.
 */
#include <getopt.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "port/features.h"
#include "port/port.h"
#include "virtqueue/virtqueue.h"
#include "worker/worker.h"

#define BURST 32
#define RING 256
#define HEADER sizeof(struct virtio_net_hdr_mrg_rxbuf)
#define RING_FEATURES (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_NET_F_MRG_RXBUF |               \
		       1ull << VIRTIO_RING_F_INDIRECT_DESC)
#define OFFLOAD_FEATURES                                                                           \
	(1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_GUEST_CSUM |                             \
	 1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6 |                         \
	 1ull << VIRTIO_NET_F_HOST_ECN | 1ull << VIRTIO_NET_F_HOST_UFO |                           \
	 1ull << VIRTIO_NET_F_GUEST_TSO4 | 1ull << VIRTIO_NET_F_GUEST_TSO6 |                       \
	 1ull << VIRTIO_NET_F_GUEST_ECN | 1ull << VIRTIO_NET_F_GUEST_UFO)
#define GUEST_START 0x40000000ull

struct options {
	unsigned long frames;
	uint32_t size;
	uint16_t idle; /* guests beside the two */
	bool packed;
	bool offloads; /* both guests have negotiated them all */
	bool partial;  /* each frame has a partial checksum */
	bool limits;   /* each port has all that there are, and its excess queues */
	enum guard_level guard;
	const char *vlan; /* the second guest's kind of port; NULL: no VLANs */
};

/*
 * One ring with its memory: RING descriptors, each with a buffer of its own, which the guest makes
 * available in this order over and over again.
 */
struct ring {
	bool packed;
	union {
		struct {
			struct vring_desc *desc;
			struct vring_avail *avail;
			struct vring_used *used;
		} split;
		struct vring_packed_desc *descs; /* packed */
	};
	uint16_t offered, taken; /* by the guest: made available, seen used */
	uint16_t direction;      /* VRING_DESC_F_WRITE or 0 */
	uint32_t length;         /* of each buffer */
	uint8_t *buffers;
	uint32_t stride;
	struct guest_memory memory;
	struct virtqueue vq;
};

struct guest {
	struct ring out, in; /* as the guest sees it: what it sends, what it receives */
	struct port *port;
};

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "inprocess: %s\n", what);
	exit(1);
}

/* ---- a port type over two rings ---- */

static uint16_t rx_burst(struct port_queue *queue, struct burst *burst, uint16_t max)
{
	struct guest *guest = queue->driver;

	burst->allowed = guest->out.vq.sends;
	return virtqueue_rx_burst(&guest->out.vq, burst, max);
}

static void expect(struct port_queue *queue, enum port_direction direction, unsigned int step)
{
	struct guest *guest = queue->driver;

	if (direction == PORT_RX)
		virtqueue_rx_expect(&guest->out.vq, step);
	else
		virtqueue_tx_expect(&guest->in.vq, step);
}

static void rx_release(struct port_queue *queue)
{
	struct guest *guest = queue->driver;

	virtqueue_rx_release(&guest->out.vq);
}

static int tx_burst(struct port_queue *queue, struct frame *const *frames, uint16_t count,
		    struct tx_outcome *outcome)
{
	struct guest *guest = queue->driver;

	virtqueue_tx_burst(&guest->in.vq, frames, count, outcome);
	return 0;
}

static bool notify(struct port_queue *queue, enum port_direction direction)
{
	struct guest *guest = queue->driver;

	return virtqueue_wants_interrupt(direction == PORT_RX ? &guest->out.vq : &guest->in.vq);
}

static const struct port_ops ops = {
	.type = "bench",
	.rx_burst = rx_burst,
	.expect = expect,
	.rx_release = rx_release,
	.tx_burst = tx_burst,
	.notify = notify,
};

/* ---- guests ---- */

static size_t round_up(size_t value)
{
	return (value + 63) / 64 * 64;
}

static uint64_t features_of(const struct options *options)
{
	return RING_FEATURES | (options->offloads ? OFFLOAD_FEATURES : 0) |
	       (options->packed ? 1ull << VIRTIO_F_RING_PACKED : 0);
}

/* In the lap of this position, a packed descriptor's flag that says "available" or "used" is on. */
static bool is_set_in_lap(uint16_t position)
{
	return position / RING % 2 == 0;
}

static void offer_packed(struct ring *ring, uint16_t position)
{
	const bool set = is_set_in_lap(position);

	ring->descs[position % RING].len = ring->length;
	ring->descs[position % RING].id = position % RING;
	ring->descs[position % RING].flags =
		(uint16_t)(ring->direction | set << VRING_PACKED_DESC_F_AVAIL |
			   !set << VRING_PACKED_DESC_F_USED);
}

/* The guest makes the next `count` buffers available. */
static void offer(struct ring *ring, uint16_t count)
{
	if (ring->packed) {
		for (uint16_t i = 0; i < count; i++)
			offer_packed(ring, (uint16_t)(ring->offered + i));
	}
	ring->offered = (uint16_t)(ring->offered + count);
	if (!ring->packed)
		ring->split.avail->idx = ring->offered;
}

static bool is_used(const struct ring *ring, uint16_t position)
{
	const uint16_t flags = ring->descs[position % RING].flags;
	const bool set = is_set_in_lap(position);

	return (flags >> VRING_PACKED_DESC_F_AVAIL & 1) == set &&
	       (flags >> VRING_PACKED_DESC_F_USED & 1) == set;
}

/* Returns how many buffers were used since the last call. */
static uint16_t take_used(struct ring *ring)
{
	const uint16_t before = ring->taken;

	if (!ring->packed)
		ring->taken = ring->split.used->idx;
	else
		while (ring->taken != ring->offered && is_used(ring, ring->taken))
			ring->taken++;
	return (uint16_t)(ring->taken - before);
}

static void ring_init(struct ring *ring, const struct options *options, uint16_t direction)
{
	const size_t desc = RING * sizeof(struct vring_desc);
	const size_t avail = round_up(6 + 2 * RING), used = round_up(6 + 8 * RING);
	struct virtqueue_setup setup = { .size = RING,
					 .features = features_of(options),
					 .base = VIRTQUEUE_BASE_FRESH };
	const char *reason;
	uint8_t *memory;
	size_t total;

	ring->packed = options->packed;
	ring->direction = direction;
	ring->length = (uint32_t)HEADER + options->size;
	if (direction != 0 && options->vlan != NULL)
		ring->length += 4; /* a tag */
	ring->stride = (uint32_t)round_up(ring->length);
	total = desc + avail + used + (size_t)RING * ring->stride;
	memory = aligned_alloc(64, round_up(total));
	if (memory == NULL)
		fail("out of memory");
	memset(memory, 0, total);
	setup.desc = memory;
	setup.avail = memory + desc;
	setup.used = memory + desc + avail;
	setup.memory = &ring->memory;
	ring->buffers = memory + desc + avail + used;
	ring->memory.count = 1;
	ring->memory.regions[0] = (struct guest_region){ GUEST_START, total, memory };
	for (uint16_t i = 0; i < RING; i++) {
		/* The address is at the same place in both layouts. */
		((struct vring_desc *)setup.desc)[i] = (struct vring_desc){
			.addr = GUEST_START + desc + avail + used + (size_t)i * ring->stride,
			.len = ring->length,
			.flags = direction,
		};
	}
	if (ring->packed) {
		ring->descs = setup.desc;
		((struct vring_packed_desc_event *)setup.avail)->flags =
			VRING_PACKED_EVENT_FLAG_DISABLE;
		for (uint16_t i = 0; i < RING; i++)
			ring->descs[i].flags = 0;
	} else {
		ring->split.desc = setup.desc;
		ring->split.avail = setup.avail;
		ring->split.used = setup.used;
		ring->split.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
		for (uint16_t i = 0; i < RING; i++)
			ring->split.avail->ring[i] = i;
	}
	if (virtqueue_init(&ring->vq, &setup, &reason) != 0)
		fail(reason);
	ring->vq.sends = features_sends(setup.features);
}

static const uint8_t macs[2][6] = { { 0x52, 0x54, 0, 0, 0, 1 }, { 0x52, 0x54, 0, 0, 0, 2 } };

/* Ethernet, IPv4 and TCP, as far as the switch looks; with a partial checksum if asked for. */
static void write_frame(uint8_t *at, unsigned int from, const struct options *options)
{
	static const uint8_t headers[] = { 0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0,
					   10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0x13, 0x89 };
	struct virtio_net_hdr_mrg_rxbuf vnet = { .num_buffers = 0 };

	if (options->partial) {
		vnet.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		vnet.hdr.csum_start = 34;
		vnet.hdr.csum_offset = 16;
	}
	memcpy(at, &vnet, HEADER);
	at += HEADER;
	memcpy(at, macs[!from], 6);
	memcpy(at + 6, macs[from], 6);
	memcpy(at + 12, headers, sizeof(headers));
	at[46] = 5 << 4;
}

/* More than will ever be used of them. */
static void limit_port(struct port *port)
{
	static const struct limit_settings bandwidth = { .rate = LIMIT_BANDWIDTH_MAX };
	static const struct limit_settings packets = { .rate = LIMIT_PACKETS_MAX };
	struct port_settings settings = port->settings;

	settings.ingress.bandwidth = settings.egress.bandwidth = bandwidth;
	settings.ingress.packets = settings.egress.packets = packets;
	settings.ingress.excess = settings.egress.excess = EXCESS_WAIT;
	port_set(port, &settings);
}

/* It lets pass what write_frame makes. */
static void guard_port(struct port *port, unsigned int number, enum guard_level level)
{
	struct guard_addresses addresses = { .mac_count = 1, .ip_count = 1 };
	struct port_settings settings = port->settings;

	if (level == GUARD_OFF)
		return;
	memcpy(addresses.macs[0], macs[number & 1], 6);
	addresses.ips[0] = (struct guard_prefix){ .length = 32, .address = { 10, 0, 0, 1 } };
	settings.guard = guard_new(level, &addresses);
	if (settings.guard == NULL)
		fail("out of memory");
	port_set(port, &settings);
	guard_release(settings.guard);
}

static void guest_init(struct guest *guest, uint16_t number, const struct options *options)
{
	static const uint16_t queues[] = { 0 };

	ring_init(&guest->out, options, 0);
	ring_init(&guest->in, options, VRING_DESC_F_WRITE);
	for (uint16_t i = 0; i < RING; i++)
		write_frame(guest->out.buffers + (size_t)i * guest->out.stride, number & 1,
			    options);
	offer(&guest->in, RING);
	guest->port = port_new(&ops, "guest", number, 1, 1, NULL);
	if (guest->port == NULL)
		fail("out of memory");
	guest->port->queues[0].driver = guest;
	guard_port(guest->port, number, options->guard);
	if (options->limits)
		limit_port(guest->port);
	port_set_tx(guest->port, queues, 1, features_accepts(features_of(options)));
}

static void guest_free(struct guest *guest)
{
	port_free(guest->port);
	free(guest->out.memory.regions[0].host);
	free(guest->in.memory.regions[0].host);
}

/* ---- the switch between them ---- */

struct bench {
	struct guest *guests; /* two, and the idle ones */
	struct port **ports;
	uint16_t port_count;
	struct fdb *fdb;
	struct retire *retire;
	struct snapshot *snapshot;
	struct worker *worker;
};

static void put_in_vlan(struct port *port, bool trunk)
{
	struct vlan_settings *vlan = &port->settings.vlan;

	/* Its guest sends no tags. */
	*vlan = (struct vlan_settings){ .mode = trunk ? VLAN_TRUNK : VLAN_ACCESS, .native = 10,
					.native_tagged = trunk };
	if (trunk)
		vlan_set_add(&vlan->trunk, VLAN_FIRST, VLAN_LAST);
}

static void bench_init(struct bench *bench, const struct options *options)
{
	const uint16_t count = (uint16_t)(2 + options->idle);

	bench->port_count = count;
	bench->guests = calloc(count, sizeof(*bench->guests));
	bench->ports = calloc(count, sizeof(struct port *));
	if (bench->guests == NULL || bench->ports == NULL)
		fail("out of memory");
	for (uint16_t i = 0; i < count; i++) {
		guest_init(&bench->guests[i], i, options);
		bench->ports[i] = bench->guests[i].port;
		if (options->vlan != NULL)
			put_in_vlan(bench->ports[i], i == 1 && strcmp(options->vlan, "trunk") == 0);
	}
	bench->fdb = fdb_new(65536, 300);
	bench->retire = retire_new(1);
	if (bench->fdb == NULL || bench->retire == NULL)
		fail("out of memory");
	bench->snapshot = snapshot_new(bench->ports, count, 1, bench->fdb);
	bench->worker = worker_new(0, 0, IDLE_BUSY, count, bench->retire, &bench->snapshot);
	if (bench->snapshot == NULL || bench->worker == NULL)
		fail("out of memory");
	/* Nobody has measured it without EAL. */
	bench->worker->cycles_per_us = 2500;
}

static void bench_free(struct bench *bench)
{
	worker_free(bench->worker);
	snapshot_free(bench->snapshot);
	retire_free(bench->retire);
	fdb_free(bench->fdb);
	for (uint16_t i = 0; i < bench->port_count; i++)
		guest_free(&bench->guests[i]);
	free(bench->guests);
	free(bench->ports);
}

/* One guest sends a burst and the other takes it and gives as many new buffers. */
static void carry_burst(struct bench *bench, unsigned int from)
{
	struct ring *out = &bench->guests[from].out;
	struct ring *in = &bench->guests[!from].in;

	offer(out, BURST);
	if (bench->port_count > 2) {
		worker_iterate(bench->worker);
	} else {
		worker_visit(bench->worker, bench->snapshot,
			     &bench->guests[from].port->queues[0],
			     &bench->guests[!from].port->queues[0]);
		worker_notify(bench->worker);
	}
	if (take_used(out) != BURST || take_used(in) != BURST)
		fail("a frame was lost");
	offer(in, BURST);
}

static enum guard_level guard_named(const char *name)
{
	unsigned int level = 0;

	while (guard_level_names[level] != NULL && strcmp(guard_level_names[level], name) != 0)
		level++;
	if (guard_level_names[level] == NULL)
		fail("--guard is off, mac, arp or ip");
	return (enum guard_level)level;
}

static void parse_options(struct options *options, int argc, char **argv)
{
	static const struct option known[] = {
		{ "frames", required_argument, NULL, 'f' },
		{ "size", required_argument, NULL, 's' },
		{ "idle", required_argument, NULL, 'i' },
		{ "packed", no_argument, NULL, 'p' },
		{ "no-offloads", no_argument, NULL, 'n' },
		{ "partial", no_argument, NULL, 'c' },
		{ "guard", required_argument, NULL, 'g' },
		{ "limits", no_argument, NULL, 'l' },
		{ "vlan", required_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == 'f')
			options->frames = strtoul(optarg, NULL, 10);
		else if (option == 's')
			options->size = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'i')
			options->idle = (uint16_t)strtoul(optarg, NULL, 10);
		else if (option == 'p')
			options->packed = true;
		else if (option == 'n')
			options->offloads = false;
		else if (option == 'c')
			options->partial = true;
		else if (option == 'g')
			options->guard = guard_named(optarg);
		else if (option == 'l')
			options->limits = true;
		else if (option == 'v')
			options->vlan = optarg;
		else
			fail("usage: inprocess [--frames N] [--size BYTES] [--idle N] [--packed] "
			     "[--no-offloads | --partial] [--guard LEVEL] [--limits] "
			     "[--vlan access|trunk]");
	}
	if (options->size < 60 || options->size > FRAME_LENGTH_MAX || options->frames < BURST)
		fail("--frames is at least 32, --size 60 to 65557");
	if (options->partial && !options->offloads)
		fail("--partial needs offloads");
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static struct bench bench;
	struct options options = { .frames = 10000000, .size = 64, .offloads = true };
	const struct rx_counters *counters;
	unsigned long bursts;
	double start, taken;

	parse_options(&options, argc, argv);
	bench_init(&bench, &options);
	/* Both addresses become known as they do in life. */
	for (unsigned int from = 0; from < 2; from++) {
		carry_burst(&bench, from);
		learner_drain(&bench.worker->learner, bench.fdb, 0);
	}
	counters = &bench.guests[0].port->queues[0].counters[0].rx;
	if (bench.fdb->entries != 2 || counters->flooded != BURST)
		fail("the addresses were not learned");

	bursts = options.frames / BURST;
	start = seconds();
	for (unsigned long i = 0; i < bursts; i++)
		carry_burst(&bench, 0);
	taken = seconds() - start;
	if (counters->forwarded != bursts * BURST)
		fail("a frame was not forwarded");
	printf("%lu frames of %u bytes%s: %.1f ns a frame\n", bursts * BURST, options.size,
	       options.partial ? " with a partial checksum" : "",
	       taken * 1e9 / (double)(bursts * BURST));
	bench_free(&bench);
	return 0;
}
