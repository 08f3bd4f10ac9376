/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The place of a vhost-user port's socket.
 *
 * Server mode: the vhost library binds the socket under a temporary name; owner, group and mode are
 * set there; then it is renamed to its final name. So a VMM never meets a socket that it may not
 * open yet, and a file that a dead switch left behind is replaced. The directory is held open, and
 * the library is given a path below /proc/self/fd, so that the temporary name is never too long for
 * a socket address.
 *
 * Client mode: the file is the VMM's, and the library is given its path.
 *
 * The background thread; socket_place_is_lost: the control thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* Bytes of a unix socket's path without the NUL (unix(7)). */
#define SOCKET_PATH_MAX 107

struct socket_place {
	char path[SOCKET_PATH_MAX + 1];
	int directory;                    /* -1: not open */
	char name[SOCKET_PATH_MAX + 1];   /* the final name within it */
	char hidden[32];                  /* the temporary one */
	char bound[SOCKET_PATH_MAX + 1];  /* what the library is told */
	dev_t device;
	ino_t inode;                      /* of the settled file; 0: not settled */
};

struct socket_permissions {
	uint32_t mode;
	uid_t user;  /* (uid_t)-1: unchanged */
	gid_t group; /* (gid_t)-1: unchanged */
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

/* Is the path not that of the settled socket any more, because somebody removed or replaced it? */
bool socket_place_is_lost(const struct socket_place *place);

/* Client mode: checks the path and takes it over. Returns 0 or -EINVAL with err filled. */
int socket_place_visit(struct socket_place *place, const char *path, const char *object,
		       struct error *err);
