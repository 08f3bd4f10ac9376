/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The messages of a connection, before and after the vhost library handles them (the vhost-user
 * protocol: QEMU, docs/interop/vhost-user).
 *
 * Before: the rings that a message changes are detached; what the library would take too literally
 * is refused; questions about what this port offers are answered here. After: what became of it is
 * noted, and the rings are synced.
 */
#pragma once

#include "port/vhost_rings.h"

/* Has the hooks called for the messages of this connection. In its callback. Returns 0 or -EIO. */
int messages_watch(struct connection *connection);
