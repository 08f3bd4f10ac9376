/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keys of the forwarding table for tests: of an address as a number, or of one of many addresses in
 * no order that are the same in every run.
 */
#pragma once

#include "bridge/fdb.h"

#include "packets.h"

static inline fdb_key_t key_of(uint64_t mac, uint16_t vlan)
{
	uint8_t bytes[6];

	packet_mac(bytes, mac);
	return fdb_key(bytes, vlan);
}

static inline uint64_t scramble(uint64_t value)
{
	value += 0x9e3779b97f4a7c15ull;
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ value >> 27) * 0x94d049bb133111ebull;
	return value ^ value >> 31;
}

static inline fdb_key_t random_key(uint64_t number)
{
	return key_of(scramble(number) & 0xfeffffffffffull, 0);
}
