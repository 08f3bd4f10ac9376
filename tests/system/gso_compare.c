/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Compares the switch's offload adaptation with the kernel's, for test_gso.py:
 *
 *     gso_compare FROM TO COUNT SEED
 *
 * FROM and TO are TAP interfaces joined by a bridge. TO takes no offloads, so the kernel cuts and
 * fills whatever is written to FROM before it can be read from TO. COUNT random frames of all kinds
 * (tests/unit/offload.h makes them) go this way, and each time what comes out is compared byte for
 * byte with what frame/segment.h and frame/checksum.h make of the same frame.
 *
 * Two numbers mean the same where they differ: a TCP checksum of 0 and of 0xffff (RFC 1624, 3), and
 * any identification of IPv6 fragments, which is random, as long as all fragments have it. The
 * identification of IPv4 is one more in each segment, and the same in all fragments.
 *
 * Prints how many frames of each kind were compared and how many packets they became. Exits 1 with
 * the first difference.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../unit/offload.h"
#include "frame/checksum.h"
#include "frame/segment.h"
#include "frame/vnet.h"

#define PATIENCE_MS 5000
#define LENGTH_MAX 65535      /* the kernel's interfaces take no more */
#define USO_SEGMENTS_MAX 128  /* nor more than that of one UDP frame */
#define PROBES 1000

static const char *const kind_names[] = { "partial", "tso", "uso", "ufo" };

struct compare {
	int from, to;
	struct sample sample;
	uint64_t number;       /* of the frame */
	uint64_t frames[4][2]; /* by kind and IP version */
	uint64_t refused;      /* of USO, which is younger than some kernels */
	uint64_t tagged, packets;
	uint8_t identification[4]; /* of the IPv6 fragments of a frame: the first one's */
};

static void fail(const struct compare *compare, const char *what)
{
	const struct sample *sample = &compare->sample;

	fprintf(stderr, "frame %llu (%s over IPv%d, %u bytes, headers %u %u %u, gso_size %u): %s\n",
		(unsigned long long)compare->number, kind_names[sample->kind], sample->six ? 6 : 4,
		sample->length, sample->network, sample->transport, sample->headers,
		sample->vnet.gso_size, what);
	exit(1);
}

static int open_tap(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0 || ioctl(fd, TUNSETOFFLOAD, 0) != 0) {
		perror(name);
		exit(1);
	}
	return fd;
}

/* Returns 0, or the errno of the kernel. */
static int write_frame(int fd, const struct virtio_net_hdr *vnet, const uint8_t *bytes,
		       uint32_t length)
{
	struct iovec parts[] = { { (void *)(uintptr_t)vnet, sizeof(*vnet) },
				 { (void *)(uintptr_t)bytes, length } };

	return writev(fd, parts, 2) < 0 ? errno : 0;
}

/* The next packet from a sample's sender; 0: none came in that time. */
static uint32_t read_packet(int fd, int patience_ms, uint8_t *bytes)
{
	struct pollfd wish = { .fd = fd, .events = POLLIN };
	struct virtio_net_hdr vnet;
	struct iovec parts[] = { { &vnet, sizeof(vnet) }, { bytes, FRAME_LENGTH_MAX } };
	ssize_t length;

	for (;;) {
		length = readv(fd, parts, 2);
		if (length < 0 && (patience_ms == 0 || poll(&wish, 1, patience_ms) <= 0))
			return 0;
		if (length >= (ssize_t)sizeof(vnet) + 14 && memcmp(bytes + 6, "\x52\x54", 2) == 0)
			return (uint32_t)length - (uint32_t)sizeof(vnet);
	}
}

/* The bridge forwards some time after both interfaces have been opened. */
static void wait_for_bridge(struct compare *compare)
{
	const struct virtio_net_hdr plain = { .flags = 0 };
	static uint8_t bytes[FRAME_LENGTH_MAX];

	for (int i = 0; i < PROBES; i++) {
		packet_ethernet(bytes, 0x525400000001, 0x525400000002, 60);
		if (write_frame(compare->from, &plain, bytes, 60) == 0 &&
		    read_packet(compare->to, 10, bytes) > 0) {
			while (read_packet(compare->to, 100, bytes) > 0)
				;
			return;
		}
	}
	fprintf(stderr, "nothing comes through the bridge\n");
	exit(1);
}

/* ---- one frame ---- */

/* The kernel writes wrong offsets into fragments behind IPv6 extension headers. */
static bool is_handled(const struct sample *sample)
{
	if (sample->kind == SAMPLE_UFO && sample->six && sample->transport != sample->network + 40)
		return false;
	if (sample->kind == SAMPLE_USO && sample->length - sample->headers >
						  USO_SEGMENTS_MAX * sample->vnet.gso_size)
		return false;
	return sample->length <= LENGTH_MAX;
}

/*
 * A frame that the kernel handles as the standards say. It takes the length of a datagram from the
 * UDP header, so that must be right, and fragments of any size, whose offsets need multiples of 8.
 */
static void make_sample(struct entropy *entropy, struct sample *sample)
{
	enum sample_kind kind = (enum sample_kind)entropy_below(entropy, 4);

	do
		sample_make(entropy, sample, kind);
	while (!is_handled(sample));
	if (!sample->tcp)
		packet_put16(sample->bytes + sample->transport + 4,
			     sample->length - sample->transport);
	sample->vnet.gso_size = (uint16_t)reference_size(sample);
	sample->vnet.hdr_len = (uint16_t)sample->headers;
}

/* The kernel's next packet is this one of ours. `first`: of those that a frame became. */
static void check_packet(struct compare *compare, const uint8_t *ours, uint32_t length, bool first)
{
	const struct sample *sample = &compare->sample;
	static uint8_t theirs[FRAME_LENGTH_MAX];
	uint32_t got = read_packet(compare->to, PATIENCE_MS, theirs);
	uint8_t *checksum = theirs + sample->transport + 16;
	uint8_t *identification = theirs + sample->transport + 4;
	char what[80];

	if (got != length) {
		snprintf(what, sizeof(what), "the kernel's packet has %u bytes, ours %u", got,
			 length);
		fail(compare, what);
	}
	if (sample->kind == SAMPLE_TSO && get16(checksum) == 0)
		packet_put16(checksum, 0xffff);
	if (sample->six && ours[sample->next_header] == IPPROTO_FRAGMENT) {
		if (first)
			memcpy(compare->identification, identification, 4);
		if (memcmp(compare->identification, identification, 4) != 0)
			fail(compare, "the kernel's fragments have several identifications");
		memset(identification, 0, 4);
	}
	for (uint32_t i = 0; i < length; i++) {
		if (ours[i] == theirs[i])
			continue;
		snprintf(what, sizeof(what), "byte %u of %u is %02x from the kernel, %02x from us",
			 i, length, theirs[i], ours[i]);
		fail(compare, what);
	}
	compare->packets++;
}

static void compare_frame(struct compare *compare, struct entropy *entropy)
{
	static uint8_t datagram[FRAME_LENGTH_MAX], buffer[FRAME_LENGTH_MAX], ours[FRAME_LENGTH_MAX];
	struct view views[FRAME_VIEWS_MAX], parts[FRAME_VIEWS_MAX];
	struct sample *sample = &compare->sample;
	struct frame frame, segment;
	struct segmenter segmenter;
	uint32_t count = 0;

	make_sample(entropy, sample);
	if (write_frame(compare->from, &sample->vnet, sample->bytes, sample->length) != 0) {
		if (sample->kind != SAMPLE_USO)
			fail(compare, "the kernel refuses it");
		compare->refused++;
		return;
	}
	sample_to_frame(entropy, sample, FRAME_VIEWS_MAX, &frame, views);
	if (vnet_check(&frame, NEEDS_ALL) != 0)
		fail(compare, "the switch refuses it");
	if (frame.vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		checksum_fill(&frame, &segment, parts, buffer);
		check_packet(compare, ours, frame_bytes(&segment, ours), true);
	} else {
		segment_begin(&segmenter, &frame, datagram, 0);
		while (segment_next(&segmenter, &segment, parts)) {
			if (segment.needs & NEEDS_CHECKSUM)
				checksum_fill(&segment, &segment, parts, buffer);
			check_packet(compare, ours, frame_bytes(&segment, ours), count++ == 0);
		}
	}
	if (read_packet(compare->to, 0, ours) > 0)
		fail(compare, "the kernel made more packets of it");
	sample_release(&frame);
	compare->frames[sample->kind][sample->six]++;
	compare->tagged += sample->network > 14;
}

int main(int argc, char **argv)
{
	static struct compare compare;
	struct entropy entropy;
	uint64_t count;

	if (argc != 5) {
		fprintf(stderr, "usage: gso_compare FROM TO COUNT SEED\n");
		return 2;
	}
	compare.from = open_tap(argv[1]);
	compare.to = open_tap(argv[2]);
	count = strtoull(argv[3], NULL, 10);
	entropy_init(&entropy, strtoull(argv[4], NULL, 10), NULL, 0);
	wait_for_bridge(&compare);
	for (; compare.number < count; compare.number++)
		compare_frame(&compare, &entropy);
	for (int kind = 0; kind < 4; kind++)
		printf("%s4 %llu\n%s6 %llu\n", kind_names[kind],
		       (unsigned long long)compare.frames[kind][0], kind_names[kind],
		       (unsigned long long)compare.frames[kind][1]);
	printf("refused %llu\ntagged %llu\npackets %llu\n", (unsigned long long)compare.refused,
	       (unsigned long long)compare.tagged, (unsigned long long)compare.packets);
	return 0;
}
