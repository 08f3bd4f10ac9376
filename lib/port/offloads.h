/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The offload switches that every port with a virtio-net header has, and the rows that describe
 * them. What one of them means to a type is the type's business.
 *
 * Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "rpc/param.h"

/* Both directions of each. tso and ufo need checksum, ecn needs tso. */
struct offload_switches {
	bool checksum, tso, ufo, ecn;
};

/* For a row of type PARAM_OBJECT at a struct offload_switches: all on by default. */
extern const struct param offload_params[];

/*
 * enum frame_needs that they stand for, USO apart: not every kernel knows that. A type that finds
 * that its own does adds NEEDS_USO where `checksum` and `ufo` are on.
 */
uint8_t offload_needs(const struct offload_switches *switches);
