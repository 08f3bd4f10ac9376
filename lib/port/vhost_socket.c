/* SPDX-License-Identifier: BSD-3-Clause */
/* Socket files of vhost-user ports; port/vhost_socket.h is the contract. */
#include "port/vhost_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

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

/* Empties the place, but for the path and its last part; the rest of it is the directory. */
static int take_path(struct socket_place *place, const char *path, char *directory,
		     const char *object, struct error *err)
{
	const char *slash = strrchr(path, '/');

	memset(place, 0, sizeof(*place));
	place->directory = -1;
	if (path[0] != '/' || strlen(path) > SOCKET_PATH_MAX || slash[1] == '\0') {
		error_set(err, ERROR_INVALID, EINVAL, "%s: not a socket path", object);
		error_detail(err, object, "socket", path, "an absolute path of at most 107 bytes");
		return -EINVAL;
	}
	memcpy(place->path, path, strlen(path) + 1);
	memcpy(place->name, slash + 1, strlen(slash + 1) + 1);
	memcpy(directory, path, (size_t)(slash - path));
	directory[slash - path] = '\0';
	if (slash == path)
		memcpy(directory, "/", 2);
	return 0;
}

int socket_place_visit(struct socket_place *place, const char *path, const char *object,
		       struct error *err)
{
	char directory[SOCKET_PATH_MAX + 1];
	int result = take_path(place, path, directory, object, err);

	if (result == 0)
		memcpy(place->bound, place->path, sizeof(place->bound));
	return result;
}

int socket_place_open(struct socket_place *place, const char *path, const char *object,
		      struct error *err)
{
	static unsigned int counter;
	char directory[SOCKET_PATH_MAX + 1];
	struct stat status;
	int result = take_path(place, path, directory, object, err);

	if (result != 0)
		return result;
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
	place->device = status.st_dev;
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

bool socket_place_is_lost(const struct socket_place *place)
{
	struct stat status;

	/* While the library listens the kernel keeps the inode: no other file gets its number. */
	return place->inode != 0 &&
	       (lstat(place->path, &status) != 0 || status.st_dev != place->device ||
		status.st_ino != place->inode);
}
