/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guards; policy/guard.h is the contract.
 *
 * Everything is read behind a comparison with the end of the head. Lengths that headers claim are
 * followed only where a receiver would follow them, too; where the two could disagree about what is
 * in a frame it is refused.
 *
 * Egress writes a partial checksum into the frame, wherever its sender wants it. `filled` is where,
 * counted as the lengths beside it: it must be none of the bytes that were looked at.
 */
#include "policy/guard.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "frame/parse.h"

#define ETHERTYPE_RARP 0x8035

/* Below it the type of an Ethernet frame is a length (IEEE 802.3, 3.2.6). */
#define ETHERTYPE_MIN 0x0600
#define SNAP_LENGTH 8

#define IPV6_HEADER 40
#define ARP_LENGTH 28 /* of Ethernet and IPv4 */
#define ICMPV6_CHECKSUM 2 /* offset of the field, behind type and code */

enum { ARP_REQUEST = 1, RARP_REQUEST = 3 };

/* Ports of DHCP (RFC 2131, RFC 8415) */
enum { DHCP4_SERVER = 67, DHCP4_CLIENT = GUARD_DHCP4_CLIENT, DHCP6_CLIENT = 546 };

/* Extension headers that the system's headers do not name (RFC 7045, RFC 6275). */
enum { NEXT_MOBILITY = 135, NEXT_HIP = 139, NEXT_SHIM6 = 140 };

/* ICMPv6 (RFC 4861, 2710, 3810) */
enum {
	MLD_REPORT = 131,
	MLD_DONE = 132,
	ND_ROUTER_SOLICIT = 133,
	ND_ROUTER_ADVERT = 134,
	ND_SOLICIT = 135,
	ND_ADVERT = 136,
	ND_REDIRECT = 137,
	MLD2_REPORT = 143,
};

/* Options of neighbour discovery: link-layer addresses of source and target. */
enum { ND_SOURCE_ADDRESS = 1, ND_TARGET_ADDRESS = 2 };

const char *const guard_level_names[] = { "off", "mac", "arp", "ip", NULL };

/* An address in network order as a number. */
static guard_number read_address(const uint8_t *at, unsigned int bytes)
{
	guard_number number = 0;

	for (unsigned int i = 0; i < bytes; i++)
		number = number << 8 | at[i];
	return number;
}

/* In network order, as IPv4 addresses are kept. */
static uint32_t read32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* As read_address of 16 bytes. */
static guard_number read_ipv6(const uint8_t *at)
{
	uint64_t half[2];

	memcpy(half, at, sizeof(half));
	return (guard_number)__builtin_bswap64(half[0]) << 64 | __builtin_bswap64(half[1]);
}

/* ---- making ---- */

static int compare_ranges(const void *a, const void *b)
{
	const struct guard_range *left = a, *right = b;

	if (left->first != right->first)
		return left->first < right->first ? -1 : 1;
	return left->last < right->last ? -1 : left->last > right->last;
}

/* Sorts, and joins what overlaps. Returns how many are left. */
static uint16_t join_ranges(struct guard_range *ranges, uint16_t count)
{
	uint16_t kept = 0;

	qsort(ranges, count, sizeof(*ranges), compare_ranges);
	for (uint16_t i = 0; i < count; i++) {
		if (kept > 0 && ranges[i].first <= ranges[kept - 1].last) {
			if (ranges[i].last > ranges[kept - 1].last)
				ranges[kept - 1].last = ranges[i].last;
			continue;
		}
		ranges[kept++] = ranges[i];
	}
	return kept;
}

static struct guard_range range_of(const struct guard_prefix *prefix)
{
	const unsigned int bits = prefix->is_ipv6 ? 128 : 32;
	const guard_number ones = ~(guard_number)0 >> (128 - bits);
	const guard_number first = read_address(prefix->address, bits / 8);

	/* A shift by all bits of the type is none. */
	if (prefix->length == bits)
		return (struct guard_range){ first, first };
	return (struct guard_range){ first, first | (ones >> prefix->length) };
}

/* fe80::/64 and the address as a modified EUI-64. */
static struct guard_range link_local_of(const uint8_t mac[6])
{
	const struct guard_prefix prefix = {
		.is_ipv6 = true,
		.length = 128,
		.address = { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe,
			     mac[3], mac[4], mac[5] },
	};

	return range_of(&prefix);
}

static uint64_t mac_number(const uint8_t mac[6])
{
	uint8_t bytes[8] = { 0 };

	memcpy(bytes + 2, mac, 6);
	return guard_mac(bytes);
}

static void add_ranges(struct guard *guard, const struct guard_addresses *addresses)
{
	struct guard_range *ranges = guard->ranges;
	uint16_t count = 0;

	for (uint16_t i = 0; i < addresses->ip_count; i++) {
		if (addresses->ips[i].is_ipv6)
			continue;
		if (count == 0) {
			guard->ipv4_address = read32(addresses->ips[i].address);
			guard->ipv4_mask =
				htonl((uint32_t)(~UINT64_C(0) << (32 - addresses->ips[i].length)));
		}
		ranges[count++] = range_of(&addresses->ips[i]);
	}
	guard->ipv4_count = join_ranges(ranges, count);
	ranges += guard->ipv4_count;
	count = 0;
	for (uint16_t i = 0; i < addresses->ip_count; i++)
		if (addresses->ips[i].is_ipv6)
			ranges[count++] = range_of(&addresses->ips[i]);
	for (uint16_t i = 0; i < addresses->mac_count; i++)
		ranges[count++] = link_local_of(addresses->macs[i]);
	guard->ipv6_count = join_ranges(ranges, count);
}

struct guard *guard_new(enum guard_level level, const struct guard_addresses *addresses)
{
	const size_t ranges = (size_t)addresses->ip_count + addresses->mac_count;
	struct guard *guard = calloc(1, sizeof(*guard) + ranges * sizeof(guard->ranges[0]));

	if (guard == NULL)
		return NULL;
	guard->references = 1;
	guard->level = (uint8_t)level;
	guard->names_ips = addresses->ip_count > 0;
	guard->ipv4_address = htonl(1); /* with a mask of no bits it is no address */
	guard->mac_count = addresses->mac_count;
	for (uint16_t i = 0; i < addresses->mac_count; i++)
		guard->macs[i] = mac_number(addresses->macs[i]);
	add_ranges(guard, addresses);
	if (level < GUARD_IP)
		guard->ipv4_address = guard->ipv4_mask = 0;
	return guard;
}

struct guard *guard_use(struct guard *guard)
{
	if (guard != NULL)
		guard->references++;
	return guard;
}

void guard_release(struct guard *guard)
{
	if (guard != NULL && --guard->references == 0)
		free(guard);
}

/* ---- addresses ---- */

static bool knows_mac(const struct guard *guard, uint64_t mac)
{
	for (uint16_t i = 0; i < guard->mac_count; i++)
		if (guard->macs[i] == mac)
			return true;
	return false;
}

static bool covers(const struct guard_range *ranges, uint16_t count, guard_number address)
{
	uint16_t low = 0, high = count;

	/* How many begin at the address or before it. */
	while (low < high) {
		uint16_t middle = (uint16_t)((low + high) / 2);

		if (ranges[middle].first <= address)
			low = (uint16_t)(middle + 1);
		else
			high = middle;
	}
	return low > 0 && address <= ranges[low - 1].last;
}

/* In network order. */
static bool knows_ipv4(const struct guard *guard, uint32_t address)
{
	return covers(guard->ranges, guard->ipv4_count, ntohl(address));
}

static bool knows_ipv6(const struct guard *guard, guard_number address)
{
	return covers(guard->ranges + guard->ipv4_count, guard->ipv6_count, address);
}

/* ---- ARP and RARP ---- */

static bool admits_arp(const struct guard *guard, const uint8_t *arp, uint32_t length,
		       uint32_t filled, bool reverse)
{
	/* Ethernet type and IPv4; addresses of 6 and 4 bytes (RFC 826). */
	static const uint8_t kind[] = { 0, 1, 8, 0, 6, 4 };
	uint16_t operation;
	uint32_t sender;

	if (length < ARP_LENGTH || filled < ARP_LENGTH || memcmp(arp, kind, sizeof(kind)) != 0)
		return false;
	operation = read16(arp + 6);
	/* An answer to RARP says what another's IP address is. */
	if (reverse && operation != RARP_REQUEST)
		return false;
	if (!knows_mac(guard, guard_mac(arp + 6)))
		return false;
	if (!guard->names_ips)
		return true;
	sender = read32(arp + 14);
	/* Who has none yet asks without (RFC 5227, 2.1.1). */
	if (sender == 0)
		return reverse || operation == ARP_REQUEST;
	return knows_ipv4(guard, sender);
}

/* ---- IPv4 ---- */

/*
 * How much of a packet is in the head: what is behind its claimed length is padding, which no
 * receiver takes for headers. Large segments may claim 0.
 */
static uint32_t packet_length(uint32_t length, uint32_t claimed, bool claims)
{
	return claims && claimed < length ? claimed : length;
}

static bool admits_ipv4(const struct guard *guard, const uint8_t *ip, uint32_t length,
			uint32_t filled)
{
	bool may_lack_address = false;
	uint32_t header, source;

	if (length < GUARD_IPV4_HEADER || ip[0] >> 4 != 4)
		return false;
	header = (ip[0] & 0x0f) * 4u;
	if (header < GUARD_IPV4_HEADER || header > length || filled < header)
		return false;
	/* Not a later fragment, which has no ports. */
	if (ip[9] == IPPROTO_UDP && (read16(ip + 6) & 0x1fff) == 0) {
		const uint8_t *udp = ip + header;

		length = packet_length(length, read16(ip + 2), read16(ip + 2) != 0);
		/* By the port that clients listen on: few look at the other. */
		if (header + GUARD_UDP_HEADER > length || filled < header + GUARD_PORTS ||
		    read16(udp + 2) == DHCP4_CLIENT)
			return false;
		may_lack_address = read16(udp) == DHCP4_CLIENT && read16(udp + 2) == DHCP4_SERVER;
	}
	source = read32(ip + 12);
	return source == 0 ? may_lack_address : knows_ipv4(guard, source);
}

/* ---- IPv6 ---- */

/* An IPv6 packet, as far as it is in the head: offsets are from its IPv6 header on. */
struct packet {
	const uint8_t *ip;
	uint32_t length;  /* of what is in the head */
	uint32_t filled;  /* where a checksum will be */
	uint32_t offset;  /* of what is behind the extension headers */
	uint8_t protocol; /* of that; IPPROTO_FRAGMENT: no headers follow, it is not the first */
	bool fragment;	  /* it has a fragment header */
};

static bool is_extension(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case IPPROTO_AH:
	case IPPROTO_FRAGMENT:
	case NEXT_MOBILITY:
	case NEXT_HIP:
	case NEXT_SHIM6:
		return true;
	default:
		return false;
	}
}

/* What a chain of headers must have behind the extension headers to be whole. */
static uint32_t least_of(uint8_t protocol)
{
	if (protocol == IPPROTO_TCP)
		return 20;
	return protocol == IPPROTO_UDP || protocol == IPPROTO_ICMPV6 ? 8 : 0;
}

/* How much is looked at of what is behind the extension headers, but for neighbour discovery. */
static uint32_t seen_of(uint8_t protocol)
{
	if (protocol == IPPROTO_FRAGMENT)
		return 8;
	if (protocol == IPPROTO_UDP)
		return GUARD_PORTS;
	return protocol == IPPROTO_ICMPV6 ? ICMPV6_CHECKSUM : 0;
}

/* Goes along the headers. Returns whether all are there. */
static bool walk_headers(struct packet *packet)
{
	packet->protocol = packet->ip[6];
	packet->offset = IPV6_HEADER;
	while (is_extension(packet->protocol)) {
		const uint8_t *header = packet->ip + packet->offset;
		uint32_t size;

		if (packet->offset + 8 > packet->length)
			return false;
		size = 8 + 8u * header[1];
		if (packet->protocol == IPPROTO_AH) {
			size = 8 + 4u * header[1]; /* RFC 4302, 2.2 */
		} else if (packet->protocol == IPPROTO_FRAGMENT) {
			/* Nobody sends fragments of fragments (RFC 8200, 4.1). */
			if (packet->fragment)
				return false;
			packet->fragment = true;
			if ((read16(header + 2) & 0xfff8) != 0)
				return true;
			size = 8;
		}
		packet->protocol = header[0];
		packet->offset += size;
	}
	return packet->offset + least_of(packet->protocol) <= packet->length;
}

/* Goes along the options of neighbour discovery, up to `end`. */
static bool admits_options(const struct guard *guard, const uint8_t *ip, uint32_t at, uint32_t end)
{
	while (at < end) {
		const uint8_t *option = ip + at;
		uint32_t size;

		if (at + 8 > end)
			return false;
		size = 8u * option[1];
		if (size == 0 || at + size > end)
			return false;
		if ((option[0] == ND_SOURCE_ADDRESS || option[0] == ND_TARGET_ADDRESS) &&
		    !knows_mac(guard, guard_mac(option)))
			return false;
		at += size;
	}
	return true;
}

/* May the port say what this message says of IP addresses? */
static bool admits_claims(const struct guard *guard, const struct packet *packet, uint8_t type)
{
	const guard_number source = read_ipv6(packet->ip + 8);
	const uint8_t *target = packet->ip + packet->offset + 8;

	if (!guard->names_ips)
		return true;
	/* Who has no address yet asks whether it may take the target, or for a router. */
	if (source == 0)
		return type == ND_ROUTER_SOLICIT ||
		       (type == ND_SOLICIT && knows_ipv6(guard, read_ipv6(target)));
	if (!knows_ipv6(guard, source))
		return false;
	return type != ND_ADVERT || knows_ipv6(guard, read_ipv6(target));
}

static bool admits_discovery(const struct guard *guard, const struct packet *packet, uint8_t type)
{
	static const uint8_t fixed[] = { 8, 16, 24, 24, 40 }; /* bytes before the options */
	const uint32_t options = packet->offset + fixed[type - ND_ROUTER_SOLICIT];
	const uint32_t end = IPV6_HEADER + (uint32_t)read16(packet->ip + 4);

	if (guard->level == GUARD_IP && (type == ND_ROUTER_ADVERT || type == ND_REDIRECT))
		return false;
	/* Without a length some receivers take what is there: then it has no room for any. */
	if (packet->fragment || end > packet->length || options > end)
		return false;
	if (packet->filled < end && packet->filled != packet->offset + ICMPV6_CHECKSUM)
		return false;
	return admits_options(guard, packet->ip, options, end) &&
	       admits_claims(guard, packet, type);
}

/* Sent by who has no address yet. */
static bool may_lack_address(const struct packet *packet)
{
	if (packet->protocol != IPPROTO_ICMPV6)
		return false;
	switch (packet->ip[packet->offset]) {
	case MLD_REPORT:
	case MLD_DONE:
	case MLD2_REPORT:
	case ND_ROUTER_SOLICIT:
	case ND_SOLICIT:
		return true;
	default:
		return false;
	}
}

static bool admits_ipv6(const struct guard *guard, const uint8_t *ip, uint32_t length,
			uint32_t filled)
{
	struct packet packet = { .ip = ip, .filled = filled };
	const uint8_t *transport;
	guard_number source;

	if (length < IPV6_HEADER || ip[0] >> 4 != 6)
		return false;
	packet.length =
		packet_length(length, IPV6_HEADER + (uint32_t)read16(ip + 4), read16(ip + 4) != 0);
	if (!walk_headers(&packet) || filled < packet.offset + seen_of(packet.protocol))
		return false;
	transport = ip + packet.offset;
	if (packet.protocol == IPPROTO_ICMPV6 && transport[0] >= ND_ROUTER_SOLICIT &&
	    transport[0] <= ND_REDIRECT && !admits_discovery(guard, &packet, transport[0]))
		return false;
	if (guard->level < GUARD_IP)
		return true;
	if (packet.protocol == IPPROTO_UDP && read16(transport + 2) == DHCP6_CLIENT)
		return false;
	source = read_ipv6(ip + 8);
	return source == 0 ? may_lack_address(&packet) : knows_ipv6(guard, source);
}

/* ---- Ethernet ---- */

static bool is_tag(uint16_t type)
{
	return type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ;
}

/* Is there a SNAP header whose protocol is an Ethernet type (RFC 1042; IEEE 802.1H)? */
static bool is_snap(const uint8_t *at)
{
	static const uint8_t start[] = { 0xaa, 0xaa, 3, 0, 0 };

	return memcmp(at, start, sizeof(start)) == 0 && (at[5] == 0 || at[5] == 0xf8);
}

/* Finds the payload behind tags and SNAP. Returns whether it can be told what it is. */
static bool find_payload(const struct frame *frame, uint16_t *type, uint32_t *offset)
{
	const uint8_t *head = frame->head;

	for (int tags = 0; is_tag(*type); tags++) {
		if (tags == 2 || *offset + 4 > frame->head_length)
			return false;
		*type = read16(head + *offset + 2);
		*offset += 4;
	}
	if (*type < ETHERTYPE_MIN && *offset + SNAP_LENGTH <= frame->head_length &&
	    is_snap(head + *offset)) {
		*type = read16(head + *offset + 6);
		*offset += SNAP_LENGTH;
	}
	return !is_tag(*type);
}

static bool admits_payload(const struct guard *guard, const struct frame *frame)
{
	uint16_t type = read16(frame->head + 12);
	uint32_t offset = ETHERNET_HEADER;
	uint32_t filled = guard_filled_at(frame);
	const uint8_t *payload;
	uint32_t length;

	if (frame->head_length < ETHERNET_HEADER || !find_payload(frame, &type, &offset) ||
	    filled < offset)
		return false;
	payload = frame->head + offset;
	length = frame->head_length - offset;
	filled -= offset;
	switch (type) {
	case ETHERTYPE_IPV4:
		return guard->level < GUARD_IP || admits_ipv4(guard, payload, length, filled);
	case ETHERTYPE_IPV6:
		return admits_ipv6(guard, payload, length, filled);
	case ETHERTYPE_ARP:
		return admits_arp(guard, payload, length, filled, false);
	case ETHERTYPE_RARP:
		return admits_arp(guard, payload, length, filled, true);
	default:
		/* A length may have had SNAP behind it. */
		return guard->level < GUARD_IP && (type >= ETHERTYPE_MIN || filled >= SNAP_LENGTH);
	}
}

bool guard_admits_other(const struct guard *guard, const struct frame *frame)
{
	return knows_mac(guard, guard_mac(frame->head + 4)) &&
	       (guard->level == GUARD_MAC || admits_payload(guard, frame));
}
