/* SPDX-License-Identifier: BSD-3-Clause */
/* What all types of port share, and the list of the types; port/port.h is the contract. */
#include "port/port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "port/af_packet.h"
#include "port/ethdev.h"
#include "port/tap.h"
#include "port/vhost_user.h"

static const struct port_ops *const types[] = { &vhost_user_ops, &tap_ops, &af_packet_ops,
						&ethdev_ops };

const char port_types[] = "vhost-user, tap, af_packet, ethdev";

const struct port_settings port_default_settings = {
	.enabled = true,
	.mtu = PORT_MTU_MAX,
	.egress = { .excess = EXCESS_DROP },
	.learning = true,
	.flood = { true, true, true },
};

const struct port_ops *port_type(unsigned int index)
{
	return index < sizeof(types) / sizeof(types[0]) ? types[index] : NULL;
}

const struct port_ops *port_find_type(const char *type)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(types[i]->type, type) == 0)
			return types[i];
	return NULL;
}

static void free_waiting(struct port *port)
{
	if (port->waiting == NULL)
		return;
	for (uint16_t i = 0; i < port->worker_count; i++)
		frame_ring_fini(&port->waiting[i].ring);
	free(port->waiting);
	port->waiting = NULL;
}

/* How many workers will use its limiters? */
static void set_sole(struct port *port, bool sole)
{
	port->ingress.bandwidth.sole = port->ingress.packets.sole = sole;
	port->egress.bandwidth.sole = port->egress.packets.sole = sole;
	for (unsigned int class = 0; class < STORM_CLASSES; class++)
		port->storm[class].sole = sole;
}

struct port *port_new(const struct port_ops *ops, const char *name, uint16_t number,
		      uint16_t queues, uint16_t workers, const struct port_host *host)
{
	static uint64_t made; /* on the control thread alone */
	size_t length = sizeof(struct port) + queues * sizeof(struct port_queue);
	struct port *port = aligned_alloc(64, (length + 63) / 64 * 64);

	if (port == NULL)
		return NULL;
	memset(port, 0, length);
	port->ops = ops;
	if (host != NULL)
		port->host = *host;
	strncpy(port->name, name, sizeof(port->name) - 1);
	port->settings = port_default_settings;
	port->own_mtu = PORT_MTU_MAX;
	port->number = number;
	port->serial = ++made;
	port->queue_count = queues;
	port->worker_count = workers;
	set_sole(port, workers == 1);
	port->throttling.held = calloc((size_t)queues + workers, sizeof(*port->throttling.held));
	if (port->throttling.held == NULL) {
		port_free(port);
		return NULL;
	}
	for (uint16_t i = 0; i < queues; i++) {
		struct port_queue *queue = &port->queues[i];
		size_t size = workers * sizeof(*queue->counters);

		queue->port = port;
		queue->ops = ops;
		queue->index = i;
		queue->locks = workers > 1 && !ops->parallel;
		queue->worker = port_worker(number, i, workers);
		queue->counters = aligned_alloc(64, size);
		if (queue->counters == NULL) {
			port_free(port);
			return NULL;
		}
		memset(queue->counters, 0, size);
	}
	return port;
}

void port_free(struct port *port)
{
	if (port == NULL)
		return;
	for (uint16_t i = 0; i < port->queue_count; i++)
		free(port->queues[i].counters);
	guard_release(port->settings.guard);
	free(port->throttling.held);
	free_waiting(port);
	free(port);
}

static void set_storm(struct port *port, enum flood_class class, uint64_t rate)
{
	const struct limit_settings limit = { .rate = rate };

	limiter_set(&port->storm[class], &limit, LIMIT_PACKETS, limiter_now());
}

/* A queue for each worker: frames may be in it at any time. Returns 0 or -ENOMEM. */
static int reserve_waiting(struct port *port)
{
	const size_t size = port->worker_count * sizeof(*port->waiting);

	port->waiting = aligned_alloc(64, size);
	if (port->waiting == NULL)
		return -ENOMEM;
	memset(port->waiting, 0, size);
	for (uint16_t i = 0; i < port->worker_count; i++) {
		if (frame_ring_init(&port->waiting[i].ring, EGRESS_QUEUE_MAX) != 0) {
			free_waiting(port);
			return -ENOMEM;
		}
	}
	return 0;
}

int port_reserve(struct port *port, const struct port_settings *settings, struct error *err)
{
	if (port->waiting != NULL || settings->egress.excess != EXCESS_WAIT ||
	    !limits_are_set(&settings->egress.bandwidth, &settings->egress.packets) ||
	    reserve_waiting(port) == 0)
		return 0;
	return error_set(err, ERROR_SYSTEM, ENOMEM,
			 "no memory for a queue: %u bytes of addresses for each of %u workers",
			 EGRESS_QUEUE_MAX, port->worker_count);
}

void port_set(struct port *port, const struct port_settings *settings)
{
	struct guard *before = port->settings.guard;
	const uint64_t now = limiter_now();
	struct error err;

	port->vlans_set += !vlan_same(&port->settings.vlan, &settings->vlan);
	port->settings = *settings;
	guard_use(port->settings.guard);
	guard_release(before);
	limits_set(&port->ingress, &settings->ingress.bandwidth, &settings->ingress.packets,
		   now);
	limits_set(&port->egress, &settings->egress.bandwidth, &settings->egress.packets, now);
	set_storm(port, FLOOD_UNKNOWN, settings->storm.unknown);
	set_storm(port, FLOOD_BROADCAST, settings->storm.broadcast);
	set_storm(port, FLOOD_MULTICAST, settings->storm.multicast);
	if (port_reserve(port, settings, &err) != 0)
		log_error("port", "port %s: %s; what is over its limits is dropped", port->name,
			  err.message);
}

void port_add_counters(const struct port *port, uint16_t queue, struct port_counters *sum)
{
	uint64_t *to = (uint64_t *)sum;

	_Static_assert(sizeof(*sum) % sizeof(uint64_t) == 0, "counters are 64-bit fields");
	for (uint16_t w = 0; w < port->worker_count; w++) {
		const uint64_t *from = (const uint64_t *)&port->queues[queue].counters[w];

		for (size_t i = 0; i < sizeof(*sum) / sizeof(uint64_t); i++)
			to[i] += counter_read(&from[i]);
	}
}

void port_sum_counters(const struct port *port, struct port_counters *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (uint16_t q = 0; q < port->queue_count; q++)
		port_add_counters(port, q, sum);
}

void port_set_tx(struct port *port, const uint16_t *queues, uint16_t count, uint32_t accepts)
{
	__atomic_store_n(&port->tx_accepts, accepts, __ATOMIC_RELAXED);
	for (uint16_t i = 0; i < count; i++)
		__atomic_store_n(&port->tx_map[i], queues != NULL ? queues[i] : i,
				 __ATOMIC_RELAXED);
	__atomic_store_n(&port->tx_ready, count, __ATOMIC_RELEASE);
}
