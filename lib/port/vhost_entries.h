/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How many ring entries a VMM may have.
 *
 * The vhost library allocates 40 bytes for each entry of a ring, of the memory that all ports
 * share. So that no VMM takes it from the others, a connection has two rings of the largest size,
 * or 2,048 entries for each that it may have. Called by library threads, for one connection never
 * two at once.
 */
#pragma once

#include <stdint.h>

#include "port/port.h"

/* Of one connection; zero at first. */
struct entries {
	uint16_t of[2 * PORT_QUEUES_MAX]; /* each ring */
	uint32_t sum;
};

/*
 * Charges the entries (1 to VIRTQUEUE_SIZE_MAX) of a ring, in place of what it had. `rings`: of the
 * port. Returns why not, a constant, or NULL.
 */
const char *entries_charge(struct entries *own, uint32_t rings, uint32_t index, uint32_t entries);

/* The connection ends. */
void entries_release(const struct entries *own);
