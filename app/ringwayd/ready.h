/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tells the service manager that the daemon is ready, so that what is ordered behind it (and
 * `systemctl start`) waits for its socket to answer: sd_notify(3), Type=notify.
 *
 * Control thread.
 */
#pragma once

/*
 * Sends READY=1 to the datagram socket that the environment names in NOTIFY_SOCKET: a path, or with
 * `@` first an abstract name. Returns 0, also where there is no service manager, or -errno.
 */
int ready_tell(void);
