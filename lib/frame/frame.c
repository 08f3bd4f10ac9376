/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory of a burst; everything else about frames is in frame/frame.h. */
#include "frame/frame.h"

#include <stdlib.h>

struct burst *burst_new(void)
{
	struct burst *burst = aligned_alloc(64, (sizeof(*burst) + 63) / 64 * 64);

	if (burst == NULL)
		return NULL;
	memset(burst, 0, sizeof(*burst));
	burst->budget = BURST_UNLIMITED;
	burst->scratch = malloc(BURST_SCRATCH);
	if (burst->scratch == NULL) {
		free(burst);
		return NULL;
	}
	return burst;
}

void burst_free(struct burst *burst)
{
	if (burst == NULL)
		return;
	free(burst->scratch);
	free(burst);
}
