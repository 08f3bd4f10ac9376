/* SPDX-License-Identifier: BSD-3-Clause */
/* The kinds of events by name; base/event.h is the contract. */
#include "base/event.h"

#include <string.h>

const char *const event_family_names[EVENT_FAMILIES] = {
	[EVENTS_PORT] = "port",     [EVENTS_GUEST] = "guest",   [EVENTS_ADDRESS] = "address",
	[EVENTS_LIMIT] = "limit",   [EVENTS_WORKER] = "worker", [EVENTS_CONFIG] = "config",
	[EVENTS_EVENT] = "event",
};

const struct event_row event_rows[EVENT_KINDS] = {
	[EVENT_PORT_UP] = { "port.up", EVENTS_PORT, "traffic can pass the port" },
	[EVENT_PORT_DOWN] = { "port.down", EVENTS_PORT, "it cannot; `reason` says why" },
	[EVENT_PORT_REMOVED] = { "port.removed", EVENTS_PORT, "the port is there no more" },
	[EVENT_GUEST_CONNECTED] = { "guest.connected", EVENTS_GUEST,
				    "a VMM connected: `pid`, `uid`, and whether it is `waiting` "
				    "for another one to go" },
	[EVENT_GUEST_GONE] = { "guest.gone", EVENTS_GUEST,
			       "its connection has ended: `pid`, `reason`" },
	[EVENT_GUEST_REFUSED] = { "guest.refused", EVENTS_GUEST,
				  "a VMM was turned away: `pid`, `reason`" },
	[EVENT_GUEST_FEATURES] = { "guest.features", EVENTS_GUEST,
				   "the guest or its VMM negotiated `features`: `pid`" },
	[EVENT_ADDRESS_LEARNED] = { "address.learned", EVENTS_ADDRESS,
				    "`mac` in `vlan` is behind the port" },
	[EVENT_ADDRESS_MOVED] = { "address.moved", EVENTS_ADDRESS,
				  "the same, and was behind the port `from` before" },
	[EVENT_ADDRESS_REFUSED] = { "address.refused", EVENTS_ADDRESS,
				    "`mac` in `vlan` was not learned of the port: `reason`" },
	[EVENT_LIMIT_REACHED] = { "limit.reached", EVENTS_LIMIT,
				  "a limit began to hold back or drop frames of the port, in the "
				  "`direction` in or out of the switch" },
	[EVENT_LIMIT_LEFT] = { "limit.left", EVENTS_LIMIT,
			       "no limit has done so for a second in this `direction`" },
	[EVENT_WORKER_STALLED] = { "worker.stalled", EVENTS_WORKER,
				   "`worker` has not moved for a second" },
	[EVENT_WORKER_RESUMED] = { "worker.resumed", EVENTS_WORKER,
				   "it goes on after `ms` milliseconds" },
	[EVENT_CONFIG_CHANGED] = { "config.changed", EVENTS_CONFIG,
				   "what runs was changed by `method`, of `pid` and `uid`; its "
				   "`revision`" },
	[EVENT_LEFT_OUT] = { "event.left_out", EVENTS_EVENT,
			     "in the last second the port had `count` more events of the family "
			     "`kinds` than are told of" },
	[EVENT_MISSED] = { "event.missed", EVENTS_EVENT,
			   "this subscriber was too slow for `missed` events, up to this sequence "
			   "number" },
};

uint32_t event_kinds_named(const char *name)
{
	uint32_t mask = 0;

	for (unsigned int kind = 0; kind < EVENT_KINDS; kind++)
		if (strcmp(name, event_rows[kind].name) == 0 ||
		    strcmp(name, event_family_names[event_rows[kind].family]) == 0)
			mask |= 1u << kind;
	return mask;
}
