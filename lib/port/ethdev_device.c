/* SPDX-License-Identifier: BSD-3-Clause */
/* DPDK's devices, from probing to removal; port/ethdev_device.h is the contract. */
#include "port/ethdev_device.h"

#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "base/log.h"
#include "base/units.h"
#include "frame/frame.h"
#include "port/ethdev_arguments.h"
#include "port/interface.h"

/* A client that has no link by then will not get it any more. */
#define CONNECT_SECONDS 2

/* How often a queue that may be busy for a moment is asked for, and how long apart, in us. */
#define BUSY_TRIES 40
#define BUSY_WAIT 25000

/* Of packet buffers that each worker may keep at hand. */
#define CACHE 128
#define CACHE_MAX (CACHE * 3 / 2)

/* Bytes of a frame in a packet buffer, where the device can chain them. */
#define ROOM 2048

/* VLAN tags (two) do not count as MTU. */
#define HEADERS (ETHERNET_HEADER + 8)

static time_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec;
}

/* Drivers say -1 for anything. */
static const char *reason_of(int result)
{
	return result == -1 ? "the daemon's log says why" : rte_strerror(-result);
}

/* ---- probing and removing ---- */

/* The Ethernet device with that name of DPDK's. Returns its number, or -ENODEV. */
static int find_device(const char *name, struct rte_eth_dev_info *info)
{
	uint16_t id;

	RTE_ETH_FOREACH_DEV(id) {
		if (rte_eth_dev_info_get(id, info) == 0 && info->device != NULL &&
		    strcmp(rte_dev_name(info->device), name) == 0)
			return id;
	}
	return -ENODEV;
}

static int probe(const struct ethdev_wish *wish, struct ethdev_device *device,
		 struct rte_eth_dev_info *info, struct error *err)
{
	char arguments[ETHDEV_ARGUMENTS_SIZE + 80];
	int result = ethdev_make_arguments(wish, arguments, sizeof(arguments), err);

	if (result == 0)
		result = ethdev_find_name(wish, arguments, device->name, sizeof(device->name), err);
	if (result != 0)
		return result;
	if (find_device(device->name, info) >= 0)
		return ethdev_refuse(wish, "device", EBUSY, "a device that no other port has", err,
				     "the device is in use");
	/* What it returns says little: drivers log why. */
	result = rte_dev_probe(arguments);
	if (result < 0)
		return ethdev_refuse(wish, "device", EIO, NULL, err,
				     "its driver did not take it; the daemon's log says why");
	result = find_device(device->name, info);
	if (result < 0) {
		rte_eal_hotplug_remove(ethdev_is_pci(device->name) ? "pci" : "vdev", device->name);
		return ethdev_refuse(wish, "device", ENODEV, ethdev_accepted, err,
				     "it is no Ethernet device");
	}
	device->id = (uint16_t)result;
	device->handle = info->device;
	snprintf(device->driver, sizeof(device->driver), "%s", info->driver_name);
	device->client = ethdev_is_client(device->driver, arguments);
	return 0;
}

static int note_removal(uint16_t id, enum rte_eth_event_type type, void *argument, void *unused)
{
	struct ethdev_device *device = argument;

	(void)id;
	(void)type;
	(void)unused;
	__atomic_store_n(&device->lost, true, __ATOMIC_RELAXED);
	return 0;
}

/* What the device has received: a ring's driver leaves it in the ring, which the next one finds. */
static void drain(const struct ethdev_device *device)
{
	struct rte_mbuf *mbufs[BURST_MAX];
	uint16_t count;

	for (uint16_t queue = 0; queue < device->queues; queue++)
		while ((count = rte_eth_rx_burst(device->id, queue, mbufs, BURST_MAX)) > 0)
			rte_pktmbuf_free_bulk(mbufs, count);
}

/* Stops and removes it. */
static void take_away(struct ethdev_device *device)
{
	struct leftovers before, made;
	int result;

	leftovers_find(&before, device->memif);
	rte_eth_dev_callback_unregister(device->id, RTE_ETH_EVENT_INTR_RMV, note_removal, device);
	/* Some drivers leave the interface below as it was told to be. */
	rte_eth_promiscuous_disable(device->id);
	rte_eth_allmulticast_disable(device->id);
	if (device->running && strcmp(device->driver, "net_ring") == 0)
		drain(device);
	rte_eth_dev_stop(device->id);
	rte_eth_dev_close(device->id);
	result = rte_dev_remove(device->handle);
	if (result < 0)
		log_warning("ethdev", "%s cannot be removed: %s", device->name,
			    rte_strerror(-result));
	leftovers_close(&device->files, device->memif);
	leftovers_find(&made, device->memif);
	leftovers_subtract(&made, &before);
	leftovers_close(&made, device->memif);
	rte_mempool_free(device->pool);
	device->pool = NULL;
}

/* ---- setting up ---- */

/* Devices of virtual machines merge nothing: what is large was made so by its sender. */
static bool is_virtio(const struct ethdev_device *device)
{
	return strncmp(device->driver, "net_virtio", strlen("net_virtio")) == 0;
}

/*
 * memif's ring comes apart when it is full in the middle of a frame that takes several of its
 * buffers. So a frame takes one: the buffers' size, 2048 bytes unless the arguments say otherwise,
 * is its longest.
 */
static bool is_memif(const struct ethdev_device *device)
{
	return strcmp(device->driver, "net_memif") == 0;
}

/*
 * Offloads are what the switches allow of what the driver can. Large segments are received of
 * virtio devices alone: what others merge can lose where the sender's segments ended.
 */
static void choose_offloads(const struct ethdev_wish *wish, const struct ethdev_device *device,
			    const struct rte_eth_dev_info *info, struct rte_eth_conf *conf)
{
	uint64_t rx = RTE_ETH_RX_OFFLOAD_SCATTER, tx = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

	if (wish->offloads.checksum) {
		rx |= RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
		tx |= RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
		if (wish->offloads.tso) {
			tx |= RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
			if (is_virtio(device))
				rx |= RTE_ETH_RX_OFFLOAD_TCP_LRO;
		}
	}
	if (is_memif(device)) {
		rx &= ~RTE_ETH_RX_OFFLOAD_SCATTER;
		tx &= ~RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	}
	conf->rxmode.offloads = rx & info->rx_offload_capa;
	conf->txmode.offloads = tx & info->tx_offload_capa;
}

/* What the switch may leave to the device. ECN and UFO no driver is told of. */
static uint8_t needs_taken(uint64_t offloads)
{
	const uint64_t checksum = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	const uint64_t tso = RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

	if ((offloads & checksum) != checksum)
		return 0;
	if ((offloads & tso) != tso)
		return NEEDS_CHECKSUM;
	return NEEDS_CHECKSUM | NEEDS_TSO4 | NEEDS_TSO6;
}

static int check_queues(const struct ethdev_wish *wish, const struct rte_eth_dev_info *info,
			struct error *err)
{
	const unsigned int most = RTE_MIN(info->max_rx_queues, info->max_tx_queues);
	char accepted[32];

	if (wish->queues <= most)
		return 0;
	snprintf(accepted, sizeof(accepted), most > 1 ? "1 to %u" : "%u", most);
	return ethdev_refuse(wish, "queues", EINVAL, accepted, err,
			     "the device takes no more than %u queues", most);
}

static int check_memif(const struct ethdev_wish *wish, const struct ethdev_device *device,
		       struct error *err)
{
	const char *size = strstr(wish->arguments, ",bsize=");
	const unsigned long bytes = size != NULL ? strtoul(size + strlen(",bsize="), NULL, 10)
						 : ROOM;
	const uint32_t mtu = wish->mtu != 0 ? wish->mtu : device->mtu;
	char accepted[64];

	if (!is_memif(device) || mtu + HEADERS <= bytes)
		return 0;
	snprintf(accepted, sizeof(accepted), "%d to %lu, or a larger bsize= on both sides",
		 RTE_ETHER_MIN_MTU, bytes > HEADERS ? bytes - HEADERS : 0);
	return ethdev_refuse(wish, "mtu", EINVAL, accepted, err,
			     "an MTU of %u does not fit in its buffers of %lu bytes", mtu, bytes);
}

/* Can the device have the MTU, as far as can be known without trying? */
static int check_mtu(const struct ethdev_wish *wish, const struct ethdev_device *device,
		     const struct rte_eth_dev_info *info, struct error *err)
{
	char accepted[32];

	if (check_memif(wish, device, err) != 0)
		return -EINVAL;
	if (wish->mtu == 0 || wish->mtu == device->mtu)
		return 0;
	if (device->running && !device->chains && wish->mtu + HEADERS > device->room)
		return ethdev_refuse(wish, "mtu", EBUSY, NULL, err,
				     "an MTU of %u takes larger packet buffers, and so a new port",
				     wish->mtu);
	if (wish->mtu >= info->min_mtu && wish->mtu <= info->max_mtu)
		return 0;
	snprintf(accepted, sizeof(accepted), "%u to %u", info->min_mtu, info->max_mtu);
	return ethdev_refuse(wish, "mtu", EINVAL, accepted, err, "its MTU cannot be %u", wish->mtu);
}

/* Where the driver knows of no MTU, what is wished for is all there is. */
static int set_mtu(const struct ethdev_wish *wish, struct ethdev_device *device,
		   const struct rte_eth_dev_info *info, struct error *err)
{
	int result = check_mtu(wish, device, info, err);

	if (result != 0 || wish->mtu == 0 || wish->mtu == device->mtu)
		return result;
	result = rte_eth_dev_set_mtu(device->id, (uint16_t)wish->mtu);
	if (result == 0 || result == -ENOTSUP) {
		device->mtu = wish->mtu;
		return 0;
	}
	return ethdev_refuse(wish, "mtu", -result, NULL, err, "its MTU cannot be %u: %s", wish->mtu,
			     reason_of(result));
}

/* That of the kernel's interface below, if there is one: some drivers would set another there. */
static uint32_t own_mtu(const struct ethdev_device *device, const struct rte_eth_dev_info *info)
{
	struct interface_facts facts;
	char name[IF_NAMESIZE];
	uint16_t mtu;
	struct error err;

	if (info->if_index != 0 && if_indextoname(info->if_index, name) != NULL &&
	    interface_find(name, &facts, &err) == 0)
		return RTE_MIN(facts.mtu, info->max_mtu);
	return rte_eth_dev_get_mtu(device->id, &mtu) == 0 ? mtu : RTE_ETHER_MTU;
}

static int configure(const struct ethdev_wish *wish, struct ethdev_device *device,
		     const struct rte_eth_dev_info *info, struct error *err)
{
	const uint64_t hash = (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP) &
			      info->flow_type_rss_offloads;
	struct rte_eth_conf conf = { .intr_conf.rmv = (*info->dev_flags &
						       RTE_ETH_DEV_INTR_RMV) != 0 };
	int result = check_queues(wish, info, err);

	if (result != 0)
		return result;
	choose_offloads(wish, device, info, &conf);
	if (wish->queues > 1 && hash != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = hash;
	}
	device->mtu = own_mtu(device, info);
	device->first.mtu = device->mtu;
	conf.rxmode.mtu = device->mtu;
	result = rte_eth_dev_configure(device->id, wish->queues, wish->queues, &conf);
	if (result != 0)
		return ethdev_refuse(wish, "device", -result, NULL, err,
				     "its driver does not take the port's settings: %s",
				     reason_of(result));
	result = set_mtu(wish, device, info, err);
	if (result != 0)
		return result;
	device->tx_offloads = conf.txmode.offloads;
	device->accepts = needs_taken(conf.txmode.offloads);
	/* One buffer holds any frame of a device that cannot chain them. */
	device->chains = (conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_SCATTER) &&
			 (conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS);
	device->room = device->chains ? ROOM : RTE_MAX(ROOM, device->mtu + HEADERS);
	device->tx_segments = 1;
	if (conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS)
		device->tx_segments = info->tx_desc_lim.nb_seg_max != 0
					      ? info->tx_desc_lim.nb_seg_max
					      : UINT16_MAX;
	return 0;
}

/* Buffers that a queue pair holds when all its rings are full, and a burst either way. */
static unsigned int count_buffers(const struct ethdev_device *device, uint16_t rx, uint16_t tx)
{
	/* That driver's rings have a size of their own, whatever it is asked for. */
	if (strcmp(device->driver, "net_af_xdp") == 0)
		return 3 * 4096;
	return rx + tx + 2 * BURST_MAX;
}

static int make_pool(const struct ethdev_wish *wish, struct ethdev_device *device, uint16_t rx,
		     uint16_t tx, struct error *err)
{
	const unsigned int count = wish->queues * count_buffers(device, rx, tx) +
				   wish->workers * CACHE_MAX;
	const int socket = rte_eth_dev_socket_id(device->id);
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "ethdev%" PRIu64, wish->serial);
	device->pool = rte_pktmbuf_pool_create(
		name, count, CACHE, 0, (uint16_t)(RTE_PKTMBUF_HEADROOM + device->room), socket);
	if (device->pool == NULL && socket != SOCKET_ID_ANY)
		device->pool = rte_pktmbuf_pool_create(
			name, count, CACHE, 0, (uint16_t)(RTE_PKTMBUF_HEADROOM + device->room),
			SOCKET_ID_ANY);
	if (device->pool != NULL)
		return 0;
	return ethdev_refuse(wish, "device", rte_errno, NULL, err,
			     "there is no memory for %u packet buffers: %s", count,
			     rte_strerror(rte_errno));
}

static int make_queues(const struct ethdev_wish *wish, struct ethdev_device *device,
		       const struct rte_eth_dev_info *info, struct error *err)
{
	uint16_t rx = ETHDEV_DESCRIPTORS, tx = ETHDEV_DESCRIPTORS;
	struct rte_eth_txconf txconf = info->default_txconf;
	const int socket = rte_eth_dev_socket_id(device->id);
	int result = rte_eth_dev_adjust_nb_rx_tx_desc(device->id, &rx, &tx);

	if (result == 0 && make_pool(wish, device, rx, tx, err) != 0)
		return -err->errnum;
	for (uint16_t i = 0; result == 0 && i < wish->queues; i++)
		result = rte_eth_rx_queue_setup(device->id, i, rx, (unsigned int)socket, NULL,
						device->pool);
	txconf.offloads = device->tx_offloads;
	for (uint16_t i = 0; result == 0 && i < wish->queues; i++)
		result = rte_eth_tx_queue_setup(device->id, i, tx, (unsigned int)socket, &txconf);
	if (result == 0)
		result = rte_eth_dev_start(device->id);
	device->queues = wish->queues;
	device->running = result == 0;
	if (result != 0)
		return ethdev_refuse(wish, "device", -result, NULL, err,
				     "its queues cannot be set up: %s", reason_of(result));
	return 0;
}

/* A driver that filters nothing knows no such switch. */
static int set_filter(const struct ethdev_wish *wish, const char *field, int result,
		      struct error *err)
{
	if (result == 0 || result == -ENOTSUP)
		return 0;
	return ethdev_refuse(wish, field, -result, NULL, err, "\"%s\" cannot be set: %s", field,
			     reason_of(result));
}

static int set_filters(const struct ethdev_wish *wish, const struct ethdev_device *device,
		       struct error *err)
{
	const uint16_t id = device->id;
	int result = wish->promiscuous ? rte_eth_promiscuous_enable(id)
				       : rte_eth_promiscuous_disable(id);

	result = set_filter(wish, "promiscuous", result, err);
	if (result != 0)
		return result;
	result = wish->allmulticast ? rte_eth_allmulticast_enable(id)
				    : rte_eth_allmulticast_disable(id);
	return set_filter(wish, "allmulticast", result, err);
}

/* try: has the device set the address that it has, which tells whether the driver can. */
static int set_mac(const struct ethdev_wish *wish, const struct ethdev_device *device, bool try,
		   struct error *err)
{
	struct rte_ether_addr address, old;
	int result;

	if (!wish->mac.given)
		return 0;
	memcpy(address.addr_bytes, wish->mac.mac, sizeof(address.addr_bytes));
	if (rte_eth_macaddr_get(device->id, &old) == 0 && rte_is_same_ether_addr(&address, &old))
		return 0;
	result = rte_eth_dev_default_mac_addr_set(device->id, try ? &old : &address);
	/* One that a device has may be none that it would take. */
	if (result == 0 || (try && result != -ENOTSUP))
		return 0;
	return ethdev_refuse(wish, "mac", -result, "the address that the device has, or none", err,
			     "its address cannot be set: %s",
			     result == -ENOTSUP ? "the driver has no means for it"
			     : reason_of(result));
}

static int open_once(const struct ethdev_wish *wish, struct ethdev_device *device,
		     struct error *err)
{
	struct rte_eth_dev_info info = { .device = NULL };
	struct rte_ether_addr address;
	struct leftovers before;
	int result;

	memset(device, 0, sizeof(*device));
	ethdev_find_memif(wish->arguments, device->memif, sizeof(device->memif));
	leftovers_find(&before, device->memif);
	/* The driver has one listener a path, which would go with the first of its ports. */
	if (strncmp(wish->arguments, "net_memif", 9) == 0 && leftovers_listen(&before))
		return ethdev_refuse(wish, "device", EADDRINUSE, "a socket= of its own", err,
				     "another port listens at %s", device->memif);
	result = probe(wish, device, &info, err);
	if (result != 0)
		return result;
	result = configure(wish, device, &info, err);
	if (result == 0)
		result = make_queues(wish, device, &info, err);
	if (result == 0 && rte_eth_macaddr_get(device->id, &address) == 0)
		memcpy(device->first.mac, address.addr_bytes, sizeof(device->first.mac));
	if (result == 0)
		result = set_mac(wish, device, false, err);
	if (result == 0)
		result = set_filters(wish, device, err);
	leftovers_find(&device->files, device->memif);
	leftovers_subtract(&device->files, &before);
	if (result != 0) {
		take_away(device);
		return result;
	}
	rte_eth_dev_callback_register(device->id, RTE_ETH_EVENT_INTR_RMV, note_removal, device);
	device->opened = now();
	return 0;
}

/* The kernel takes its time to free the queue of an interface whose XDP socket was closed. */
static bool may_be_busy(const struct ethdev_device *device, const struct error *err)
{
	return strcmp(device->driver, "net_af_xdp") == 0 && strcmp(err->field, "device") == 0;
}

int ethdev_open(const struct ethdev_wish *wish, struct ethdev_device *device, struct error *err)
{
	int result = open_once(wish, device, err);

	for (int tries = 0; result != 0 && tries < BUSY_TRIES && may_be_busy(device, err);
	     tries++) {
		usleep(BUSY_WAIT);
		result = open_once(wish, device, err);
	}
	return result;
}

void ethdev_close(struct ethdev_device *device)
{
	take_away(device);
}

/* ---- a device that runs ---- */

/* What is not given any more is as it was at first. */
static struct ethdev_wish whole_wish(const struct ethdev_wish *wish,
				     const struct ethdev_device *device)
{
	struct ethdev_wish whole = *wish;

	if (whole.mtu == 0)
		whole.mtu = device->first.mtu;
	if (!whole.mac.given && mac_is_station(device->first.mac)) {
		whole.mac.given = true;
		memcpy(whole.mac.mac, device->first.mac, sizeof(whole.mac.mac));
	}
	return whole;
}

int ethdev_check(const struct ethdev_wish *wish, const struct ethdev_device *device,
		 struct error *err)
{
	const struct ethdev_wish whole = whole_wish(wish, device);
	struct rte_eth_dev_info info = { .device = NULL };
	int result;

	rte_eth_dev_info_get(device->id, &info);
	result = check_mtu(&whole, device, &info, err);
	return result != 0 ? result : set_mac(&whole, device, true, err);
}

int ethdev_set(const struct ethdev_wish *wish, struct ethdev_device *device, struct error *err)
{
	const struct ethdev_wish whole = whole_wish(wish, device);
	struct rte_eth_dev_info info = { .device = NULL };
	int mtu, mac, filters;

	rte_eth_dev_info_get(device->id, &info);
	filters = set_filters(&whole, device, err);
	mac = set_mac(&whole, device, false, err);
	mtu = set_mtu(&whole, device, &info, err);
	return mtu != 0 ? mtu : mac != 0 ? mac : filters;
}

bool ethdev_has_link(const struct ethdev_device *device)
{
	struct rte_eth_link link = { 0 };

	return rte_eth_link_get_nowait(device->id, &link) == 0 &&
	       link.link_status == RTE_ETH_LINK_UP;
}

bool ethdev_is_lost(const struct ethdev_device *device, const char **reason)
{
	*reason = NULL;
	if (__atomic_load_n(&device->lost, __ATOMIC_RELAXED))
		*reason = "the device was removed";
	else if (device->client && now() - device->opened > CONNECT_SECONDS &&
		 !ethdev_has_link(device))
		*reason = "the other side has closed the connection";
	return *reason != NULL;
}
