/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtio feature bits: their names, and what they mean for frames (virtio 1.2, 5.1.3 and 6).
 *
 * Any thread.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

/* enum frame_needs that a driver with these features may send, and that it accepts. */
uint8_t features_sends(uint64_t features);
uint8_t features_accepts(uint64_t features);

/* A new array of names, lowest bit first; unknown bits as "bit 47". NULL without memory. */
json_t *features_to_json(uint64_t features);
