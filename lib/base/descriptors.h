/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A set of file descriptors that several owners share; they are closed with the last of these.
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
