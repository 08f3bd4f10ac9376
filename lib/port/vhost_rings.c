/* SPDX-License-Identifier: BSD-3-Clause */
/* Attaching and detaching rings, and guest memory; port/vhost_rings.h is the contract. */
#include "port/vhost_rings.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <rte_vhost.h>

#include "base/log.h"
#include "port/features.h"
#include "port/memory_fault.h"
#include "sync/retire.h"

/* How long a guest may kick a ring that stays empty before its memory is taken for not shared. */
#define UNSHARED_MS 1000

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
	news_look(session);
	pthread_mutex_unlock(&session->lock);
}

/* ---- rings ---- */

static void set_ring_state(struct session *session, struct ring *ring, enum ring_state state,
			   const char *reason)
{
	pthread_mutex_lock(&session->lock);
	ring->state = state;
	ring->reason = reason;
	news_look(session);
	pthread_mutex_unlock(&session->lock);
}

void rings_publish(struct session *session)
{
	uint16_t queues[PORT_QUEUES_MAX];
	uint16_t count = 0;
	uint64_t features = 0;

	pthread_mutex_lock(&session->lock);
	for (uint16_t i = 0; i < session->ring_count; i += 2)
		if (session->rings[i].attached != NULL)
			queues[count++] = i / 2;
	/* A guest may have negotiated more than the operator wishes by now. */
	if (session->connections[0] != NULL)
		features = session->connections[0]->features & offer_wish(&session->offer);
	port_set_tx(session->port, queues, count, features_accepts(features));
	pthread_mutex_unlock(&session->lock);
}

/* The count of an eventfd, without taking it (proc(5)). False if it is none. */
static bool eventfd_count(int fd, uint64_t *count)
{
	static const char key[] = "eventfd-count:";
	char path[48], line[128];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), file) != NULL)
		found = strncmp(line, key, sizeof(key) - 1) == 0;
	fclose(file);
	if (found)
		*count = strtoull(line + sizeof(key) - 1, NULL, 16);
	return found;
}

/* Our own descriptor of a notification: the library closes its one when it likes. */
static int adopt_eventfd(int fd, int *own, const char **reason)
{
	uint64_t count;

	*own = -1;
	if (fd < 0)
		return 0;
	*own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (*own < 0) {
		*reason = "out of file descriptors";
		return -EMFILE;
	}
	/* A write to anything else could hold a worker. */
	if (!eventfd_count(*own, &count)) {
		close(*own);
		*own = -1;
		*reason = "the kick or call descriptor is not an eventfd";
		return -EINVAL;
	}
	return 0;
}

/* A worker writes to this one, and must not wait for anybody to read. */
static int adopt_call(int fd, int *own, const char **reason)
{
	int result = adopt_eventfd(fd, own, reason);

	if (*own >= 0)
		fcntl(*own, F_SETFL, fcntl(*own, F_GETFL) | O_NONBLOCK);
	return result;
}

static void interrupt(const struct ring *ring)
{
	if (ring->call_fd >= 0)
		eventfd_write(ring->call_fd, 1);
}

static void close_eventfd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void tell_attached(struct session *session)
{
	pthread_mutex_lock(&session->lock);
	news_look(session);
	pthread_mutex_unlock(&session->lock);
}

/* What virtqueue_init is told of packed rings alone. */
static void set_up_packed(struct connection *connection, uint16_t index,
			  struct virtqueue_setup *setup)
{
	struct journal *journal = connection->session->journal;
	uint16_t base = 0, same;
	bool kept = false;

	/* Not the number that the VMM sent: the library may have learned better since. */
	rte_vhost_get_vring_base(connection->vid, index, &base, &same);
	setup->base = base;
	if (journal == NULL)
		return;
	setup->journal = journal_ring(journal, index,
				      guest_memory_address(setup->memory, setup->desc),
				      setup->size, &kept);
	setup->recover = kept && !connection->known[index];
}

static void attach_ring(struct connection *connection, uint16_t index)
{
	struct session *session = connection->session;
	struct ring *ring = &session->rings[index];
	struct virtqueue_setup setup = { .memory = &connection->memory };
	struct rte_vhost_vring vring;
	const char *reason = "the library does not know the ring";
	int kick_fd = -1;

	memset(&vring, 0, sizeof(vring));
	if (rte_vhost_get_vhost_vring(connection->vid, index, &vring) != 0)
		goto malformed;
	setup.desc = vring.desc;
	setup.avail = vring.avail;
	setup.used = vring.used;
	setup.size = vring.size;
	setup.features = connection->features;
	setup.log = log_is_wanted(connection) ? &connection->log : NULL;
	if (setup.features >> VIRTIO_F_RING_PACKED & 1)
		set_up_packed(connection, index, &setup);
	if (virtqueue_init(&ring->vq, &setup, &reason) != 0 ||
	    adopt_eventfd(vring.kickfd, &kick_fd, &reason) != 0 ||
	    adopt_call(vring.callfd, &ring->call_fd, &reason) != 0)
		goto malformed;
	connection->known[index] = true;
	ring->vq.sends = features_sends(connection->features);
	__atomic_store_n(&ring->deaf, false, __ATOMIC_RELAXED);

	pthread_mutex_lock(&session->lock);
	ring->state = RING_ATTACHED;
	ring->reason = NULL;
	ring->size = vring.size;
	ring->kick_fd = kick_fd;
	ring->fresh = ring->vq.fresh;
	session->fault = NULL;
	pthread_mutex_unlock(&session->lock);
	__atomic_store_n(&ring->attached, &ring->vq, __ATOMIC_RELEASE);
	rings_publish(session);
	tell_attached(session);
	if (session->port->host.wake != NULL)
		session->port->host.wake(session->port->host.argument);
	/*
	 * Buffers returned just before a crash may never have been announced; one too many does no
	 * harm.
	 */
	interrupt(ring);
	return;

malformed:
	close_eventfd(&kick_fd);
	LOG_LIMITED(LOG_WARNING, "vhost", "%s: ring %u is not used: %s", session->port->name, index,
		    reason);
	set_ring_state(session, ring, RING_MALFORMED, reason);
}

void rings_detach(struct connection *connection, uint16_t first, uint16_t last, const char *reason)
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
	rings_publish(session);
	retire_wait(session->retire);
	for (uint16_t i = first; i <= last && i < session->ring_count; i++) {
		struct ring *ring = &session->rings[i];
		uint16_t base;

		if (ring->state != RING_ATTACHED)
			continue;
		base = virtqueue_base(&ring->vq);
		rte_vhost_set_vring_base(connection->vid, i, base, base);
		close_eventfd(&ring->call_fd);
		pthread_mutex_lock(&session->lock);
		close_eventfd(&ring->kick_fd);
		pthread_mutex_unlock(&session->lock);
		set_ring_state(session, ring, RING_DETACHED, reason);
	}
}

void rings_change_call(struct connection *connection, uint16_t index)
{
	struct session *session = connection->session;
	struct ring *ring = &session->rings[index];
	struct rte_vhost_vring vring;
	const char *reason = "the library does not know the ring";
	int fd = -1;

	memset(&vring, 0, sizeof(vring));
	if (rte_vhost_get_vhost_vring(connection->vid, index, &vring) != 0 ||
	    adopt_call(vring.callfd, &fd, &reason) != 0) {
		rings_detach(connection, index, index, reason);
		return;
	}
	fd = __atomic_exchange_n(&ring->call_fd, fd, __ATOMIC_SEQ_CST);
	retire_wait(session->retire);
	__atomic_store_n(&ring->deaf, false, __ATOMIC_RELAXED);
	close_eventfd(&fd);
	/* What workers said to the old one meanwhile, nobody may have heard. */
	interrupt(ring);
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
	/* What is written meanwhile would be missing at a migration's other end. */
	if (log_is_wanted(connection) && connection->log.size == 0) {
		connection_set_fault(connection, "the VMM wants a dirty log and has given none");
		return;
	}
	for (uint16_t i = 0; i < session->ring_count; i++) {
		struct ring *ring = &session->rings[i];
		uint64_t drain_from = connection->drain_from[i];

		if (!connection->ready[i] && drain_from == 0)
			continue;
		__atomic_store_n(&ring->drain_from, drain_from, __ATOMIC_RELAXED);
		if (ring->state != RING_ATTACHED)
			attach_ring(connection, i);
	}
	/* It may have been lost after we asked, and before the rings were there to be taken. */
	if (__atomic_load_n(&connection->memory_lost, __ATOMIC_SEQ_CST))
		rings_detach_all(connection, MEMORY_LOST);
}

/* Nobody reads the kicks, so they add up. QEMU begins with one of its own. */
static bool was_kicked(const struct ring *ring)
{
	uint64_t count;

	return ring->kick_fd >= 0 && eventfd_count(ring->kick_fd, &count) && count > 1;
}

bool rings_look_unshared(struct session *session)
{
	bool suspect = false, spoken = false;

	/*
	 * Any ring shows that memory is shared. But only of the guest's transmit rings, which a
	 * worker looks at all the time, do we know that they are empty.
	 */
	for (uint16_t i = 0; i < session->ring_count && !spoken; i++) {
		const struct ring *ring = &session->rings[i];

		if (ring->state == RING_ATTACHED)
			spoken = !ring->fresh ||
				 __atomic_load_n(&ring->vq.spoken, __ATOMIC_RELAXED);
	}
	for (uint16_t i = 1; i < session->ring_count && !spoken; i += 2)
		suspect |= session->rings[i].state == RING_ATTACHED &&
			   was_kicked(&session->rings[i]);
	if (!suspect)
		session->suspected = 0;
	else if (session->suspected == 0)
		session->suspected = moment_now().ms;
	return suspect && moment_now().ms - session->suspected >= UNSHARED_MS;
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

/* Pages of other files may have to be waited for, and a worker must not wait. */
static bool is_in_ram(const struct statfs *system)
{
	return system->f_type == TMPFS_MAGIC /* and memfd */ || system->f_type == RAMFS_MAGIC ||
	       system->f_type == HUGETLBFS_MAGIC;
}

/*
 * A region must lie inside its file, for the library maps whatever the VMM claims, and the file in
 * RAM. *page: bytes of a page of it.
 */
static const char *check_region(const struct rte_vhost_mem_region *region, bool any_memory,
				uint64_t *page)
{
	uint64_t offset = region->host_user_addr - (uint64_t)(uintptr_t)region->mmap_addr;
	struct statfs system;
	struct stat status;

	if (fstat(region->fd, &status) != 0 || fstatfs(region->fd, &system) != 0)
		return "a memory region has no file";
	if (!any_memory && !is_in_ram(&system))
		return "guest memory lies in a file on disk: accepted are memfd, tmpfs and "
		       "hugetlbfs, or any with \"memory\": \"any\"";
	*page = (uint64_t)system.f_bsize;
	if (region->size == 0 || region->guest_phys_addr + region->size < region->guest_phys_addr)
		return "a memory region is empty or wraps around";
	if (offset + region->size > (uint64_t)status.st_size)
		return "a memory region is larger than its file";
	return NULL;
}

/* Files of some systems cannot be sealed. */
static bool is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK);
}

static const char *take_regions(struct connection *connection, const struct rte_vhost_memory *table)
{
	struct guest_memory *memory = &connection->memory;

	if (table->nregions == 0)
		return NOT_SHARED;
	if (table->nregions > GUEST_REGIONS_MAX)
		return "the memory table has too many regions";
	connection->sealed = true;
	for (uint32_t i = 0; i < table->nregions; i++) {
		const struct rte_vhost_mem_region *region = &table->regions[i];
		uint64_t page = 0;
		const char *reason =
			check_region(region, connection->session->config.any_memory, &page);

		if (reason != NULL)
			return reason;
		/* The library received it in a way that lets children inherit it. */
		fcntl(region->fd, F_SETFD, FD_CLOEXEC);
		if (i == 0 || page < connection->page_size)
			connection->page_size = page;
		if (memory_fault_guard(region->mmap_addr, region->mmap_size, memory_lose,
				       connection) != 0)
			return "the switch guards no more memory regions";
		memory->regions[i].guest = region->guest_phys_addr;
		memory->regions[i].size = region->size;
		memory->regions[i].host = (uint8_t *)(uintptr_t)region->host_user_addr;
		connection->bytes += region->size;
		connection->sealed &= is_sealed(region->fd);
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
	connection->page_size = 0;
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

/* ---- the dirty log ---- */

bool log_is_wanted(const struct connection *connection)
{
	return connection->features >> VHOST_F_LOG_ALL & 1;
}

const char *log_check(const struct connection *connection, int fd, uint64_t size, uint64_t offset)
{
	struct statfs system;
	struct stat status;

	if (size == 0)
		return "the VMM's dirty log is empty";
	/* The library adds the offset twice. */
	if (offset != 0)
		return "the VMM's dirty log does not begin where its file does";
	if (fd < 0)
		return NULL;
	if (fstat(fd, &status) != 0 || fstatfs(fd, &system) != 0)
		return "the VMM's dirty log has no file";
	if (!connection->session->config.any_memory && !is_in_ram(&system))
		return "the VMM's dirty log lies in a file on disk";
	if (size > (uint64_t)status.st_size)
		return "the VMM's dirty log is larger than its file";
	return NULL;
}

/* As memory_lose; the owner is the log. */
static void log_lose(void *owner)
{
	memory_lose((char *)owner - offsetof(struct connection, log));
}

static void log_set(struct connection *connection, uint64_t base, uint64_t size)
{
	pthread_mutex_lock(&connection->session->lock);
	connection->log.base = (uint8_t *)(uintptr_t)base;
	connection->log.size = size;
	pthread_mutex_unlock(&connection->session->lock);
}

void log_take(struct connection *connection)
{
	uint64_t base, size;

	if (rte_vhost_get_log_base(connection->vid, &base, &size) != 0)
		return;
	if (memory_fault_guard((void *)(uintptr_t)base, size, log_lose, &connection->log) != 0) {
		connection_set_fault(connection, "the switch guards no more memory regions");
		return;
	}
	log_set(connection, base, size);
}

void log_drop(struct connection *connection)
{
	memory_fault_release(&connection->log);
	log_set(connection, 0, 0);
}
