/* SPDX-License-Identifier: BSD-3-Clause */
/* Looks through /proc/self/fd; port/ethdev_leftovers.h is the contract. */
#include "port/ethdev_leftovers.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The line of a BPF object's number: "prog_id:\t17". */
static bool identify_bpf(int fd, char *identity, size_t size)
{
	char path[64], line[128];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), file) != NULL) {
		found = strncmp(line, "prog_id:", 8) == 0 || strncmp(line, "map_id:", 7) == 0;
		if (found)
			snprintf(identity, size, "%.*s", (int)size - 1, line);
	}
	fclose(file);
	return found;
}

static bool listens(int fd)
{
	int value = 0;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value != 0;
}

/* An XDP socket, or one of memif that listens, which its path tells from the daemon's own. */
static bool is_leftover_socket(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNSPEC };
	socklen_t length = sizeof(address) - 1;
	int domain = 0;
	socklen_t size = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0)
		return false;
	if (domain == AF_XDP)
		return true;
	if (domain != AF_UNIX || !listens(fd) ||
	    getsockname(fd, (struct sockaddr *)&address, &length) != 0)
		return false;
	/* The name of an abstract one follows a NUL. */
	return strcmp(address.sun_path[0] != '\0' ? address.sun_path : address.sun_path + 1,
		      path) == 0;
}

/* Is the descriptor one of a socket that may be left, or of a program or map of BPF? */
static bool identify(int fd, const char *memif, char *identity, size_t size)
{
	char path[64], target[64];
	ssize_t bytes;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	bytes = readlink(path, target, sizeof(target) - 1);
	target[bytes > 0 ? bytes : 0] = '\0';
	if (strncmp(target, "anon_inode:bpf-", 15) == 0)
		return identify_bpf(fd, identity, size);
	if (strncmp(target, "socket:", 7) != 0 || !is_leftover_socket(fd, memif))
		return false;
	snprintf(identity, size, "%.*s", (int)size - 1, target);
	return true;
}

void leftovers_find(struct leftovers *found, const char *memif)
{
	DIR *directory = opendir("/proc/self/fd");
	const struct dirent *entry;

	found->count = 0;
	while (directory != NULL && found->count < LEFTOVERS_MAX &&
	       (entry = readdir(directory)) != NULL) {
		char *end;
		const int fd = (int)strtol(entry->d_name, &end, 10);

		if (*end == '\0' &&
		    identify(fd, memif, found->files[found->count].identity,
			     sizeof(found->files[0].identity)))
			found->files[found->count++].fd = fd;
	}
	if (directory != NULL)
		closedir(directory);
}

bool leftovers_listen(const struct leftovers *set)
{
	for (uint16_t i = 0; i < set->count; i++)
		if (listens(set->files[i].fd))
			return true;
	return false;
}

static bool contains(const struct leftovers *set, int fd, const char *identity)
{
	for (uint16_t i = 0; i < set->count; i++)
		if (set->files[i].fd == fd && strcmp(set->files[i].identity, identity) == 0)
			return true;
	return false;
}

void leftovers_subtract(struct leftovers *set, const struct leftovers *others)
{
	uint16_t kept = 0;

	for (uint16_t i = 0; i < set->count; i++)
		if (!contains(others, set->files[i].fd, set->files[i].identity))
			set->files[kept++] = set->files[i];
	set->count = kept;
}

/*
 * A socket that memif listened on is still watched by EAL's interrupt thread, which ends the
 * process where a descriptor is not there any more. So one that never has anything to say takes its
 * place.
 */
static void silence(int fd)
{
	const int silent = eventfd(0, EFD_CLOEXEC);

	if (silent < 0)
		return;
	dup3(silent, fd, O_CLOEXEC);
	close(silent);
}

void leftovers_close(const struct leftovers *set, const char *memif)
{
	char now[sizeof(set->files[0].identity)];

	for (uint16_t i = 0; i < set->count; i++) {
		const int fd = set->files[i].fd;

		if (!identify(fd, memif, now, sizeof(now)) ||
		    strcmp(now, set->files[i].identity) != 0)
			continue;
		if (listens(fd))
			silence(fd);
		else
			close(fd);
	}
}
