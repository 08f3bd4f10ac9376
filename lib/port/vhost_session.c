/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The session state machine over librte_vhost (messages: the vhost-user protocol specification of
 * QEMU, docs/interop/vhost-user). port/vhost_session.h tells its rules; vhost_rings.c attaches and
 * detaches.
 */
#include "port/vhost_session.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_log.h>
#include <rte_vhost.h>

#include "base/log.h"
#include "port/memory_fault.h"
#include "port/vhost_rings.h"

/* Message numbers and the part of a message that the hooks read. */
enum message {
	MESSAGE_SET_FEATURES = 2,
	MESSAGE_RESET_OWNER = 4,
	MESSAGE_SET_MEM_TABLE = 5,
	MESSAGE_SET_LOG_BASE = 6,
	MESSAGE_SET_VRING_NUM = 8,
	MESSAGE_SET_VRING_ADDR = 9,
	MESSAGE_SET_VRING_BASE = 10,
	MESSAGE_GET_VRING_BASE = 11,
	MESSAGE_SET_VRING_KICK = 12,
	MESSAGE_SET_VRING_CALL = 13,
	MESSAGE_GET_QUEUE_NUM = 17,
	MESSAGE_SET_VRING_ENABLE = 18,
	MESSAGE_NET_SET_MTU = 20,
};

struct message_head {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
	union {
		uint64_t number;
		struct {
			uint32_t index;
			uint32_t value;
		} state;
	} payload;
} __attribute__((packed));

/* Entries of a ring that a VMM may ask for: the library allocates 40 bytes for each. */
#define RING_SIZE_MAX 4096

/* Index of a ring in messages that carry a descriptor. */
#define RING_INDEX_MASK 0xff

/* Features of the library that this switch does not have: packed and in-order rings, migration. */
#define FEATURES_ABSENT                                                                            \
	(1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_F_IN_ORDER | 1ull << 26 /* LOG_ALL */)

/*
 * The same of the protocol. By number, for DPDK renamed some: 1 dirty log, 2 RARP, 5 and 10
 * requests of ours to the VMM, 7 crypto, 8 post-copy, 11 host notifier, 12 in-flight log.
 */
#define PROTOCOL_ABSENT                                                                            \
	(1u << 1 | 1u << 2 | 1u << 5 | 1u << 7 | 1u << 8 | 1u << 10 | 1u << 11 | 1u << 12)

static struct session *sessions; /* under sessions_lock */
static pthread_mutex_t sessions_lock = PTHREAD_MUTEX_INITIALIZER;

/*
 * By device number of the library. w: library threads, before and after all callbacks of a device.
 */
static struct connection *connections[RTE_MAX_VHOST_DEVICE];

static struct connection *find_connection(int vid)
{
	if (vid < 0 || vid >= RTE_MAX_VHOST_DEVICE)
		return NULL;
	return __atomic_load_n(&connections[vid], __ATOMIC_ACQUIRE);
}

/* ---- messages ---- */

/* The rings that a message changes are detached before the library handles it. */
static void prepare_message(struct connection *connection, const struct message_head *message)
{
	static const char changing[] = "the VMM is changing it";
	uint16_t index = (uint16_t)message->payload.state.index;

	switch (message->request) {
	case MESSAGE_SET_MEM_TABLE:
		rings_detach_all(connection, "the VMM is changing its memory");
		memory_drop(connection);
		/* Until the library says that it is mapped: when mapping fails nobody tells us. */
		connection_set_fault(connection, "the VMM's memory table was not accepted");
		break;
	case MESSAGE_SET_FEATURES:
		/* The library refuses this, and nobody tells us: all stays as it is. */
		if (connection->running && message->payload.number != connection->features)
			break;
		rings_detach_all(connection, changing);
		break;
	case MESSAGE_RESET_OWNER:
	case MESSAGE_SET_LOG_BASE:
	case MESSAGE_GET_VRING_BASE:
		rings_detach_all(connection, changing);
		break;
	case MESSAGE_SET_VRING_KICK:
	case MESSAGE_SET_VRING_CALL:
		index = (uint16_t)(message->payload.number & RING_INDEX_MASK);
		/* fall through */
	case MESSAGE_SET_VRING_NUM:
	case MESSAGE_SET_VRING_ADDR:
	case MESSAGE_SET_VRING_BASE:
		if (connection_is_active(connection))
			rings_detach(connection, index, index, changing);
		break;
	default:
		break;
	}
}

/* Refuses what the library would take too literally. Such messages carry no descriptors. */
static bool is_refused(const struct session *session, const struct message_head *message)
{
	switch (message->request) {
	case MESSAGE_SET_VRING_NUM:
		return message->payload.state.index >= session->ring_count ||
		       message->payload.state.value == 0 ||
		       message->payload.state.value > RING_SIZE_MAX;
	case MESSAGE_SET_VRING_ENABLE:
		return message->payload.state.index >= session->ring_count;
	default:
		return false;
	}
}

static enum rte_vhost_msg_result before_message(int vid, void *data)
{
	struct connection *connection = find_connection(vid);
	struct message_head *message = data;

	if (connection == NULL)
		return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	if (socket_drop_deaf(&connection->peer))
		LOG_LIMITED(LOG_WARNING, "vhost", "%s: process %d does not read its answers",
			    connection->session->port->name, connection->peer.pid);
	memory_fault_expect(memory_lose, connection);
	prepare_message(connection, message);
	if (is_refused(connection->session, message)) {
		LOG_LIMITED(LOG_WARNING, "vhost", "%s: message %u refused: ring %u, value %u",
			    connection->session->port->name, message->request,
			    message->payload.state.index, message->payload.state.value);
		connection_set_fault(connection,
				     "the VMM asked for a ring that the port does not have");
		return RTE_VHOST_MSG_RESULT_ERR;
	}
	if (message->request == MESSAGE_GET_QUEUE_NUM) {
		message->payload.number = connection->session->ring_count / 2;
		message->size = sizeof(message->payload.number);
		return RTE_VHOST_MSG_RESULT_REPLY;
	}
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

/* The library forgets rings without telling when it frees them. */
static void forget_ready(struct connection *connection, uint16_t first)
{
	for (uint16_t i = first; i < 2 * PORT_QUEUES_MAX; i++)
		connection->ready[i] = false;
}

static enum rte_vhost_msg_result after_message(int vid, void *data)
{
	struct connection *connection = find_connection(vid);
	const struct message_head *message = data;

	memory_fault_expect(NULL, NULL);
	if (connection == NULL)
		return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	switch (message->request) {
	case MESSAGE_SET_MEM_TABLE:
		memory_take(connection);
		break;
	case MESSAGE_SET_FEATURES:
		if (!(message->payload.number >> VIRTIO_NET_F_MQ & 1))
			forget_ready(connection, 2);
		pthread_mutex_lock(&connection->session->lock);
		connection->features = message->payload.number;
		pthread_mutex_unlock(&connection->session->lock);
		break;
	case MESSAGE_RESET_OWNER:
		forget_ready(connection, 0);
		memory_drop(connection);
		__atomic_store_n(&connection->memory_lost, false, __ATOMIC_RELEASE);
		break;
	case MESSAGE_NET_SET_MTU:
		connection->mtu = (uint32_t)message->payload.number;
		break;
	default:
		break;
	}
	rings_sync(connection);
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

static struct rte_vhost_user_extern_ops hooks = {
	.pre_msg_handle = before_message,
	.post_msg_handle = after_message,
};

/* ---- connections ---- */

static struct session *find_session(const char *bound)
{
	struct session *session;

	pthread_mutex_lock(&sessions_lock);
	for (session = sessions; session != NULL; session = session->next)
		if (strcmp(session->place.bound, bound) == 0)
			break;
	pthread_mutex_unlock(&sessions_lock);
	return session;
}

/* Takes the connection in as the active or the waiting one. */
static int admit(struct session *session, struct connection *connection)
{
	int result = -EBUSY;

	pthread_mutex_lock(&session->lock);
	for (unsigned int i = 0; i < SESSION_CONNECTIONS && !session->closing; i++) {
		if (session->connections[i] != NULL)
			continue;
		session->connections[i] = connection;
		session->connects++;
		if (i == 0)
			session->fault = NULL;
		result = (int)i;
		break;
	}
	pthread_mutex_unlock(&session->lock);
	return result;
}

static int new_connection(int vid)
{
	struct socket_peer known[SESSION_CONNECTIONS];
	unsigned int count = 0;
	struct connection *connection;
	struct session *session;
	char bound[sizeof(session->place.bound)];
	int place;

	if (rte_vhost_get_ifname(vid, bound, sizeof(bound)) != 0)
		return -1;
	session = find_session(bound);
	connection = calloc(1, sizeof(*connection));
	if (session == NULL || connection == NULL)
		goto refuse;
	connection->session = session;
	connection->vid = vid;
	pthread_mutex_lock(&session->lock);
	for (unsigned int i = 0; i < SESSION_CONNECTIONS; i++)
		if (session->connections[i] != NULL)
			known[count++] = session->connections[i]->peer;
	pthread_mutex_unlock(&session->lock);
	if (socket_find_peer(session->place.bound, known, count, &connection->peer) != 0)
		goto refuse;
	if (rte_vhost_extern_callback_register(vid, &hooks, connection) != 0)
		goto refuse;
	place = admit(session, connection);
	if (place < 0) {
		LOG_LIMITED(LOG_WARNING, "vhost", "%s: connection of process %d refused: "
			    "the socket is in use and others wait already",
			    session->port->name, connection->peer.pid);
		goto refuse;
	}
	__atomic_store_n(&connections[vid], connection, __ATOMIC_RELEASE);
	LOG_LIMITED(LOG_INFO, "vhost", "%s: process %d connected%s", session->port->name,
		    connection->peer.pid,
		    place > 0 ? " and waits, for the socket is in use" : "");
	return 0;

refuse:
	free(connection);
	return -1;
}

static int new_device(int vid)
{
	struct connection *connection = find_connection(vid);

	if (connection == NULL)
		return -1;
	connection->running = true;
	rings_sync(connection);
	return 0;
}

static void destroy_device(int vid)
{
	struct connection *connection = find_connection(vid);

	if (connection == NULL)
		return;
	connection->running = false;
	rings_detach_all(connection, "the VMM stopped the device");
}

static int vring_state_changed(int vid, uint16_t index, int enable)
{
	struct connection *connection = find_connection(vid);

	if (connection == NULL || index >= 2 * PORT_QUEUES_MAX)
		return 0;
	connection->ready[index] = enable;
	if (!enable && connection_is_active(connection))
		rings_detach(connection, index, index, "the guest switched it off");
	rings_sync(connection);
	return 0;
}

/* The active connection is gone: says why, and forgets what was wrong with its rings. */
static void note_disconnect(struct session *session, const struct connection *connection)
{
	const char *why = session->fault != NULL ? session->fault : "the VMM disconnected";

	if (__atomic_load_n(&connection->memory_lost, __ATOMIC_ACQUIRE))
		why = MEMORY_LOST;
	snprintf(session->last_disconnect, sizeof(session->last_disconnect), "%s", why);
	session->fault = NULL;
	for (uint16_t i = 0; i < session->ring_count; i++) {
		session->rings[i].state = RING_DETACHED;
		session->rings[i].reason = NULL;
	}
}

/* Takes the connection out; if it was the active one, the next that waits takes its place. */
static void dismiss(struct connection *connection)
{
	struct session *session = connection->session;
	bool was_active = connection_is_active(connection);
	unsigned int place = 0;

	rings_detach_all(connection, "the VMM disconnected");
	pthread_mutex_lock(&session->lock);
	session->disconnects++;
	while (session->connections[place] != connection)
		place++;
	for (; place + 1 < SESSION_CONNECTIONS; place++)
		session->connections[place] = session->connections[place + 1];
	session->connections[place] = NULL;
	if (was_active)
		note_disconnect(session, connection);
	pthread_mutex_unlock(&session->lock);
	memory_fault_release(connection);
	memory_fault_expect(NULL, NULL);
	__atomic_store_n(&connections[connection->vid], NULL, __ATOMIC_RELEASE);
	if (was_active && session->connections[0] != NULL)
		rings_sync(session->connections[0]);
	free(connection);
}

static void destroy_connection(int vid)
{
	struct connection *connection = find_connection(vid);

	if (connection == NULL)
		return;
	LOG_LIMITED(LOG_INFO, "vhost", "%s: process %d disconnected",
		    connection->session->port->name, connection->peer.pid);
	dismiss(connection);
}

static const struct rte_vhost_device_ops callbacks = {
	.new_device = new_device,
	.destroy_device = destroy_device,
	.vring_state_changed = vring_state_changed,
	.new_connection = new_connection,
	.destroy_connection = destroy_connection,
};

/* ---- the session ---- */

struct session *session_new(struct port *port)
{
	uint16_t rings = (uint16_t)(2 * port->queue_count);
	struct session *session = calloc(1, sizeof(*session) + rings * sizeof(session->rings[0]));

	if (session == NULL)
		return NULL;
	session->port = port;
	session->retire = port->host.retire;
	session->ring_count = rings;
	session->place.directory = -1;
	pthread_mutex_init(&session->lock, NULL);
	for (uint16_t i = 0; i < rings; i++)
		session->rings[i].call_fd = -1;
	pthread_mutex_lock(&sessions_lock);
	session->next = sessions;
	sessions = session;
	pthread_mutex_unlock(&sessions_lock);
	return session;
}

void session_free(struct session *session)
{
	if (session == NULL)
		return;
	pthread_mutex_lock(&sessions_lock);
	for (struct session **at = &sessions; *at != NULL; at = &(*at)->next) {
		if (*at == session) {
			*at = session->next;
			break;
		}
	}
	pthread_mutex_unlock(&sessions_lock);
	pthread_mutex_destroy(&session->lock);
	free(session);
}

/* What we offer is the library's own set less what this switch does not have. */
static int set_offer(struct session *session)
{
	const char *bound = session->place.bound;
	uint64_t protocol;

	if (rte_vhost_driver_disable_features(bound, FEATURES_ABSENT) != 0 ||
	    rte_vhost_driver_get_features(bound, &session->offered) != 0 ||
	    rte_vhost_driver_get_protocol_features(bound, &protocol) != 0 ||
	    rte_vhost_driver_set_protocol_features(bound, protocol & ~(uint64_t)PROTOCOL_ABSENT) !=
		    0)
		return -EIO;
	return 0;
}

static int library_fault(struct session *session, const char *path, const char *what,
			 struct error *err)
{
	session_close(session);
	error_set(err, ERROR_SYSTEM, EIO, "port %s: the vhost library could not %s %s",
		  session->port->name, what, path);
	error_detail(err, NULL, "socket", path, NULL);
	return -EIO;
}

int session_listen(struct session *session, const char *path,
		   const struct socket_permissions *permissions, struct error *err)
{
	char object[PORT_NAME_SIZE + 8];
	int result;

	/* Each message logs several lines that a VMM controls. */
	rte_log_set_level_pattern("lib.vhost.*", RTE_LOG_ERR);
	snprintf(object, sizeof(object), "port %s", session->port->name);
	result = socket_place_open(&session->place, path, object, err);
	if (result != 0)
		return result;
	if (rte_vhost_driver_register(session->place.bound, 0) != 0)
		return library_fault(session, path, "register", err);
	session->listening = true;
	if (set_offer(session) != 0 ||
	    rte_vhost_driver_callback_register(session->place.bound, &callbacks) != 0)
		return library_fault(session, path, "set up", err);
	if (rte_vhost_driver_start(session->place.bound) != 0)
		return library_fault(session, path, "listen on", err);
	result = socket_place_settle(&session->place, permissions, object, err);
	if (result != 0)
		session_close(session);
	return result;
}

void session_close(struct session *session)
{
	pthread_mutex_lock(&session->lock);
	session->closing = true;
	pthread_mutex_unlock(&session->lock);
	if (session->listening)
		rte_vhost_driver_unregister(session->place.bound);
	session->listening = false;
	/* The library has stopped all devices, but tells nothing of connections that end here. */
	while (session->connections[0] != NULL)
		dismiss(session->connections[0]);
	socket_place_close(&session->place);
}

void session_view(struct session *session, struct session_view *view)
{
	const struct connection *active;

	memset(view, 0, sizeof(*view));
	pthread_mutex_lock(&session->lock);
	active = session->connections[0];
	view->connected = active != NULL;
	view->waiting = session->connections[1] != NULL;
	view->connects = session->connects;
	view->disconnects = session->disconnects;
	view->fault = session->fault;
	memcpy(view->last_disconnect, session->last_disconnect, sizeof(view->last_disconnect));
	if (active != NULL) {
		view->pid = active->peer.pid;
		view->features = active->features;
		view->memory_valid = active->memory_valid &&
				     !__atomic_load_n(&active->memory_lost, __ATOMIC_ACQUIRE);
		view->regions = active->memory.count;
		view->bytes = active->bytes;
		view->mtu = active->mtu;
		if (__atomic_load_n(&active->memory_lost, __ATOMIC_ACQUIRE))
			view->fault = MEMORY_LOST;
	}
	pthread_mutex_unlock(&session->lock);
}
