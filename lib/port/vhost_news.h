/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a vhost-user session tells the operator of: VMMs that come and go, and what they negotiate.
 *
 * The vhost library calls us on its own threads, and events are made on the control thread. Between
 * them stands this box. It is bounded: what finds no room, because a VMM does such things faster
 * than the control thread looks, is counted.
 *
 * Any thread, under the session's lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/event.h"

#define NEWS_MAX 16

struct session;

struct news_item {
	enum event_kind kind; /* EVENT_GUEST_... */
	pid_t pid;
	uid_t uid;            /* connected */
	bool waiting;         /* connected */
	uint64_t features;    /* features */
	char reason[160];     /* gone, refused */
};

struct news {
	struct news_item items[NEWS_MAX];
	unsigned int count;
	unsigned int lost;
	bool posted;          /* the control thread will look */
};

void news_add(struct session *session, const struct news_item *item);

/* Whether the port is up may have changed. */
void news_look(struct session *session);
