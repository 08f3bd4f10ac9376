/* SPDX-License-Identifier: BSD-3-Clause */
/* What a VMM is offered; port/vhost_offer.h is the contract. */
#include "port/vhost_offer.h"

#include "port/features.h"

uint64_t offer_wish(const struct offer *offer)
{
	return offer->available & ~offer->off;
}

uint64_t offer_features(const struct offer *offer, const struct process *peer)
{
	uint64_t features = offer_wish(offer);

	/* Two processes that we cannot tell apart may be one. */
	if (offer->promised && process_same(&offer->to, peer))
		features |= offer->features & offer->available;
	return features;
}

bool offer_promise(struct offer *offer, const struct process *peer, uint64_t features)
{
	if (offer->promised && process_same(&offer->to, peer) && offer->features == features)
		return false;
	offer->promised = true;
	offer->to = *peer;
	offer->features = features;
	return true;
}

bool offer_forget(struct offer *offer)
{
	bool any = offer->promised;

	offer->promised = false;
	return any;
}

json_t *offer_remember(const struct offer *offer)
{
	if (!offer->promised)
		return NULL;
	return json_pack("{s:i, s:I, s:I}", "pid", (int)offer->to.pid, "start",
			 (json_int_t)offer->to.start, "offer", (json_int_t)offer->features);
}

void offer_restore(struct offer *offer, const json_t *remembered)
{
	const json_t *pid = json_object_get(remembered, "pid");
	const json_t *start = json_object_get(remembered, "start");
	const json_t *features = json_object_get(remembered, "offer");

	if (!json_is_integer(pid) || !json_is_integer(start) || !json_is_integer(features))
		return;
	offer->promised = true;
	offer->to.pid = (pid_t)json_integer_value(pid);
	offer->to.start = (uint64_t)json_integer_value(start);
	offer->features = (uint64_t)json_integer_value(features);
}

static void add_change(json_t *list, const char *change, uint64_t features, const char *reason)
{
	if (features != 0)
		json_array_append_new(list, json_pack("{s:s, s:o, s:s}", "change", change,
						      "features", features_to_json(features),
						      "reason", reason));
}

json_t *offer_pending(const struct offer *offer, uint64_t current)
{
	uint64_t wish = offer_wish(offer);
	json_t *list = json_array();

	add_change(list, "offered", wish & ~current, "when the VMM connects again");
	add_change(list, "withdrawn", current & ~wish,
		   offer->promised ? "when another VMM process connects: to this one it was "
				     "offered, and its guest may use it; or with renegotiate"
				   : "when the VMM connects again");
	return list;
}
