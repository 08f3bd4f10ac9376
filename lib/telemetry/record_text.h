/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a record of a capture says, in words for people. Any thread.
 */
#pragma once

#include <stddef.h>

#include "worker/capture.h"

#define RECORD_TEXT_SIZE 160

/* What its offload header asks for: "TSO4, 1448 bytes a segment"; "" where that is nothing. */
void record_offloads(const struct virtio_net_hdr *vnet, char *text, size_t size);

/* All that there is to remark about a frame: "dropped: mtu; partial checksum at 34+16"; or "". */
void record_comment(const struct capture_record *record, char *text, size_t size);
