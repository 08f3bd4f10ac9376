/* SPDX-License-Identifier: BSD-3-Clause */
/* Entering network namespaces; port/namespace.h is the contract. */
#include "port/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define OWN_NAMESPACE "/proc/thread-self/ns/net"

int namespace_open(const char *name, struct error *err)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s%s", name[0] == '/' ? "" : "/run/netns/", name);
	/* Whatever is there instead, a FIFO say, must not keep us waiting. */
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	error_set(err, ERROR_SYSTEM, errno, "the network namespace %s cannot be opened: %s", path,
		  strerror(errno));
	error_detail(err, NULL, "netns", name,
		     "a name that `ip netns` shows, or the absolute path of a namespace's file");
	return -err->errnum;
}

bool namespace_is_own(int fd)
{
	struct stat own, other;

	return stat(OWN_NAMESPACE, &own) == 0 && fstat(fd, &other) == 0 &&
	       own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

int namespace_enter(int fd)
{
	int former = open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC);
	int errnum = errno;

	/* Who may not come back (a namespace of another user namespace) must not leave. */
	if (former >= 0 &&
	    (setns(former, CLONE_NEWNET) != 0 || setns(fd, CLONE_NEWNET) != 0)) {
		errnum = errno;
		close(former);
		former = -1;
	}
	close(fd);
	return former >= 0 ? former : -errnum;
}

void namespace_leave(int former)
{
	if (former < 0)
		return;
	if (setns(former, CLONE_NEWNET) != 0)
		log_error("port", "a thread is stuck in a foreign network namespace: %s",
			  strerror(errno));
	close(former);
}
