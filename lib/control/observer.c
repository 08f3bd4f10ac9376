/* SPDX-License-Identifier: BSD-3-Clause */
/* From looks and calls to events; control/observer.h is the contract. */
#include "control/observer.h"

#include <string.h>
#include <time.h>

#include "base/units.h"
#include "control/control.h"
#include "control/events.h"
#include "worker/watchdog.h"

#define BURST 32 /* events of one family and port at once */
#define RATE 4   /* and a second */
#define TICKS_A_SECOND 100

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- the rate ---- */

static bool has_room(const struct control_port *slot, enum event_kind kind)
{
	return slot->observed.made[event_rows[kind].family] < BURST;
}

/* May one more be made? One that may not is left out, and counted. */
static bool pass(struct control_port *slot, enum event_kind kind)
{
	const enum event_family family = event_rows[kind].family;
	struct observed_port *observed = &slot->observed;

	if (has_room(slot, kind)) {
		observed->made[family]++;
		return true;
	}
	observed->left_out[family]++;
	events_left_out(slot->control->events, 1);
	return false;
}

static void tell_left_out(struct control_port *slot)
{
	struct observed_port *observed = &slot->observed;

	for (unsigned int family = 0; family < OBSERVER_FAMILIES; family++) {
		uint32_t *made = &observed->made[family];

		*made = *made > RATE ? *made - RATE : 0;
		if (observed->left_out[family] == 0)
			continue;
		events_tell(slot->control->events, EVENT_LEFT_OUT, slot->model->name,
			    json_pack("{s:s, s:I}", "kinds", event_family_names[family], "count",
				      (json_int_t)observed->left_out[family]));
		observed->left_out[family] = 0;
	}
}

/* ---- ports ---- */

void observer_tell(struct control_port *slot, enum event_kind kind, json_t *fields)
{
	if (kind == EVENT_LEFT_OUT)
		events_left_out(slot->control->events,
				(uint64_t)json_integer_value(json_object_get(fields, "count")));
	else if (!pass(slot, kind)) {
		json_decref(fields);
		return;
	}
	events_tell(slot->control->events, kind, slot->model->name, fields);
}

void observer_look(struct control_port *slot)
{
	struct observed_port *observed = &slot->observed;
	const char *reason = NULL;
	enum event_kind kind;
	bool up;

	/* On its way to a state that is worth telling; one that stays on its way was up before. */
	if (slot->model == NULL || slot->control->stopping ||
	    (!observed->known && slot->state != PORT_OPEN && slot->state != PORT_FAULTY))
		return;
	up = control_port_is_up(slot, &reason);
	kind = up ? EVENT_PORT_UP : EVENT_PORT_DOWN;
	if ((observed->known && observed->up == up) || !has_room(slot, kind))
		return;
	observed->known = true;
	observed->up = up;
	observer_tell(slot, kind, up ? NULL : json_pack("{s:s}", "reason", reason));
}

void observer_removed(struct control_port *slot)
{
	if (slot->control->stopping)
		return;
	tell_left_out(slot);
	if (slot->observed.known)
		events_tell(slot->control->events, EVENT_PORT_REMOVED, slot->model->name, NULL);
}

/* Grows as long as a limit holds frames back or drops them. */
static uint64_t limit_effect(const struct port_counters *sum, enum port_direction direction)
{
	const struct tx_counters *tx = &sum->tx;

	if (direction == PORT_TX)
		return tx->throttled + tx->throttled_ns + tx->dropped[DROP_LIMIT] +
		       tx->dropped[DROP_QUEUE_FULL] + tx->dropped[DROP_QUEUE_TIMEOUT];
	return sum->rx.throttled + sum->rx.throttled_ns + sum->rx.dropped[DROP_LIMIT];
}

static void look_at_limits(struct control_port *slot)
{
	static const char *const names[] = { [PORT_RX] = "ingress", [PORT_TX] = "egress" };
	struct port_counters sum;

	if (slot->state != PORT_OPEN)
		return;
	port_sum_counters(slot->port, &sum);
	for (enum port_direction direction = PORT_RX; direction <= PORT_TX; direction++) {
		struct observed_limit *limit = &slot->observed.limits[direction];
		const uint64_t seen = limit_effect(&sum, direction);
		const bool held = seen > limit->seen;
		const enum event_kind kind = held ? EVENT_LIMIT_REACHED : EVENT_LIMIT_LEFT;

		/* A port that was opened anew counts from 0 again. */
		limit->seen = seen;
		if (held == limit->held || !has_room(slot, kind))
			continue;
		limit->held = held;
		observer_tell(slot, kind, json_pack("{s:s}", "direction", names[direction]));
	}
}

/* ---- addresses ---- */

static const char *name_of(const struct control *control, uint16_t port)
{
	return port < control->port_count && control->ports[port].model != NULL
		       ? control->ports[port].model->name : NULL;
}

void observer_address(void *argument, const struct fdb_news *news)
{
	struct control *control = argument;
	struct control_port *slot = &control->ports[news->port];
	uint8_t mac[MAC_LENGTH];
	char text[MAC_TEXT_SIZE];
	json_t *fields;

	if (name_of(control, news->port) == NULL || !pass(slot, news->kind))
		return;
	fdb_key_mac(news->key, mac);
	mac_format(mac, text);
	fields = json_pack("{s:s, s:i}", "mac", text, "vlan", (int)fdb_key_vlan(news->key));
	if (news->kind == EVENT_ADDRESS_MOVED && name_of(control, news->from) != NULL)
		json_object_set_new(fields, "from", json_string(name_of(control, news->from)));
	if (news->reason != NULL)
		json_object_set_new(fields, "reason", json_string(news->reason));
	events_tell(control->events, news->kind, slot->model->name, fields);
}

/* ---- workers ---- */

static void look_at_worker(struct control *control, uint16_t index)
{
	struct observed_worker *observed = &control->observed_workers[index];
	const bool stalled = watchdog_is_stalled(control->workers[index]);
	const uint64_t now = now_ms();

	if (stalled == observed->stalled)
		return;
	observed->stalled = stalled;
	if (stalled) {
		observed->since_ms = now - watchdog_stands_ms(control->workers[index]);
		events_tell(control->events, EVENT_WORKER_STALLED, NULL,
			    json_pack("{s:i}", "worker", (int)index));
	} else {
		events_tell(control->events, EVENT_WORKER_RESUMED, NULL,
			    json_pack("{s:i, s:I}", "worker", (int)index, "ms",
				      (json_int_t)(now - observed->since_ms)));
	}
}

/* ---- the configuration ---- */

void observer_changed(struct control *control, const char *method, const char *port, int pid,
		      unsigned int uid)
{
	json_t *fields = json_pack("{s:s, s:I}", "method", method, "revision",
				   (json_int_t)control->revision);

	if (pid != 0) {
		json_object_set_new(fields, "pid", json_integer(pid));
		json_object_set_new(fields, "uid", json_integer(uid));
	}
	events_tell(control->events, EVENT_CONFIG_CHANGED, port, fields);
}

/* Each port has its turn once a second, so that many of them do not have it at once. */
void observer_tick(struct control *control)
{
	control->observed_tick = (control->observed_tick + 1) % TICKS_A_SECOND;
	for (uint16_t i = 0; i < control->worker_count; i++)
		look_at_worker(control, i);
	for (uint32_t i = control->observed_tick; i < control->port_count; i += TICKS_A_SECOND) {
		struct control_port *slot = &control->ports[i];

		if (slot->model == NULL)
			continue;
		tell_left_out(slot);
		observer_look(slot);
		look_at_limits(slot);
	}
}
