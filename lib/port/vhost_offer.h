/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Offers: which features the VMM at a vhost-user socket is offered.
 *
 * What the operator wants offered is the wish. But a VMM whose guest runs refuses a back-end that
 * comes back with less than it had, and cannot take a feature away from its guest. So an offer is
 * the wish and whatever the same process was offered last: it may grow at any connect, and shrinks
 * only for another process, for a new port, or when the operator says so (`renegotiate`). What is
 * offered beyond the wish is not used where that is possible.
 *
 *     features = offer_features(&offer, &peer);      a connection begins: this is its offer
 *     offer_promise(&offer, &peer, features);        it becomes the active one
 *
 * No thread of its own: the session's lock is held by the caller.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "port/vhost_peer.h"

struct offer {
	uint64_t available; /* what this switch and the library can do */
	uint64_t off;       /* what the operator does not want */
	bool promised;      /* to somebody */
	struct process to;
	uint64_t features;  /* what was promised */
};

/* The features that the operator wants offered. */
uint64_t offer_wish(const struct offer *offer);

/* What a process that connects now is offered. */
uint64_t offer_features(const struct offer *offer, const struct process *peer);

/* Notes what the peer was offered. Returns whether there is anything new in that. */
bool offer_promise(struct offer *offer, const struct process *peer, uint64_t features);

/* Nothing is promised to anybody any more. Returns whether anything was. */
bool offer_forget(struct offer *offer);

/*
 * A promise as JSON and back, for a switch that starts again; NULL: none. offer_restore ignores
 * what it does not understand.
 */
json_t *offer_remember(const struct offer *offer);
void offer_restore(struct offer *offer, const json_t *remembered);

/*
 * What will be different when the VMM connects again, for the operator: a list of objects with
 * `change`, `features` and `reason`. current: what the connected VMM was offered.
 */
json_t *offer_pending(const struct offer *offer, uint64_t current);
