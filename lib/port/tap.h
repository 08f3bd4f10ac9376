/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The TAP port: the host's own kernel is behind it.
 *
 * The kernel's frames carry a virtio-net header, so that large segments and partial checksums cross
 * the switch as those of guests do. A frame is one system call each way, which neither waits nor
 * allocates here. What comes in is read into the head of its frame and, behind that, into the
 * burst's scratch memory; what goes out is written from where it lies.
 *
 * Works with tap_device.c, which makes the interface and sets it up.
 */
#pragma once

#include "port/port.h"

extern const struct port_ops tap_ops;
