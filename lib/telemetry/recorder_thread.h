/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a recorder's two sides share: recorder.c, on the control thread, and recorder_thread.c,
 * the thread that works.
 */
#pragma once

#include <pcap/pcap.h>
#include <pthread.h>

#include "telemetry/capture_output.h"
#include "telemetry/recorder.h"

#define REASON_SIZE 128

struct recorder {
	struct loop *loop;
	struct capture *capture;
	struct recorder_events events;
	void *argument;
	pthread_t thread;
	pthread_mutex_t lock; /* of `muted` */
	bool muted;           /* the loop must not be told any more */

	/* The wish. */
	char *interface, *filter, *file;
	uint64_t bytes_most, packets_most;
	uint32_t seconds;
	int owner;

	/* w: control, r: the thread */
	bool finish;
	char finish_reason[REASON_SIZE]; /* set before `finish` */
	int wake_fd;

	/* The thread's own. */
	struct bpf_program program;
	bool has_program;
	struct capture_output output;
	uint64_t began, deadline; /* ns since 1970; ms of the monotonic clock */
	uint64_t *missed;         /* by worker: what the last record said */
	uint8_t *trace;
	size_t trace_length, trace_size;

	/* w: the thread, r: anyone */
	uint64_t written, discarded, lost;
	bool over;
	char reason[REASON_SIZE]; /* set before `over` */
	struct error fault;       /* why it could not start */
};

/* The thread: takes a struct recorder, returns NULL. */
void *recorder_work(void *argument);
