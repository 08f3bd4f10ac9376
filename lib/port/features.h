/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtio feature bits: their names, what they mean for frames, and what an operator may switch off
 * (virtio 1.2, 5.1.3 and 6).
 *
 * Any thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "port/offloads.h"

/* enum frame_needs that a driver with these features may send, and that it accepts. */
uint8_t features_sends(uint64_t features);
uint8_t features_accepts(uint64_t features);

/* What an operator wants a guest to be offered. */
struct feature_switches {
	struct offload_switches offloads;
	bool mergeable, event_index, indirect;     /* of the rings, and these */
	bool packed, in_order;
};

/*
 * The bits that are switched off, with those that mean nothing without them: segmentation without
 * checksums, ECN without TSO.
 */
uint64_t features_switched_off(const struct feature_switches *switches);

/* A new array of names, lowest bit first; unknown bits as "bit 47". NULL without memory. */
json_t *features_to_json(uint64_t features);
