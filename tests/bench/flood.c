/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sends as many frames as an interface takes, for host.py:
 *
 *     flood INTERFACE DESTINATION BYTES SECONDS
 *
 * DESTINATION is a MAC address, BYTES the frame's length without FCS. Prints how many were sent. In
 * batches over a packet socket, past the interface's queue.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64
#define FRAME_MAX 9018

static double now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int open_socket(const char *interface)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET };
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	int on = 1;

	address.sll_ifindex = (int)if_nametoindex(interface);
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) != 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		perror(interface);
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	/* A source address of one station, and an Ethernet type for local experiments. */
	static unsigned char frame[FRAME_MAX] = { [6] = 0x02, [11] = 0xf1, [12] = 0x88,
						  [13] = 0xb5 };
	struct iovec part = { .iov_base = frame };
	struct mmsghdr batch[BATCH];
	unsigned long sent = 0;
	double end;
	int fd;

	if (argc != 5 || sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &frame[0], &frame[1],
				&frame[2], &frame[3], &frame[4], &frame[5]) != 6) {
		fprintf(stderr, "usage: flood INTERFACE DESTINATION BYTES SECONDS\n");
		return 1;
	}
	part.iov_len = strtoul(argv[3], NULL, 10);
	if (part.iov_len < 14 || part.iov_len > FRAME_MAX)
		return 1;
	memset(batch, 0, sizeof(batch));
	for (int i = 0; i < BATCH; i++) {
		batch[i].msg_hdr.msg_iov = &part;
		batch[i].msg_hdr.msg_iovlen = 1;
	}
	fd = open_socket(argv[1]);
	end = now() + strtod(argv[4], NULL);
	while (now() < end) {
		int count = sendmmsg(fd, batch, BATCH, 0);

		if (count > 0)
			sent += (unsigned long)count;
		else if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR) {
			perror("sendmmsg");
			return 1;
		}
	}
	printf("%lu\n", sent);
	return 0;
}
