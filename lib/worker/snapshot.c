/* SPDX-License-Identifier: BSD-3-Clause */
/* Building snapshots; worker/snapshot.h says what one is. */
#include "worker/snapshot.h"

#include <stdlib.h>

void snapshot_free(struct snapshot *snapshot)
{
	if (snapshot == NULL)
		return;
	for (uint16_t w = 0; w < snapshot->worker_count; w++)
		free(snapshot->workers[w].queues);
	free((void *)(uintptr_t)snapshot->table.ports);
	free((void *)(uintptr_t)snapshot->table.flood);
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

struct snapshot *snapshot_new(struct port *const *ports, uint16_t count, uint16_t workers,
			      struct fdb *fdb)
{
	struct snapshot *snapshot =
		calloc(1, sizeof(*snapshot) + workers * sizeof(snapshot->workers[0]));
	struct forward_port *facts = calloc(count + 1u, sizeof(*facts));
	uint16_t *flood = calloc(count + 1u, sizeof(*flood));
	uint16_t next_worker = 0;

	if (snapshot == NULL || facts == NULL || flood == NULL) {
		free(snapshot);
		free(facts);
		free(flood);
		return NULL;
	}
	snapshot->worker_count = workers;
	snapshot->port_count = count;
	snapshot->table.port_count = count;
	snapshot->table.ports = facts;
	snapshot->table.flood = flood;
	snapshot->table.fdb = fdb;
	snapshot->ports = calloc(count + 1u, sizeof(*snapshot->ports));
	if (snapshot->ports == NULL)
		goto fail;
	for (uint16_t i = 0; i < count; i++) {
		if (ports[i] == NULL)
			continue;
		snapshot->ports[i] = (struct snapshot_port){
			.port = ports[i],
			.max_length = port_mtu(ports[i]) + ETHERNET_HEADER,
			.retry = ports[i]->settings.retry,
			.enabled = ports[i]->settings.enabled,
			.paused_by_limit = ports[i]->settings.ingress.excess == EXCESS_PAUSE,
		};
		facts[i].present = true;
		facts[i].enabled = ports[i]->settings.enabled;
		flood[snapshot->table.flood_count++] = i;
		for (uint16_t q = 0; q < ports[i]->queue_count; q++) {
			if (add_queue(&snapshot->workers[next_worker], &ports[i]->queues[q]) != 0)
				goto fail;
			next_worker = (uint16_t)((next_worker + 1) % workers);
		}
	}
	return snapshot;

fail:
	snapshot_free(snapshot);
	return NULL;
}
