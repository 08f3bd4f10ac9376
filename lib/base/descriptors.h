/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A set of file descriptors that several owners share; they are closed with the last of these. And
 * the three that a process is started with.
 *
 * Control thread.
 */
#pragma once

struct descriptors {
	unsigned int references, count;
	int fds[];
};

/* Takes the descriptors over, with one reference. NULL without memory: they are closed then. */
struct descriptors *descriptors_new(const int *fds, unsigned int count);

/* One more reference. NULL gives NULL. */
struct descriptors *descriptors_use(struct descriptors *descriptors);

/* NULL is fine. */
void descriptors_release(struct descriptors *descriptors);

/*
 * Opens standard input, output and error where we were started without: else the next file or
 * socket that is opened would take the place, and be written what is meant for people. They can be
 * read, as if they were empty, and not written. First thing in main. Returns 0 or -errno.
 */
int descriptors_fill_standard(void);
