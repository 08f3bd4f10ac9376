/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where the descriptors of a TAP port come from: an interface by name, descriptors that came with
 * the request, or a helper program.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "port/tap_config.h"

struct tap_facts;

/* Closes the queues; their descriptors become -1. */
void tap_source_close(int *fds, uint16_t count);

/*
 * Opens `count` queues, or takes over those in fds; fills in what the facts say of name, origin,
 * header and byte order. On failure no descriptor is left open: fds are -1. Returns 0, or -errno
 * with err filled.
 */
int tap_source_open(const struct tap_config *config, int *fds, uint16_t count,
		    struct tap_facts *facts, struct error *err);
