/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random frames with offload headers, and a slow reference for the packets that they stand for:
 * written from RFC 1071, 791, 8200 and 9293 alone, byte by byte over the whole frame, with nothing
 * of the code under test.
 */
#pragma once

#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../fuzz/entropy.h"
#include "frame/frame.h"
#include "packets.h"

/* What a sample asks for beside its partial checksum. */
enum sample_kind { SAMPLE_PLAIN, SAMPLE_TSO, SAMPLE_USO, SAMPLE_UFO };

struct sample {
	enum sample_kind kind;
	uint8_t bytes[FRAME_LENGTH_MAX];
	uint32_t length;
	struct virtio_net_hdr vnet;
	bool six, tcp;
	uint32_t network, transport, headers; /* offsets of IP, of TCP or UDP, of the payload */
	uint32_t next_header;                 /* offset of the IPv6 field that names TCP or UDP */
	uint32_t identification;              /* of its IPv6 fragments */
	uint8_t pseudo[32];                   /* both addresses of the pseudo-header */
};

/* ---- the reference ---- */

static inline uint32_t get16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

/* RFC 1071, byte by byte: the sum as a number, not complemented. */
static inline uint32_t reference_sum(uint32_t sum, const uint8_t *bytes, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++) {
		sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

/* The sum of the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1) for so many bytes. */
static inline uint32_t reference_pseudo(const struct sample *sample, uint32_t length)
{
	uint8_t rest[4];

	packet_put16(rest, sample->tcp ? IPPROTO_TCP : IPPROTO_UDP);
	packet_put16(rest + 2, length);
	return reference_sum(reference_sum(0, sample->pseudo, sample->six ? 32 : 8), rest, 4);
}

/* What software makes of a partial checksum. */
static inline void reference_fill(uint8_t *bytes, uint32_t length, uint32_t start, uint32_t offset)
{
	uint32_t sum = ~reference_sum(0, bytes + start, length - start) & 0xffff;

	packet_put16(bytes + start + offset, sum != 0 ? sum : 0xffff);
}

/* What is cut at once: fragments begin at multiples of 8 (RFC 791, 3.1). */
static inline uint32_t reference_size(const struct sample *sample)
{
	uint32_t size = sample->vnet.gso_size;

	return sample->kind == SAMPLE_UFO ? size / 8 * 8 : size;
}

/*
 * The fragment number `index` of the sample's datagram (RFC 791, 3.2; RFC 8200, 4.5), the checksum
 * of the whole datagram in the first of them. Returns its length, 0 where there is none.
 */
static inline uint32_t reference_fragment(const struct sample *sample, uint32_t index, uint8_t *to)
{
	static uint8_t whole[FRAME_LENGTH_MAX];
	uint32_t payload = sample->length - sample->transport, size = reference_size(sample);
	uint32_t done = index * size, part, more, at = sample->transport;
	uint8_t *ip = to + sample->network;

	if (done >= payload)
		return 0;
	part = payload - done < size ? payload - done : size;
	more = done + part < payload;
	memcpy(whole, sample->bytes, sample->length);
	reference_fill(whole, sample->length, sample->transport, 6);
	memcpy(to, whole, at);
	if (sample->six) {
		packet_put16(to + at, (uint32_t)to[sample->next_header] << 8);
		packet_put16(to + at + 2, done | more);
		memcpy(to + at + 4, &sample->identification, 4);
		to[sample->next_header] = 44;
		at += 8;
		packet_put16(ip + 4, at + part - sample->network - 40);
	} else {
		packet_put16(ip + 2, at + part - sample->network);
		packet_put16(ip + 6, done / 8 | more << 13);
		packet_put16(ip + 10, 0);
		packet_put16(ip + 10, ~reference_sum(0, ip, (ip[0] & 15) * 4u));
	}
	memcpy(to + at, whole + sample->transport + done, part);
	return at + part;
}

/*
 * The packet number `index` that a frame to be segmented stands for, into `to`, its checksum filled
 * or partial. Returns its length, 0 where there is none.
 */
static inline uint32_t reference_segment(const struct sample *sample, uint32_t index, bool filled,
					 uint8_t *to)
{
	uint32_t payload = sample->length - sample->headers, size = sample->vnet.gso_size;
	uint32_t done = index * size, part, length, sum;
	uint8_t *ip = to + sample->network, *tcp = to + sample->transport;

	if (sample->kind == SAMPLE_UFO)
		return reference_fragment(sample, index, to);
	if (done >= payload)
		return 0;
	part = payload - done < size ? payload - done : size;
	length = sample->headers + part;
	memcpy(to, sample->bytes, sample->headers);
	memcpy(to + sample->headers, sample->bytes + sample->headers + done, part);
	if (sample->six) {
		packet_put16(ip + 4, length - sample->network - 40);
	} else {
		packet_put16(ip + 2, length - sample->network);
		packet_put16(ip + 4, get16(ip + 4) + index);
		packet_put16(ip + 10, 0);
		packet_put16(ip + 10, ~reference_sum(0, ip, (ip[0] & 15) * 4u));
	}
	if (sample->tcp) {
		packet_put32(tcp + 4, (get16(tcp + 4) << 16 | get16(tcp + 6)) + done);
		if (done + part < payload)
			tcp[13] &= 0xf6; /* FIN and PSH come last */
		if (index > 0)
			tcp[13] &= 0x7f; /* CWR comes first */
	} else {
		packet_put16(tcp + 4, length - sample->transport);
	}
	sum = reference_pseudo(sample, length - sample->transport);
	packet_put16(tcp + (sample->tcp ? 16 : 6), sum);
	if (filled)
		reference_fill(to, length, sample->transport, sample->tcp ? 16 : 6);
	return length;
}

/* ---- frames ---- */

static inline uint32_t sample_extensions(struct entropy *entropy, struct sample *sample,
					 uint32_t at, uint8_t protocol)
{
	static const uint8_t kinds[] = { IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING };
	uint8_t *next = sample->bytes + sample->network + 6;
	uint32_t count = entropy_chance(entropy, 3) ? 1 + entropy_below(entropy, 3) : 0;

	for (uint32_t i = 0; i < count; i++) {
		uint8_t *header = sample->bytes + at;

		*next = kinds[i];
		next = header;
		memset(header, 0, 8 + 8 * 4);
		header[1] = (uint8_t)entropy_below(entropy, 3);
		if (kinds[i] == IPPROTO_ROUTING) {
			/* With one segment left: the checksum is that of the final destination. */
			header[1] = 2;
			header[2] = 4;
			header[3] = 1;
			memset(header + 8, 0xab, 16);
			memset(sample->pseudo + 16, 0xab, 16);
		}
		at += 8 + 8u * header[1];
	}
	*next = protocol;
	sample->next_header = (uint32_t)(next - sample->bytes);
	return at;
}

/* Everything up to the payload, whose length is known. */
static inline void sample_headers(struct entropy *entropy, struct sample *sample)
{
	uint8_t *bytes = sample->bytes, protocol = sample->tcp ? IPPROTO_TCP : IPPROTO_UDP;
	uint32_t tags = entropy_chance(entropy, 3) ? 1 + entropy_below(entropy, 2) : 0;
	uint32_t at = 12, options = entropy_chance(entropy, 3) ? entropy_below(entropy, 11) : 0;
	uint8_t *ip;

	packet_mac(bytes, 0x525400000001);
	packet_mac(bytes + 6, 0x525400000002);
	for (uint32_t i = 0; i < tags; i++, at += 4) {
		packet_put16(bytes + at, entropy_chance(entropy, 2) ? 0x8100 : 0x88a8);
		packet_put16(bytes + at + 2, 1 + entropy_below(entropy, 4094));
	}
	packet_put16(bytes + at, sample->six ? 0x86dd : 0x0800);
	sample->network = at + 2;
	ip = bytes + sample->network;
	if (sample->six) {
		memset(ip, 0x60, 1);
		for (uint32_t i = 8; i < 40; i++)
			ip[i] = (uint8_t)entropy_below(entropy, 256);
		memcpy(sample->pseudo, ip + 8, 32);
		at = sample_extensions(entropy, sample, sample->network + 40, protocol);
	} else {
		for (uint32_t i = 0; i < 20 + 4 * options; i++)
			ip[i] = (uint8_t)entropy_below(entropy, 256);
		ip[0] = (uint8_t)(0x45 + options);
		ip[6] = entropy_chance(entropy, 2) ? 0x40 : 0; /* do not fragment */
		ip[7] = 0;
		ip[9] = protocol;
		memcpy(sample->pseudo, ip + 12, 8);
		at = sample->network + 20 + 4 * options;
	}
	sample->transport = at;
	options = sample->tcp && entropy_chance(entropy, 2) ? entropy_below(entropy, 11) : 0;
	sample->headers = at + (sample->tcp ? 20 + 4 * options : 8);
	for (; at < sample->headers; at++)
		bytes[at] = (uint8_t)entropy_below(entropy, 256);
	if (sample->tcp)
		bytes[sample->transport + 12] = (uint8_t)(0x50 + 0x10 * options);
}

/*
 * A frame of a guest with a partial checksum: TCP or UDP, tags, options, extension headers, any
 * payload. Its vnet header passes vnet_check.
 */
static inline void sample_make(struct entropy *entropy, struct sample *sample,
			       enum sample_kind kind)
{
	static const uint8_t types[] = { 0, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_UDP_L4,
					 VIRTIO_NET_HDR_GSO_UDP };
	const bool gso = kind != SAMPLE_PLAIN;
	uint32_t longest, payload, size, field;

	memset(sample, 0, sizeof(*sample));
	sample->six = entropy_chance(entropy, 2);
	sample->kind = kind;
	sample->tcp = kind == SAMPLE_TSO || (!gso && entropy_chance(entropy, 2));
	sample->identification = entropy_below(entropy, 0x7fffffff);
	sample_headers(entropy, sample);
	size = entropy_chance(entropy, 2) ? 48 + entropy_below(entropy, 300)
					  : 48 + entropy_below(entropy, 9000);
	longest = FRAME_LENGTH_MAX - sample->headers - (gso ? size : 0);
	payload = entropy_below(entropy, entropy_chance(entropy, 4) ? longest : 3000);
	if (gso && entropy_chance(entropy, 2))
		payload = payload / size * size + entropy_below(entropy, 2);
	if (gso)
		payload += size + 1;
	if (gso && entropy_chance(entropy, 4))
		payload -= payload % size; /* may leave one segment: never of a length of 0 */
	if (gso && payload <= size)
		payload = 2 * size;
	if (payload > FRAME_LENGTH_MAX - sample->headers)
		payload = FRAME_LENGTH_MAX - sample->headers;
	sample->length = sample->headers + payload;
	for (uint32_t i = 0; i < payload; i++)
		sample->bytes[sample->headers + i] = (uint8_t)(i * 7 + (i >> 8) * 31 + size);
	sample->vnet = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						.csum_start = (uint16_t)sample->transport,
						.csum_offset = sample->tcp ? 16 : 6 };
	if (gso) {
		sample->vnet.gso_type = types[kind];
		if (sample->tcp && sample->six)
			sample->vnet.gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
		if (sample->tcp && entropy_chance(entropy, 3))
			sample->vnet.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
		sample->vnet.gso_size = (uint16_t)size;
	}
	field = sample->transport + sample->vnet.csum_offset;
	packet_put16(sample->bytes + field,
		     reference_pseudo(sample, sample->length - sample->transport));
}

/* Any kind of frame that is to be segmented. */
static inline enum sample_kind sample_gso(struct entropy *entropy)
{
	return (enum sample_kind)(SAMPLE_TSO + entropy_below(entropy, 3));
}

/*
 * The sample as a port would give it: a head of up to FRAME_HEAD_MAX bytes, and up to `most` views,
 * each of memory of its own, so that a sanitizer sees who reads too far. For sample_release.
 */
static inline void sample_to_frame(struct entropy *entropy, const struct sample *sample,
				   uint16_t most, struct frame *frame, struct view *views)
{
	uint32_t left, at;

	memset(frame, 0, sizeof(*frame));
	frame->vnet = sample->vnet;
	frame->segments = 1;
	frame->length = sample->length;
	frame->head_length = FRAME_HEAD_MAX;
	if (frame->length < FRAME_HEAD_MAX)
		frame->head_length = (uint16_t)frame->length;
	memcpy(frame->head, sample->bytes, frame->head_length);
	frame->views = views;
	at = frame->head_length;
	for (left = frame->length - at; left > 0; left = frame->length - at) {
		uint32_t part = left;
		uint8_t *memory;

		if (frame->view_count + 1 < most)
			part = 1 + entropy_below(entropy, left < 2000 ? left : 2000);
		if (frame->view_count + 1 < most && entropy_chance(entropy, 3))
			part = 1; /* many tiny ones */
		memory = malloc(part);
		if (memory == NULL)
			abort();
		memcpy(memory, sample->bytes + at, part);
		views[frame->view_count++] = (struct view){ memory, part };
		at += part;
	}
}

static inline void sample_release(struct frame *frame)
{
	for (uint16_t i = 0; i < frame->view_count; i++)
		free((void *)(uintptr_t)frame->views[i].address);
}

/* All bytes of a frame, one after the other. Returns how many. */
static inline uint32_t frame_bytes(const struct frame *frame, uint8_t *to)
{
	uint32_t length = frame->head_length;

	memcpy(to, frame->head, length);
	for (uint16_t i = 0; i < frame->view_count; i++) {
		memcpy(to + length, frame->views[i].address, frame->views[i].length);
		length += frame->views[i].length;
	}
	return length;
}
