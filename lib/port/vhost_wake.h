/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waking the vhost library's thread.
 *
 * It waits for its sockets up to a second at a time and, in DPDK 22.11, does not hear of a new
 * listening socket before that: a VMM that connects to a port just opened would not be answered for
 * so long. It does hear of connections. So one is kept for this alone, from the library to
 * ourselves, as if there were a VMM that says nothing of importance.
 */
#pragma once

/*
 * Makes the library's thread look at all its sockets now. directory: an open one in which a socket
 * may be made for a moment. The background thread. Returns 0, or -errno: it will look later.
 */
int wake_library(int directory);
