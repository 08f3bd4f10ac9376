/* SPDX-License-Identifier: BSD-3-Clause */
/* Internet checksums; frame/checksum.h is the contract. */
#include "frame/checksum.h"

/*
 * The bytes as words of 64 bits: their sum modulo 2^64 and the sum of their upper halves. The sum
 * of the lower halves follows from these two, which saves the compiler's vectors an operation.
 */
uint64_t checksum_add(uint64_t sum, const void *bytes, size_t length)
{
	const uint8_t *from = bytes;
	uint64_t all = 0, upper = 0, last = 0;

	for (; length >= sizeof(last); length -= sizeof(last), from += sizeof(last)) {
		uint64_t word;

		memcpy(&word, from, sizeof(word));
		all += word;
		upper += word >> 32;
	}
	memcpy(&last, from, length);
	all += last;
	upper += last >> 32;
	return sum + upper + (all - (upper << 32));
}

uint16_t checksum_fold(uint64_t sum)
{
	sum = (sum & UINT32_MAX) + (sum >> 32);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	return (uint16_t)sum;
}

static void copy_out(const struct frame *frame, uint8_t *to)
{
	memcpy(to, frame->head, frame->head_length);
	to += frame->head_length;
	for (uint16_t i = 0; i < frame->view_count; i++) {
		memcpy(to, frame->views[i].address, frame->views[i].length);
		to += frame->views[i].length;
	}
}

void checksum_copy(const struct frame *frame, uint8_t *buffer)
{
	uint32_t start = frame->vnet.csum_start;
	uint32_t field = start + frame->vnet.csum_offset;
	uint16_t checksum;

	copy_out(frame, buffer);
	checksum = (uint16_t)~checksum_fold(checksum_add(0, buffer + start, frame->length - start));
	if (checksum == 0)
		checksum = UINT16_MAX;
	memcpy(buffer + field, &checksum, sizeof(checksum));
}

void checksum_fill(const struct frame *frame, struct frame *out, struct view *view,
		   uint8_t *buffer)
{
	uint32_t behind = frame->length - frame->head_length;

	checksum_copy(frame, buffer);
	if (out != frame)
		memcpy(out, frame, offsetof(struct frame, head));
	memcpy(out->head, buffer, out->head_length);
	memset(&out->vnet, 0, sizeof(out->vnet));
	out->needs = 0;
	*view = (struct view){ buffer + out->head_length, behind };
	out->views = view;
	out->view_count = behind > 0;
}
