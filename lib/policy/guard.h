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
 * So is one with a partial checksum whose place is among the bytes that were looked at: for
 * receivers that take no partial ones it would be written over them.
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
#include "frame/parse.h"

#define GUARD_MACS_MAX 64 /* beside the port's own */
#define GUARD_IPS_MAX 256

#define GUARD_IPV4_HEADER 20 /* without options (RFC 791) */
#define GUARD_UDP 17 /* the protocol (RFC 768) */
#define GUARD_UDP_HEADER 8
#define GUARD_PORTS 4 /* bytes that UDP and TCP begin with */
#define GUARD_DHCP4_CLIENT 68 /* the UDP port (RFC 2131, 4.1) */

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
	/*
	 * The first prefix of IPv4, in network order: most packets are from there. One that all are
	 * from where nobody asks.
	 */
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
	return le64toh(bytes) >> 16;
}

/* Where a partial checksum will be filled in; nowhere is behind all frames. */
static inline uint32_t guard_filled_at(const struct frame *frame)
{
	if (!(frame->needs & NEEDS_CHECKSUM))
		return UINT32_MAX;
	return (uint32_t)frame->vnet.csum_start + frame->vnet.csum_offset;
}

/* guard_is_usual of a frame that starts, up to the length of the header, as one that is. */
static inline bool guard_is_usual_source(const struct guard *guard, const struct frame *frame)
{
	const uint8_t *ip = frame->head + ETHERNET_HEADER;
	uint16_t length, port;
	uint32_t source;

	if (frame->head_length < ETHERNET_HEADER + GUARD_IPV4_HEADER + GUARD_UDP_HEADER)
		return false;
	memcpy(&source, ip + 12, sizeof(source));
	if ((source & guard->ipv4_mask) != guard->ipv4_address || source == 0 ||
	    guard_filled_at(frame) < ETHERNET_HEADER + GUARD_IPV4_HEADER + GUARD_PORTS)
		return false;
	if (ip[9] != GUARD_UDP)
		return true;
	memcpy(&length, ip + 2, sizeof(length));
	memcpy(&port, ip + GUARD_IPV4_HEADER + 2, sizeof(port));
	return be16toh(length) >= GUARD_IPV4_HEADER + GUARD_UDP_HEADER &&
	       port != htobe16(GUARD_DHCP4_CLIENT);
}

/*
 * Is it IPv4 of the first prefix, without tags and options, and nothing of DHCP? That is most
 * frames, and the levels arp and ip have nothing more to ask of them.
 */
static inline bool guard_is_usual(const struct guard *guard, const struct frame *frame)
{
	uint16_t type;

	memcpy(&type, frame->head + ETHERNET_HEADER - 2, sizeof(type));
	return type == htobe16(ETHERTYPE_IPV4) && guard_is_usual_source(guard, frame) &&
	       frame->head[ETHERNET_HEADER] == 0x45;
}

/* What a level asks of a frame, from the start, however unusual it is. Worker. */
bool guard_admits_other(const struct guard *guard, const struct frame *frame);

/*
 * May a frame pass? Of one that is shorter than an Ethernet header the answer means nothing. Reads
 * nothing but the private copy of its head. Worker.
 */
static inline bool guard_admits(const struct guard *guard, const struct frame *frame)
{
	if (__builtin_expect(guard_mac(frame->head + 4) == guard->macs[0], true) &&
	    (guard->level == GUARD_MAC || guard_is_usual(guard, frame)))
		return true;
	return guard_admits_other(guard, frame);
}
