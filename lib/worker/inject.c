/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring of injected frames; worker/inject.h is the contract. worker.c sends what it takes. */
#include "worker/inject.h"

#include <errno.h>

#include "sync/counter.h"

int injector_post(struct injector *injector, const struct port *port, const uint8_t *bytes,
		  uint32_t length)
{
	struct inject_item *item = &injector->items[injector->head % INJECT_SLOTS];

	if (length > INJECT_LENGTH_MAX)
		return -EMSGSIZE;
	if (injector->head - __atomic_load_n(&injector->tail, __ATOMIC_ACQUIRE) == INJECT_SLOTS) {
		counter_add(&injector->refused, 1);
		return -ENOBUFS;
	}
	item->serial = port->serial;
	item->port = port->number;
	item->length = (uint16_t)length;
	memcpy(item->bytes, bytes, length);
	__atomic_store_n(&injector->head, injector->head + 1, __ATOMIC_RELEASE);
	return 0;
}

void injector_take(struct injector *injector, struct burst *burst, uint16_t *number,
		   uint64_t *serial)
{
	const struct inject_item *item = &injector->items[injector->tail % INJECT_SLOTS];
	struct frame *frame = &burst->frames[0];

	burst_reset(burst);
	burst->count = 1;
	memset(frame, 0, offsetof(struct frame, head));
	frame->drop = DROP_NO_DESTINATION;
	frame->segments = 1;
	frame->length = item->length;
	frame->head_length = item->length;
	memcpy(frame->head, item->bytes, item->length);
	*number = item->port;
	*serial = item->serial;
	__atomic_store_n(&injector->tail, injector->tail + 1, __ATOMIC_RELEASE);
}
