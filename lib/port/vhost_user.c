/* SPDX-License-Identifier: BSD-3-Clause */
/* The vhost-user port; port/vhost_user.h says which files it works with. */
#include "port/vhost_user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include <rte_cycles.h>

#include "base/log.h"
#include "port/offloads.h"
#include "port/opening.h"
#include "port/tx_lock.h"
#include "port/vhost_journal.h"
#include "port/vhost_session.h"
#include "port/vhost_status.h"
#include "virtqueue/virtqueue.h"

#define ACCOUNT_SIZE 33 /* the longest user name and the NUL (useradd(8)) */

struct vhost_user_config {
	/* A port must be closed and opened anew for a change of these. */
	struct {
		char socket[SOCKET_PATH_MAX + 1];
		uint32_t mode;
		uint32_t memory;
		struct {
			uint32_t mode;
			char user[ACCOUNT_SIZE];
			char group[ACCOUNT_SIZE];
		} permissions;
	} place;
	struct feature_switches switches;
};

enum { MODE_SERVER, MODE_CLIENT };
static const char *const mode_names[] = { "server", "client", NULL };

enum { MEMORY_RAM, MEMORY_ANY };
static const char *const memory_names[] = { "ram", "any", NULL };

/* Refuses a value with a sentence; err has object, field and value already. */
static int refuse(struct error *err, const char *field, const char *why, const char *accepted)
{
	error_set(err, ERROR_INVALID, EINVAL, "%s: \"%s\" %s", err->object, field, why);
	error_detail(err, NULL, NULL, NULL, accepted);
	return -EINVAL;
}

static int check_socket(const void *value, struct error *err)
{
	const char *path = value;

	if (path[0] == '/' && path[strlen(path) - 1] != '/')
		return 0;
	error_detail(err, NULL, NULL, NULL, "an absolute path of at most 107 bytes");
	return -EINVAL;
}

static int check_permissions(const void *value, struct error *err)
{
	const struct vhost_user_config *config = value;

	if (config->place.mode == MODE_SERVER)
		return 0;
	return refuse(err, "permissions",
		      "contradicts mode \"client\": there the socket is the VMM's",
		      "permissions with mode \"server\" alone");
}

static const struct param permission_params[] = {
	{ "mode", PARAM_MODE, PARAM_AT(struct vhost_user_config, place.permissions.mode),
	  .initial = "\"0660\"", .help = "file mode of the socket, octal" },
	{ "user", PARAM_STRING, PARAM_AT(struct vhost_user_config, place.permissions.user),
	  .help = "owner of the socket; the daemon's own by default" },
	{ "group", PARAM_STRING, PARAM_AT(struct vhost_user_config, place.permissions.group),
	  .help = "group of the socket; the daemon's own by default" },
	{ NULL }
};

static const struct param ring_params[] = {
	{ "mergeable", PARAM_BOOL, PARAM_AT(struct vhost_user_config, switches.mergeable),
	  .initial = "true", .help = "a frame may take several receive buffers" },
	{ "event_index", PARAM_BOOL, PARAM_AT(struct vhost_user_config, switches.event_index),
	  .initial = "true", .help = "notifications at an index of the other side's choice" },
	{ "indirect", PARAM_BOOL, PARAM_AT(struct vhost_user_config, switches.indirect),
	  .initial = "true", .help = "descriptors in tables of their own" },
	{ "packed", PARAM_BOOL, PARAM_AT(struct vhost_user_config, switches.packed),
	  .initial = "true", .help = "rings of the packed layout" },
	{ "in_order", PARAM_BOOL, PARAM_AT(struct vhost_user_config, switches.in_order),
	  .initial = "true", .help = "buffers are used in the order in which they were offered" },
	{ NULL }
};

static const struct param params[] = {
	{ "socket", PARAM_STRING, PARAM_AT(struct vhost_user_config, place.socket),
	  .required = true, .check = check_socket,
	  .help = "absolute path of the unix socket, at most 107 bytes" },
	{ "mode", PARAM_CHOICE, PARAM_AT(struct vhost_user_config, place.mode),
	  .choices = mode_names, .initial = "\"server\"",
	  .help = "who listens: the switch (server) or the VMM (client)" },
	{ "permissions", PARAM_OBJECT, .offset = 0, .fields = permission_params,
	  .check = check_permissions, .help = "who may connect to the socket; server mode alone" },
	{ "memory", PARAM_CHOICE, PARAM_AT(struct vhost_user_config, place.memory),
	  .choices = memory_names, .initial = "\"ram\"",
	  .help = "where guest memory may lie: ram (memfd, tmpfs, hugetlbfs), or any file, whose "
		  "pages a worker may have to wait for" },
	{ "offloads", PARAM_OBJECT, PARAM_AT(struct vhost_user_config, switches.offloads),
	  .fields = offload_params,
	  .help = "offloads offered to the guest" },
	{ "rings", PARAM_OBJECT, .offset = 0, .fields = ring_params,
	  .help = "ring features offered to the guest" },
	{ NULL }
};

/* ---- bursts: on workers ---- */

static inline struct ring *queue_ring(const struct port_queue *queue, enum port_direction direction)
{
	struct session *session = queue->driver;

	/*
	 * virtio 1.2, 5.1.2: receiveq1 is 0, transmitq1 is 1, and so on; ours are the other way
	 * round.
	 */
	return &session->rings[2 * queue->index + (direction == PORT_RX)];
}

static inline struct virtqueue *queue_attached(const struct port_queue *queue,
					       enum port_direction direction)
{
	return __atomic_load_n(&queue_ring(queue, direction)->attached, __ATOMIC_ACQUIRE);
}

/* Of a ring that the guest has switched off. */
static uint16_t drain(struct virtqueue *vq, uint64_t from, struct burst *burst, uint16_t max)
{
	if (rte_get_tsc_cycles() < from)
		return 0;
	virtqueue_rx_burst(vq, burst, max);
	for (uint16_t i = 0; i < burst->count; i++)
		if (burst->frames[i].drop == DROP_NO_DESTINATION)
			frame_drop(&burst->frames[i], DROP_DISABLED);
	return burst->count;
}

static uint16_t rx_burst(struct port_queue *queue, struct burst *burst, uint16_t max)
{
	struct virtqueue *vq = queue_attached(queue, PORT_RX);
	uint64_t drain_from;

	if (vq == NULL)
		return 0;
	burst->allowed = vq->sends;
	drain_from = __atomic_load_n(&queue_ring(queue, PORT_RX)->drain_from, __ATOMIC_RELAXED);
	if (drain_from != 0)
		return drain(vq, drain_from, burst, max);
	return virtqueue_rx_burst(vq, burst, max);
}

static void expect(struct port_queue *queue, enum port_direction direction, unsigned int step)
{
	struct virtqueue *vq = queue_attached(queue, direction);

	if (vq == NULL)
		return;
	if (direction == PORT_RX)
		virtqueue_rx_expect(vq, step);
	else
		virtqueue_tx_expect(vq, step);
}

static void rx_release(struct port_queue *queue)
{
	/* A ring that was detached meanwhile is still ours until we report quiescence. */
	virtqueue_rx_release(&queue_ring(queue, PORT_RX)->vq);
}

static int watch(struct port_queue *queue)
{
	const struct ring *ring = queue_ring(queue, PORT_RX);

	if (queue_attached(queue, PORT_RX) == NULL)
		return -ENOTCONN;
	return ring->kick_fd >= 0 ? ring->kick_fd : -ENOTSUP;
}

static void arm(struct port_queue *queue)
{
	struct virtqueue *vq = queue_attached(queue, PORT_RX);

	if (vq != NULL)
		virtqueue_arm(vq);
}

static bool is_waiting(struct port_queue *queue)
{
	struct virtqueue *vq = queue_attached(queue, PORT_RX);

	return vq != NULL && virtqueue_is_waiting(vq);
}

static int tx_burst(struct port_queue *queue, struct frame *const *frames, uint16_t count,
		    struct tx_outcome *outcome)
{
	struct virtqueue *vq = queue_attached(queue, PORT_TX);

	if (vq == NULL)
		return -ENOTCONN;
	virtqueue_tx_burst(vq, frames, count, outcome);
	return 0;
}

/* Of a ring that other workers may put frames into. */
static bool tx_wants_interrupt(struct port_queue *queue, struct virtqueue *vq)
{
	bool wanted;

	port_lock_tx(queue);
	/* What they have published since the caller's fence is looked at, too. */
	if (queue->locks)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wanted = virtqueue_wants_interrupt(vq);
	port_unlock_tx(queue);
	return wanted;
}

static bool notify(struct port_queue *queue, enum port_direction direction)
{
	struct ring *ring = queue_ring(queue, direction);
	int call_fd;

	if (direction == PORT_TX ? !tx_wants_interrupt(queue, &ring->vq)
				 : !virtqueue_wants_interrupt(&ring->vq))
		return false;
	call_fd = __atomic_load_n(&ring->call_fd, __ATOMIC_RELAXED);
	if (call_fd < 0 || __atomic_load_n(&ring->deaf, __ATOMIC_RELAXED))
		return false;
	if (eventfd_write(call_fd, 1) == 0)
		return true;
	/* The VMM has made it block: the watchdog had to free us, and shall not have to again. */
	if (errno == EINTR)
		__atomic_store_n(&ring->deaf, true, __ATOMIC_RELAXED);
	return false;
}

/* ---- opening and closing ---- */

static int open_session(struct port *port, struct error *err)
{
	return session_open(port->driver, err);
}

static void close_session(struct port *port)
{
	session_close(port->driver);
}

static void free_session(struct port *port)
{
	session_free(port->driver);
	port->driver = NULL;
}

static const struct opening_steps steps = {
	.open = open_session,
	.close = close_session,
	.free = free_session,
};

static int no_account(const char *port, const char *kind, const char *name, struct error *err)
{
	char field[32];

	snprintf(field, sizeof(field), "permissions.%s", kind);
	error_set(err, ERROR_SYSTEM, ENOENT, "port %s: no such %s: %s", port, kind, name);
	error_detail(err, NULL, field, name, "an account of this host");
	return -ENOENT;
}

static int find_account(const struct vhost_user_config *config, const char *name,
			struct socket_permissions *permissions, struct error *err)
{
	const char *user = config->place.permissions.user;
	const char *group = config->place.permissions.group;
	const struct passwd *user_entry = user[0] != '\0' ? getpwnam(user) : NULL;
	const struct group *group_entry = group[0] != '\0' ? getgrnam(group) : NULL;

	if (user[0] != '\0' && user_entry == NULL)
		return no_account(name, "user", user, err);
	if (group[0] != '\0' && group_entry == NULL)
		return no_account(name, "group", group, err);
	permissions->mode = config->place.permissions.mode;
	permissions->user = user_entry != NULL ? user_entry->pw_uid : (uid_t)-1;
	permissions->group = group_entry != NULL ? group_entry->gr_gid : (gid_t)-1;
	return 0;
}

static struct session_wish wish_of(const struct port *port, const struct vhost_user_config *config)
{
	return (struct session_wish){ .switches = config->switches,
				      .mtu = port->settings.mtu,
				      .mac = port->settings.mac };
}

static int open_port(struct port *port, const void *settings, const json_t *remembered,
		     port_opened done, void *argument, struct error *err)
{
	const struct vhost_user_config *config = settings;
	const struct session_wish wish = wish_of(port, config);
	struct session_config place = { .client = config->place.mode == MODE_CLIENT,
					.any_memory = config->place.memory == MEMORY_ANY };
	struct session *session;

	if (find_account(config, port->name, &place.permissions, err) != 0)
		return -err->errnum;
	memcpy(place.path, config->place.socket, sizeof(place.path));
	session = session_new(port, &place, &wish, remembered);
	port->driver = session;
	for (uint16_t i = 0; i < port->queue_count; i++)
		port->queues[i].driver = session;
	return opening_start(port, &steps, done, argument, err);
}

static void close_port(struct port *port, void (*done)(void *argument), void *argument)
{
	if (port->driver != NULL)
		session_prepare_close(port->driver);
	opening_end(port, &steps, done, argument);
}

/* ---- changes ---- */

static bool can_set(const void *from, const void *to)
{
	const struct vhost_user_config *old = from, *new = to;

	/* All of it was zero before it was filled. */
	return memcmp(&old->place, &new->place, sizeof(old->place)) == 0;
}

static void set(struct port *port, const void *settings, bool renegotiate)
{
	const struct vhost_user_config *config = settings;
	struct session_wish wish = wish_of(port, config);

	wish.renegotiate = renegotiate;
	if (port->driver != NULL)
		session_set(port->driver, &wish);
}

static json_t *remember(struct port *port)
{
	return port->driver != NULL ? session_remember(port->driver) : NULL;
}

static bool is_lost(struct port *port, const char **reason)
{
	*reason = NULL;
	return port->driver != NULL && session_is_lost(port->driver, reason);
}

static void status(struct port *port, json_t *object)
{
	if (port->driver != NULL)
		session_status(port->driver, object);
}

static void connection(struct port *port, struct port_connection *connection)
{
	*connection = (struct port_connection){ 0 };
	if (port->driver != NULL)
		session_connection(port->driver, connection);
}

static bool is_up(struct port *port, const char **reason)
{
	*reason = "not open";
	return port->driver != NULL && session_is_up(port->driver, reason);
}

const struct port_ops vhost_user_ops = {
	.type = "vhost-user",
	.params = params,
	.config_size = sizeof(struct vhost_user_config),
	.place = offsetof(struct vhost_user_config, place.socket),
	.place_key = "socket",
	.open = open_port,
	.can_set = can_set,
	.set = set,
	.remember = remember,
	.forget = journal_remove,
	.is_lost = is_lost,
	.close = close_port,
	.status = status,
	.connection = connection,
	.is_up = is_up,
	.rx_burst = rx_burst,
	.expect = expect,
	.rx_release = rx_release,
	.watch = watch,
	.arm = arm,
	.is_waiting = is_waiting,
	.tx_burst = tx_burst,
	.notify = notify,
};
