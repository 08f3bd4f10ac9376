/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ports of type "ethdev": any device that DPDK has a driver for.
 *
 * ethdev.c is the port (configuration, bursts, status); ethdev_device.c probes, sets up and removes
 * the device. Frames come in as views of the driver's buffers and go out as copies in buffers of
 * the port's own, since a driver keeps what it transmits for longer than a burst.
 */
#pragma once

#include "port/port.h"

/*
 * EAL memory for the packet buffers of all ports: about 6 MB a queue pair. It is reserved: what was
 * never used is not resident, but for 12 KB a MB with which EAL keeps the books.
 */
#define ETHDEV_HEAP_MB 256

extern const struct port_ops ethdev_ops;
