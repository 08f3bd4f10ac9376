/* SPDX-License-Identifier: BSD-3-Clause */
/* Attaching and detaching rings, and guest memory; port/vhost_rings.h is the contract. */
#include "port/vhost_rings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_vhost.h>

#include "base/log.h"
#include "port/features.h"
#include "port/memory_fault.h"
#include "sync/retire.h"

bool connection_is_active(const struct connection *connection)
{
	return __atomic_load_n(&connection->session->connections[0], __ATOMIC_ACQUIRE) ==
	       connection;
}

void connection_set_fault(const struct connection *connection, const char *fault)
{
	struct session *session = connection->session;

	pthread_mutex_lock(&session->lock);
	if (connection == session->connections[0])
		session->fault = fault;
	pthread_mutex_unlock(&session->lock);
}

/* ---- rings ---- */

static void set_ring_state(struct session *session, struct ring *ring, enum ring_state state,
			   const char *reason)
{
	pthread_mutex_lock(&session->lock);
	ring->state = state;
	ring->reason = reason;
	pthread_mutex_unlock(&session->lock);
}

/* Tells egress which queues take frames now. */
static void publish_tx(struct session *session, uint64_t features)
{
	uint16_t queues[PORT_QUEUES_MAX];
	uint16_t count = 0;

	for (uint16_t i = 0; i < session->ring_count; i += 2)
		if (session->rings[i].attached != NULL)
			queues[count++] = i / 2;
	port_set_tx(session->port, queues, count, features_accepts(features));
}

/* Is it an eventfd? A write to anything else could hold a worker. */
static bool is_eventfd(int fd)
{
	char path[48], line[128];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), file) != NULL)
		found = strncmp(line, "eventfd-count:", 14) == 0;
	fclose(file);
	return found;
}

/* Our own descriptor of the guest's interrupt: the library closes its one when it likes. */
static int adopt_call_fd(int fd, int *own, const char **reason)
{
	*own = -1;
	if (fd < 0)
		return 0;
	*own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (*own < 0) {
		*reason = "out of file descriptors";
		return -EMFILE;
	}
	if (!is_eventfd(*own)) {
		close(*own);
		*own = -1;
		*reason = "the interrupt descriptor is not an eventfd";
		return -EINVAL;
	}
	fcntl(*own, F_SETFL, fcntl(*own, F_GETFL) | O_NONBLOCK);
	return 0;
}

static void attach_ring(struct connection *connection, uint16_t index)
{
	struct session *session = connection->session;
	struct ring *ring = &session->rings[index];
	struct virtqueue_setup setup = { .memory = &connection->memory };
	struct rte_vhost_vring vring;
	const char *reason = "the library does not know the ring";

	memset(&vring, 0, sizeof(vring));
	if (rte_vhost_get_vhost_vring(connection->vid, index, &vring) != 0)
		goto malformed;
	setup.desc = vring.desc;
	setup.avail = vring.avail;
	setup.used = vring.used;
	setup.size = vring.size;
	setup.features = connection->features;
	if (virtqueue_init(&ring->vq, &setup, &reason) != 0 ||
	    adopt_call_fd(vring.callfd, &ring->call_fd, &reason) != 0)
		goto malformed;
	ring->vq.sends = features_sends(connection->features);

	pthread_mutex_lock(&session->lock);
	ring->state = RING_ATTACHED;
	ring->reason = NULL;
	ring->size = vring.size;
	pthread_mutex_unlock(&session->lock);
	__atomic_store_n(&ring->attached, &ring->vq, __ATOMIC_RELEASE);
	publish_tx(session, connection->features);
	/*
	 * Buffers returned just before a crash, or while the interrupt was being changed, may never
	 * have been announced; one too many does no harm.
	 */
	if (ring->call_fd >= 0)
		eventfd_write(ring->call_fd, 1);
	return;

malformed:
	LOG_LIMITED(LOG_WARNING, "vhost", "%s: ring %u is not used: %s", session->port->name, index,
		    reason);
	set_ring_state(session, ring, RING_MALFORMED, reason);
}

/* Detaches the rings from first to last; those that are not attached stay as they are. */
void rings_detach(struct connection *connection, uint16_t first, uint16_t last,
			 const char *reason)
{
	struct session *session = connection->session;
	bool any = false;

	for (uint16_t i = first; i <= last && i < session->ring_count; i++) {
		if (session->rings[i].state != RING_ATTACHED)
			continue;
		__atomic_store_n(&session->rings[i].attached, NULL, __ATOMIC_SEQ_CST);
		any = true;
	}
	if (!any)
		return;
	publish_tx(session, connection->features);
	retire_wait(session->retire);
	for (uint16_t i = first; i <= last && i < session->ring_count; i++) {
		struct ring *ring = &session->rings[i];

		if (ring->state != RING_ATTACHED)
			continue;
		rte_vhost_set_vring_base(connection->vid, i, ring->vq.next_avail,
					 ring->vq.next_used);
		if (ring->call_fd >= 0)
			close(ring->call_fd);
		ring->call_fd = -1;
		set_ring_state(session, ring, RING_DETACHED, reason);
	}
}

void rings_detach_all(struct connection *connection, const char *reason)
{
	if (connection_is_active(connection))
		rings_detach(connection, 0, (uint16_t)(connection->session->ring_count - 1),
			     reason);
}

/* The one place that attaches: makes the workers' rings what the state of the connection says. */
void rings_sync(struct connection *connection)
{
	struct session *session = connection->session;

	if (!connection_is_active(connection) || !connection->running ||
	    !connection->memory_valid ||
	    __atomic_load_n(&connection->memory_lost, __ATOMIC_ACQUIRE))
		return;
	for (uint16_t i = 0; i < session->ring_count; i++)
		if (connection->ready[i] && session->rings[i].state != RING_ATTACHED)
			attach_ring(connection, i);
}

/* ---- memory ---- */

void memory_lose(void *owner)
{
	struct connection *connection = owner;
	struct session *session = connection->session;

	__atomic_store_n(&connection->memory_lost, true, __ATOMIC_SEQ_CST);
	if (!connection_is_active(connection))
		return;
	for (uint16_t i = 0; i < session->ring_count; i++)
		__atomic_store_n(&session->rings[i].attached, NULL, __ATOMIC_SEQ_CST);
	__atomic_store_n(&session->port->tx_ready, 0, __ATOMIC_SEQ_CST);
}

/* A region must lie inside its file: the library maps whatever the VMM claims. */
static const char *check_region(const struct rte_vhost_mem_region *region)
{
	uint64_t offset = region->host_user_addr - (uint64_t)(uintptr_t)region->mmap_addr;
	struct stat status;

	if (fstat(region->fd, &status) != 0)
		return "a memory region has no file";
	if (region->size == 0 || region->guest_phys_addr + region->size < region->guest_phys_addr)
		return "a memory region is empty or wraps around";
	if (offset + region->size > (uint64_t)status.st_size)
		return "a memory region is larger than its file";
	return NULL;
}

static const char *take_regions(struct connection *connection, const struct rte_vhost_memory *table)
{
	struct guest_memory *memory = &connection->memory;

	if (table->nregions == 0 || table->nregions > GUEST_REGIONS_MAX)
		return "the memory table has no regions or too many";
	for (uint32_t i = 0; i < table->nregions; i++) {
		const struct rte_vhost_mem_region *region = &table->regions[i];
		const char *reason = check_region(region);

		if (reason != NULL)
			return reason;
		if (memory_fault_guard(region->mmap_addr, region->mmap_size, memory_lose,
				       connection) != 0)
			return "the switch guards no more memory regions";
		memory->regions[i].guest = region->guest_phys_addr;
		memory->regions[i].size = region->size;
		memory->regions[i].host = (uint8_t *)(uintptr_t)region->host_user_addr;
		connection->bytes += region->size;
	}
	memory->count = table->nregions;
	return NULL;
}

/* Forgets the map. The caller has detached all rings. */
void memory_drop(struct connection *connection)
{
	memory_fault_release(connection);
	pthread_mutex_lock(&connection->session->lock);
	connection->memory_valid = false;
	connection->memory.count = 0;
	connection->bytes = 0;
	pthread_mutex_unlock(&connection->session->lock);
}

/* The library has mapped a new table. Nothing else may ask it for one: it may have none. */
void memory_take(struct connection *connection)
{
	struct session *session = connection->session;
	struct rte_vhost_memory *table = NULL;
	const char *reason = "out of memory";

	memory_drop(connection);
	/* The library keeps a mapping that did not change, and what we put in its place with it. */
	if (__atomic_load_n(&connection->memory_lost, __ATOMIC_ACQUIRE))
		reason = MEMORY_LOST;
	else if (rte_vhost_get_mem_table(connection->vid, &table) == 0)
		reason = take_regions(connection, table);
	free(table);
	if (reason != NULL) {
		LOG_LIMITED(LOG_WARNING, "vhost", "%s: memory is not used: %s", session->port->name,
			    reason);
		memory_drop(connection);
		connection_set_fault(connection, reason);
		return;
	}
	pthread_mutex_lock(&session->lock);
	connection->memory_valid = true;
	if (connection_is_active(connection))
		session->fault = NULL;
	pthread_mutex_unlock(&session->lock);
}
