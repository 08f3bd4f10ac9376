/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection that wakes the library; port/vhost_wake.h is the contract. */
#include "port/vhost_wake.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_vhost.h>

/* Our end of the connection; -1: there is none yet. */
static int end = -1;

/* Nobody wants to know what happens to it. */
static const struct rte_vhost_device_ops none;

static int listen_at(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int result;

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 && listen(fd, 1) == 0)
		return fd;
	result = -errno;
	close(fd);
	return result;
}

/* Has the library connect to us. That alone wakes it. */
static int make_connection(int directory)
{
	const uint64_t client = RTE_VHOST_USER_CLIENT | RTE_VHOST_USER_NO_RECONNECT;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener;

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/.ringway-%d-wake",
		 directory, (int)getpid());
	listener = listen_at(&address);
	if (listener < 0)
		return listener;
	if (rte_vhost_driver_register(address.sun_path, client) == 0) {
		if (rte_vhost_driver_callback_register(address.sun_path, &none) == 0 &&
		    rte_vhost_driver_start(address.sun_path) == 0)
			end = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (end < 0)
			rte_vhost_driver_unregister(address.sun_path);
	}
	unlink(address.sun_path);
	close(listener);
	return end >= 0 ? 0 : -EIO;
}

int wake_library(int directory)
{
	/* SET_OWNER: no payload, no answer, no effect. */
	static const uint32_t message[] = { 3, 1, 0 };

	if (end < 0)
		return make_connection(directory);
	return send(end, message, sizeof(message), MSG_NOSIGNAL) == sizeof(message) ? 0 : -errno;
}
