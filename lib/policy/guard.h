/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guard: which addresses a port may use as its own. It looks at each frame that comes from the
 * port and refuses those that speak in another's name. What it checks grows with its level:
 *
 *   mac  The Ethernet source is one of the port's MAC addresses: its own `mac`, or an allowed one.
 *   arp  So are the addresses by which ARP, RARP and neighbour discovery (RFC 4861) teach others.
 *        Where IP addresses are given, what is said of an IP address is said of one of those.
 *   ip   So is the source of each IP packet. Answers of DHCP servers, router advertisements and
 *        redirects are refused, and so is whatever is neither IP nor ARP nor RARP.
 *
 * Where a level has to see something, a frame that hides it is refused: by its length, a third VLAN
 * tag, IPv6 headers beyond the frame's head (RFC 7113), a first fragment without them (RFC 7112),
 * neighbour discovery in fragments (RFC 6980) or beyond the head. Up to two tags and a SNAP header
 * (IEEE 802, 9.2) are looked through.
 *
 * The link-local addresses that stations make of the given MAC addresses (RFC 4291, appendix A)
 * count as given.
 *
 * A guard never changes. The control thread makes it and counts who uses it; workers read it.
 *
 *     if (guard != NULL && !guard_admits(guard, frame))
 *         frame_drop(frame, DROP_GUARD);
 */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "frame/frame.h"

#define GUARD_MACS_MAX 64 /* beside the port's own */
#define GUARD_IPS_MAX 256

enum guard_level { GUARD_OFF, GUARD_MAC, GUARD_ARP, GUARD_IP };

/* By level; ends with NULL. */
extern const char *const guard_level_names[];

/* IP addresses that begin with the same bits. */
struct guard_prefix {
	bool is_ipv6;
	uint8_t length;	     /* bits: 0 to 32, or to 128 */
	uint8_t address[16]; /* in network order, 4 bytes of it for IPv4; the other bits are zero */
};

/* The addresses that a port may use. */
struct guard_addresses {
	uint16_t mac_count;
	uint8_t macs[GUARD_MACS_MAX + 1][6]; /* that which most frames will come from first */
	uint16_t ip_count;
	struct guard_prefix ips[GUARD_IPS_MAX];
};

__extension__ typedef unsigned __int128 guard_number;

/* Addresses from `first` to `last`, as numbers. */
struct guard_range {
	guard_number first, last;
};

struct guard {
	unsigned int references; /* control thread */
	uint8_t level;		 /* enum guard_level, not GUARD_OFF */
	bool names_ips;		 /* IP addresses were given */
	uint16_t mac_count;
	uint16_t ipv4_count, ipv6_count;
	/* The first prefix of IPv4, in network order: most packets are from there. */
	uint32_t ipv4_address, ipv4_mask;
	uint64_t macs[GUARD_MACS_MAX + 1]; /* as guard_mac reads them */
	/* Those of IPv4, then those of IPv6; each sorted, none overlaps another. */
	struct guard_range ranges[];
};

/*
 * Makes a guard of a level that is not GUARD_OFF, for one MAC address at least; with one reference.
 * Returns NULL without memory. Control thread.
 */
struct guard *guard_new(enum guard_level level, const struct guard_addresses *addresses);

/* Both accept NULL. Control thread. */
struct guard *guard_use(struct guard *guard);
void guard_release(struct guard *guard);

/* The name of its level; NULL is off. */
static inline const char *guard_name(const struct guard *guard)
{
	return guard_level_names[guard != NULL ? guard->level : GUARD_OFF];
}

/* A MAC address as a number, read in one go from two bytes in front of it on. */
static inline uint64_t guard_mac(const uint8_t *two_before)
{
	uint64_t bytes;

	memcpy(&bytes, two_before, sizeof(bytes));
	return be64toh(bytes) & 0xffffffffffff;
}

/* May the port use this MAC address, which is not its first one? Worker. */
bool guard_knows_mac(const struct guard *guard, uint64_t mac);

/* What the levels arp and ip ask of a frame beyond its source address. Worker. */
bool guard_admits_payload(const struct guard *guard, const struct frame *frame);

/*
 * May a frame pass? Of one that is shorter than an Ethernet header the answer means nothing. Reads
 * nothing but the private copy of its head. Worker.
 */
static inline bool guard_admits(const struct guard *guard, const struct frame *frame)
{
	const uint64_t source = guard_mac(frame->head + 4);

	if (__builtin_expect(source != guard->macs[0], false) && !guard_knows_mac(guard, source))
		return false;
	return guard->level == GUARD_MAC || guard_admits_payload(guard, frame);
}
