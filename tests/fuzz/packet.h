/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * First bytes of frames as a guest may send them: an offload header and protocol headers that agree
 * with each other, until something is changed in them.
 */
#pragma once

#include <stdint.h>

#include "entropy.h"

#define PACKET_MAX 320

/*
 * Writes the start of a frame of `total` bytes, its offload header of `header` bytes included.
 * Returns how many bytes were written, at most `total`.
 */
uint32_t packet_make(struct entropy *entropy, uint8_t bytes[PACKET_MAX], uint32_t header,
		     uint32_t total);
