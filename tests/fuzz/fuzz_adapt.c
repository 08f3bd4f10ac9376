/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fuzzer of offload adaptation: frames as a guest may send them, honest or damaged, go through
 * vnet_check, get another VLAN tag, and are then cut and filled. Honest ones are compared with the
 * reference of tests/unit/offload.h; of the others must hold what no guest may break: bounds, the
 * payload in its order, checksums that are those of their own bytes.
 */
#include "../unit/offload.h"
#include "bridge/vlan.h"
#include "frame/checksum.h"
#include "frame/segment.h"
#include "frame/vnet.h"
#include "target.h"

struct run {
	struct entropy *entropy;
	struct sample sample;
	bool honest;
	bool retagged;
	struct frame frame;
	struct view views[FRAME_VIEWS_MAX];
	uint8_t *whole;  /* the frame's bytes */
	uint8_t *got, *wanted;
};

/* The guest's memory of the frame, and nothing but that, may be read while this exists. */
static uint8_t *exact(uint32_t length)
{
	uint8_t *bytes = malloc(length > 0 ? length : 1);

	CHECK(bytes != NULL);
	return bytes;
}

/* Fills into memory of exactly the promised size and returns the frame's bytes in run->got. */
static void fill(struct run *run, struct frame *frame)
{
	uint8_t *buffer = exact(frame->length);
	struct frame filled;
	struct view view;

	memset(&filled, 0xee, offsetof(struct frame, head));
	checksum_fill(frame, &filled, &view, buffer);
	CHECK(filled.length == frame->length);
	CHECK(filled.needs == 0 && vnet_is_plain(&filled.vnet));
	CHECK(frame_bytes(&filled, run->got) == frame->length);
	free(buffer);
}

/* Neither views of nothing nor more bytes than the frame says. */
static void check_shape(const struct frame *frame)
{
	uint32_t total = frame->head_length;

	CHECK(frame->head_length <= FRAME_HEAD_ROOM && frame->view_count <= FRAME_VIEWS_MAX);
	for (uint16_t i = 0; i < frame->view_count; i++) {
		CHECK(frame->views[i].length > 0);
		total += frame->views[i].length;
	}
	CHECK(total == frame->length);
}

static void check_fill(struct run *run)
{
	fill(run, &run->frame);
	reference_fill(run->whole, run->frame.length, run->frame.vnet.csum_start,
		       run->frame.vnet.csum_offset);
	CHECK(memcmp(run->got, run->whole, run->frame.length) == 0);
}

/* Offset of what is cut. */
static uint32_t cut_start(const struct frame *frame)
{
	return frame->needs & NEEDS_UFO ? frame->vnet.csum_start : frame->vnet.hdr_len;
}

/* How much of that the segment has to have. */
static uint32_t part_length(const struct run *run, uint32_t index)
{
	uint32_t size = run->frame.vnet.gso_size;
	uint32_t left = run->frame.length - cut_start(&run->frame) - index * size;

	return left < size ? left : size;
}

static void check_segment(struct run *run, struct frame *segment, uint32_t index, bool filled)
{
	const struct virtio_net_hdr *vnet = &run->frame.vnet;
	uint32_t cut = cut_start(&run->frame), part = part_length(run, index);
	uint32_t headers = segment->length - part, at = cut + index * vnet->gso_size, length;

	CHECK(headers == cut || (run->frame.needs & NEEDS_UFO && headers == cut + FRAGMENT_HEADER));
	CHECK(memcmp(run->got + headers, run->whole + at, part) == 0);
	/* Addresses, ports and the like are the frame's. */
	CHECK(memcmp(run->got, run->whole, ETHERNET_HEADER) == 0);
	if (!run->honest)
		return;
	length = reference_segment(&run->sample, index, filled, run->wanted);
	CHECK(length == segment->length && memcmp(run->got, run->wanted, length) == 0);
}

static void check_cut(struct run *run)
{
	const bool is_ufo = run->frame.needs & NEEDS_UFO;
	uint8_t *buffer = exact(run->frame.length);
	struct view views[FRAME_VIEWS_MAX];
	struct segmenter segmenter;
	struct frame segment;
	uint32_t count = 0;

	if (segment_begin(&segmenter, &run->frame, buffer, run->sample.identification) != 0) {
		/* Behind three tags nobody looks. */
		CHECK(run->retagged);
		free(buffer);
		return;
	}
	/* The checksum of a datagram that is cut into fragments is filled before. */
	if (is_ufo)
		reference_fill(run->whole, run->frame.length, run->frame.vnet.csum_start, 6);
	while (segment_next(&segmenter, &segment, views)) {
		CHECK(count < run->frame.segments && segment.segments == 1);
		check_shape(&segment);
		CHECK(segment.needs == (is_ufo ? 0 : NEEDS_CHECKSUM));
		CHECK(is_ufo == vnet_is_plain(&segment.vnet));
		CHECK(frame_bytes(&segment, run->got) == segment.length);
		check_segment(run, &segment, count, false);
		if (!is_ufo) {
			fill(run, &segment);
			check_segment(run, &segment, count, true);
		}
		count++;
	}
	CHECK(count == run->frame.segments);
	free(buffer);
}

/* What a hostile guest would try: fields of the headers, bytes of the head, lengths. */
static void damage(struct run *run)
{
	struct entropy *entropy = run->entropy;
	struct sample *sample = &run->sample;
	uint32_t near = sample->headers < sample->length ? sample->headers : sample->length;

	for (uint32_t i = entropy_below(entropy, 4); i > 0; i--) {
		switch (entropy_below(entropy, 6)) {
		case 0:
			((uint8_t *)&sample->vnet)[entropy_below(entropy, 10)] =
				(uint8_t)entropy_below(entropy, 256);
			break;
		case 1:
			sample->vnet.csum_start = (uint16_t)entropy_below(entropy, 65536);
			break;
		case 2:
			sample->vnet.csum_offset = (uint16_t)entropy_below(entropy, 300);
			break;
		case 3:
			sample->bytes[entropy_below(entropy, near)] =
				(uint8_t)entropy_below(entropy, 256);
			break;
		case 4:
			sample->length = 14 + entropy_below(entropy, sample->length - 13);
			break;
		default:
			sample->vnet.gso_size = (uint16_t)entropy_below(entropy, 65536);
		}
		run->honest = false;
		near = near < sample->length ? near : sample->length;
	}
}

/* The frame's bytes, and where the sample has its headers, with the tag's place made or closed. */
static void move(struct run *run, int bytes)
{
	const uint32_t from = 12 + (bytes < 0 ? (uint32_t)-bytes : 0);
	const uint32_t to = 12 + (bytes > 0 ? (uint32_t)bytes : 0), length = run->sample.length;
	uint8_t *whole = exact(length + (uint32_t)bytes);
	struct sample *sample = &run->sample;

	memcpy(whole, run->whole, 12);
	memcpy(whole + to, run->whole + from, length - from);
	free(run->whole);
	run->whole = whole;
	sample->length = length + (uint32_t)bytes;
	if (!run->honest || sample->length > FRAME_LENGTH_MAX)
		return;
	memcpy(sample->bytes, whole, sample->length);
	sample->network += (uint32_t)bytes;
	sample->transport += (uint32_t)bytes;
	sample->headers += (uint32_t)bytes;
	sample->next_header += (uint32_t)bytes;
	sample->vnet.csum_start = (uint16_t)(sample->vnet.csum_start + bytes);
}

/* From a trunk to a receiver of any kind. False: the frame is a drop. */
static bool retag(struct run *run)
{
	static struct vlan_set all;
	static struct frame out;
	struct vlan_membership port = { .mode = VLAN_TRUNK, .native = 10, .trunk = &all };
	const uint32_t kind = entropy_below(run->entropy, 4);
	const uint32_t start = run->frame.vnet.csum_start;
	const bool partial = run->frame.vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
	enum tag_change change;
	int bytes;

	vlan_set_add(&all, VLAN_FIRST, VLAN_LAST);
	if (!vlan_enter(&port, &run->frame)) {
		CHECK(!run->honest && run->frame.drop != DROP_NO_DESTINATION);
		return false;
	}
	if (kind == 0)
		port = (struct vlan_membership){ VLAN_ACCESS, .native = run->frame.vlan };
	port.native = kind == 1 ? 0 : run->frame.vlan;
	port.native_tagged = kind == 2;
	change = vlan_leave(&port, &run->frame);
	if (change == TAG_INSERT && run->frame.length + TAG_LENGTH > FRAME_LENGTH_MAX)
		return false;
	bytes = change == TAG_INSERT ? TAG_LENGTH : change == TAG_REMOVE ? -TAG_LENGTH : 0;
	memset(&out, 0xee, sizeof(out));
	tag_change(&run->frame, change, &out);
	move(run, bytes);
	if (change == TAG_REWRITE)
		packet_put16(run->whole + 14,
			     (get16(run->whole + 14) & 0xf000u) | run->frame.vlan);
	if (change == TAG_INSERT)
		packet_put16(run->whole + 14, run->frame.vlan);
	if (change == TAG_INSERT)
		packet_put16(run->whole + 12, ETHERTYPE_VLAN);
	memcpy(run->sample.bytes, run->whole, run->honest ? run->sample.length : 0);
	check_shape(&out);
	CHECK(frame_bytes(&out, run->got) == run->frame.length + (uint32_t)bytes);
	CHECK(memcmp(run->got, run->whole, out.length) == 0);
	/* It is written behind all that stands before the payload, and within the frame. */
	CHECK(!partial || out.vnet.csum_start == start + (uint32_t)bytes);
	CHECK(!partial || out.vnet.csum_start >= 14 + (change == TAG_INSERT ? 4 : 0));
	run->frame = out;
	run->retagged = true;
	return true;
}

/* What egress would have to do with it. */
static void adapt(struct run *run)
{
	if (entropy_chance(run->entropy, 2) && !retag(run))
		return;
	if (run->frame.vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		check_cut(run);
	else if (run->frame.needs & NEEDS_CHECKSUM)
		check_fill(run);
}

static void run_frame(struct entropy *entropy)
{
	static struct run run;
	uint32_t length;

	run.entropy = entropy;
	run.honest = true;
	run.retagged = false;
	sample_make(entropy, &run.sample, (enum sample_kind)entropy_below(entropy, 4));
	if (entropy_chance(entropy, 2))
		damage(&run);
	length = run.sample.length;
	sample_to_frame(entropy, &run.sample, (uint16_t)(1 + entropy_below(entropy, 64)),
			&run.frame, run.views);
	run.whole = exact(length);
	run.got = exact(FRAME_LENGTH_MAX);
	run.wanted = exact(FRAME_LENGTH_MAX);
	CHECK(frame_bytes(&run.frame, run.whole) == length);
	if (vnet_check(&run.frame, NEEDS_ALL) != 0)
		CHECK(!run.honest);
	else
		adapt(&run);
	sample_release(&run.frame);
	free(run.whole);
	free(run.got);
	free(run.wanted);
}

const char target_name[] = "adapt";
const char target_unit[] = "frames";

void target_init(void)
{
}

bool target_choose(const char *what)
{
	(void)what;
	return false;
}

void target_input(const uint8_t *bytes, size_t count)
{
	struct entropy entropy;

	entropy_init(&entropy, 0, bytes, count);
	run_frame(&entropy);
}

uint64_t target_make(uint64_t seed, const struct target_file *files, uint32_t file_count,
		     bool show)
{
	struct entropy entropy;

	(void)files;
	(void)file_count;
	(void)show;
	entropy_init(&entropy, seed, NULL, 0);
	run_frame(&entropy);
	return 1;
}
