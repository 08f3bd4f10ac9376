/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be asked of a TAP port: its keys, and which of them exclude each other.
 */
#pragma once

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "port/interface.h"
#include "port/offloads.h"
#include "rpc/param.h"

#define TAP_ADDRESSES_MAX 16
#define TAP_PATH_SIZE 256

enum tap_vnet_header { TAP_VNET_AUTO, TAP_VNET_OFF, TAP_VNET_10, TAP_VNET_12 };
enum tap_endian { TAP_ENDIAN_HOST, TAP_ENDIAN_LITTLE, TAP_ENDIAN_BIG };

struct tap_config {
	/* A port must be closed and opened anew for a change of these. */
	struct {
		char interface[IFNAMSIZ]; /* "": the kernel chooses */
		uint32_t fds;             /* descriptors that came with the request; 0: none */
		char helper[TAP_PATH_SIZE];
		char bridge[IFNAMSIZ];
		char netns[TAP_PATH_SIZE];
		uint32_t vnet_header, endian;
		char up_script[TAP_PATH_SIZE], down_script[TAP_PATH_SIZE];
	} place;
	bool persist;                     /* it stays when the last descriptor is closed */
	json_t *addresses;
	struct offload_switches offloads;
	uint64_t sndbuf;                  /* bytes; 0: no bound */
	char steering[TAP_PATH_SIZE];
	uint32_t active_queues;           /* 0: all */
};

extern const struct param tap_params[];

/* ops->check of the TAP port. */
int tap_config_check(const void *config, uint32_t *queues, const char *object, struct error *err);
