/* SPDX-License-Identifier: BSD-3-Clause */
/* Finding out who has connected; port/vhost_peer.h is the contract. */
#include "port/vhost_peer.h"

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

/*
 * How long a VMM may keep the library waiting for the rest of a message, or for room for an answer.
 * VMMs write a message with one call, so that it is there as a whole.
 */
#define PEER_TIMEOUT_MS 100

/* ---- processes ---- */

/* Reads state and start time of a process (proc(5): stat, fields 3 and 22). */
static int read_stat(pid_t pid, char *state, uint64_t *start)
{
	char path[32], line[1024];
	const char *at;
	FILE *file;
	bool read;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file == NULL)
		return -errno;
	read = fgets(line, sizeof(line), file) != NULL;
	fclose(file);
	/* The name in field 2 may hold anything but ends with the last parenthesis. */
	at = read ? strrchr(line, ')') : NULL;
	if (at == NULL || at[1] != ' ')
		return -EIO;
	*state = at[2];
	for (unsigned int field = 2; field < 22 && at != NULL; field++)
		at = strchr(at + 1, ' ');
	*start = at != NULL ? strtoull(at + 1, NULL, 10) : 0;
	return 0;
}

void process_identify(struct process *process, pid_t pid)
{
	char state;

	process->pid = pid;
	process->start = 0;
	if (pid > 0)
		read_stat(pid, &state, &process->start);
}

bool process_same(const struct process *a, const struct process *b)
{
	return a->pid == b->pid && a->start == b->start;
}

bool process_lives(const struct process *process)
{
	uint64_t start = 0;
	char state = 0;

	return process->pid > 0 && process->start != 0 &&
	       read_stat(process->pid, &state, &start) == 0 && start == process->start &&
	       state != 'Z' && state != 'X';
}

/* ---- finding a connection ---- */

/* The path of a socket, of ours or of its peer's; "" where it has none. */
struct path {
	char text[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
};

static bool read_path(int fd, bool of_peer, struct path *path)
{
	struct sockaddr_un address = { 0 };
	socklen_t length = sizeof(address);
	int result = of_peer ? getpeername(fd, (struct sockaddr *)&address, &length)
			     : getsockname(fd, (struct sockaddr *)&address, &length);

	if (result != 0 || address.sun_family != AF_UNIX)
		return false;
	memset(path, 0, sizeof(*path));
	memcpy(path->text, address.sun_path, sizeof(address.sun_path));
	return true;
}

static bool is_listening(int fd)
{
	int listening = 0;
	socklen_t size = sizeof(listening);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening;
}

static bool is_bound(int fd, const char *bound)
{
	struct path own;

	return read_path(fd, false, &own) && strcmp(own.text, bound) == 0;
}

static bool is_listener(int fd, const char *bound)
{
	return is_bound(fd, bound) && is_listening(fd);
}

/* A connection that was made to the socket bound at this path. */
static bool is_accepted(int fd, const char *bound)
{
	return is_bound(fd, bound) && !is_listening(fd);
}

/* A connection of ours to the path. */
static bool is_connected(int fd, const char *bound)
{
	struct path own, other;

	return read_path(fd, false, &own) && own.text[0] == '\0' && read_path(fd, true, &other) &&
	       strcmp(other.text, bound) == 0;
}

static void read_credentials(int fd, struct ucred *credentials)
{
	socklen_t size = sizeof(*credentials);

	memset(credentials, 0, sizeof(*credentials));
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, &size);
}

/*
 * The same, where the peer knows the socket by another name: in its own mount namespace, or
 * relative to its working directory.
 */
static bool is_connected_otherwise(int fd, const char *bound)
{
	char name[sizeof(struct path) + 32];
	struct stat wanted, found;
	struct path own, other;
	struct ucred peer;

	if (!read_path(fd, false, &own) || own.text[0] != '\0' || !read_path(fd, true, &other) ||
	    other.text[0] == '\0')
		return false;
	read_credentials(fd, &peer);
	snprintf(name, sizeof(name), "/proc/%d/%s%s", (int)peer.pid,
		 other.text[0] == '/' ? "root" : "cwd/", other.text);
	return stat(bound, &wanted) == 0 && stat(name, &found) == 0 &&
	       wanted.st_dev == found.st_dev && wanted.st_ino == found.st_ino;
}

/* The first of our descriptors that the question fits and that belongs to no known peer, or -1. */
static int find_descriptor(bool (*fits)(int fd, const char *bound), const char *bound,
			   const struct peer *known, unsigned int count)
{
	DIR *list = opendir("/proc/self/fd");
	struct dirent *entry;
	int found = -1;

	while (list != NULL && found < 0 && (entry = readdir(list)) != NULL) {
		int fd = (int)strtol(entry->d_name, NULL, 10);
		bool is_known = entry->d_name[0] == '.';

		for (unsigned int i = 0; i < count; i++)
			is_known |= known[i].theirs == fd || known[i].fd == fd;
		if (!is_known && fits(fd, bound))
			found = fd;
	}
	if (list != NULL)
		closedir(list);
	return found;
}

int peer_find(const char *bound, bool client, const struct peer *known, unsigned int count,
	      struct peer *peer)
{
	const struct timeval timeout = { .tv_usec = PEER_TIMEOUT_MS * 1000 };
	struct ucred credentials;
	int fd = find_descriptor(client ? is_connected : is_accepted, bound, known, count);

	if (fd < 0 && client)
		fd = find_descriptor(is_connected_otherwise, bound, known, count);
	memset(peer, 0, sizeof(*peer));
	peer->theirs = fd;
	peer->fd = -1;
	if (fd < 0)
		return -ENOENT;
	/* Ours too, for the library closes its one before it says that the connection has ended. */
	peer->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	read_credentials(fd, &credentials);
	process_identify(&peer->process, credentials.pid);
	peer->uid = credentials.uid;
	return 0;
}

void peer_release(struct peer *peer)
{
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
}

void peer_hang_up(const struct peer *peer)
{
	if (peer->fd >= 0)
		shutdown(peer->fd, SHUT_RDWR);
}

bool peer_drop_deaf(const struct peer *peer)
{
	struct pollfd writable = { .fd = peer->fd, .events = POLLOUT };

	if (peer->fd < 0 || poll(&writable, 1, 0) == 1)
		return false;
	peer_hang_up(peer);
	return true;
}

void peer_hide_listener(const char *bound)
{
	int fd = find_descriptor(is_listener, bound, NULL, 0);

	if (fd >= 0)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
}
