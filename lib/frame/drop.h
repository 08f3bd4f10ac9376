/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Drop reasons: one enum for every output. A frame that does not reach a port has exactly one.
 *
 * A row is the name under which counters show it and a sentence for people.
 */
#pragma once

#define DROP_REASONS(ROW)                                                                          \
	ROW(NO_DESTINATION, "no_destination", "no port to send it to")                             \
	ROW(RING_FULL, "ring_full", "the receiver had no free buffers")                            \
	ROW(NOT_CONNECTED, "not_connected", "nothing is connected to the port")                    \
	ROW(DISABLED, "disabled", "the port is switched off")                                      \
	ROW(MTU, "mtu", "larger than the port's MTU")                                              \
	ROW(TOO_LONG, "too_long", "larger than any frame or than the receiver's buffer")           \
	ROW(TOO_SHORT, "too_short", "shorter than an Ethernet header")                             \
	ROW(LIMIT, "limit", "over the port's rate limit")                                          \
	ROW(QUEUE_FULL, "queue_full", "the egress queue is full")                                  \
	ROW(QUEUE_TIMEOUT, "queue_timeout", "waited too long in the egress queue")                 \
	ROW(VLAN, "vlan", "its VLAN is not allowed on the port")                                   \
	ROW(GUARD, "guard", "an address that the port may not use")                                \
	ROW(BAD_SOURCE, "bad_source", "a group or zero source address")                            \
	ROW(ISOLATED, "isolated", "both ports are isolated")                                       \
	ROW(FLOOD_OFF, "flood_off", "flooding of this kind is off on the port")                    \
	ROW(STORM, "storm", "over the port's storm limit")                                         \
	ROW(BLACKHOLE, "blackhole", "a blackhole entry of the forwarding table")                   \
	ROW(LINK_LOCAL, "link_local", "a link-local group address (01:80:c2:00:00:0x)")            \
	ROW(HAIRPIN, "hairpin", "its destination is behind the port it came from")                 \
	ROW(MALFORMED, "malformed", "a descriptor chain that breaks the virtio rules")             \
	ROW(BAD_OFFLOAD, "bad_offload", "an offload header that is wrong or was not negotiated")   \
	ROW(NO_BUFFER, "no_buffer", "the switch had no buffer for it")                             \
	ROW(NO_MEMORY, "no_memory", "the switch had no memory for it")                             \
	ROW(DEVICE, "device", "the device refused it")

enum drop {
#define DROP_ENUM(symbol, name, text) DROP_##symbol,
	DROP_REASONS(DROP_ENUM)
#undef DROP_ENUM
	DROP_COUNT
};

/* The counter's name, as `ring_full`. */
const char *drop_name(enum drop reason);

/* The sentence for people. */
const char *drop_text(enum drop reason);
