/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the operator calls a device, and what DPDK does. The background thread; checking: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "port/ethdev_device.h"

/* What `device` accepts, for a refusal. */
extern const char ethdev_accepted[];

/*
 * Fills err with "DEVICE: what the format says". field: the parameter that is to blame; accepted:
 * NULL where nothing else would be. Returns -errnum.
 */
int ethdev_refuse(const struct ethdev_wish *wish, const char *field, int errnum,
		  const char *accepted, struct error *err, const char *format, ...)
	__attribute__((format(printf, 6, 7)));

/* The words for DPDK. Returns 0, or -errno with err filled. */
int ethdev_make_arguments(const struct ethdev_wish *wish, char *text, size_t size,
			  struct error *err);

/*
 * DPDK's own name of the device with these words for DPDK. Returns 0, or -errno with err filled:
 * there is no such driver, or the kernel has the device.
 */
int ethdev_find_name(const struct ethdev_wish *wish, const char *arguments, char *name,
		     size_t size, struct error *err);

bool ethdev_is_pci(const char *name);

/* Does it live by a connection that it made itself? These drivers do not connect again. */
bool ethdev_is_client(const char *driver, const char *arguments);

/* The path of a memif's socket; of others it means nothing. */
void ethdev_find_memif(const char *arguments, char *path, size_t size);
