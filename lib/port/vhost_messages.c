/* SPDX-License-Identifier: BSD-3-Clause */
/* What the VMM says; port/vhost_messages.h is the contract. */
#include "port/vhost_messages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost_types.h>
#include <linux/virtio_net.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_version.h>
#include <rte_vhost.h>

#include "base/log.h"
#include "base/units.h"
#include "frame/rarp.h"
#include "port/memory_fault.h"

enum message {
	MESSAGE_GET_FEATURES = 1,
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
	MESSAGE_GET_PROTOCOL_FEATURES = 15,
	MESSAGE_GET_QUEUE_NUM = 17,
	MESSAGE_SET_VRING_ENABLE = 18,
	MESSAGE_SEND_RARP = 19,
	MESSAGE_NET_SET_MTU = 20,
	MESSAGE_GET_CONFIG = 24,
	MESSAGE_POSTCOPY_ADVISE = 28,
	MESSAGE_POSTCOPY_LISTEN = 29,
	MESSAGE_POSTCOPY_END = 30,
	MESSAGE_GET_INFLIGHT_FD = 31,
	MESSAGE_SET_INFLIGHT_FD = 32,
};

#define LOG_ALL (1ull << VHOST_F_LOG_ALL)

#define CONFIG_SIZE_MAX 256

/* The part of a message that is read here. */
struct message_head {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
	union {
		uint64_t number;
		uint8_t mac[6];
		struct {
			uint32_t index;
			uint32_t value;
		} state;
		struct {
			uint64_t size;
			uint64_t offset;
		} log;
		struct {
			uint32_t offset;
			uint32_t size;
			uint32_t flags;
			uint8_t region[CONFIG_SIZE_MAX];
		} config;
	} payload;
} __attribute__((packed));

#define CONFIG_HEAD_SIZE 12

/* How long a ring may be switched off, on the way to being stopped, before it is emptied. */
#define DRAIN_AFTER_MS 100

/* Announcements of a VMM that are sent within a second; it makes five after a migration. */
#define ANNOUNCEMENTS_MAX 16

/* Index of a ring in messages that carry a descriptor. */
#define RING_INDEX_MASK 0xff

/* ---- descriptors ---- */

/*
 * Where DPDK 22.11 keeps the descriptors of a message, behind its largest payload. Its interface
 * does not tell.
 */
#define MESSAGE_DESCRIPTORS 8
struct message_descriptors {
	uint8_t message[644];
	int fds[MESSAGE_DESCRIPTORS];
	int count;
} __attribute__((packed));

/*
 * The first descriptor that came along, or -1. The library closes those of a message that it
 * refuses, but neither those of one that is answered or refused here, so such a message is left to
 * it. -1 also where the place is not known: with another version a VMM could have us hold its
 * descriptors.
 */
static int first_descriptor(const struct message_head *message)
{
	const struct message_descriptors *all = (const void *)message;
	int fd = -1;

	if (strncmp(rte_version(), "DPDK 22.11.", 11) != 0 || all->count <= 0 ||
	    all->count > MESSAGE_DESCRIPTORS)
		return -1;
	for (unsigned int i = 0; i < MESSAGE_DESCRIPTORS && fd < 0; i++)
		fd = all->fds[i];
	return fd;
}

/*
 * Has the library refuse a message for the number of its descriptors, and close them. The message
 * has some, by first_descriptor.
 */
static void spoil_descriptors(struct message_head *message)
{
	struct message_descriptors *all = (void *)message;

	/* What is refused takes one or none. */
	if (all->count == 1)
		all->fds[all->count++] = -1;
}

/* The library receives descriptors that a child of ours would inherit. */
static void hide_eventfds(const struct connection *connection, uint16_t index)
{
	struct rte_vhost_vring vring;

	memset(&vring, 0, sizeof(vring));
	if (rte_vhost_get_vhost_vring(connection->vid, index, &vring) != 0)
		return;
	if (vring.kickfd >= 0)
		fcntl(vring.kickfd, F_SETFD, FD_CLOEXEC);
	if (vring.callfd >= 0)
		fcntl(vring.callfd, F_SETFD, FD_CLOEXEC);
}

/* ---- before the library ---- */

/* Is a ring of this number to be emptied from now on? Not one that receives. */
static void set_drained(struct connection *connection, uint32_t index, bool drained)
{
	if (index >= 2 * PORT_QUEUES_MAX)
		return;
	connection->drain_from[index] = 0;
	if (drained && index % 2 == 1)
		connection->drain_from[index] =
			rte_get_tsc_cycles() + rte_get_tsc_hz() / 1000 * DRAIN_AFTER_MS;
}

/* In a ring that is attached, a new call descriptor will take the old one's place. */
static void note_new_call(struct connection *connection, uint16_t index)
{
	const struct session *session = connection->session;

	if (connection_is_active(connection) && index < session->ring_count &&
	    session->rings[index].state == RING_ATTACHED)
		connection->new_call = index;
}

/* The rings that a message changes are detached before the library handles it. */
static void prepare(struct connection *connection, const struct message_head *message)
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
		/*
		 * Of a device that runs the library changes the log's bit alone. It refuses the
		 * rest, and nobody tells us: all stays as it is.
		 */
		if (connection->running &&
		    ((message->payload.number ^ connection->features) & ~LOG_ALL) != 0)
			break;
		rings_detach_all(connection, changing);
		break;
	case MESSAGE_RESET_OWNER:
	case MESSAGE_SET_LOG_BASE:
		/* The library unmaps it. */
		rings_detach_all(connection, changing);
		log_drop(connection);
		break;
	case MESSAGE_GET_VRING_BASE:
		rings_detach_all(connection, changing);
		set_drained(connection, index, false);
		break;
	case MESSAGE_SET_VRING_CALL:
		note_new_call(connection, (uint16_t)(message->payload.number & RING_INDEX_MASK));
		break;
	case MESSAGE_SET_VRING_KICK:
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

/* Why a message is refused that the library would take, or NULL. */
static const char *refusal(struct connection *connection, const struct message_head *message)
{
	const struct session *session = connection->session;

	switch (message->request) {
	case MESSAGE_SET_FEATURES:
		if (message->payload.number & ~connection->offer)
			return "the VMM asked for features that it was not offered";
		return NULL;
	case MESSAGE_SET_LOG_BASE:
		return log_check(connection, first_descriptor(message), message->payload.log.size,
				 message->payload.log.offset);
	case MESSAGE_SET_VRING_NUM:
	case MESSAGE_SET_VRING_ENABLE:
		if (message->payload.state.index >= session->ring_count)
			return "the VMM asked for a ring that the port does not have";
		if (message->request == MESSAGE_SET_VRING_ENABLE)
			return NULL;
		if (message->payload.state.value == 0 ||
		    message->payload.state.value > VIRTQUEUE_SIZE_MAX)
			return "the VMM asked for a ring of an impossible size";
		return entries_charge(&connection->entries, session->ring_count,
				      message->payload.state.index, message->payload.state.value);
	case MESSAGE_SEND_RARP:
		if (message->size != sizeof(message->payload.number) ||
		    !mac_is_station(message->payload.mac))
			return "the VMM announced what is not the address of a station";
		return NULL;
	case MESSAGE_POSTCOPY_ADVISE:
	case MESSAGE_POSTCOPY_LISTEN:
	case MESSAGE_POSTCOPY_END:
	case MESSAGE_GET_INFLIGHT_FD:
	case MESSAGE_SET_INFLIGHT_FD: /* the library writes where the VMM says, unchecked */
		return "the VMM asked for a part of the protocol that it was not offered";
	default:
		return NULL;
	}
}

static void answer_number(struct message_head *message, uint64_t number)
{
	message->payload.number = number;
	message->size = sizeof(number);
}

/*
 * The device's configuration (virtio 1.2, 5.1.4), as far as it is ours: what lies behind it is
 * zero. An answer without payload means that there is none.
 */
static void answer_config(struct connection *connection, struct message_head *message)
{
	struct session *session = connection->session;
	struct virtio_net_config own;
	uint8_t all[CONFIG_SIZE_MAX] = { 0 };
	uint32_t offset = message->payload.config.offset, size = message->payload.config.size;

	if (message->size < CONFIG_HEAD_SIZE || offset > CONFIG_SIZE_MAX ||
	    size > CONFIG_SIZE_MAX - offset) {
		message->size = 0;
		return;
	}
	memset(&own, 0, sizeof(own));
	pthread_mutex_lock(&session->lock);
	if (session->wish.mac.given)
		memcpy(own.mac, session->wish.mac.mac, sizeof(own.mac));
	own.mtu = (uint16_t)session->wish.mtu;
	pthread_mutex_unlock(&session->lock);
	own.status = VIRTIO_NET_S_LINK_UP;
	own.max_virtqueue_pairs = (uint16_t)(session->ring_count / 2);
	memcpy(all, &own, offsetof(struct virtio_net_config, mtu) + sizeof(own.mtu));
	memcpy(message->payload.config.region, all + offset, size);
	message->size = CONFIG_HEAD_SIZE + size;
}

/* Answers what the library would answer otherwise, or not at all. */
static bool answer(struct connection *connection, struct message_head *message)
{
	struct session *session = connection->session;

	switch (message->request) {
	case MESSAGE_GET_FEATURES:
		answer_number(message, connection->offer);
		return true;
	case MESSAGE_GET_PROTOCOL_FEATURES:
		answer_number(message, connection->protocol);
		return true;
	case MESSAGE_GET_QUEUE_NUM:
		answer_number(message, session->ring_count / 2);
		return true;
	case MESSAGE_GET_CONFIG:
		answer_config(connection, message);
		return true;
	default:
		return false;
	}
}

static enum rte_vhost_msg_result before_message(int vid, void *data)
{
	struct connection *connection = connection_find(vid);
	struct message_head *message = data;
	const char *fault;

	if (connection == NULL)
		return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	/* Not in after_message, which is not called when the library refuses a message. */
	connection->new_call = -1;
	if (peer_drop_deaf(&connection->peer))
		LOG_LIMITED(LOG_WARNING, "vhost", "%s: process %d does not read its answers",
			    connection->session->port->name, connection->peer.process.pid);
	memory_fault_expect(memory_lose, connection);
	fault = refusal(connection, message);
	if (fault != NULL) {
		LOG_LIMITED(LOG_WARNING, "vhost", "%s: message %u refused: %s",
			    connection->session->port->name, message->request, fault);
		connection_set_fault(connection, fault);
	}
	if (fault != NULL && message->request == MESSAGE_SET_LOG_BASE) {
		/* A size that the library refuses; it closes the descriptor. */
		message->size = 0;
		return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	}
	if (fault != NULL) {
		if (first_descriptor(message) < 0)
			return RTE_VHOST_MSG_RESULT_ERR;
		spoil_descriptors(message);
	} else if (first_descriptor(message) < 0) {
		if (answer(connection, message))
			return RTE_VHOST_MSG_RESULT_REPLY;
	}
	prepare(connection, message);
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

/* ---- after the library ---- */

struct announcement {
	struct port *port;
	uint8_t mac[6];
};

/* On the control thread. The port is there: its closing is posted later than this was. */
static void send_announcement(void *argument)
{
	struct announcement *announcement = argument;
	const struct port *port = announcement->port;
	uint8_t frame[RARP_LENGTH];

	rarp_request(frame, announcement->mac);
	if (port->host.inject == NULL ||
	    port->host.inject(port->host.argument, port, frame, sizeof(frame)) != 0)
		LOG_LIMITED(LOG_WARNING, "vhost", "%s: an announcement was not sent", port->name);
	free(announcement);
}

/*
 * The guest has moved here and cannot say so itself: the VMM has us send a RARP request for it. The
 * library would, as part of a burst that we never ask it for. What comes too often is left out.
 */
static void announce(struct connection *connection, const uint8_t mac[6])
{
	struct session *session = connection->session;
	struct announcement *announcement = NULL;
	const uint64_t now = moment_now().ms;
	bool due;

	pthread_mutex_lock(&session->lock);
	if (now - session->announced_ms >= 1000) {
		session->announced_ms = now;
		session->announced = 0;
	}
	due = session->announced < ANNOUNCEMENTS_MAX && connection == session->connections[0];
	session->announced += due;
	pthread_mutex_unlock(&session->lock);
	if (due)
		announcement = malloc(sizeof(*announcement));
	if (announcement == NULL)
		return;
	announcement->port = session->port;
	memcpy(announcement->mac, mac, sizeof(announcement->mac));
	if (loop_post(session->port->host.loop, send_announcement, announcement) != 0)
		free(announcement);
}

/* The library forgets rings without telling when it frees them. */
static void forget_ready(struct connection *connection, uint16_t first)
{
	for (uint16_t i = first; i < 2 * PORT_QUEUES_MAX; i++) {
		connection->ready[i] = false;
		connection->enabled[i] = false;
		connection->drain_from[i] = 0;
	}
}

/* A ring that was ready is not, when the library says so next. */
static void note_enabled(struct connection *connection, uint32_t index, bool enabled)
{
	pthread_mutex_lock(&connection->session->lock);
	connection->enabled[index] = enabled;
	pthread_mutex_unlock(&connection->session->lock);
	if (enabled || connection->ready[index])
		set_drained(connection, index, !enabled);
}

/* The VMM knows now where the ring stands, and says so when it starts it again. */
static void note_stopped(struct connection *connection, uint32_t index)
{
	const struct session *session = connection->session;

	if (session->journal != NULL && connection_is_active(connection) &&
	    index < session->ring_count)
		journal_clear(session->journal, (uint16_t)index);
}

static void note_features(struct connection *connection, uint64_t features)
{
	const struct news_item item = { .kind = EVENT_GUEST_FEATURES,
					.pid = connection->peer.process.pid,
					.features = features };
	struct session *session = connection->session;

	if (!(features >> VIRTIO_NET_F_MQ & 1))
		forget_ready(connection, 2);
	pthread_mutex_lock(&session->lock);
	/* VMMs say the same more than once, as when a guest is started again. */
	if (connection->started.ms == 0 || features != connection->features)
		news_add(session, &item);
	connection->features = features;
	connection->started = moment_now();
	pthread_mutex_unlock(&session->lock);
}

static enum rte_vhost_msg_result after_message(int vid, void *data)
{
	struct connection *connection = connection_find(vid);
	const struct message_head *message = data;

	memory_fault_expect(NULL, NULL);
	if (connection == NULL)
		return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	switch (message->request) {
	case MESSAGE_SET_MEM_TABLE:
		memory_take(connection);
		break;
	case MESSAGE_SET_LOG_BASE:
		log_take(connection);
		break;
	case MESSAGE_SET_FEATURES:
		note_features(connection, message->payload.number);
		break;
	case MESSAGE_RESET_OWNER:
		forget_ready(connection, 0);
		memory_drop(connection);
		__atomic_store_n(&connection->memory_lost, false, __ATOMIC_RELEASE);
		break;
	case MESSAGE_SET_VRING_ENABLE:
		note_enabled(connection, message->payload.state.index,
			     message->payload.state.value != 0);
		break;
	case MESSAGE_GET_VRING_BASE:
		note_stopped(connection, message->payload.state.index);
		break;
	case MESSAGE_SET_VRING_KICK:
	case MESSAGE_SET_VRING_CALL:
		hide_eventfds(connection, (uint16_t)(message->payload.number & RING_INDEX_MASK));
		if (connection->new_call >= 0)
			rings_change_call(connection, (uint16_t)connection->new_call);
		break;
	case MESSAGE_SEND_RARP:
		announce(connection, message->payload.mac);
		break;
	case MESSAGE_NET_SET_MTU:
		pthread_mutex_lock(&connection->session->lock);
		connection->mtu = (uint32_t)message->payload.number;
		pthread_mutex_unlock(&connection->session->lock);
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

int messages_watch(struct connection *connection)
{
	return rte_vhost_extern_callback_register(connection->vid, &hooks, connection) == 0 ? 0
											     : -EIO;
}
