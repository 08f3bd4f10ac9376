/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames for tests: Ethernet, IPv4, UDP and TCP headers written byte by byte, with a payload whose
 * bytes tell their place. MAC addresses are given as numbers: 0x525400000001.
 */
#pragma once

#include <stdint.h>
#include <string.h>

#define PACKET_SIZE_MAX 66000

struct packet_flow {
	uint64_t to, from; /* MAC addresses */
	uint32_t ip_from, ip_to;
	uint16_t port_from, port_to;
};

static inline void packet_mac(uint8_t *at, uint64_t mac)
{
	for (int i = 5; i >= 0; i--, mac >>= 8)
		at[i] = (uint8_t)mac;
}

static inline void packet_put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static inline void packet_put32(uint8_t *at, uint32_t value)
{
	packet_put16(at, value >> 16);
	packet_put16(at + 2, value);
}

/* A frame that is no IP; 14 bytes at least. */
static inline void packet_ethernet(uint8_t *at, uint64_t to, uint64_t from, uint32_t length)
{
	packet_mac(at, to);
	packet_mac(at + 6, from);
	packet_put16(at + 12, 0x88b5); /* for local experiments (IEEE 802) */
	for (uint32_t i = 14; i < length; i++)
		at[i] = (uint8_t)(i ^ i >> 8);
}

/* IPv4 with this protocol; 34 bytes at least. */
static inline void packet_ipv4(uint8_t *at, const struct packet_flow *flow, uint8_t protocol,
			       uint32_t length)
{
	packet_ethernet(at, flow->to, flow->from, length);
	packet_put16(at + 12, 0x0800);
	memset(at + 14, 0, 20);
	at[14] = 0x45;
	packet_put16(at + 16, length - 14);
	at[22] = 64;
	at[23] = protocol;
	packet_put32(at + 26, flow->ip_from);
	packet_put32(at + 30, flow->ip_to);
}

/* 42 bytes at least. */
static inline void packet_udp(uint8_t *at, const struct packet_flow *flow, uint32_t length)
{
	packet_ipv4(at, flow, 17, length);
	packet_put16(at + 34, flow->port_from);
	packet_put16(at + 36, flow->port_to);
	packet_put16(at + 38, length - 34);
	packet_put16(at + 40, 0);
}

/* 54 bytes at least. */
static inline void packet_tcp(uint8_t *at, const struct packet_flow *flow, uint32_t length)
{
	packet_ipv4(at, flow, 6, length);
	memset(at + 34, 0, 20);
	packet_put16(at + 34, flow->port_from);
	packet_put16(at + 36, flow->port_to);
	at[46] = 5 << 4;
	at[47] = 0x10;
}
