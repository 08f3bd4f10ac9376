/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packet sockets on an interface of the kernel: opened, set up, and asked. af_packet.c moves
 * frames.
 *
 * The kernel's contract is packet(7) and the header linux/if_packet.h. Every socket speaks the
 * 10-byte virtio-net header, says of a VLAN tag that the kernel took out of a frame (auxiliary
 * data), shows no frame that goes out of the interface, and is close-on-exec. Nothing of the
 * interface itself is changed but that it may become promiscuous, for as long as a socket asks.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* What the kernel says of the interface now. */
struct packet_link {
	char name[IFNAMSIZ];
	int index;
	uint32_t mtu;
	bool up;      /* the host's wish */
	bool carrier; /* and there is somebody at the other end */
};

/*
 * Opens `count` sockets on the interface. Where there are several, the kernel spreads its flows
 * over them, as a group whose number goes to *group (-1: there is none). On failure nothing is
 * left. Returns 0, or -errno with err filled. May wait for the kernel's lock of network
 * configuration.
 */
int packet_socket_open(const char *interface, bool promiscuous, int *fds, uint16_t count,
		       int *group, struct error *err);

/*
 * Shall frames come in that are for other stations? Without, the kernel's interface need not take
 * them, and those that it takes all the same (a veth pair does) are left out. Returns 0 or -errno.
 * May wait as above.
 */
int packet_socket_set_promiscuous(const int *fds, uint16_t count, bool promiscuous);

/* Describes the interface; false: it was deleted or moved away. Does not wait. */
bool packet_socket_find(int fd, struct packet_link *link);

/* Frames that found no room in the socket since the last call. Does not wait. */
uint32_t packet_socket_take_drops(int fd);
