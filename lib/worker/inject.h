/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Injecting: the control thread sends a frame as if a port had.
 *
 * Each worker has a small ring of such frames, which the control thread fills and the worker
 * empties in each iteration; who posts wakes it (worker_wake). A frame goes the way of all others:
 * its source address is learned on the port, forwarding decides where it goes, and it counts as
 * received there; only the port's ingress limit does not see it.
 *
 *     injector_post(&worker->injector, port, bytes, length);      control thread
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "frame/frame.h"
#include "port/port.h"

#define INJECT_SLOTS 64
#define INJECT_LENGTH_MAX FRAME_HEAD_PLAIN /* a frame that is all head needs no views */

struct inject_item {
	uint64_t serial;  /* of the port, whose number may be another's when this is taken */
	uint16_t port;
	uint16_t length;
	uint8_t bytes[INJECT_LENGTH_MAX];
};

/* One per worker. */
struct injector {
	/* w: control, r: worker */
	_Alignas(64) uint32_t head;
	uint64_t refused; /* frames, because the ring was full; r: control */
	/* w: worker, r: control */
	_Alignas(64) uint32_t tail;
	/* w: control, r: worker, for those between tail and head */
	struct inject_item items[INJECT_SLOTS];
};

/*
 * Has the worker send a copy of an Ethernet frame as from `port`, unless that is gone by then.
 * Returns 0, -EMSGSIZE for one longer than INJECT_LENGTH_MAX, or -ENOBUFS (counted) where too many
 * wait already. Control thread.
 */
int injector_post(struct injector *injector, const struct port *port, const uint8_t *bytes,
		  uint32_t length);

/* Worker: is there a frame? */
static inline bool injector_has_frames(const struct injector *injector)
{
	return __atomic_load_n(&injector->head, __ATOMIC_ACQUIRE) != injector->tail;
}

/*
 * Worker: makes the next frame the only one of the burst. *number and *serial say whose it is.
 * There must be one.
 */
void injector_take(struct injector *injector, struct burst *burst, uint16_t *number,
		   uint64_t *serial);
