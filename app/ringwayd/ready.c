/* SPDX-License-Identifier: BSD-3-Clause */
/* Tells the service manager that the daemon is ready; app/ringwayd/ready.h is the contract. */
#include "ready.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int ready_tell(void)
{
	static const char message[] = "READY=1";
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *name = getenv("NOTIFY_SOCKET");
	int result = 0;
	size_t length;
	int fd;

	if (name == NULL)
		return 0;
	length = strlen(name);
	if (length == 0 || length >= sizeof(to.sun_path))
		return -EINVAL;
	memcpy(to.sun_path, name, length);
	if (name[0] == '@')
		to.sun_path[0] = '\0';

	/* It may block: a busy manager must hear this, or it takes us for dead. */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* The length counts, not a final zero byte: one would belong to an abstract name. */
	if (sendto(fd, message, sizeof(message) - 1, MSG_NOSIGNAL, (struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0)
		result = -errno;
	close(fd);
	return result;
}
