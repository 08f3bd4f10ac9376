/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening, closing and publishing; control/slots.h is the contract. */
#include "control/slots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/captures.h"
#include "control/saving.h"
#include "sync/retire.h"

/* What was retired is looked after this often while queues move. */
#define HURRY_MS 1

struct control_port *slot_take(struct control *control, struct model_port *model)
{
	for (uint16_t i = 0; i < CONTROL_PORTS_MAX; i++) {
		struct control_port *slot = &control->ports[i];

		if (slot->model != NULL)
			continue;
		if (i >= control->port_count)
			control->port_count = (uint16_t)(i + 1);
		memset(slot, 0, sizeof(*slot));
		slot->control = control;
		slot->model = model_port_use(model);
		slot->state = PORT_CLOSED;
		return slot;
	}
	return NULL;
}

void slot_release(struct control_port *slot)
{
	struct control *control = slot->control;

	observer_removed(slot);
	captures_lose_port(slot);
	saving_forget_port(control, slot->model->name);
	if (!control->stopping && control->directory != NULL && slot->model->ops->forget != NULL)
		slot->model->ops->forget(control->directory, slot->model->name);
	model_port_release(slot->model);
	memset(slot, 0, sizeof(*slot));
	slot->control = control;
	slot->state = PORT_FREE;
}

void slot_assign(struct control_port *slot, struct model_port *model)
{
	struct model_port *old = slot->model;

	slot->model = model_port_use(model);
	model_port_release(old);
}

/* ---- opening ---- */

static void slot_is_faulty(struct control_port *slot, const struct error *fault)
{
	bool news = strcmp(slot->fault.message, fault->message) != 0;
	char object[PORT_NAME_SIZE + 8];

	slot->fault = *fault;
	if (fault->object[0] == '\0') {
		snprintf(object, sizeof(object), "port %s", slot->model->name);
		error_detail(&slot->fault, object, NULL, NULL, NULL);
	}
	slot->state = PORT_FAULTY;
	port_free(slot->port);
	slot->port = NULL;
	if (news)
		log_warning("control", "%s", fault->message);
}

static void slot_opened(void *argument, const struct error *fault)
{
	struct control_port *slot = argument;

	if (fault != NULL) {
		slot_is_faulty(slot, fault);
	} else {
		slot->state = PORT_OPEN;
		memset(&slot->fault, 0, sizeof(slot->fault));
		log_info("control", "port %s is open", slot->model->name);
	}
	observer_look(slot);
	slots_step_ended(slot->control);
}

static void remember(void *argument, struct port *port)
{
	struct control *control = argument;

	saving_remember(control, port->name, port->ops->remember(port));
}

static int inject(void *argument, const struct port *port, const uint8_t *bytes, uint32_t length)
{
	struct control *control = argument;
	/* Always the same one, so that a port's frames stay in order. */
	struct worker *worker = control->workers[port->number % control->worker_count];
	int result = injector_post(&worker->injector, port, bytes, length);

	worker_wake(worker);
	return result;
}

static void tell(void *argument, struct port *port, enum event_kind kind, json_t *fields)
{
	struct control *control = argument;

	observer_tell(&control->ports[port->number], kind, fields);
}

static void look(void *argument, struct port *port)
{
	struct control *control = argument;

	observer_look(&control->ports[port->number]);
}

static void wake_workers(void *argument)
{
	struct control *control = argument;

	for (uint16_t i = 0; i < control->worker_count; i++)
		if (control->workers[i] != NULL)
			worker_wake(control->workers[i]);
}

void slot_set(struct control_port *slot)
{
	const struct port_settings *settings = &slot->model->settings;
	struct fdb *fdb = slot->control->fdb;
	struct port *port = slot->port;

	/* What it was known by in its old VLANs must not lead there any more. */
	if (slot->state == PORT_OPEN &&
	    !vlan_same(&port->settings.vlan, &settings->vlan))
		fdb_flush(fdb, port->number, FDB_ANY_VLAN);
	fdb->ports[port->number].most = settings->max_addresses;
	port_set(port, settings);
}

void slot_open(struct control_port *slot)
{
	struct control *control = slot->control;
	const struct model_port *model = slot->model;
	struct background *background = model->ops->waits ? control->waiting_room
							  : control->background;
	const struct port_host host = { control->retire, control->loop, background,
					remember, inject, wake_workers, tell, look, control,
					control->directory };
	uint16_t number = (uint16_t)(slot - control->ports);
	struct error fault;

	control->pending++;
	slot->state = PORT_OPENING;
	slot->port = port_new(model->ops, model->name, number, (uint16_t)model->queues,
			      control->worker_count, &host);
	if (slot->port == NULL) {
		error_set(&fault, ERROR_SYSTEM, ENOMEM, "out of memory");
		slot_opened(slot, &fault);
		return;
	}
	if (port_reserve(slot->port, &model->settings, &fault) != 0) {
		slot_opened(slot, &fault);
		return;
	}
	slot_set(slot);
	slot->port->given = model->descriptors;
	if (model->ops->open(slot->port, model->config, saving_remembered(control, model->name),
			     slot_opened, slot, &fault) != 0)
		slot_opened(slot, &fault);
}

/* ---- closing ---- */

static void slot_closed(void *argument)
{
	struct control_port *slot = argument;
	struct control *control = slot->control;

	/* What workers learned of it before they lost sight of it must not come back. */
	for (uint16_t i = 0; i < control->worker_count; i++)
		learner_drain(&control->workers[i]->learner, control->fdb, control_now());
	fdb_forget_port(control->fdb, slot->port->number);
	control->fdb->ports[slot->port->number] = (struct fdb_port){ 0 };
	port_free(slot->port);
	slot->port = NULL;
	slot->state = PORT_CLOSED;
	slots_step_ended(control);
}

/* No worker sees them any more. */
static void close_all(void *argument)
{
	struct control *control = argument;

	for (uint16_t i = 0; i < control->port_count; i++) {
		struct control_port *slot = &control->ports[i];

		if (slot->state != PORT_CLOSING)
			continue;
		control->pending++;
		slot->port->ops->close(slot->port, slot_closed, slot);
	}
	slots_step_ended(control);
}

int slots_close(struct control *control)
{
	int result = retire_later(control->retire, close_all, control);

	if (result == 0)
		control->pending++;
	return result;
}

/* ---- what workers see ---- */

/* A snapshot that another one took the place of: the publication of that. */
struct outdated {
	struct control *control;
	struct snapshot *snapshot;
	uint64_t publication;
};

uint16_t slot_wish(const struct control_port *slot, uint16_t queue)
{
	const json_t *workers = slot->model->workers;
	const size_t count = json_array_size(workers);
	const struct control *control = slot->control;
	json_int_t wish;

	if (count == 0)
		return port_worker((uint16_t)(slot - control->ports), queue,
				   control->worker_count);
	/* The model may be of more workers than there are before the next start. */
	wish = json_integer_value(json_array_get(workers, queue % count));
	return (uint16_t)(wish % control->worker_count);
}

/* Chooses a queue's worker in the publication that comes next. */
static void place_queue(struct control *control, struct port_queue *queue, uint16_t wish)
{
	if (queue->left != 0)
		return;
	if (!queue->published || queue->worker == wish) {
		queue->worker = wish;
		queue->published = true;
		return;
	}
	queue->worker = PORT_NO_WORKER;
	queue->left = control->publication + 1;
	control->moving++;
}

static void place_queues(struct control *control, struct control_port *slot)
{
	for (uint16_t q = 0; q < slot->port->queue_count; q++)
		place_queue(control, &slot->port->queues[q], slot_wish(slot, q));
}

/*
 * No worker sees any more what was left out up to this publication: it can have another worker.
 * Counts those that still must wait.
 */
static void settle(struct control *control, uint64_t publication)
{
	bool any = false;

	control->moving = 0;
	for (uint16_t i = 0; i < control->port_count; i++) {
		struct port *port = control->ports[i].port;

		for (uint16_t q = 0; port != NULL && q < port->queue_count; q++) {
			struct port_queue *queue = &port->queues[q];

			if (queue->left == 0)
				continue;
			if (queue->left > publication) {
				control->moving++;
				continue;
			}
			queue->left = 0;
			queue->published = false;
			any = true;
		}
	}
	/* What finds no memory is tried again by hurry. */
	if (any && slots_publish(control) != 0)
		control->moving++;
}

static void forget_snapshot(void *argument)
{
	struct outdated *outdated = argument;

	snapshot_free(outdated->snapshot);
	if (outdated->control->moving > 0)
		settle(outdated->control, outdated->publication);
	free(outdated);
}

/* While queues move nobody polls them: that must not last until the next tick. */
static void hurry(void *argument)
{
	struct control *control = argument;

	control->retired = retire_poll(control->retire);
	if (control->moving == 0)
		loop_timer_stop(&control->hurry);
	else if (control->retired == 0 && slots_publish(control) != 0)
		LOG_LIMITED(LOG_ERROR, "control", "out of memory: a queue has no worker");
}

int slots_publish(struct control *control)
{
	struct port *ports[CONTROL_PORTS_MAX];
	struct outdated *outdated = malloc(sizeof(*outdated));
	struct snapshot *new;

	if (outdated == NULL)
		return -ENOMEM;
	for (uint16_t i = 0; i < control->port_count; i++) {
		struct control_port *slot = &control->ports[i];

		ports[i] = slot->state == PORT_OPEN ? slot->port : NULL;
		if (ports[i] == NULL)
			continue;
		place_queues(control, slot);
		ports[i]->captures = slot->captures;
	}
	new = snapshot_new(ports, control->port_count, control->worker_count, control->fdb);
	if (new == NULL || snapshot_suppress(new, &control->suppression) != 0) {
		snapshot_free(new);
		free(outdated);
		return -ENOMEM;
	}
	*outdated = (struct outdated){ control, control->snapshot, ++control->publication };
	__atomic_store_n(&control->snapshot, new, __ATOMIC_RELEASE);
	wake_workers(control);
	if (retire_later(control->retire, forget_snapshot, outdated) != 0)
		log_error("control", "out of memory: an old snapshot is leaked");
	if (control->moving > 0 && control->hurry.event == NULL)
		loop_timer_start(&control->hurry, control->loop, HURRY_MS, hurry, control);
	return 0;
}

static int compare_statics(const void *a, const void *b)
{
	const struct control_static *left = a, *right = b;

	return left->key < right->key ? -1 : left->key > right->key;
}

static uint16_t number_of(struct control *control, const char *name)
{
	struct control_port *slot = control_find_port(control, name);

	return slot != NULL ? (uint16_t)(slot - control->ports) : FDB_NO_PORT;
}

/* A trunk has no entry but in its native VLAN. */
static bool has_only_claim(const struct model_port *port)
{
	return port->settings.vlan.mode == VLAN_TRUNK && port->settings.vlan.native == 0;
}

static int compare_claims(const void *a, const void *b)
{
	const struct fdb_claim *left = a, *right = b;

	return left->address < right->address ? -1 : left->address > right->address;
}

/*
 * The own addresses of trunks, which may be in thousands of VLANs. The sets are those of ports of
 * the model, which must outlive the claims.
 */
static void sync_claims(struct control *control, const struct model *model)
{
	struct fdb_claim *claims = calloc(model->port_count + 1u, sizeof(*claims));
	uint32_t count = 0;

	if (claims == NULL) {
		log_error("control", "out of memory: own addresses of trunks are anybody's");
		fdb_set_claims(control->fdb, NULL, 0);
		return;
	}
	for (uint32_t i = 0; i < model->port_count; i++) {
		const struct port_settings *settings = &model->ports[i]->settings;

		if (settings->mac.given && settings->vlan.mode == VLAN_TRUNK)
			claims[count++] = (struct fdb_claim){
				fdb_key(settings->mac.mac, 0),
				number_of(control, model->ports[i]->name), &settings->vlan.trunk
			};
	}
	qsort(claims, count, sizeof(*claims), compare_claims);
	fdb_set_claims(control->fdb, claims, count);
}

/* The static entries that the model stands for. Returns how many; NULL without memory. */
static struct control_static *wanted_statics(struct control *control, const struct model *model,
					     uint32_t *count)
{
	struct control_static *statics =
		calloc(model->port_count + model->address_count + 1u, sizeof(*statics));

	*count = 0;
	if (statics == NULL)
		return NULL;
	for (uint32_t i = 0; i < model->port_count; i++) {
		const struct model_port *port = model->ports[i];

		if (port->settings.mac.given && !has_only_claim(port))
			statics[(*count)++] = (struct control_static){
				fdb_key(port->settings.mac.mac, port->settings.vlan.native),
				number_of(control, port->name)
			};
	}
	for (uint32_t i = 0; i < model->address_count; i++) {
		const struct model_address *address = &model->addresses[i];

		statics[(*count)++] = (struct control_static){
			fdb_key(address->mac, model_address_vlan(model, address)),
			address->port[0] != '\0' ? number_of(control, address->port)
						 : FDB_BLACKHOLE
		};
	}
	qsort(statics, *count, sizeof(*statics), compare_statics);
	return statics;
}

void slots_sync_addresses(struct control *control, const struct model *model)
{
	uint32_t count, old = 0;
	struct control_static *wanted = wanted_statics(control, model, &count);

	sync_claims(control, model);
	if (wanted == NULL) {
		log_error("control", "out of memory: static addresses stay as they were");
		return;
	}
	/* Both are sorted: what stands before the next wanted one is not wanted any more. */
	for (uint32_t i = 0; i < count; i++) {
		for (; old < control->static_count && control->statics[old].key < wanted[i].key;
		     old++)
			fdb_remove(control->fdb, control->statics[old].key);
		if (old < control->static_count && control->statics[old].key == wanted[i].key)
			old++;
		if (fdb_fix(control->fdb, wanted[i].key, wanted[i].port, control_now()) != 0)
			log_error("control", "the forwarding table has no room for an address");
	}
	for (; old < control->static_count; old++)
		fdb_remove(control->fdb, control->statics[old].key);
	free(control->statics);
	control->statics = wanted;
	control->static_count = count;
}
