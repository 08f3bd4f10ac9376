/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared descriptors; base/descriptors.h is the contract. */
#include "base/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void close_all(const int *fds, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		close(fds[i]);
}

struct descriptors *descriptors_new(const int *fds, unsigned int count)
{
	struct descriptors *descriptors = malloc(sizeof(*descriptors) + count * sizeof(*fds));

	if (descriptors == NULL) {
		close_all(fds, count);
		return NULL;
	}
	descriptors->references = 1;
	descriptors->count = count;
	memcpy(descriptors->fds, fds, count * sizeof(*fds));
	return descriptors;
}

struct descriptors *descriptors_use(struct descriptors *descriptors)
{
	if (descriptors != NULL)
		descriptors->references++;
	return descriptors;
}

void descriptors_release(struct descriptors *descriptors)
{
	if (descriptors == NULL || --descriptors->references > 0)
		return;
	close_all(descriptors->fds, descriptors->count);
	free(descriptors);
}

int descriptors_fill_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDONLY);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}
