/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server's listening socket: a unix stream socket at a path that one process owns.
 *
 * A lock on `PATH.lock` decides who owns the path; only its holder touches the socket file.
 *
 *     rpc_socket_open(&socket, "/run/ringway/ringway.sock", 0660, err);
 *
 * Control thread.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/error.h"

struct rpc_socket {
	int fd;      /* listening, non-blocking */
	int lock_fd; /* the lock is held as long as this is open */
	struct sockaddr_un address;
	dev_t device; /* of the socket file, so that only our own is removed */
	ino_t inode;
};

/* Fills the address of a path of 1 to 107 bytes. Returns 0 or -EINVAL with err filled. */
int rpc_socket_address(struct sockaddr_un *address, const char *path, struct error *err);

/* Locks, binds and listens, as rpc_server_new says. Returns 0 or -errno with err filled. */
int rpc_socket_open(struct rpc_socket *socket, const char *path, uint32_t mode, struct error *err);

/*
 * Would rpc_socket_open find the path free now? Asked before anything else is opened, so that a
 * second daemon does not get in the way of the first. Returns 0 or -errno with err filled.
 */
int rpc_socket_probe(const char *path, struct error *err);

/* Removes the socket file and gives the lock back. */
void rpc_socket_close(struct rpc_socket *socket);
