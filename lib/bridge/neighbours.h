/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Neighbours: which port an IP address is behind, as far as the operator said so, to keep address
 * resolution from being flooded. He says so by a guard (policy/guard.h) that lets no other port
 * speak for the address: one of level arp or ip, by addresses that are named one by one.
 *
 * A broadcast ARP request (RFC 826), or a neighbour solicitation to a group (RFC 4861, 4.3), for an
 * address that is known here needs to reach nobody but the port that has it. It goes there as it
 * is: the station itself answers, so that one which is down does not seem to be up, and one that
 * looks for a duplicate of its address finds it. All else is flooded as ever: unknown addresses,
 * announcements (gratuitous ARP), requests from the port itself that has the address.
 *
 * Immutable, part of a snapshot. The control thread makes it, workers read it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "frame/frame.h"

/* An IPv4 address is written as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2). */
struct neighbour {
	uint16_t vlan; /* 0: of ports without VLANs */
	uint16_t port;
	uint8_t address[16];
};

struct neighbours {
	uint32_t count;
	struct neighbour list[]; /* sorted by VLAN and address */
};

/*
 * Takes copies of `count` neighbours. Of those with one VLAN and address none is kept: it is behind
 * several ports. Returns NULL without memory.
 */
struct neighbours *neighbours_new(const struct neighbour *list, uint32_t count);

struct forward_port;
struct vlan_set;

/*
 * The neighbours that the guards of ports (by number) name, in those VLANs of the set where their
 * ports have no tags. Returns NULL without memory.
 */
struct neighbours *neighbours_of_ports(const struct forward_port *ports, uint16_t count,
				       const struct vlan_set *vlans);

/* The port that the frame, which would be flooded in a VLAN, asks for; or FDB_NO_PORT. */
uint16_t neighbours_asked(const struct neighbours *neighbours, const struct frame *frame,
			  uint16_t vlan);
