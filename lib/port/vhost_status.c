/* SPDX-License-Identifier: BSD-3-Clause */
/* What the operator sees; port/vhost_status.h is the contract. All but that: under the lock. */
#include "port/vhost_status.h"

#include <linux/virtio_config.h>
#include <stdio.h>
#include <time.h>

#include "port/features.h"
#include "port/vhost_rings.h"

/* How long a VMM that has negotiated features may take to send its memory before that is odd. */
#define MEMORY_MS 1000

/* ---- up or down, and why ---- */

static bool memory_is_lost(const struct connection *active)
{
	return active != NULL && __atomic_load_n(&active->memory_lost, __ATOMIC_ACQUIRE);
}

static bool is_drained(const struct ring *ring)
{
	return __atomic_load_n(&ring->drain_from, __ATOMIC_RELAXED) != 0;
}

static const char *ring_fault(const struct ring *ring)
{
	uint8_t fault = __atomic_load_n(&ring->vq.fault, __ATOMIC_RELAXED);

	return ring->state == RING_ATTACHED && fault != VIRTQUEUE_OK ? virtqueue_fault_text(fault)
								     : NULL;
}

/* Why a ring does not work although the guest wants it to, or NULL. */
static const char *find_ring_fault(const struct session *session)
{
	const char *found = NULL;

	for (uint16_t i = 0; i < session->ring_count; i++) {
		const struct ring *ring = &session->rings[i];

		if (ring_fault(ring) != NULL)
			found = ring_fault(ring);
		else if (ring->state == RING_MALFORMED)
			found = ring->reason;
	}
	return found;
}

static bool is_live(const struct session *session)
{
	bool live[2] = { false, false };

	for (uint16_t i = 0; i < session->ring_count; i++) {
		const struct ring *ring = &session->rings[i];

		live[i % 2] |= __atomic_load_n(&ring->attached, __ATOMIC_ACQUIRE) != NULL &&
			       !is_drained(ring) && ring_fault(ring) == NULL;
	}
	return live[0] && live[1];
}

/* A VMM whose guest has started and that sends no memory has none that it could share. */
static bool has_no_memory(const struct connection *active)
{
	return active->started.ms != 0 && !active->memory_valid &&
	       moment_now().ms - active->started.ms >= MEMORY_MS;
}

static const char *why_disconnected(const struct session *session)
{
	if (session->config.client)
		return session->last_disconnect.time != 0
			       ? "the VMM is gone; trying to connect to it every second"
			       : "the VMM does not listen; trying to connect to it every second";
	return session->last_disconnect.time != 0
		       ? "the VMM is gone; waiting for it to connect again"
		       : "waiting for the VMM to connect";
}

/* NULL: the port is up. */
static const char *why_down(struct session *session)
{
	const struct connection *active = session->connections[0];

	if (active == NULL)
		return why_disconnected(session);
	if (memory_is_lost(active))
		return MEMORY_LOST;
	if (rings_look_unshared(session))
		return NOT_SHARED;
	if (is_live(session))
		return NULL;
	if (session->fault != NULL)
		return session->fault;
	if (find_ring_fault(session) != NULL)
		return find_ring_fault(session);
	if (has_no_memory(active))
		return NOT_SHARED;
	return "connected; the guest's driver has not started the device";
}

bool session_is_up(struct session *session, const char **reason)
{
	pthread_mutex_lock(&session->lock);
	*reason = why_down(session);
	pthread_mutex_unlock(&session->lock);
	return *reason == NULL;
}

/* ---- port.get ---- */

/* ISO 8601, in UTC; null for never. */
static json_t *time_to_json(time_t time)
{
	char text[32];
	struct tm parts;

	if (time == 0 || gmtime_r(&time, &parts) == NULL ||
	    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
		return json_null();
	return json_string(text);
}

static json_t *event_to_json(const struct session_event *event)
{
	if (event->time == 0)
		return json_null();
	return json_pack("{s:s, s:i, s:o}", "reason", event->reason, "pid", (int)event->pid, "time",
			 time_to_json(event->time));
}

static json_t *connection_to_json(const struct session *session)
{
	const struct connection *active = session->connections[0];
	json_t *object = json_object();

	json_object_set_new(object, "state",
			    json_string(active != NULL ? "connected" : "disconnected"));
	json_object_set_new(object, "since", time_to_json(session->since.wall));
	json_object_set_new(object, "seconds",
			    json_integer((json_int_t)(moment_now().ms - session->since.ms) / 1000));
	json_object_set_new(object, "pid",
			    active != NULL ? json_integer(active->peer.process.pid) : json_null());
	json_object_set_new(object, "uid",
			    active != NULL ? json_integer(active->peer.uid) : json_null());
	json_object_set_new(object, "waiting", json_boolean(session->connections[1] != NULL));
	json_object_set_new(object, "connects", json_integer((json_int_t)session->connects));
	json_object_set_new(object, "reconnects", json_integer((json_int_t)session->reconnects));
	json_object_set_new(object, "disconnects", json_integer((json_int_t)session->disconnects));
	json_object_set_new(object, "refused", json_integer((json_int_t)session->refused));
	json_object_set_new(object, "last_disconnect", event_to_json(&session->last_disconnect));
	json_object_set_new(object, "last_refusal", event_to_json(&session->last_refusal));
	return object;
}

/* While nobody is connected: what the last VMM would be offered. */
static json_t *features_status(const struct session *session)
{
	const struct connection *active = session->connections[0];
	const struct offer *offer = &session->offer;
	uint64_t offered = active != NULL ? active->offer : offer_features(offer, &offer->to);
	json_t *pending = offer_pending(offer, offered);

	if (session->wish.switches.packed && session->journal == NULL)
		json_array_append_new(pending, json_pack("{s:s, s:[s], s:s}", "change", "withheld",
							 "features", "VIRTIO_F_RING_PACKED",
							 "reason", session->no_journal));
	return json_pack("{s:o, s:o, s:o, s:o}", "requested", features_to_json(offer_wish(offer)),
			 "offered", features_to_json(offered), "negotiated",
			 features_to_json(active != NULL ? active->features : 0), "pending",
			 pending);
}

/* Do we see what the guest writes? null: it has not written anything yet. */
static json_t *shared_to_json(struct session *session)
{
	if (rings_look_unshared(session))
		return json_false();
	for (uint16_t i = 0; i < session->ring_count; i++) {
		const struct ring *ring = &session->rings[i];

		if (ring->state == RING_ATTACHED &&
		    (!ring->fresh || __atomic_load_n(&ring->vq.spoken, __ATOMIC_RELAXED)))
			return json_true();
	}
	return json_null();
}

static json_t *memory_to_json(struct session *session)
{
	const struct connection *active = session->connections[0];
	json_t *object = json_object();

	json_object_set_new(object, "valid",
			    json_boolean(active != NULL && active->memory_valid &&
					 !memory_is_lost(active)));
	json_object_set_new(object, "regions",
			    json_integer(active != NULL ? active->memory.count : 0));
	json_object_set_new(object, "bytes",
			    json_integer(active != NULL ? (json_int_t)active->bytes : 0));
	json_object_set_new(object, "page_size",
			    active != NULL && active->page_size != 0
				    ? json_integer((json_int_t)active->page_size)
				    : json_null());
	/* null: there is none; false: its VMM can take it from under us. */
	json_object_set_new(object, "sealed",
			    active != NULL && active->memory_valid ? json_boolean(active->sealed)
								   : json_null());
	json_object_set_new(object, "shared", shared_to_json(session));
	json_object_set_new(object, "dirty_log",
			    json_boolean(active != NULL && log_is_wanted(active) &&
					 active->log.size != 0));
	return object;
}

static json_t *ring_to_json(const struct session *session, int index)
{
	const struct connection *active = session->connections[0];
	const struct ring *ring = &session->rings[index];
	static const char *const states[] = { "detached", "attached", "malformed" };
	const char *fault = ring_fault(ring), *reason = fault != NULL ? fault : ring->reason;
	bool attached = ring->state == RING_ATTACHED;
	bool packed = active != NULL && active->features >> VIRTIO_F_RING_PACKED & 1;
	/* Without protocol features there is no message for it. */
	bool enabled = (active != NULL && active->enabled[index]) ||
		       (attached && !is_drained(ring));
	int size = attached ? (int)ring->size : 0;
	int fill = attached ? (int)__atomic_load_n(&ring->vq.waiting, __ATOMIC_RELAXED) : 0;

	if (attached && reason == NULL && is_drained(ring))
		reason = "the guest switched it off: its frames are dropped";
	return json_pack("{s:i, s:i, s:s, s:s, s:b, s:s, s:s?, s:i, s:i, s:I}", "index", index,
			 "queue", index / 2, "direction", index % 2 == 0 ? "tx" : "rx", "layout",
			 packed ? "packed" : "split", "enabled", enabled, "state",
			 fault != NULL ? states[RING_MALFORMED] : states[ring->state], "reason",
			 reason, "size", size, "fill", fill, "malformed_chains",
			 (json_int_t)counter_read(&ring->vq.malformed));
}

/* The VMM's MTU, which is what its guest uses, beside ours, beyond which we drop. */
static void add_mtu(const struct session *session, json_t *object)
{
	const struct connection *active = session->connections[0];
	uint32_t mtu = active != NULL ? active->mtu : 0, own = session->wish.mtu;
	char note[96];

	json_object_set_new(object, "vmm_mtu", mtu != 0 ? json_integer(mtu) : json_null());
	if (mtu == 0 || mtu == own || own == PORT_MTU_MAX)
		return;
	snprintf(note, sizeof(note), "the VMM tells its guest an MTU of %u, the port passes %u",
		 mtu, own);
	json_object_set_new(object, "vmm_mtu_note", json_string(note));
}

void session_connection(struct session *session, struct port_connection *connection)
{
	pthread_mutex_lock(&session->lock);
	*connection = (struct port_connection){
		.connected = session->connections[0] != NULL,
		.since = (uint64_t)session->since.wall,
		.connects = session->connects,
		.reconnects = session->reconnects,
		.disconnects = session->disconnects,
		.refused = session->refused,
	};
	pthread_mutex_unlock(&session->lock);
}

void session_status(struct session *session, json_t *object)
{
	json_t *rings = json_array();

	pthread_mutex_lock(&session->lock);
	json_object_set_new(object, "socket", json_string(session->config.path));
	json_object_set_new(object, "mode",
			    json_string(session->config.client ? "client" : "server"));
	json_object_set_new(object, "connection", connection_to_json(session));
	json_object_set_new(object, "features", features_status(session));
	json_object_set_new(object, "queues", json_integer(session->ring_count / 2));
	for (uint16_t i = 0; i < session->ring_count; i++)
		json_array_append_new(rings, ring_to_json(session, i));
	json_object_set_new(object, "rings", rings);
	json_object_set_new(object, "memory", memory_to_json(session));
	add_mtu(session, object);
	pthread_mutex_unlock(&session->lock);
}
