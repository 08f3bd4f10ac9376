/* SPDX-License-Identifier: BSD-3-Clause */
/* Addresses to listen at; telemetry/listen.h is the contract. */
#include "telemetry/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define PATH_MAX_LENGTH (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

/* 1 to 65535, in plain decimal; 0: it is none. */
static uint16_t parse_port(const char *text)
{
	uint32_t port = 0;

	if (text[0] < '1' || text[0] > '9' || strlen(text) > 5)
		return 0;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return 0;
		port = port * 10 + (uint32_t)(*text - '0');
	}
	return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static bool parse_host(const char *host, bool v6, uint16_t port, struct listen_address *address)
{
	struct sockaddr_in6 *six = (void *)address->address;
	struct sockaddr_in *four = (void *)address->address;

	_Static_assert(sizeof(address->address) >= sizeof(*six), "room for both");

	if (v6) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		address->length = sizeof(*six);
		return inet_pton(AF_INET6, host, &six->sin6_addr) == 1;
	}
	four->sin_family = AF_INET;
	four->sin_port = htons(port);
	address->length = sizeof(*four);
	return inet_pton(AF_INET, host, &four->sin_addr) == 1;
}

static bool parse_tcp(const char *text, struct listen_address *address)
{
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN];
	bool v6 = text[0] == '[';
	size_t length;
	uint16_t port;

	if (colon == NULL || (v6 && colon[-1] != ']'))
		return false;
	port = parse_port(colon + 1);
	length = (size_t)(colon - text) - (v6 ? 2 : 0);
	if (port == 0 || length >= sizeof(host))
		return false;
	memcpy(host, text + (v6 ? 1 : 0), length);
	host[length] = '\0';
	return parse_host(host, v6, port, address);
}

int listen_parse(const char *text, struct listen_address *address, struct error *err)
{
	memset(address, 0, sizeof(*address));
	snprintf(address->text, sizeof(address->text), "%s", text);
	address->is_path = text[0] == '/';
	if (address->is_path ? strlen(text) <= PATH_MAX_LENGTH : parse_tcp(text, address))
		return 0;
	error_detail(err, NULL, NULL, NULL, LISTEN_ACCEPTED);
	return -EINVAL;
}
