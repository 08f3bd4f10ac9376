/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory of a burst, and what is taken of its views; frame/frame.h is the contract. */
#include "frame/frame.h"

#include <stdlib.h>

struct burst *burst_new(void)
{
	struct burst *burst = aligned_alloc(64, (sizeof(*burst) + 63) / 64 * 64);

	if (burst == NULL)
		return NULL;
	memset(burst, 0, sizeof(*burst));
	burst->budget = (struct charge){ BURST_UNLIMITED, BURST_UNLIMITED };
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

uint32_t view_take_front(struct view *views, uint32_t count, uint8_t *to, uint32_t length)
{
	uint32_t used = 0;

	while (length > 0 && used < count) {
		uint32_t part = views[used].length < length ? views[used].length : length;

		memcpy(to, views[used].address, part);
		views[used].address += part;
		views[used].length -= part;
		to += part;
		length -= part;
		if (views[used].length == 0)
			used++;
	}
	return used;
}

bool frame_extend_head(struct frame *frame)
{
	const uint32_t left = frame->length - frame->head_length;
	const uint32_t room = FRAME_HEAD_MAX - frame->head_length;
	const uint32_t length = left < room ? left : room;
	/* They are the burst's, which the frame is part of. */
	struct view *views = (struct view *)(uintptr_t)frame->views;
	uint32_t used;

	if (length == 0)
		return false;
	used = view_take_front(views, frame->view_count, frame->head + frame->head_length, length);
	frame->head_length = (uint16_t)(frame->head_length + length);
	frame->views += used;
	frame->view_count = (uint16_t)(frame->view_count - used);
	return true;
}
