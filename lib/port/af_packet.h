/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The AF_PACKET port: an interface that the host's kernel has, without taking it away from there.
 *
 * What the interface receives comes into the switch (and goes to the kernel as well), what the
 * switch sends to the port goes out of the interface. Frames carry a virtio-net header both ways,
 * so that large segments and partial checksums cross as those of guests do. They come and go in
 * batches, one system call each, which neither waits nor allocates here. docs/performance.md says
 * why there are no memory-mapped rings.
 *
 * The interface's address, MTU and state are the kernel's business; its MTU holds for the port.
 *
 * Works with packet_socket.c, which opens the sockets and asks about the interface.
 */
#pragma once

#include "port/port.h"

extern const struct port_ops af_packet_ops;
