/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Would reading from a descriptor find anything? For types of port whose frames come by system
 * calls. Does not wait; for workers, too.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>

static inline bool readable(int fd)
{
	struct pollfd wish = { .fd = fd, .events = POLLIN };

	return poll(&wish, 1, 0) > 0 && (wish.revents & POLLIN);
}
