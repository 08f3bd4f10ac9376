/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes RARP requests; frame/rarp.h is the contract. */
#include "frame/rarp.h"

#include <string.h>

void rarp_request(uint8_t frame[RARP_LENGTH], const uint8_t mac[6])
{
	/* Ethernet type; addresses of Ethernet (6 bytes) and IPv4 (4 bytes); request reverse. */
	static const uint8_t head[] = { 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3 };

	memset(frame, 0, RARP_LENGTH);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, mac, 6);
	memcpy(frame + 12, head, sizeof(head));
	/* It asks about itself; neither IP address is known. */
	memcpy(frame + 22, mac, 6);
	memcpy(frame + 32, mac, 6);
}
