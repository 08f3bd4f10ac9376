/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * UDP datagrams there and back, inside the test guest: a server that returns what it gets, and a
 * client that sends random bytes of random length, waits for each answer and compares. Sockets like
 * these leave their checksums to the device.
 *
 *     udpecho PORT                      serves for ever, over IPv4 and IPv6
 *     udpecho PORT HOST COUNT LENGTH    sends datagrams of 1 to LENGTH bytes, and fails if one of
 *                                       them is lost or altered
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define LENGTH_MAX 65507

static char sent[LENGTH_MAX], received[LENGTH_MAX];

static _Noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* IPv4 goes by mapped addresses (RFC 4291, 2.5.5.2). */
static int open_socket(const char *host, const char *port)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6,
					.sin6_port = htons((uint16_t)strtoul(port, NULL, 10)) };
	const struct timeval patience = { .tv_sec = 2 };
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	char text[INET6_ADDRSTRLEN];

	if (fd < 0)
		fail("socket");
	if (host == NULL) {
		if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
			fail("port");
		return fd;
	}
	snprintf(text, sizeof(text), strchr(host, ':') != NULL ? "%s" : "::ffff:%s", host);
	if (inet_pton(AF_INET6, text, &address.sin6_addr) != 1 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		fail("address");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static _Noreturn void serve(int fd)
{
	for (;;) {
		struct sockaddr_storage from;
		socklen_t size = sizeof(from);
		ssize_t length = recvfrom(fd, received, sizeof(received), 0,
					  (struct sockaddr *)&from, &size);

		if (length < 0)
			fail("receiving");
		sendto(fd, received, (size_t)length, 0, (struct sockaddr *)&from, size);
	}
}

int main(int argc, char **argv)
{
	unsigned int count, length;
	int fd;

	if (argc != 2 && argc != 5)
		return 2;
	fd = open_socket(argc == 5 ? argv[2] : NULL, argv[1]);
	if (argc == 2)
		serve(fd);
	count = (unsigned int)strtoul(argv[3], NULL, 10);
	length = (unsigned int)strtoul(argv[4], NULL, 10);
	for (unsigned int i = 0; i < count; i++) {
		size_t size = 1 + (size_t)rand() % length;

		for (size_t at = 0; at < size; at++)
			sent[at] = (char)rand();
		if (send(fd, sent, size, 0) != (ssize_t)size)
			fail("sending");
		if (recv(fd, received, sizeof(received), 0) != (ssize_t)size)
			fail("answer");
		if (memcmp(sent, received, size) != 0) {
			fprintf(stderr, "datagram %u came back altered\n", i);
			return 1;
		}
	}
	printf("%u datagrams\n", count);
	return 0;
}
