/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where metrics are served, as text: "127.0.0.1:9477", "[::1]:9477", or the absolute path of a unix
 * socket. Names of hosts are not looked up.
 *
 * Thread-safe: no state of its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define LISTEN_TEXT_SIZE 112 /* a path of 107 bytes, and a few more to find it too long */
#define LISTEN_ACCEPTED                                                                            \
	"ADDRESS:PORT, [IPv6 address]:PORT, or an absolute path of at most 107 bytes"

struct listen_address {
	bool is_path;
	char text[LISTEN_TEXT_SIZE];
	/* Of TCP: a struct sockaddr_in or sockaddr_in6, and its length. */
	uint64_t address[4];
	unsigned int length;
};

/*
 * Returns 0, or -EINVAL with `accepted` added to err, where a param's check has filled the rest.
 */
int listen_parse(const char *text, struct listen_address *address, struct error *err);
