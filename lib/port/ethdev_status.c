/* SPDX-License-Identifier: BSD-3-Clause */
/* What the operator may see of a device; port/ethdev_device.h is the contract. */
#include "port/ethdev_device.h"

#include <stdio.h>
#include <stdlib.h>

#include <rte_ethdev.h>
#include <rte_mempool.h>

#include "base/units.h"

/* The driver's further counters, by the driver's own names, without those that are 0. */
static json_t *describe_xstats(uint16_t id)
{
	json_t *object = json_object();
	const int count = rte_eth_xstats_get_names(id, NULL, 0);
	struct rte_eth_xstat_name *names = count > 0 ? calloc((size_t)count, sizeof(*names)) : NULL;
	struct rte_eth_xstat *values = count > 0 ? calloc((size_t)count, sizeof(*values)) : NULL;

	if (names != NULL && values != NULL &&
	    rte_eth_xstats_get_names(id, names, (unsigned int)count) == count &&
	    rte_eth_xstats_get(id, values, (unsigned int)count) == count)
		for (int i = 0; i < count; i++)
			if (values[i].value != 0 && values[i].id < (uint64_t)count)
				json_object_set_new(object, names[values[i].id].name,
						    json_integer((json_int_t)values[i].value));
	free(values);
	free(names);
	return object;
}

static json_t *describe_link(uint16_t id)
{
	struct rte_eth_link link = { 0 };

	if (rte_eth_link_get_nowait(id, &link) != 0 || link.link_status != RTE_ETH_LINK_UP)
		return json_string("down");
	if (link.link_speed == RTE_ETH_SPEED_NUM_NONE ||
	    link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN)
		return json_string("up");
	return json_sprintf("up, %u Mbit/s, %s duplex", link.link_speed,
			    link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX ? "full" : "half");
}

json_t *ethdev_describe(const struct ethdev_device *device)
{
	const uint16_t id = device->id;
	struct rte_eth_stats stats = { 0 };
	struct rte_ether_addr mac = { .addr_bytes = { 0 } };
	char text[MAC_TEXT_SIZE];

	rte_eth_macaddr_get(id, &mac);
	mac_format(mac.addr_bytes, text);
	rte_eth_stats_get(id, &stats);
	return json_pack("{s:s, s:s, s:o, s:s, s:i, s:b, s:b, s:i, s:{s:I, s:I, s:I, s:I, s:o}}",
			 "name", device->name, "driver", device->driver, "link", describe_link(id),
			 "mac", text, "mtu", (int)device->mtu, "promiscuous",
			 rte_eth_promiscuous_get(id) == 1, "allmulticast",
			 rte_eth_allmulticast_get(id) == 1, "free_buffers",
			 (int)rte_mempool_avail_count(device->pool), "counters", "rx_missed",
			 (json_int_t)stats.imissed, "rx_errors", (json_int_t)stats.ierrors,
			 "rx_no_buffer", (json_int_t)stats.rx_nombuf, "tx_errors",
			 (json_int_t)stats.oerrors, "more", describe_xstats(id));
}

uint64_t ethdev_missed(const struct ethdev_device *device)
{
	struct rte_eth_stats stats = { 0 };

	rte_eth_stats_get(device->id, &stats);
	return stats.imissed + stats.rx_nombuf;
}
