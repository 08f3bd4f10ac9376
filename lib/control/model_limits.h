/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port's key `limits`: its parameters, and their two forms. A bucket is given as a rate and a
 * burst, or as users of Cloud Hypervisor and Firecracker know it: a size that is filled again in
 * refill_time. Part of model_port.c, which parses the rest of a port.
 *
 * Control thread.
 */
#pragma once

#include "port/port.h"
#include "rpc/param.h"

/* A token bucket as it was given. 0: not given. */
struct bucket_given {
	uint64_t rate, burst;
	uint64_t size;
	uint64_t refill_time; /* ms */
	uint64_t one_time_burst;
};

struct limits_given {
	struct {
		struct bucket_given bandwidth, packets;
		uint32_t excess;
	} ingress;
	struct {
		struct bucket_given bandwidth, packets;
		uint32_t excess;
		struct {
			uint64_t bytes;
			uint32_t time; /* ms */
		} queue;
	} egress;
};

/*
 * The rows of the object `limits`, for a struct limits_given. Refuse a bucket that mixes the forms,
 * lacks a key of one, or comes to a rate that is out of range.
 */
extern const struct param model_limits_params[];

/* What was accepted, in the port's own terms: fills ingress, egress and queue of *settings. */
void model_limits_convert(const struct limits_given *given, struct port_settings *settings);
