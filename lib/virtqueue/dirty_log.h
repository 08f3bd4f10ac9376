/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty log: which pages of guest memory were written, for a VMM that migrates its guest and
 * copies them once more (vhost-user protocol, "Migration").
 *
 * One bit a page, in memory that is shared with the VMM, which reads and clears it at any time. A
 * page is marked after it was written: marked before, it could be copied in between. Any thread.
 */
#pragma once

#include <stdint.h>

#define DIRTY_PAGE 4096 /* bytes of guest memory that a bit stands for */

struct dirty_log {
	uint8_t *base;
	uint64_t size; /* bytes */
};

/*
 * Notes that [guest, guest + length) was written. Pages that the log has no bit for are left out: a
 * VMM that gives a short log loses its own guest's pages.
 */
static inline void dirty_log_mark(const struct dirty_log *log, uint64_t guest, uint64_t length)
{
	uint64_t first = guest / DIRTY_PAGE;
	uint64_t last = (guest + length - 1) / DIRTY_PAGE;

	if (length == 0)
		return;
	for (uint64_t page = first; page <= last && page / 8 < log->size; page++)
		__atomic_fetch_or(&log->base[page / 8], (uint8_t)(1u << page % 8),
				  __ATOMIC_RELEASE);
}
