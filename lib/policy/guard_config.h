/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a guard is asked for: a level, and `allowed`, a list of text. Each item is a MAC address, an
 * IP address, or a prefix that stands for all addresses that begin with it:
 *
 *     ["52:54:00:00:00:07", "10.0.0.5", "10.0.1.0/24", "2001:db8::/64"]
 *
 * Control thread.
 */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "policy/guard.h"

/* Of `allowed`: a param's check, and its JSON Schema. */
int guard_config_check(const void *value, struct error *err);
json_t *guard_config_describe(void);

/*
 * Makes the guard of a port whose own address is `mac` (NULL: it has none). `allowed` is NULL or a
 * list that guard_config_check took; `object` is for messages. *guard is NULL where the level is
 * GUARD_OFF. Returns 0, or -errno with err filled: a guard needs something to go by.
 */
int guard_config_make(enum guard_level level, const uint8_t *mac, const json_t *allowed,
		      const char *object, struct guard **guard, struct error *err);
