/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests for addresses that are known; bridge/neighbours.h is the contract. */
#include "bridge/neighbours.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "bridge/forward.h"
#include "frame/parse.h"
#include "frame/tag.h"

/* RFC 826, for Ethernet and IPv4. */
#define ARP_LENGTH 28
#define ARP_SENDER 14
#define ARP_TARGET 24

/* RFC 8200 and 4861. */
#define IPV6_HEADER 40
#define SOLICITATION_LENGTH 24
#define SOLICITATION_TARGET 8
#define NEIGHBOUR_SOLICITATION 135
#define HOP_LIMIT 255

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

static int compare(const void *a, const void *b)
{
	const struct neighbour *left = a, *right = b;

	if (left->vlan != right->vlan)
		return left->vlan < right->vlan ? -1 : 1;
	return memcmp(left->address, right->address, sizeof(left->address));
}

struct neighbours *neighbours_new(const struct neighbour *list, uint32_t count)
{
	struct neighbours *neighbours =
		malloc(sizeof(*neighbours) + count * sizeof(neighbours->list[0]));
	struct neighbour *all;
	uint32_t kept = 0;

	if (neighbours == NULL)
		return NULL;
	all = neighbours->list;
	memcpy(all, list, count * sizeof(*all));
	qsort(all, count, sizeof(*all), compare);
	for (uint32_t i = 0, next; i < count; i = next) {
		for (next = i + 1; next < count && compare(&all[i], &all[next]) == 0;)
			next++;
		if (next == i + 1)
			all[kept++] = all[i];
	}
	neighbours->count = kept;
	return neighbours;
}

/* Does the guard keep others from teaching what it names, where frames have no tags? */
static bool is_trusted(const struct forward_port *port, const struct vlan_set *vlans)
{
	return port->present && port->guard != NULL && port->guard->level >= GUARD_ARP &&
	       (port->vlan.mode != VLAN_TRUNK || port->vlan.native != 0) &&
	       vlan_set_has(vlans, port->vlan.native);
}

/* The addresses that the guard names one by one. Returns how many. */
static uint32_t add_addresses(const struct guard *guard, uint16_t vlan, uint16_t port,
			      struct neighbour *list)
{
	const uint32_t count = (uint32_t)guard->ipv4_count + guard->ipv6_count;
	uint32_t added = 0;

	for (uint32_t i = 0; i < count; i++) {
		guard_number address = guard->ranges[i].first;

		if (guard->ranges[i].last != address)
			continue;
		if (i < guard->ipv4_count)
			address |= (guard_number)0xffff << 32;
		list[added] = (struct neighbour){ vlan, port, { 0 } };
		for (int byte = 15; byte >= 0; byte--, address >>= 8)
			list[added].address[byte] = (uint8_t)address;
		added++;
	}
	return added;
}

struct neighbours *neighbours_of_ports(const struct forward_port *ports, uint16_t count,
				       const struct vlan_set *vlans)
{
	struct neighbours *neighbours;
	struct neighbour *list;
	size_t most = 0;
	uint32_t found = 0;

	for (uint16_t i = 0; i < count; i++)
		if (is_trusted(&ports[i], vlans))
			most += (size_t)ports[i].guard->ipv4_count + ports[i].guard->ipv6_count;
	list = malloc((most + 1) * sizeof(*list));
	if (list == NULL)
		return NULL;
	for (uint16_t i = 0; i < count; i++)
		if (is_trusted(&ports[i], vlans))
			found += add_addresses(ports[i].guard, ports[i].vlan.native, i,
					       list + found);
	neighbours = neighbours_new(list, found);
	free(list);
	return neighbours;
}

/* The address that an ARP request is for. False: it is none, or announces its sender. */
static bool arp_target(const uint8_t *arp, uint32_t length, uint8_t address[16])
{
	static const uint8_t request[8] = { 0, 1, 8, 0, 6, 4, 0, 1 };

	if (length < ARP_LENGTH || memcmp(arp, request, sizeof(request)) != 0 ||
	    memcmp(arp + ARP_SENDER, arp + ARP_TARGET, 4) == 0)
		return false;
	memcpy(address, mapped, sizeof(mapped));
	memcpy(address + sizeof(mapped), arp + ARP_TARGET, 4);
	return true;
}

/* The same of a neighbour solicitation, which has no extension headers. */
static bool solicited_target(const uint8_t *ip, uint32_t length, uint8_t address[16])
{
	if (length < IPV6_HEADER + SOLICITATION_LENGTH || ip[6] != IPPROTO_ICMPV6 ||
	    ip[7] != HOP_LIMIT || ip[IPV6_HEADER] != NEIGHBOUR_SOLICITATION)
		return false;
	memcpy(address, ip + IPV6_HEADER + SOLICITATION_TARGET, 16);
	return true;
}

uint16_t neighbours_asked(const struct neighbours *neighbours, const struct frame *frame,
			  uint16_t vlan)
{
	const uint32_t start =
		ETHERNET_HEADER + (vlan != 0 && frame->needs & NEEDS_TAGGED ? TAG_LENGTH : 0);
	struct neighbour wanted = { .vlan = vlan };
	const struct neighbour *found;
	const uint8_t *payload = frame->head + start;
	uint32_t length;
	uint16_t type;
	bool asks = false;

	if (frame->head_length < start)
		return FDB_NO_PORT;
	length = frame->head_length - start;
	type = read16(payload - 2);
	if (type == ETHERTYPE_ARP)
		asks = arp_target(payload, length, wanted.address);
	else if (type == ETHERTYPE_IPV6)
		asks = solicited_target(payload, length, wanted.address);
	if (!asks)
		return FDB_NO_PORT;
	found = bsearch(&wanted, neighbours->list, neighbours->count, sizeof(wanted), compare);
	return found != NULL ? found->port : FDB_NO_PORT;
}
