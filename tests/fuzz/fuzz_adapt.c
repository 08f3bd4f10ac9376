/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fuzzer of offload adaptation: frames as a guest may send them, honest or damaged, go through
 * vnet_check and are then cut and filled. Honest ones are compared with the reference of
 * tests/unit/offload.h; of the others must hold what no guest may break: bounds, the payload in its
 * order, checksums that are those of their own bytes.
 */
#include "../unit/offload.h"
#include "frame/checksum.h"
#include "frame/segment.h"
#include "frame/vnet.h"
#include "target.h"

struct run {
	struct entropy *entropy;
	struct sample sample;
	bool honest;
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

	CHECK(frame->head_length <= FRAME_HEAD_MAX && frame->view_count <= FRAME_VIEWS_MAX);
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

	segment_begin(&segmenter, &run->frame, buffer, run->sample.identification);
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

static void run_frame(struct entropy *entropy)
{
	static struct run run;
	uint32_t length;

	run.entropy = entropy;
	run.honest = true;
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
	else if (run.frame.vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		check_cut(&run);
	else if (run.frame.needs & NEEDS_CHECKSUM)
		check_fill(&run);
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
