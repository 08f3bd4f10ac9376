/* SPDX-License-Identifier: BSD-3-Clause */
/* Socket files and peers of vhost-user ports; port/vhost_socket.h is the contract. */
#include "port/vhost_socket.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* How long a VMM may keep the library waiting for the rest of a message. */
#define PEER_TIMEOUT_MS 500

static int fault(struct error *err, int errnum, const char *object, const char *path,
		 const char *what)
{
	error_set(err, ERROR_SYSTEM, errnum, "%s: %s %s: %s", object, what, path, strerror(errnum));
	error_detail(err, object, "socket", path, NULL);
	return -errnum;
}

/* Does somebody answer at this path? */
static int probe(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int result;

	if (fd < 0)
		return -errno;
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	result = connect(fd, (struct sockaddr *)&address, sizeof(address));
	/* A full backlog is an answer too. */
	if (result == 0 || errno == EAGAIN)
		result = -EADDRINUSE;
	else
		result = 0;
	close(fd);
	return result;
}

static int split_path(struct socket_place *place, const char *path, char *directory)
{
	const char *slash = strrchr(path, '/');

	if (strlen(path) > SOCKET_PATH_MAX || slash == NULL || slash[1] == '\0')
		return -EINVAL;
	memcpy(place->name, slash + 1, strlen(slash + 1) + 1);
	memcpy(directory, path, (size_t)(slash - path));
	directory[slash - path] = '\0';
	if (slash == path)
		memcpy(directory, "/", 2);
	return 0;
}

int socket_place_open(struct socket_place *place, const char *path, const char *object,
		      struct error *err)
{
	static unsigned int counter;
	char directory[SOCKET_PATH_MAX + 1];
	struct stat status;
	int result;

	memset(place, 0, sizeof(*place));
	place->directory = -1;
	if (split_path(place, path, directory) != 0) {
		error_set(err, ERROR_INVALID, EINVAL, "%s: not a socket path", object);
		error_detail(err, object, "socket", path, "an absolute path of at most 107 bytes");
		return -EINVAL;
	}
	place->directory = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (place->directory < 0)
		return fault(err, errno, object, path, "cannot open the directory of");
	if (fstatat(place->directory, place->name, &status, AT_SYMLINK_NOFOLLOW) == 0) {
		result = S_ISSOCK(status.st_mode) ? probe(path) : -EEXIST;
		if (result != 0) {
			socket_place_close(place);
			return fault(err, -result, object, path,
				     result == -EEXIST
					     ? "will not replace a file that is no socket:"
					     : "somebody else serves");
		}
	}
	snprintf(place->hidden, sizeof(place->hidden), ".ringway-%d-%u", (int)getpid(), ++counter);
	snprintf(place->bound, sizeof(place->bound), "/proc/self/fd/%d/%s", place->directory,
		 place->hidden);
	return 0;
}

int socket_place_settle(struct socket_place *place, const struct socket_permissions *permissions,
			const char *object, struct error *err)
{
	struct stat status;

	if (fstatat(place->directory, place->hidden, &status, AT_SYMLINK_NOFOLLOW) != 0)
		return fault(err, errno, object, place->name, "cannot find the socket bound for");
	if (fchownat(place->directory, place->hidden, permissions->user, permissions->group,
		     AT_SYMLINK_NOFOLLOW) != 0)
		return fault(err, errno, object, place->name, "cannot set owner and group of");
	if (fchmodat(place->directory, place->hidden, permissions->mode, 0) != 0)
		return fault(err, errno, object, place->name, "cannot set the mode of");
	if (renameat(place->directory, place->hidden, place->directory, place->name) != 0)
		return fault(err, errno, object, place->name, "cannot give the socket its name");
	place->inode = status.st_ino;
	return 0;
}

void socket_place_close(struct socket_place *place)
{
	struct stat status;

	if (place->directory < 0)
		return;
	/* Somebody may have put a file of theirs in the place of ours. */
	if (place->inode != 0 &&
	    fstatat(place->directory, place->name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
	    status.st_ino == place->inode)
		unlinkat(place->directory, place->name, 0);
	if (place->hidden[0] != '\0')
		unlinkat(place->directory, place->hidden, 0);
	close(place->directory);
	place->directory = -1;
}

/* Is fd a connection, not the listening socket, that ends at the bound path? */
static int is_connection(int fd, const char *bound)
{
	struct sockaddr_un address = { 0 };
	socklen_t length = sizeof(address);
	int listening = 0;
	socklen_t size = sizeof(listening);

	if (getsockname(fd, (struct sockaddr *)&address, &length) != 0 ||
	    address.sun_family != AF_UNIX ||
	    strncmp(address.sun_path, bound, sizeof(address.sun_path)) != 0)
		return 0;
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && !listening;
}

static int is_known(int fd, const struct socket_peer *known, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (known[i].fd == fd)
			return 1;
	return 0;
}

static void adopt(int fd, struct socket_peer *peer)
{
	const struct timeval timeout = { .tv_usec = PEER_TIMEOUT_MS * 1000 };
	struct ucred credentials = { 0 };
	socklen_t size = sizeof(credentials);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size);
	peer->fd = fd;
	peer->pid = credentials.pid;
}

int socket_find_peer(const char *bound, const struct socket_peer *known, unsigned int count,
		     struct socket_peer *peer)
{
	DIR *list = opendir("/proc/self/fd");
	struct dirent *entry;
	int result = -ENOENT;

	if (list == NULL)
		return -errno;
	while (result != 0 && (entry = readdir(list)) != NULL) {
		int fd = (int)strtol(entry->d_name, NULL, 10);

		if (entry->d_name[0] == '.' || !is_connection(fd, bound) ||
		    is_known(fd, known, count))
			continue;
		adopt(fd, peer);
		result = 0;
	}
	closedir(list);
	return result;
}

bool socket_drop_deaf(const struct socket_peer *peer)
{
	struct pollfd writable = { .fd = peer->fd, .events = POLLOUT };

	if (poll(&writable, 1, 0) == 1)
		return false;
	shutdown(peer->fd, SHUT_RDWR);
	return true;
}
