/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory faults: a VMM that truncates the file behind its guest's memory, or its dirty log, costs
 * its own port, not the switch.
 *
 * Touching a page that the file no longer has raises SIGBUS. The handler looks the address up among
 * the guarded mappings; if it is there, it puts anonymous memory in its place, calls the owner, and
 * the faulting access goes on. Any other address gets the default action: that is a bug of ours.
 */
#pragma once

#include <stddef.h>

/* Installs the handler. Once, after EAL has started. Returns 0 or -errno. */
int memory_fault_init(void);

/*
 * Guards [start, start + size) until it is removed. lost(owner) is called in a signal handler on
 * the thread that touched the memory: it may store atomics and nothing else. Any thread but a
 * worker. Returns 0, or -ENOSPC: too many mappings.
 */
int memory_fault_guard(void *start, size_t size, void (*lost)(void *owner), void *owner);

/* Removes all mappings of this owner; after this, its `lost` is not called any more. */
void memory_fault_release(void *owner);

/*
 * From now on this thread may touch mappings that nobody could guard yet: the vhost library reads
 * rings while it handles a message. A fault at an unknown address then gets a page of anonymous
 * memory, and lost(owner) is called. NULL ends it. Any thread but a worker, for itself.
 */
void memory_fault_expect(void (*lost)(void *owner), void *owner);
