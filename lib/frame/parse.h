/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parsing a frame's head: where its IP and transport headers are, and the flow that it belongs to.
 *
 * Only the private copy (frame->head) is read. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "frame/frame.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8

/* 16 bits in network order. */
static inline uint16_t read16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

struct transport {
	uint16_t ethertype; /* of the payload, behind up to two VLAN tags */
	uint16_t network;   /* offset of the IP header */
	uint16_t offset;    /* offset of the transport header */
	uint8_t protocol;   /* as in the IP header: IPPROTO_TCP, ... */
	bool fragment;      /* not the whole packet: a later fragment has no transport header */
};

/* Returns 0, or -EINVAL where the frame is not IP or its headers leave the head. */
int parse_transport(const struct frame *frame, struct transport *found);

/*
 * A hash of the frame's addresses, protocol and ports that is the same in both directions;
 * fragments and other protocols go by addresses alone. For spreading flows over queues, not for
 * tables.
 */
uint32_t parse_flow_hash(const struct frame *frame);
