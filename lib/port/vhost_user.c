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

#include "base/background.h"
#include "base/log.h"
#include "base/loop.h"
#include "port/features.h"
#include "port/vhost_session.h"
#include "virtqueue/virtqueue.h"

#define ACCOUNT_SIZE 33 /* the longest user name and the NUL (useradd(8)) */

struct vhost_user_config {
	char socket[SOCKET_PATH_MAX + 1];
	uint32_t mode;
	struct {
		uint32_t mode;
		char user[ACCOUNT_SIZE];
		char group[ACCOUNT_SIZE];
	} permissions;
};

static const char *const mode_names[] = { "server", NULL };

static const struct param permission_params[] = {
	{ "mode", PARAM_MODE, PARAM_AT(struct vhost_user_config, permissions.mode),
	  .initial = "\"0660\"", .help = "file mode of the socket, octal" },
	{ "user", PARAM_STRING, PARAM_AT(struct vhost_user_config, permissions.user),
	  .help = "owner of the socket; the daemon's own by default" },
	{ "group", PARAM_STRING, PARAM_AT(struct vhost_user_config, permissions.group),
	  .help = "group of the socket; the daemon's own by default" },
	{ NULL }
};

static const struct param params[] = {
	{ "socket", PARAM_STRING, PARAM_AT(struct vhost_user_config, socket), .required = true,
	  .help = "absolute path of the unix socket, at most 107 bytes" },
	{ "mode", PARAM_CHOICE, PARAM_AT(struct vhost_user_config, mode), .choices = mode_names,
	  .initial = "\"server\"", .help = "who listens: the switch" },
	{ "permissions", PARAM_OBJECT, .offset = 0, .fields = permission_params,
	  .help = "who may connect to the socket" },
	{ "offloads", PARAM_LATER, .help = "what is offered to the guest" },
	{ "rings", PARAM_LATER, .help = "ring features offered to the guest" },
	{ NULL }
};

/* An opening or a closing under way on the background thread. */
struct job {
	struct port *port;
	struct session *session;
	char path[SOCKET_PATH_MAX + 1];
	struct socket_permissions permissions;
	port_opened opened;
	void (*closed)(void *argument);
	void *argument;
	int result;
	struct error fault;
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

static uint16_t rx_burst(struct port_queue *queue, struct burst *burst, uint16_t max)
{
	struct virtqueue *vq = queue_attached(queue, PORT_RX);

	if (vq == NULL)
		return 0;
	burst->allowed = vq->sends;
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

static int tx_burst(struct port_queue *queue, struct frame *const *frames, uint16_t count,
		    struct tx_outcome *outcome)
{
	struct virtqueue *vq = queue_attached(queue, PORT_TX);

	if (vq == NULL)
		return -ENOTCONN;
	virtqueue_tx_burst(vq, frames, count, outcome);
	return 0;
}

static bool notify(struct port_queue *queue, enum port_direction direction)
{
	struct ring *ring = queue_ring(queue, direction);

	return virtqueue_wants_interrupt(&ring->vq) && ring->call_fd >= 0 &&
	       eventfd_write(ring->call_fd, 1) == 0;
}

/* ---- opening and closing: on the background thread, answered on the control thread ---- */

static void finish_open(void *argument)
{
	struct job *job = argument;

	if (job->result != 0) {
		session_free(job->session);
		job->port->driver = NULL;
	}
	job->opened(job->argument, job->result == 0 ? NULL : &job->fault);
	free(job);
}

static void run_open(void *argument)
{
	struct job *job = argument;

	job->result = session_listen(job->session, job->path, &job->permissions, &job->fault);
	loop_post(job->port->host.loop, finish_open, job);
}

static int find_account(const struct vhost_user_config *config, const char *name,
			struct socket_permissions *permissions, struct error *err)
{
	const struct passwd *user = NULL;
	const struct group *group = NULL;
	const char *field = NULL;

	permissions->mode = config->permissions.mode;
	permissions->user = (uid_t)-1;
	permissions->group = (gid_t)-1;
	if (config->permissions.user[0] != '\0') {
		user = getpwnam(config->permissions.user);
		if (user != NULL)
			permissions->user = user->pw_uid;
		else
			field = config->permissions.user;
	}
	if (config->permissions.group[0] != '\0') {
		group = getgrnam(config->permissions.group);
		if (group != NULL)
			permissions->group = group->gr_gid;
		else
			field = config->permissions.group;
	}
	if (field == NULL)
		return 0;
	error_set(err, ERROR_SYSTEM, ENOENT, "port %s: no such %s: %s", name,
		  field == config->permissions.user ? "user" : "group", field);
	error_detail(err, NULL,
		     field == config->permissions.user ? "permissions.user" : "permissions.group",
		     field, "an account of this host");
	return -ENOENT;
}

static int open_port(struct port *port, const void *settings, port_opened done, void *argument,
		     struct error *err)
{
	const struct vhost_user_config *config = settings;
	struct job *job = calloc(1, sizeof(*job));
	struct session *session = session_new(port);

	if (job == NULL || session == NULL) {
		error_set(err, ERROR_SYSTEM, ENOMEM, "port %s: out of memory", port->name);
		goto fail;
	}
	if (find_account(config, port->name, &job->permissions, err) != 0)
		goto fail;
	job->port = port;
	job->session = session;
	memcpy(job->path, config->socket, sizeof(job->path));
	job->opened = done;
	job->argument = argument;
	port->driver = session;
	for (uint16_t i = 0; i < port->queue_count; i++)
		port->queues[i].driver = session;
	if (background_run(port->host.background, run_open, job) != 0) {
		error_set(err, ERROR_SYSTEM, ENOMEM, "port %s: out of memory", port->name);
		port->driver = NULL;
		goto fail;
	}
	return 0;

fail:
	session_free(session);
	free(job);
	return -(err->errnum != 0 ? err->errnum : EINVAL);
}

static void finish_close(void *argument)
{
	struct job *job = argument;

	session_free(job->session);
	job->port->driver = NULL;
	job->closed(job->argument);
	free(job);
}

static void run_close(void *argument)
{
	struct job *job = argument;

	session_close(job->session);
	loop_post(job->port->host.loop, finish_close, job);
}

static void close_port(struct port *port, void (*done)(void *argument), void *argument)
{
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL || port->driver == NULL) {
		free(job);
		done(argument);
		return;
	}
	job->port = port;
	job->session = port->driver;
	job->closed = done;
	job->argument = argument;
	if (background_run(port->host.background, run_close, job) != 0) {
		free(job);
		done(argument);
	}
}

/* ---- what the operator sees ---- */

static bool ring_is_live(const struct ring *ring)
{
	const struct virtqueue *vq = __atomic_load_n(&ring->attached, __ATOMIC_ACQUIRE);

	return vq != NULL && __atomic_load_n(&vq->fault, __ATOMIC_RELAXED) == VIRTQUEUE_OK;
}

static const char *ring_fault(const struct ring *ring)
{
	uint8_t fault = __atomic_load_n(&ring->vq.fault, __ATOMIC_RELAXED);

	return ring->state == RING_ATTACHED && fault != VIRTQUEUE_OK ? virtqueue_fault_text(fault)
								     : NULL;
}

static bool is_up(struct port *port, const char **reason)
{
	struct session *session = port->driver;
	bool live[2] = { false, false };
	struct session_view view;

	*reason = NULL;
	if (session == NULL) {
		*reason = "not open";
		return false;
	}
	session_view(session, &view);
	pthread_mutex_lock(&session->lock);
	for (uint16_t i = 0; i < session->ring_count; i++) {
		const struct ring *ring = &session->rings[i];

		live[i % 2] |= ring_is_live(ring);
		if (ring_fault(ring) != NULL)
			*reason = ring_fault(ring);
		else if (ring->state == RING_MALFORMED)
			*reason = ring->reason;
	}
	pthread_mutex_unlock(&session->lock);
	if (live[0] && live[1]) {
		*reason = NULL;
		return true;
	}
	if (!view.connected)
		*reason = view.disconnects > 0 ? "the VMM is gone; waiting for it to connect again"
					       : "waiting for the VMM to connect";
	else if (view.fault != NULL)
		*reason = view.fault;
	else if (*reason == NULL)
		*reason = "connected; the guest's driver has not started the device";
	return false;
}

static json_t *rings_to_json(struct session *session)
{
	static const char *const states[] = { "detached", "attached", "malformed" };
	json_t *list = json_array();

	pthread_mutex_lock(&session->lock);
	for (uint16_t i = 0; i < session->ring_count; i++) {
		const struct ring *ring = &session->rings[i];
		const char *fault = ring_fault(ring);
		const char *state = fault != NULL ? states[RING_MALFORMED] : states[ring->state];

		json_array_append_new(
			list, json_pack("{s:i, s:i, s:s, s:s, s:s?, s:i, s:I}", "index", i, "queue",
					i / 2, "direction", i % 2 == 0 ? "tx" : "rx", "state",
					state, "reason", fault != NULL ? fault : ring->reason,
					"size", ring->state == RING_ATTACHED ? (int)ring->size : 0,
					"malformed_chains",
					(json_int_t)counter_read(&ring->vq.malformed)));
	}
	pthread_mutex_unlock(&session->lock);
	return list;
}

static void status(struct port *port, json_t *object)
{
	struct session *session = port->driver;
	struct session_view view;
	const char *state = "disconnected";

	if (session == NULL)
		return;
	session_view(session, &view);
	if (view.connected)
		state = "connected";
	json_object_set_new(
		object, "connection",
		json_pack("{s:s, s:o, s:b, s:I, s:I, s:s?}", "state", state, "pid",
			  view.connected ? json_integer(view.pid) : json_null(), "waiting",
			  view.waiting, "connects", (json_int_t)view.connects, "disconnects",
			  (json_int_t)view.disconnects, "last_disconnect",
			  view.last_disconnect[0] != '\0' ? view.last_disconnect : NULL));
	json_object_set_new(object, "features",
			    json_pack("{s:o, s:o}", "offered", features_to_json(session->offered),
				      "negotiated", features_to_json(view.features)));
	json_object_set_new(object, "memory",
			    json_pack("{s:b, s:i, s:I}", "valid", view.memory_valid, "regions",
				      (int)view.regions, "bytes", (json_int_t)view.bytes));
	json_object_set_new(object, "vmm_mtu", view.mtu ? json_integer(view.mtu) : json_null());
	json_object_set_new(object, "rings", rings_to_json(session));
}

const struct port_ops vhost_user_ops = {
	.type = "vhost-user",
	.params = params,
	.config_size = sizeof(struct vhost_user_config),
	.place = offsetof(struct vhost_user_config, socket),
	.place_key = "socket",
	.open = open_port,
	.close = close_port,
	.status = status,
	.is_up = is_up,
	.rx_burst = rx_burst,
	.expect = expect,
	.rx_release = rx_release,
	.tx_burst = tx_burst,
	.notify = notify,
};
