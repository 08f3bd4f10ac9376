/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The session state machine over librte_vhost: connections, their life and order.
 * port/vhost_session.h tells its rules.
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
#include "port/vhost_messages.h"
#include "port/vhost_rings.h"
#include "port/vhost_wake.h"

/*
 * Protocol features of the library that this switch does not have. By number, for DPDK renamed
 * some: 5 and 10 requests of ours to the VMM, 7 crypto, 8 post-copy, 11 host notifier, 12 in-flight
 * log.
 */
#define PROTOCOL_ABSENT                                                                            \
	(1ull << 5 | 1ull << 7 | 1ull << 8 | 1ull << 10 | 1ull << 11 | 1ull << 12)

#define PROTOCOL_CONFIG (1ull << VHOST_USER_PROTOCOL_F_CONFIG)

/* How long a VMM waits while the process of another is connected. */
#define STRANGER_MS 1000
#define WATCH_MS 200

static struct session *sessions; /* under sessions_lock */
static pthread_mutex_t sessions_lock = PTHREAD_MUTEX_INITIALIZER;

/*
 * By device number of the library. w: library threads, before and after all callbacks of a device.
 */
static struct connection *connections[RTE_MAX_VHOST_DEVICE];

struct connection *connection_find(int vid)
{
	if (vid < 0 || vid >= RTE_MAX_VHOST_DEVICE)
		return NULL;
	return __atomic_load_n(&connections[vid], __ATOMIC_ACQUIRE);
}

struct moment moment_now(void)
{
	struct moment moment;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	moment.ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	moment.wall = time(NULL);
	return moment;
}

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

/* ---- what was promised, kept for a switch that starts again ---- */

/* On the control thread. The port is there: its closing is posted later than this was. */
static void tell_remember(void *argument)
{
	struct port *port = argument;

	if (port->host.remember != NULL)
		port->host.remember(port->host.argument, port);
}

static void post_remember(struct session *session)
{
	if (loop_post(session->port->host.loop, tell_remember, session->port) != 0)
		log_error("vhost", "%s: out of memory: its offer is not remembered",
			  session->port->name);
}

json_t *session_remember(struct session *session)
{
	json_t *value;

	pthread_mutex_lock(&session->lock);
	value = offer_remember(&session->offer);
	pthread_mutex_unlock(&session->lock);
	return value;
}

/* ---- what the operator hears of ---- */

/* Under the lock. */
static void tell_of(struct session *session, enum event_kind kind, pid_t pid, const char *reason)
{
	struct news_item item = { .kind = kind, .pid = pid };

	snprintf(item.reason, sizeof(item.reason), "%s", reason);
	news_add(session, &item);
}

/* Under the lock. */
static void tell_connected(struct session *session, const struct connection *connection,
			   bool waiting)
{
	const struct news_item item = { .kind = EVENT_GUEST_CONNECTED,
					.pid = connection->peer.process.pid,
					.uid = connection->peer.uid,
					.waiting = waiting };

	news_add(session, &item);
}

/* ---- who waits ---- */

/* Under the lock. */
static void note_refusal(struct session *session, pid_t pid, const char *why)
{
	const struct connection *active = session->connections[0];

	session->refused++;
	session->last_refusal.pid = pid;
	session->last_refusal.time = moment_now().wall;
	snprintf(session->last_refusal.reason, sizeof(session->last_refusal.reason),
		 "process %d uses the socket%s",
		 active != NULL ? active->peer.process.pid : 0, why);
	tell_of(session, EVENT_GUEST_REFUSED, pid, session->last_refusal.reason);
	LOG_LIMITED(LOG_WARNING, "vhost", "%s: process %d was refused: %s", session->port->name,
		    pid, session->last_refusal.reason);
}

/* Control thread, while somebody waits. */
static void refuse_strangers(void *argument)
{
	struct session *session = argument;
	const struct connection *active;
	bool waiting = false;

	pthread_mutex_lock(&session->lock);
	active = session->connections[0];
	for (unsigned int i = 1; i < SESSION_CONNECTIONS; i++) {
		struct connection *connection = session->connections[i];

		if (connection == NULL || connection->hung_up)
			continue;
		waiting = true;
		if (moment_now().ms - connection->came.ms < STRANGER_MS ||
		    connection->peer.process.pid == 0 ||
		    process_same(&connection->peer.process, &active->peer.process) ||
		    !process_lives(&active->peer.process))
			continue;
		note_refusal(session, connection->peer.process.pid, "");
		connection->hung_up = true;
		peer_hang_up(&connection->peer);
	}
	pthread_mutex_unlock(&session->lock);
	if (!waiting)
		loop_timer_stop(&session->watch);
}

static void watch(void *argument)
{
	struct port *port = argument;
	struct session *session = port->driver;

	if (session == NULL || session->closed || session->watch.event != NULL)
		return;
	if (loop_timer_start(&session->watch, port->host.loop, WATCH_MS, refuse_strangers,
			     session) != 0)
		log_error("vhost", "%s: out of memory: who waits is not refused", port->name);
}

/* ---- connections ---- */

/* The first connection is the active one from now on. Under the lock. */
static void activate(struct session *session)
{
	const struct connection *active = session->connections[0];

	session->since = moment_now();
	session->fault = NULL;
	session->suspected = 0;
	if (session->offer.promised && process_same(&session->offer.to, &active->peer.process))
		session->reconnects++;
	if (session->journal != NULL)
		journal_begin(session->journal, &active->peer.process);
	if (offer_promise(&session->offer, &active->peer.process, active->offer))
		post_remember(session);
}

/* Takes the connection in as the active or a waiting one. Returns its place, or -EBUSY. */
static int admit(struct session *session, struct connection *connection)
{
	uint64_t config = 0;
	int place = -EBUSY;

	pthread_mutex_lock(&session->lock);
	for (int i = 0; i < SESSION_CONNECTIONS && !session->closing && place < 0; i++)
		if (session->connections[i] == NULL)
			place = i;
	if (place < 0 && !session->closing)
		note_refusal(session, connection->peer.process.pid, ", and others wait already");
	if (place >= 0) {
		/* Where there is something to tell: some VMMs warn that they ignore it. */
		if (session->wish.mtu != PORT_MTU_MAX)
			config = PROTOCOL_CONFIG;
		connection->protocol = (session->protocol & ~PROTOCOL_CONFIG) | config;
		connection->offer = offer_features(&session->offer, &connection->peer.process);
		session->connects++;
		__atomic_store_n(&session->connections[place], connection, __ATOMIC_RELEASE);
		tell_connected(session, connection, place > 0);
		if (place == 0)
			activate(session);
	}
	pthread_mutex_unlock(&session->lock);
	return place;
}

static int find_peer(struct session *session, struct connection *connection)
{
	struct peer known[SESSION_CONNECTIONS];
	unsigned int count = 0;

	pthread_mutex_lock(&session->lock);
	for (unsigned int i = 0; i < SESSION_CONNECTIONS; i++)
		if (session->connections[i] != NULL)
			known[count++] = session->connections[i]->peer;
	pthread_mutex_unlock(&session->lock);
	return peer_find(session->place.bound, session->config.client, known, count,
			 &connection->peer);
}

static int new_connection(int vid)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	struct session *session;
	char bound[sizeof(session->place.bound)];
	int place;

	session = rte_vhost_get_ifname(vid, bound, sizeof(bound)) == 0 ? find_session(bound) : NULL;
	if (session == NULL || connection == NULL)
		goto refuse;
	connection->session = session;
	connection->vid = vid;
	connection->came = moment_now();
	connection->new_call = -1;
	/* A VMM that we went to ourselves may stay unknown: it is the only one. */
	if (find_peer(session, connection) != 0 && !session->config.client)
		goto refuse;
	if (messages_watch(connection) != 0)
		goto refuse;
	__atomic_store_n(&connections[vid], connection, __ATOMIC_RELEASE);
	place = admit(session, connection);
	if (place < 0)
		goto refuse;
	LOG_LIMITED(LOG_INFO, "vhost", "%s: process %d connected%s", session->port->name,
		    connection->peer.process.pid,
		    place > 0 ? " and waits, for the socket is in use" : "");
	if (place > 0 && loop_post(session->port->host.loop, watch, session->port) != 0)
		log_error("vhost", "%s: out of memory: who waits is not refused",
			  session->port->name);
	return 0;

refuse:
	__atomic_store_n(&connections[vid], NULL, __ATOMIC_RELEASE);
	if (session != NULL && session->config.client) {
		/* The library makes no other connection after one that was refused. */
		pthread_mutex_lock(&session->lock);
		session->dead = true;
		pthread_mutex_unlock(&session->lock);
	}
	if (connection != NULL && connection->session != NULL)
		peer_release(&connection->peer);
	free(connection);
	return -1;
}

static int new_device(int vid)
{
	struct connection *connection = connection_find(vid);

	if (connection == NULL)
		return -1;
	connection->running = true;
	rings_sync(connection);
	return 0;
}

static void destroy_device(int vid)
{
	struct connection *connection = connection_find(vid);

	if (connection == NULL)
		return;
	connection->running = false;
	rings_detach_all(connection, "the VMM stopped the device");
}

static int vring_state_changed(int vid, uint16_t index, int enable)
{
	struct connection *connection = connection_find(vid);

	if (connection == NULL || index >= 2 * PORT_QUEUES_MAX)
		return 0;
	connection->ready[index] = enable;
	/* For another call descriptor the library stops a ring and starts it again; we need not. */
	if (!enable && index != connection->new_call && connection_is_active(connection))
		rings_detach(connection, index, index, "the guest switched it off");
	rings_sync(connection);
	return 0;
}

/* The active connection is gone: says why, and forgets what was wrong with its rings. */
static void note_disconnect(struct session *session, const struct connection *connection)
{
	struct session_event *last = &session->last_disconnect;
	const char *why = session->fault != NULL ? session->fault : "the VMM disconnected";

	if (__atomic_load_n(&connection->memory_lost, __ATOMIC_ACQUIRE))
		why = MEMORY_LOST;
	snprintf(last->reason, sizeof(last->reason), "%s", why);
	last->pid = connection->peer.process.pid;
	session->since = moment_now();
	last->time = session->since.wall;
	tell_of(session, EVENT_GUEST_GONE, last->pid, last->reason);
	session->fault = NULL;
	session->suspected = 0;
	for (uint16_t i = 0; i < session->ring_count; i++) {
		session->rings[i].state = RING_DETACHED;
		session->rings[i].reason = NULL;
	}
}

/* Takes the connection out; if it was the active one, the next that waits takes its place. */
static void dismiss(struct connection *connection)
{
	struct session *session = connection->session;
	struct connection *expected = connection;
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
	else
		tell_of(session, EVENT_GUEST_GONE, connection->peer.process.pid,
			"the VMM waited, and disconnected");
	if (was_active && session->connections[0] != NULL)
		activate(session);
	pthread_mutex_unlock(&session->lock);
	entries_release(&connection->entries);
	memory_fault_release(connection);
	memory_fault_release(&connection->log);
	memory_fault_expect(NULL, NULL);
	/* When a port is closed the library may have given the number away already. */
	__atomic_compare_exchange_n(&connections[connection->vid], &expected, NULL, false,
				    __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	peer_release(&connection->peer);
	if (was_active && session->connections[0] != NULL)
		rings_sync(session->connections[0]);
	free(connection);
}

static void destroy_connection(int vid)
{
	struct connection *connection = connection_find(vid);

	if (connection == NULL)
		return;
	LOG_LIMITED(LOG_INFO, "vhost", "%s: process %d disconnected",
		    connection->session->port->name, connection->peer.process.pid);
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

/* Under the lock. */
static void set_wish(struct session *session, const struct session_wish *wish)
{
	session->wish = *wish;
	session->offer.off = features_switched_off(&wish->switches);
	if (session->journal == NULL)
		session->offer.off |= 1ull << VIRTIO_F_RING_PACKED;
}

/* A guest with packed rings must outlive the switch as others do. The background thread. */
static void open_journal(struct session *session)
{
	const char *directory = session->port->host.directory;

	session->no_journal = "the switch has no directory for it";
	if (directory != NULL)
		session->journal = journal_open(directory, session->port->name,
						&session->no_journal);
	pthread_mutex_lock(&session->lock);
	set_wish(session, &session->wish);
	pthread_mutex_unlock(&session->lock);
	if (session->journal == NULL)
		log_warning("vhost", "%s: packed rings are not offered, for their positions cannot "
			    "be kept: %s", session->port->name, session->no_journal);
}

struct session *session_new(struct port *port, const struct session_config *config,
			    const struct session_wish *wish, const json_t *remembered)
{
	uint16_t rings = (uint16_t)(2 * port->queue_count);
	struct session *session = calloc(1, sizeof(*session) + rings * sizeof(session->rings[0]));

	if (session == NULL)
		return NULL;
	session->port = port;
	session->retire = port->host.retire;
	session->config = *config;
	session->ring_count = rings;
	session->place.directory = -1;
	session->since = moment_now();
	set_wish(session, wish);
	offer_restore(&session->offer, remembered);
	pthread_mutex_init(&session->lock, NULL);
	for (uint16_t i = 0; i < rings; i++) {
		session->rings[i].call_fd = -1;
		session->rings[i].kick_fd = -1;
	}
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
	loop_timer_stop(&session->watch);
	pthread_mutex_destroy(&session->lock);
	free(session);
}

/* What we may offer is the library's own set; each connection's offer is a part of it. */
static int set_available(struct session *session)
{
	const char *bound = session->place.bound;
	uint64_t available, protocol;

	if (rte_vhost_driver_get_features(bound, &available) != 0 ||
	    rte_vhost_driver_get_protocol_features(bound, &protocol) != 0)
		return -EIO;
	session->protocol = (protocol & ~PROTOCOL_ABSENT) | PROTOCOL_CONFIG;
	pthread_mutex_lock(&session->lock);
	session->offer.available = available;
	pthread_mutex_unlock(&session->lock);
	return rte_vhost_driver_set_protocol_features(bound, session->protocol) == 0 ? 0 : -EIO;
}

static int library_fault(struct session *session, const char *what, struct error *err)
{
	session_close(session);
	error_set(err, ERROR_SYSTEM, EIO, "port %s: the vhost library could not %s %s",
		  session->port->name, what, session->config.path);
	error_detail(err, NULL, "socket", session->config.path, NULL);
	return -EIO;
}

int session_open(struct session *session, struct error *err)
{
	const struct session_config *config = &session->config;
	struct socket_place *place = &session->place;
	char object[PORT_NAME_SIZE + 8];
	int result;

	/* Each message logs several lines that a VMM controls. */
	rte_log_set_level_pattern("lib.vhost.*", RTE_LOG_ERR);
	snprintf(object, sizeof(object), "port %s", session->port->name);
	result = config->client ? socket_place_visit(place, config->path, object, err)
				: socket_place_open(place, config->path, object, err);
	if (result != 0)
		return result;
	if (rte_vhost_driver_register(place->bound, config->client ? RTE_VHOST_USER_CLIENT : 0) !=
	    0)
		return library_fault(session, "register", err);
	session->listening = true;
	open_journal(session);
	if (set_available(session) != 0 ||
	    rte_vhost_driver_callback_register(place->bound, &callbacks) != 0)
		return library_fault(session, "set up", err);
	/* Where a VMM listens already, its connection begins in here. */
	if (rte_vhost_driver_start(place->bound) != 0)
		return library_fault(session, config->client ? "connect to" : "listen on", err);
	if (config->client)
		return 0;
	peer_hide_listener(place->bound);
	result = socket_place_settle(place, &config->permissions, object, err);
	if (result != 0)
		session_close(session);
	else if (wake_library(place->directory) != 0)
		log_warning("vhost", "%s: the vhost library may take a second to see who connects",
			    session->port->name);
	return result;
}

void session_prepare_close(struct session *session)
{
	session->closed = true;
	loop_timer_stop(&session->watch);
}

void session_close(struct session *session)
{
	pthread_mutex_lock(&session->lock);
	session->closing = true;
	pthread_mutex_unlock(&session->lock);
	if (session->listening)
		rte_vhost_driver_unregister(session->place.bound);
	session->listening = false;
	/*
	 * The library has stopped all devices, but tells nothing of connections that end here. The
	 * last one first, so that none takes another's place.
	 */
	for (unsigned int i = SESSION_CONNECTIONS; i-- > 0;)
		if (session->connections[i] != NULL)
			dismiss(session->connections[i]);
	journal_close(session->journal);
	session->journal = NULL;
	socket_place_close(&session->place);
}

void session_set(struct session *session, const struct session_wish *wish)
{
	bool forgotten;

	pthread_mutex_lock(&session->lock);
	set_wish(session, wish);
	forgotten = wish->renegotiate && offer_forget(&session->offer);
	pthread_mutex_unlock(&session->lock);
	rings_publish(session);
	if (forgotten)
		tell_remember(session->port);
}

bool session_is_lost(struct session *session, const char **reason)
{
	bool connected, dead;

	pthread_mutex_lock(&session->lock);
	connected = session->connections[0] != NULL;
	dead = session->dead;
	/* Asked from time to time, which is when a suspicion can ripen. */
	rings_look_unshared(session);
	pthread_mutex_unlock(&session->lock);
	*reason = NULL;
	if (connected)
		return false;
	if (dead)
		*reason = "a connection to the VMM could not be taken over";
	else if (socket_place_is_lost(&session->place))
		*reason = "the socket was removed or replaced";
	return *reason != NULL;
}
