/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The socket file of a vhost-user port, and who is connected to it.
 *
 * The vhost library binds the socket under a temporary name; owner, group and mode are set there;
 * then it is renamed to its final name. So a VMM never meets a socket that it may not open yet, and
 * a file that a dead switch left behind is replaced. The directory is held open, and the library is
 * given a path below /proc/self/fd, so that the temporary name is never too long for a socket
 * address.
 *
 * All functions: the background thread, but socket_find_peer: a callback of the vhost library.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* Bytes of a unix socket's path without the NUL (unix(7)). */
#define SOCKET_PATH_MAX 107

struct socket_place {
	int directory;                    /* -1: not open */
	char name[SOCKET_PATH_MAX + 1];   /* the final name within it */
	char hidden[32];                  /* the temporary one */
	char bound[64];                   /* what the library is told */
	ino_t inode;                      /* of the settled file; 0: not settled */
};

struct socket_permissions {
	uint32_t mode;
	uid_t user;  /* (uid_t)-1: unchanged */
	gid_t group; /* (gid_t)-1: unchanged */
};

/* Who is at the other end of a connection. */
struct socket_peer {
	int fd;    /* the library's descriptor; not ours to close */
	pid_t pid; /* 0: not known */
};

/*
 * Opens the directory of `path` and makes sure that nobody else serves the name.
 * Returns 0 or -errno with err filled.
 */
int socket_place_open(struct socket_place *place, const char *path, const char *object,
		      struct error *err);

/* The library has bound place->bound: sets permissions and gives it its final name. */
int socket_place_settle(struct socket_place *place, const struct socket_permissions *permissions,
			const char *object, struct error *err);

/* Removes the files and closes the directory. */
void socket_place_close(struct socket_place *place);

/*
 * Finds the connection to the socket bound at `bound` that is not among the `count` known ones;
 * gives it time-outs, so that a silent VMM cannot hold the library's only thread, and
 * close-on-exec. Returns 0, or -ENOENT.
 */
int socket_find_peer(const char *bound, const struct socket_peer *known, unsigned int count,
		     struct socket_peer *peer);

/*
 * Ends a connection whose peer does not read its answers: the next one would hold the library's
 * thread until its time-out, and so would each that follows. Returns true if it did.
 */
bool socket_drop_deaf(const struct socket_peer *peer);
