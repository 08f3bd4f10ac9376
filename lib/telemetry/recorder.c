/* SPDX-License-Identifier: BSD-3-Clause */
/* The control thread's side of a recorder; telemetry/recorder.h is the contract. */
#include "telemetry/recorder.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/units.h"
#include "sync/counter.h"
#include "telemetry/recorder_thread.h"

static void release(struct recorder *recorder)
{
	if (recorder->has_program)
		pcap_freecode(&recorder->program);
	capture_output_close(&recorder->output);
	if (recorder->owner >= 0)
		close(recorder->owner);
	if (recorder->wake_fd >= 0)
		close(recorder->wake_fd);
	pthread_mutex_destroy(&recorder->lock);
	free(recorder->missed);
	free(recorder->trace);
	free(recorder->interface);
	free(recorder->filter);
	free(recorder->file);
	free(recorder);
}

/* The daemon's signals are the control thread's, and of too large a file an errno tells as well. */
static int start_thread(struct recorder *recorder)
{
	sigset_t all, before;
	int result;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&recorder->thread, NULL, recorder_work, recorder);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result == 0)
		pthread_setname_np(recorder->thread, "ringway-capture");
	return result;
}

struct recorder *recorder_new(struct loop *loop, struct capture *capture,
			      const struct recorder_wish *wish,
			      const struct recorder_events *events, void *argument)
{
	struct recorder *recorder = calloc(1, sizeof(*recorder));

	if (recorder == NULL) {
		if (wish->fd >= 0)
			close(wish->fd);
		if (wish->owner >= 0)
			close(wish->owner);
		return NULL;
	}
	recorder->loop = loop;
	recorder->capture = capture;
	recorder->events = *events;
	recorder->argument = argument;
	recorder->bytes_most = wish->bytes;
	recorder->packets_most = wish->packets;
	recorder->seconds = wish->seconds;
	recorder->output.fd = wish->fd;
	recorder->owner = wish->owner;
	recorder->interface = strdup(wish->interface);
	recorder->filter = strdup(wish->filter);
	recorder->file = strdup(wish->file);
	recorder->missed = calloc(capture->worker_count, sizeof(*recorder->missed));
	recorder->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&recorder->lock, NULL);
	if (recorder->interface == NULL || recorder->filter == NULL || recorder->file == NULL ||
	    recorder->missed == NULL || recorder->wake_fd < 0 || start_thread(recorder) != 0) {
		release(recorder);
		return NULL;
	}
	return recorder;
}

void recorder_finish(struct recorder *recorder, const char *reason)
{
	text_copy(recorder->finish_reason, sizeof(recorder->finish_reason), reason);
	__atomic_store_n(&recorder->finish, true, __ATOMIC_RELEASE);
	eventfd_write(recorder->wake_fd, 1);
}

const char *recorder_reason(const struct recorder *recorder)
{
	return __atomic_load_n(&recorder->over, __ATOMIC_ACQUIRE) ? recorder->reason : "";
}

struct recorder_counts recorder_count(const struct recorder *recorder)
{
	const struct capture_counts counts = capture_count(recorder->capture);

	return (struct recorder_counts){
		.seen = counts.seen,
		.matched = counts.matched - counter_read(&recorder->discarded),
		.written = counter_read(&recorder->written),
		.missed = counts.missed + counter_read(&recorder->lost),
		.bytes = counter_read(&recorder->output.written),
	};
}

struct recorder_trace recorder_trace(const struct recorder *recorder)
{
	return (struct recorder_trace){ recorder->trace, recorder->trace_length };
}

bool recorder_free(struct recorder *recorder, unsigned int patience)
{
	struct timespec until;

	if (recorder == NULL)
		return true;
	pthread_mutex_lock(&recorder->lock);
	recorder->muted = true;
	pthread_mutex_unlock(&recorder->lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += patience / 1000;
	until.tv_nsec += patience % 1000 * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	if (pthread_timedjoin_np(recorder->thread, NULL, &until) != 0)
		return false;
	release(recorder);
	return true;
}
