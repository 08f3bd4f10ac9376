/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ports of type "vhost-user": a VMM's virtio-net device over a vhost-user socket.
 *
 * vhost_user.c is the port (configuration, bursts, status); vhost_session.c says which rings are
 * attached; virtqueue/ walks them.
 */
#pragma once

#include "port/port.h"

extern const struct port_ops vhost_user_ops;
