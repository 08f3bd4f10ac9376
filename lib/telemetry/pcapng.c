/* SPDX-License-Identifier: BSD-3-Clause */
/* Blocks of capture files; telemetry/pcapng.h is the contract. */
#include "telemetry/pcapng.h"

#include <string.h>

#include "telemetry/record_text.h"

/* Block types and options, with the draft's names and numbers. */
#define BLOCK_SECTION 0x0a0d0d0au
#define BLOCK_INTERFACE 1u
#define BLOCK_STATISTICS 5u
#define BLOCK_PACKET 6u

#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define LINKTYPE_ETHERNET 1u

#define OPT_END 0
#define OPT_COMMENT 1
#define SHB_USERAPPL 4
#define IF_NAME 2
#define IF_TSRESOL 9
#define IF_FILTER 11
#define EPB_FLAGS 2
#define EPB_DROPCOUNT 4
#define EPB_QUEUE 6
#define ISB_STARTTIME 2
#define ISB_ENDTIME 3
#define ISB_IFRECV 4
#define ISB_IFDROP 5
#define ISB_FILTERACCEPT 6
#define ISB_USRDELIV 8

#define FLAG_INBOUND 1u
#define FLAG_OUTBOUND 2u

/* Where the next byte goes. */
struct writer {
	uint8_t *block, *at;
};

static void put(struct writer *writer, const void *bytes, size_t length)
{
	static const uint8_t padding[4];

	if (length > 0)
		memcpy(writer->at, bytes, length);
	writer->at += length;
	memcpy(writer->at, padding, -length & 3);
	writer->at += -length & 3;
}

static void put32(struct writer *writer, uint32_t value)
{
	put(writer, &value, sizeof(value));
}

/* High half first, whatever the order of bytes. */
static void put_time(struct writer *writer, uint64_t time)
{
	put32(writer, (uint32_t)(time >> 32));
	put32(writer, (uint32_t)time);
}

static void put_option(struct writer *writer, uint16_t code, const void *value, size_t length)
{
	const uint16_t head[2] = { code, (uint16_t)length };

	put(writer, head, sizeof(head));
	put(writer, value, length);
}

static void put_text(struct writer *writer, uint16_t code, const char *text)
{
	if (text[0] != '\0')
		put_option(writer, code, text, strlen(text));
}

static void put_option_time(struct writer *writer, uint16_t code, uint64_t time)
{
	const uint32_t halves[2] = { (uint32_t)(time >> 32), (uint32_t)time };

	put_option(writer, code, halves, sizeof(halves));
}

static void begin_block(struct writer *writer, uint32_t type)
{
	writer->block = writer->at;
	put32(writer, type);
	put32(writer, 0);
}

/* Ends the options, and fills in the length, which stands at both ends. */
static void end_block(struct writer *writer)
{
	uint32_t length;

	put_option(writer, OPT_END, NULL, 0);
	length = (uint32_t)(writer->at - writer->block) + sizeof(length);
	put32(writer, length);
	memcpy(writer->block + 4, &length, sizeof(length));
}

size_t pcapng_begin(uint8_t *to, const char *interface, const char *filter, uint32_t snap)
{
	const uint16_t version[2] = { 1, 0 }, link[2] = { LINKTYPE_ETHERNET, 0 };
	const uint64_t unknown_length = UINT64_MAX;
	const uint8_t nanoseconds = 9;
	struct writer writer = { .at = to };

	begin_block(&writer, BLOCK_SECTION);
	put32(&writer, BYTE_ORDER_MAGIC);
	put(&writer, version, sizeof(version));
	put(&writer, &unknown_length, sizeof(unknown_length));
	put_text(&writer, SHB_USERAPPL, "ringway " RINGWAY_VERSION);
	end_block(&writer);

	begin_block(&writer, BLOCK_INTERFACE);
	put(&writer, link, sizeof(link));
	put32(&writer, snap);
	put_text(&writer, IF_NAME, interface);
	put_option(&writer, IF_TSRESOL, &nanoseconds, sizeof(nanoseconds));
	if (filter[0] != '\0') {
		/* A 0 before the text says that it is one. */
		char code[PCAPNG_FILTER_MAX + 1] = "";
		size_t length = strlen(filter);

		memcpy(code + 1, filter, length);
		put_option(&writer, IF_FILTER, code, length + 1);
	}
	end_block(&writer);
	return (size_t)(writer.at - to);
}

size_t pcapng_frame(uint8_t *to, const struct capture_record *record, uint64_t lost)
{
	const uint32_t flags = record->direction == RECORD_IN ? FLAG_INBOUND : FLAG_OUTBOUND;
	const uint32_t queue = record->queue;
	struct writer writer = { .at = to };
	char comment[RECORD_TEXT_SIZE];

	begin_block(&writer, BLOCK_PACKET);
	put32(&writer, 0);
	put_time(&writer, record->time);
	put32(&writer, record->captured);
	put32(&writer, record->length);
	put(&writer, record + 1, record->captured);
	put_option(&writer, EPB_FLAGS, &flags, sizeof(flags));
	if (lost > 0)
		put_option(&writer, EPB_DROPCOUNT, &lost, sizeof(lost));
	put_option(&writer, EPB_QUEUE, &queue, sizeof(queue));
	record_comment(record, comment, sizeof(comment));
	put_text(&writer, OPT_COMMENT, comment);
	end_block(&writer);
	return (size_t)(writer.at - to);
}

size_t pcapng_end(uint8_t *to, const struct pcapng_end *end)
{
	struct writer writer = { .at = to };

	begin_block(&writer, BLOCK_STATISTICS);
	put32(&writer, 0);
	put_time(&writer, end->ended);
	put_option(&writer, OPT_COMMENT, end->reason, strnlen(end->reason, 255));
	put_option_time(&writer, ISB_STARTTIME, end->began);
	put_option_time(&writer, ISB_ENDTIME, end->ended);
	put_option(&writer, ISB_IFRECV, &end->seen, sizeof(end->seen));
	put_option(&writer, ISB_IFDROP, &end->missed, sizeof(end->missed));
	put_option(&writer, ISB_FILTERACCEPT, &end->matched, sizeof(end->matched));
	put_option(&writer, ISB_USRDELIV, &end->written, sizeof(end->written));
	end_block(&writer);
	return (size_t)(writer.at - to);
}

uint32_t pcapng_block_length(const uint8_t *block)
{
	uint32_t length;

	memcpy(&length, block + 4, sizeof(length));
	return length;
}

bool pcapng_is_frame(const uint8_t *block)
{
	uint32_t type;

	memcpy(&type, block, sizeof(type));
	return type == BLOCK_PACKET;
}
