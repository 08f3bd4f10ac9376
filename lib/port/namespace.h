/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Network namespaces (network_namespaces(7)): a thread enters one for a while, alone; all others
 * stay where they are. Any thread but workers.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"

/*
 * Opens a namespace: a name below /run/netns, or a path. Returns its descriptor, or -errno with err
 * filled.
 */
int namespace_open(const char *name, struct error *err);

/* Is it the one that the calling thread is in? */
bool namespace_is_own(int fd);

/*
 * The calling thread enters a namespace, whose descriptor is taken over. Returns what
 * namespace_leave needs, or -errno with nothing changed.
 */
int namespace_enter(int fd);

/* Back to where namespace_enter was called. Less than 0: it was not, nothing happens. */
void namespace_leave(int former);
