/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Measures from inside a guest for how long its network was away. One guest answers:
 *
 *     blackout echo
 *
 * Another sends it a numbered datagram each millisecond and notes when the answers come:
 *
 *     blackout ADDRESS SECONDS
 *     sent 3000 answered 2871 longest 129.4 at 512.0
 *
 * `longest` is the longest time in ms between two answers (or the last answer and the end), `at`
 * when it began, counted from the first answer. A datagram that the socket does not take at once
 * counts as sent: nobody waits for a network that is away.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define PORT 7007
#define INTERVAL_NS 1000000

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int echo(int fd)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	uint32_t number;

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return fail("bind");
	for (;;) {
		socklen_t length = sizeof(address);

		if (recvfrom(fd, &number, sizeof(number), 0, (struct sockaddr *)&address,
			     &length) > 0)
			sendto(fd, &number, sizeof(number), MSG_DONTWAIT,
			       (struct sockaddr *)&address, length);
	}
}

static int measure(int fd, const char *host, long seconds)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	int64_t first = 0, last = 0, longest = 0, at = 0;
	int64_t next = now(), end = next + seconds * 1000000000ll;
	uint32_t sent = 0, answered = 0, number;

	if (inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return fail(host);
	for (int64_t time = next; time < end; time = now()) {
		int64_t left = next - time;
		struct timespec pause = { .tv_nsec = left > 0 ? left : 0 };

		if (left <= 0) {
			sent++;
			send(fd, &sent, sizeof(sent), MSG_DONTWAIT);
			/* Those that were missed while we did not run are not sent after. */
			next += INTERVAL_NS * (1 - left / INTERVAL_NS);
			continue;
		}
		if (ppoll(&readable, 1, &pause, NULL) <= 0)
			continue;
		while (recv(fd, &number, sizeof(number), MSG_DONTWAIT) > 0) {
			time = now();
			if (answered++ == 0)
				first = last = time;
			if (time - last > longest) {
				longest = time - last;
				at = last - first;
			}
			last = time;
		}
	}
	if (answered > 0 && end - last > longest) {
		longest = end - last;
		at = last - first;
	}
	printf("sent %u answered %u longest %.1f at %.1f\n", sent, answered,
	       (double)longest / 1e6, (double)at / 1e6);
	return answered == 0;
}

int main(int argc, char **argv)
{
	long seconds = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0)
		return fail("socket");
	if (argc == 2 && strcmp(argv[1], "echo") == 0)
		return echo(fd);
	if (seconds > 0)
		return measure(fd, argv[1], seconds);
	fprintf(stderr, "usage: blackout echo | blackout ADDRESS SECONDS\n");
	return 2;
}
