/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A recorder: the thread that takes the frames of one capture out of its rings and writes them to a
 * file, a pipe or a socket as pcapng, or, for a trace, keeps them.
 *
 * Each capture has its own, so that a disk or reader that stands still costs that capture frames
 * (missed), and neither the others nor the control thread nor a worker any time. The thread also
 * does what may take long before the first frame: it compiles the filter, which may ask name
 * servers, and opens the file.
 *
 *     recorder_new     -> started(fault)       now the capture may be published
 *                      -> over()               a limit, or the output, has ended it: unpublish it
 *     recorder_finish  -> ended()              no worker sees it any more; all is written
 *     recorder_free
 *
 * The callbacks run on the control thread, as do the functions.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "telemetry/pcapng.h"
#include "worker/capture.h"

struct recorder;

struct recorder_wish {
	const char *interface; /* the port's name, for the file */
	const char *filter;    /* "" for none, at most PCAPNG_FILTER_MAX */
	uint64_t bytes;        /* of the file, its last 512 apart; 0: any */
	uint64_t packets;      /* frames that are written; 0: any */
	uint32_t seconds;      /* that it lasts */
	const char *file;      /* to be made; "": `fd` instead */
	int fd;                /* taken over; -1: none */
	int owner;             /* a pidfd, taken over: the capture ends with this process; -1 */
};

struct recorder_counts {
	uint64_t seen;    /* frames of the port */
	uint64_t matched; /* of these, by the filter: written + missed + those on their way */
	uint64_t written;
	uint64_t missed;
	uint64_t bytes;   /* of the file */
};

struct recorder_events {
	/* fault: NULL, or why it could not start: then it is to be freed. */
	void (*started)(void *argument, const struct error *fault);
	void (*over)(void *argument);
	void (*ended)(void *argument);
};

/*
 * Starts a recorder of the capture, which outlives it. One that traces keeps its records in memory
 * and ends once it has wish->packets frames. Returns NULL without memory or a thread; what the wish
 * hands over is closed then.
 */
struct recorder *recorder_new(struct loop *loop, struct capture *capture,
			      const struct recorder_wish *wish,
			      const struct recorder_events *events, void *argument);

/* No worker sees the capture any more. reason: why it ends, unless it knows better itself. */
void recorder_finish(struct recorder *recorder, const char *reason);

/* Why it is over, or "" while it is not. */
const char *recorder_reason(const struct recorder *recorder);

struct recorder_counts recorder_count(const struct recorder *recorder);

/* The records of a trace that has ended, one behind another, and of which worker each is. */
struct recorder_trace {
	const uint8_t *bytes;
	size_t length;
};
struct recorder_trace recorder_trace(const struct recorder *recorder);

/* A record of a trace: behind it comes the frame's beginning, and then the next one. */
struct trace_record {
	uint64_t worker;
	struct capture_record record;
};

/*
 * Waits at most so many ms for the thread, none where it has ended. Returns whether it has ended;
 * if not, it and the capture are left to themselves, as only a daemon that ends may do.
 */
bool recorder_free(struct recorder *recorder, unsigned int patience);
