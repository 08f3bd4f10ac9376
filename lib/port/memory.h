/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory port: a type for tests, within the process. What a test injects is received by the
 * switch; of what the switch sends, copies are kept for the test to look at.
 *
 * It fills port/port_ops.h as any type does, but no configuration can name it. Unlike the others
 * it allocates on the worker's side, piece by piece, so that a sanitizer sees who reads a byte too
 * far or a view after its release. The functions below may be called by any thread while a worker
 * runs. All queues are connected until a test says otherwise.
 *
 *     struct port *port = memory_port_new("a", 0, 1, 1, NULL);
 *     memory_inject(port, 0, &(struct memory_frame){ .bytes = bytes, .length = 60 });
 *     ... worker_visit(...) ...
 *     assert(memory_sent(port, 0, 0)->length == 60);
 *     memory_port_free(port);
 */
#pragma once

#include "port/port.h"

/* Copies that a queue keeps, if the configuration does not say otherwise. */
#define MEMORY_KEPT 4096

/* A frame, on its way in or as it was sent. */
struct memory_frame {
	struct virtio_net_hdr vnet;
	const uint8_t *bytes;
	uint32_t length;
	uint16_t pieces;   /* in: views that the bytes behind the head are cut in, 0 stands for 1 */
	uint8_t drop;      /* in: enum drop, for a frame that the port itself found to be wrong */
	uint8_t needs;     /* out: as in struct frame */
	uint16_t segments; /* out */
	uint16_t from;     /* out: the number of the port it came from */
};

/* For ops->open; NULL stands for a port that sends and accepts all offloads. */
struct memory_config {
	uint8_t sends;   /* enum frame_needs that incoming frames may use */
	uint8_t accepts; /* and that outgoing frames may need */
	uint32_t kept;   /* copies that a queue keeps at most */
	bool fails;      /* open refuses, as if the world were wrong */
	bool tells;      /* a worker that sleeps of frames; else workers must not sleep for long */
};

struct memory_counts {
	uint32_t polled;         /* calls of ops->rx_burst */
	uint32_t waiting;        /* injected, not taken yet */
	uint32_t unreleased;     /* taken, not released yet */
	uint32_t told;           /* how often a worker was told of frames, as it had asked */
	uint32_t sent;           /* taken from the switch */
	uint32_t kept;           /* of these, copies that memory_sent shows */
	uint32_t notified[2];    /* calls of ops->notify, by enum port_direction */
	uint32_t expected[2][3]; /* calls of ops->expect, by direction and step */
};

extern const struct port_ops memory_ops;

/* port_new and ops->open in one, without an event loop. NULL without memory. */
struct port *memory_port_new(const char *name, uint16_t number, uint16_t queues, uint16_t workers,
			     const struct memory_config *config);

/* ops->close and port_free in one. NULL is fine. */
void memory_port_free(struct port *port);

/* Has a copy of the frame received by the switch on this queue. Returns 0, -EINVAL or -ENOMEM. */
int memory_inject(struct port *port, uint16_t queue, const struct memory_frame *frame);

/*
 * The queues that take frames from now on, with what their receiver accepts; none: not connected.
 */
void memory_connect(struct port *port, const uint16_t *queues, uint16_t count, uint8_t accepts);

/* How many more frames a queue takes before it is full; UINT32_MAX: it never is. */
void memory_set_room(struct port *port, uint16_t queue, uint32_t frames);

/* The next so many calls of ops->tx_burst find a full queue. */
void memory_set_busy(struct port *port, uint16_t queue, uint32_t bursts);

/* Longer frames than this are refused as too long. */
void memory_set_longest(struct port *port, uint32_t length);

/* Does the other side want to be told what was sent or released? */
void memory_set_wants(struct port *port, enum port_direction direction, bool wanted);

struct memory_counts memory_counts(struct port *port, uint16_t queue);

/* The copy of a sent frame, oldest first, or NULL. Valid until memory_forget or the port's end. */
const struct memory_frame *memory_sent(struct port *port, uint16_t queue, uint32_t index);

/* Frees the copies, which makes room for others. */
void memory_forget(struct port *port, uint16_t queue);
