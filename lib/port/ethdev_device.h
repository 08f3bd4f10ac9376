/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device of DPDK: probed, set up, described and removed again. ethdev.c moves frames.
 *
 * The drivers' contract is rte_ethdev.h and rte_dev.h. A device is made when its port is opened and
 * removed when it is closed, so that the next port may have it. All functions may wait for a
 * driver; none is for workers. One thread at a time a device.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/error.h"
#include "port/ethdev_leftovers.h"
#include "port/interface.h"
#include "port/offloads.h"
#include "rpc/param.h"

#define ETHDEV_ARGUMENTS_SIZE 256

/* That each ring is asked to have. */
#define ETHDEV_DESCRIPTORS 1024

struct rte_device;
struct rte_mempool;

struct ethdev_wish {
	char arguments[ETHDEV_ARGUMENTS_SIZE]; /* as the operator names the device */
	uint64_t serial;                       /* of the port: makes names unique */
	uint16_t queues;                       /* pairs */
	uint16_t workers;                      /* that may transmit */
	uint32_t mtu;                          /* 0: as the device has it */
	struct param_mac mac;
	bool promiscuous, allmulticast;
	struct offload_switches offloads;
};

struct ethdev_device {
	uint16_t id;              /* DPDK's number of it */
	struct rte_device *handle; /* DPDK's, to remove it by */
	uint16_t queues;
	bool running;
	bool chains;              /* a frame may lie in several buffers, either way */
	bool client;              /* has made the connection that it lives by */
	time_t opened;            /* CLOCK_MONOTONIC, seconds */
	bool lost;                /* w: DPDK's interrupt thread, r: control */
	char name[64];            /* DPDK's name of it */
	char driver[40];
	uint32_t mtu;             /* that it has */
	struct interface_facts first; /* MTU and address that it came with */
	struct rte_mempool *pool; /* packet buffers */
	uint32_t room;            /* bytes of a frame in one of them */
	uint64_t tx_offloads;     /* RTE_ETH_TX_OFFLOAD_*, as set up */
	uint16_t tx_segments;     /* buffers that a frame may have on its way out */
	uint8_t accepts;          /* enum frame_needs that it takes */
	char memif[108];          /* the path of its socket, if it is a memif */
	struct leftovers files;   /* that its driver will not close */
};

/* The name, "vhost-net:IFNAME" or arguments of a device: 0, or -EINVAL with what is accepted. */
int ethdev_check_arguments(const char *arguments, struct error *err);

/*
 * Probes the device, sets it up and starts it. Returns 0, or -errno with err filled; then there is
 * no trace of the device.
 */
int ethdev_open(const struct ethdev_wish *wish, struct ethdev_device *device, struct error *err);
void ethdev_close(struct ethdev_device *device);

/* Would ethdev_set be refused? Returns 0, or -errno with err filled. */
int ethdev_check(const struct ethdev_wish *wish, const struct ethdev_device *device,
		 struct error *err);

/*
 * MTU, address and what is received, of a device that runs. Returns 0, or -errno with err filled
 * where one of them could not be set; the others are.
 */
int ethdev_set(const struct ethdev_wish *wish, struct ethdev_device *device, struct error *err);

bool ethdev_has_link(const struct ethdev_device *device);

/* Must it be opened anew? *reason is then a sentence. */
bool ethdev_is_lost(const struct ethdev_device *device, const char **reason);

/* Driver, link, address and the driver's own counters: a new reference. */
json_t *ethdev_describe(const struct ethdev_device *device);

/* Frames that it received and lost, for want of room or of buffers. */
uint64_t ethdev_missed(const struct ethdev_device *device);
