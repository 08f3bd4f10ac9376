/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ports of type "vhost-user": a VMM's virtio-net device over a vhost-user socket.
 *
 * vhost_user.c is the port (configuration, bursts, status); vhost_session.c says which rings are
 * attached; virtqueue/ walks them.
 */
#pragma once

#include "port/port.h"

/*
 * EAL memory for the rings of all ports (vhost_messages.c shares it out), and for what the vhost
 * library needs beside them. It is reserved: what was never used is not resident.
 */
#define VHOST_USER_HEAP_MB 256

extern const struct port_ops vhost_user_ops;
