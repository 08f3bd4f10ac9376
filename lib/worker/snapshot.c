/* SPDX-License-Identifier: BSD-3-Clause */
/* Building snapshots; worker/snapshot.h says what one is. */
#include "worker/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void snapshot_free(struct snapshot *snapshot)
{
	if (snapshot == NULL)
		return;
	for (uint16_t w = 0; w < snapshot->worker_count; w++)
		free(snapshot->workers[w].queues);
	for (uint16_t i = 0; i < snapshot->table.port_count; i++)
		guard_release(snapshot->table.ports[i].guard);
	free((void *)(uintptr_t)snapshot->table.ports);
	free((void *)(uintptr_t)snapshot->table.flood);
	free((void *)(uintptr_t)snapshot->table.trunks);
	free((void *)(uintptr_t)snapshot->table.neighbours);
	free(snapshot->trunks);
	free(snapshot->taps);
	free(snapshot->ports);
	free(snapshot);
}

static int add_queue(struct snapshot_worker *worker, struct port_queue *queue)
{
	struct port_queue **queues =
		realloc(worker->queues, (worker->queue_count + 1u) * sizeof(*queues));

	if (queues == NULL)
		return -1;
	queues[worker->queue_count++] = queue;
	worker->active = worker->queue_count;
	worker->queues = queues;
	return 0;
}

static bool has_storm_limit(const struct port_storm *storm)
{
	return storm->unknown != 0 || storm->broadcast != 0 || storm->multicast != 0;
}

/* What forwarding must know of a port. `trunk`: its VLANs, if it is a trunk. */
static struct forward_port facts_of(struct port *port, const struct vlan_set *trunk)
{
	const struct port_settings *settings = &port->settings;

	return (struct forward_port){
		.present = true,
		.enabled = settings->enabled,
		.learning = settings->learning,
		.isolated = settings->isolated,
		.link_local = settings->link_local,
		.vlan = { .mode = (uint8_t)settings->vlan.mode,
			  .native_tagged = settings->vlan.native_tagged,
			  .native = settings->vlan.native,
			  .trunk = settings->vlan.mode == VLAN_TRUNK ? trunk : NULL },
		.guard = guard_use(settings->guard),
		.storm = has_storm_limit(&settings->storm) ? port->storm : NULL,
	};
}

static struct snapshot_port view_of(struct port *port, const struct vlan_membership *vlan)
{
	const struct port_settings *settings = &port->settings;
	const bool limited = limits_are_on(&port->egress);
	const bool queues = limited && settings->egress.excess == EXCESS_WAIT;

	return (struct snapshot_port){
		.port = port,
		.max_length = port_mtu(port) + ETHERNET_HEADER,
		.retry = settings->retry,
		.tags = vlan_accepts(vlan),
		.vlan = *vlan,
		.vlans_set = port->vlans_set,
		.enabled = settings->enabled,
		.pauses = settings->ingress.excess == EXCESS_WAIT,
		.is_limited = limited || port->waiting != NULL,
		.queues = queues && port->waiting != NULL,
		.excess = queues ? DROP_NO_MEMORY : DROP_LIMIT,
		.queue_bytes = settings->queue.bytes,
		.queue_time = settings->queue.time * UINT64_C(1000000),
		.waiting = port->waiting,
	};
}

static struct flood_target target_of(const struct port *port)
{
	const struct port_settings *settings = &port->settings;

	return (struct flood_target){
		.port = port->number,
		.classes = (uint8_t)(settings->flood.unknown << FLOOD_UNKNOWN |
				     settings->flood.broadcast << FLOOD_BROADCAST |
				     settings->flood.multicast << FLOOD_MULTICAST |
				     settings->link_local << FLOOD_LINK_LOCAL),
		.isolated = settings->isolated,
	};
}

static uint16_t count_trunks(struct port *const *ports, uint16_t count)
{
	uint16_t trunks = 0;

	for (uint16_t i = 0; i < count; i++)
		trunks += ports[i] != NULL && ports[i]->settings.vlan.mode == VLAN_TRUNK;
	return trunks;
}

/* Sorts the ports that are no trunks by VLAN, and keeps their order within one. */
static void fill_flood(struct forward_table *table, struct port *const *ports,
		       struct flood_target *flood, struct flood_target *trunks)
{
	uint16_t next[VLAN_COUNT];

	for (uint16_t i = 0; i < table->port_count; i++)
		if (ports[i] != NULL && ports[i]->settings.vlan.mode != VLAN_TRUNK)
			table->first[ports[i]->settings.vlan.native + 1]++;
	for (uint16_t vlan = 0; vlan < VLAN_COUNT; vlan++) {
		next[vlan] = table->first[vlan];
		table->first[vlan + 1] = (uint16_t)(table->first[vlan + 1] + table->first[vlan]);
	}
	for (uint16_t i = 0; i < table->port_count; i++) {
		if (ports[i] == NULL)
			continue;
		if (ports[i]->settings.vlan.mode == VLAN_TRUNK)
			trunks[table->trunk_count++] = target_of(ports[i]);
		else
			flood[next[ports[i]->settings.vlan.native]++] = target_of(ports[i]);
	}
	table->flood = flood;
	table->trunks = trunks;
}

static struct port *find_port(struct port *const *ports, uint16_t count, const char *name)
{
	for (uint16_t i = 0; i < count; i++)
		if (ports[i] != NULL && strcmp(ports[i]->name, name) == 0)
			return ports[i];
	return NULL;
}

/* Copies are not tagged anew: they look as they do on the port that is mirrored. */
static void add_mirror(struct snapshot *snapshot, const struct snapshot_port *from,
		       const struct port *to, struct snapshot_taps *taps)
{
	const uint32_t direction = from->port->settings.mirror.direction;

	if (to == NULL || to == from->port)
		return;
	for (int i = 0; i < 2; i++) {
		taps->views[i] = snapshot->ports[to->number];
		taps->views[i].tags = NEEDS_TAGS;
	}
	taps->views[1].tags = from->tags;
	taps->views[1].vlan = from->vlan;
	if (direction != MIRROR_OUT)
		taps->mirror_in = &taps->views[0];
	if (direction != MIRROR_IN)
		taps->mirror_out = &taps->views[1];
}

static bool is_watched(const struct port *port)
{
	return port != NULL && (port->captures != NULL || port->settings.mirror.to[0] != '\0');
}

/* Notes who watches the ports, whose views are all there. Returns 0 or -1. */
static int add_taps(struct snapshot *snapshot, struct port *const *ports)
{
	struct snapshot_taps *taps;
	uint16_t count = 0;

	for (uint16_t i = 0; i < snapshot->port_count; i++)
		count += is_watched(ports[i]);
	if (count == 0)
		return 0;
	taps = calloc(count, sizeof(*taps));
	if (taps == NULL)
		return -1;
	snapshot->taps = taps;
	for (uint16_t i = 0; i < snapshot->port_count; i++) {
		if (!is_watched(ports[i]))
			continue;
		taps->captures = ports[i]->captures;
		add_mirror(snapshot, &snapshot->ports[i],
			   find_port(ports, snapshot->port_count, ports[i]->settings.mirror.to),
			   taps);
		snapshot->ports[i].taps = taps++;
	}
	/* What a mirror's target is watched for holds for the copies, too. */
	for (taps--; taps >= snapshot->taps; taps--)
		for (int i = 0; i < 2; i++)
			if (taps->views[i].port != NULL)
				taps->views[i].taps =
					snapshot->ports[taps->views[i].port->number].taps;
	return 0;
}

struct snapshot *snapshot_new(struct port *const *ports, uint16_t count, uint16_t workers,
			      struct fdb *fdb)
{
	struct snapshot *snapshot =
		calloc(1, sizeof(*snapshot) + workers * sizeof(snapshot->workers[0]));
	struct forward_port *facts = calloc(count + 1u, sizeof(*facts));
	struct flood_target *flood = calloc(count + 1u, sizeof(*flood));
	struct flood_target *trunks = calloc(count + 1u, sizeof(*trunks));
	struct vlan_set *set = calloc(count_trunks(ports, count) + 1u, sizeof(*set));

	if (snapshot == NULL || facts == NULL || flood == NULL || trunks == NULL || set == NULL) {
		free(snapshot);
		free(facts);
		free(flood);
		free(trunks);
		free(set);
		return NULL;
	}
	snapshot->worker_count = workers;
	snapshot->port_count = count;
	snapshot->table.port_count = count;
	snapshot->table.ports = facts;
	snapshot->table.fdb = fdb;
	snapshot->trunks = set;
	fill_flood(&snapshot->table, ports, flood, trunks);
	snapshot->ports = calloc(count + 1u, sizeof(*snapshot->ports));
	if (snapshot->ports == NULL)
		goto fail;
	for (uint16_t i = 0; i < count; i++) {
		if (ports[i] == NULL)
			continue;
		facts[i] = facts_of(ports[i], set);
		snapshot->ports[i] = view_of(ports[i], &facts[i].vlan);
		if (facts[i].vlan.trunk != NULL)
			*set++ = ports[i]->settings.vlan.trunk;
		for (uint16_t q = 0; q < ports[i]->queue_count; q++) {
			struct port_queue *queue = &ports[i]->queues[q];

			if (queue->worker != PORT_NO_WORKER &&
			    add_queue(&snapshot->workers[queue->worker], queue) != 0)
				goto fail;
		}
	}
	if (add_taps(snapshot, ports) != 0)
		goto fail;
	return snapshot;

fail:
	snapshot_free(snapshot);
	return NULL;
}

int snapshot_suppress(struct snapshot *snapshot, const struct vlan_set *vlans)
{
	struct forward_table *table = &snapshot->table;

	if (vlan_set_is_empty(vlans))
		return 0;
	table->neighbours = neighbours_of_ports(table->ports, table->port_count, vlans);
	return table->neighbours != NULL ? 0 : -ENOMEM;
}
