/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Descriptors that drivers leave open when their device is closed. The af_xdp driver of DPDK 22.11
 * does not close its sockets, so that the interface's queue would stay taken, nor does the library
 * below it close what it loads. The memif driver does not close the socket on which it listens, and
 * would use memory that is freed when somebody connects to it.
 *
 *     leftovers_find(&before, path);  open the device;  leftovers_find(&made, path);
 *     leftovers_subtract(&made, &before);  ...  close the device;  leftovers_close(&made, path);
 *
 * On the background thread, where alone such devices are opened and closed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LEFTOVERS_MAX 256 /* more are left as they are */

struct leftovers {
	uint16_t count;
	struct {
		int fd;
		char identity[32]; /* no other descriptor's, as long as it is open */
	} files[LEFTOVERS_MAX];
};

/* All such descriptors of the process. memif: the path at which one of memif would listen. */
void leftovers_find(struct leftovers *found, const char *memif);

/* Does one of them listen for peers of memif? */
bool leftovers_listen(const struct leftovers *set);

/* Takes those of `others` out of `set`. */
void leftovers_subtract(struct leftovers *set, const struct leftovers *others);

/* Closes those that are still what they were; a descriptor itself stays of each that listened. */
void leftovers_close(const struct leftovers *set, const char *memif);
