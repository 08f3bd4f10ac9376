/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RARP (RFC 903): the frame by which a station makes itself known that cannot do so itself. Bridges
 * learn from its source address where the station is now, and nobody needs to answer.
 *
 * Any thread.
 */
#pragma once

#include <stdint.h>

#define RARP_LENGTH 60 /* the shortest Ethernet frame, without FCS */

/* Writes the broadcast request of the station with this address. */
void rarp_request(uint8_t frame[RARP_LENGTH], const uint8_t mac[6]);
