/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server's listening socket and its lock.
 */
#include "rpc/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 128

int rpc_socket_address(struct sockaddr_un *address, const char *path, struct error *err)
{
	size_t length = strlen(path);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (length < 1 || length >= sizeof(address->sun_path)) {
		error_set(err, ERROR_INVALID, EINVAL, "the path of the control socket is too %s",
			  length < 1 ? "short" : "long");
		error_detail(err, NULL, "socket", path, "a path of 1 to 107 bytes");
		return -EINVAL;
	}
	memcpy(address->sun_path, path, length + 1);
	return 0;
}

/* Fills err for a failed system call on the path; returns -errno. */
static int path_error(struct error *err, const char *action, const char *path)
{
	int errnum = errno;

	error_set(err, ERROR_SYSTEM, errnum, "cannot %s %s: %s", action, path, strerror(errnum));
	error_detail(err, NULL, "socket", path, NULL);
	return -errnum;
}

static int taken(struct error *err, const char *path, const char *owner)
{
	error_set(err, ERROR_EXISTS, EADDRINUSE, "%s already serves %s", owner, path);
	error_detail(err, NULL, "socket", path, "a path that no other daemon uses");
	return -EADDRINUSE;
}

/* The holder leaves its pid in the lock file, for people and for this message. */
static int locked_by_other(int fd, const char *path, struct error *err)
{
	char text[32] = "";
	char owner[64];
	long pid;

	if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
		text[0] = '\0';
	pid = strtol(text, NULL, 10);
	if (pid > 0)
		snprintf(owner, sizeof(owner), "another daemon (pid %ld)", pid);
	else
		snprintf(owner, sizeof(owner), "another daemon");
	return taken(err, path, owner);
}

/* Returns the descriptor that holds the lock, or -errno. */
static int take_lock(const char *path, struct error *err)
{
	char lock_path[sizeof(((struct sockaddr_un *)0)->sun_path) + sizeof(".lock")];
	char text[32];
	int fd;
	int rc;

	snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
	fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return path_error(err, "open", lock_path);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		rc = errno == EWOULDBLOCK ? locked_by_other(fd, path, err) :
					    path_error(err, "lock", lock_path);
		goto close_fd;
	}
	snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	/* The pid only informs; the lock is what counts. */
	if (ftruncate(fd, 0) == 0)
		(void)!pwrite(fd, text, strlen(text), 0);
	return fd;

close_fd:
	close(fd);
	return rc;
}

/*
 * With the lock held no daemon of ours serves the path. What lies there may still be no socket, or
 * one that another program serves: neither is ours to remove.
 */
static int remove_stale(const struct sockaddr_un *address, struct error *err)
{
	const char *path = address->sun_path;
	struct stat file;
	int probe;
	int rc;

	if (lstat(path, &file) != 0)
		return errno == ENOENT ? 0 : path_error(err, "look at", path);
	if (!S_ISSOCK(file.st_mode)) {
		error_set(err, ERROR_EXISTS, EEXIST, "%s exists and is no socket", path);
		error_detail(err, NULL, "socket", path, "a path that is free");
		return -EEXIST;
	}
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return path_error(err, "make a socket for", path);
	/* Only a refusal proves that nobody listens: a full backlog, for one, answers EAGAIN. */
	if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno != ECONNREFUSED)
		rc = taken(err, path, "another program");
	else if (unlink(path) != 0)
		rc = path_error(err, "remove the old", path);
	else
		rc = 0;
	close(probe);
	return rc;
}

static int bind_and_listen(struct rpc_socket *socket, uint32_t mode, struct error *err)
{
	const struct sockaddr_un *address = &socket->address;
	const char *path = address->sun_path;
	struct stat file;

	/*
	 * The file gets the mode of the socket, less the umask, so it is never open to more than it
	 * should be; chmod then adds what the umask took.
	 */
	if (fchmod(socket->fd, mode) != 0)
		return path_error(err, "set the mode of", path);
	if (bind(socket->fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
		return path_error(err, "bind", path);
	if (lstat(path, &file) != 0 || chmod(path, mode) != 0 || listen(socket->fd, BACKLOG) != 0) {
		path_error(err, "listen on", path);
		unlink(path);
		return -err->errnum;
	}
	socket->device = file.st_dev;
	socket->inode = file.st_ino;
	return 0;
}

int rpc_socket_open(struct rpc_socket *sock, const char *path, uint32_t mode, struct error *err)
{
	int rc = rpc_socket_address(&sock->address, path, err);

	if (rc != 0)
		return rc;
	sock->lock_fd = take_lock(path, err);
	if (sock->lock_fd < 0)
		return sock->lock_fd;
	rc = remove_stale(&sock->address, err);
	if (rc != 0)
		goto unlock;
	sock->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock->fd < 0) {
		rc = path_error(err, "make a socket for", path);
		goto unlock;
	}
	rc = bind_and_listen(sock, mode, err);
	if (rc != 0)
		goto close_socket;
	return 0;

close_socket:
	close(sock->fd);
unlock:
	close(sock->lock_fd);
	return rc;
}

int rpc_socket_probe(const char *path, struct error *err)
{
	struct sockaddr_un address;
	int fd = rpc_socket_address(&address, path, err);

	if (fd == 0)
		fd = take_lock(path, err);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

void rpc_socket_close(struct rpc_socket *sock)
{
	struct stat file;

	if (lstat(sock->address.sun_path, &file) == 0 && file.st_dev == sock->device &&
	    file.st_ino == sock->inode)
		unlink(sock->address.sun_path);
	close(sock->fd);
	close(sock->lock_fd);
}
