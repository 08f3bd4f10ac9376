/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread behind a capture: it compiles the filter, opens the output, and writes, or keeps, what
 * comes until no more is wanted; telemetry/recorder.h is the contract.
 */
#include "telemetry/recorder_thread.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/units.h"
#include "sync/counter.h"

/* How long the thread sleeps: while frames come, while none do, and once nobody wants any. */
#define PAUSE_BUSY_MS 1
#define PAUSE_IDLE_MS 4
#define PAUSE_OVER_MS 20

/* A reader that does not take the end of the file within this time does not get it. */
#define GRACE_MS 1000

#define TRACE_SIZE_MAX ((size_t)16 << 20)

static uint64_t clock_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t now_ms(void)
{
	return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

/* ---- what the control thread is told ---- */

static void tell_started(void *argument)
{
	struct recorder *recorder = argument;

	recorder->events.started(recorder->argument,
				 recorder->fault.message[0] != '\0' ? &recorder->fault : NULL);
}

static void tell_over(void *argument)
{
	struct recorder *recorder = argument;

	recorder->events.over(recorder->argument);
}

static void tell_ended(void *argument)
{
	struct recorder *recorder = argument;

	recorder->events.ended(recorder->argument);
}

static void tell(struct recorder *recorder, void (*run)(void *argument))
{
	pthread_mutex_lock(&recorder->lock);
	if (!recorder->muted)
		loop_post(recorder->loop, run, recorder);
	pthread_mutex_unlock(&recorder->lock);
}

/* No more frames are wanted. The first reason is the one. */
static void end(struct recorder *recorder, const char *reason)
{
	if (recorder->over)
		return;
	text_copy(recorder->reason, sizeof(recorder->reason), reason);
	__atomic_store_n(&recorder->over, true, __ATOMIC_RELEASE);
	__atomic_store_n(&recorder->capture->over, true, __ATOMIC_RELAXED);
	tell(recorder, tell_over);
}

/* ---- the output ---- */

/* The frames that are lost with what was not written whole are counted. */
static void break_output(struct recorder *recorder, int errnum)
{
	const size_t lost = capture_output_break(&recorder->output);
	char reason[REASON_SIZE];

	counter_add(&recorder->written, -lost);
	counter_add(&recorder->lost, lost);
	if (errnum == EPIPE || errnum == ECONNRESET)
		snprintf(reason, sizeof(reason), "the reader is gone");
	else if (errnum == ETIMEDOUT)
		snprintf(reason, sizeof(reason), "the reader did not take the end");
	else
		snprintf(reason, sizeof(reason), "cannot be written: %s", strerror(errnum));
	end(recorder, reason);
}

/* Writes what the output takes now. */
static void flush(struct recorder *recorder)
{
	int rc = capture_output_write(&recorder->output);

	if (rc != 0)
		break_output(recorder, -rc);
}

/* ---- records ---- */

static void keep_record(struct recorder *recorder, uint16_t worker,
			const struct capture_record *record)
{
	const struct trace_record head = { .worker = worker, .record = *record };
	const size_t captured = (record->captured + 7u) & ~7u;
	const size_t needed = sizeof(head) + captured;

	if (recorder->trace_size - recorder->trace_length < needed) {
		size_t size = recorder->trace_size * 2 + needed;
		uint8_t *bigger = size <= TRACE_SIZE_MAX ? realloc(recorder->trace, size) : NULL;

		if (bigger == NULL) {
			end(recorder, "it has become too long");
			return;
		}
		recorder->trace = bigger;
		recorder->trace_size = size;
	}
	memcpy(recorder->trace + recorder->trace_length, &head, sizeof(head));
	memcpy(recorder->trace + recorder->trace_length + sizeof(head), record + 1,
	       record->captured);
	recorder->trace_length += needed;
	if (record->kind != RECORD_FRAME)
		return;
	counter_add(&recorder->written, 1);
	if (recorder->written >= recorder->packets_most)
		end(recorder, "all frames have come");
}

static void write_record(struct recorder *recorder, uint16_t worker,
			 const struct capture_record *record)
{
	struct capture_output *output = &recorder->output;
	const uint64_t lost = record->missed - recorder->missed[worker];
	const size_t length = pcapng_frame(output->bytes + output->used, record, lost);
	const uint64_t size = output->written + (output->used - output->sent) + length;

	if (recorder->bytes_most != 0 && size > recorder->bytes_most) {
		counter_add(&recorder->discarded, 1);
		end(recorder, "the file has its size");
		return;
	}
	output->used += length;
	recorder->missed[worker] = record->missed;
	counter_add(&recorder->written, 1);
	if (recorder->packets_most != 0 && recorder->written >= recorder->packets_most)
		end(recorder, "all frames have come");
}

/* The oldest record of all workers, or NULL. */
static const struct capture_record *next_record(struct recorder *recorder, uint16_t *worker)
{
	const struct capture_record *oldest = NULL;

	for (uint16_t i = 0; i < recorder->capture->worker_count; i++) {
		const struct capture_record *record = capture_next(recorder->capture, i);

		if (record == NULL || (oldest != NULL && oldest->time <= record->time))
			continue;
		oldest = record;
		*worker = i;
	}
	return oldest;
}

/* Takes what there is and has room. Returns whether there was anything. */
static bool drain(struct recorder *recorder)
{
	const struct capture_record *record;
	bool any = false;
	uint16_t worker;

	while ((recorder->capture->traces || capture_output_has_room(&recorder->output)) &&
	       (record = next_record(recorder, &worker)) != NULL) {
		/* The steps of frames that are there are wanted to their end. */
		if (recorder->capture->traces &&
		    (!recorder->over || record->kind != RECORD_FRAME))
			keep_record(recorder, worker, record);
		else if (recorder->output.is_broken)
			counter_add(&recorder->lost, 1);
		else if (recorder->over)
			counter_add(&recorder->discarded, 1);
		else
			write_record(recorder, worker, record);
		capture_done(recorder->capture, worker, record);
		any = true;
	}
	return any;
}

/* ---- before the first frame ---- */

/*
 * Why workers cannot run this program, or NULL. bpf_filter jumps back where it is told to, and the
 * loop that protochain makes is one that a frame can keep it in for ever. And what only a kernel
 * knows of the packets of its own sockets it has asked for at offsets that no frame has, so that no
 * frame would match.
 */
static const char *refuse_program(const struct bpf_program *program)
{
	for (bpf_u_int32 i = 0; i < program->bf_len; i++) {
		const struct bpf_insn *insn = &program->bf_insns[i];

		if (insn->code == (BPF_JMP | BPF_JA) && insn->k >= program->bf_len - i)
			return "protochain is not for captures, as it may loop for ever";
		if (BPF_CLASS(insn->code) == BPF_LD && BPF_MODE(insn->code) == BPF_ABS &&
		    insn->k > INT32_MAX)
			return "inbound, outbound and ifindex are not for captures, which have a "
			       "direction of their own";
	}
	return NULL;
}

static int compile_filter(struct recorder *recorder)
{
	struct error *fault = &recorder->fault;
	const char *reason = NULL;
	pcap_t *pcap;
	int result;

	if (recorder->filter[0] == '\0')
		return 0;
	pcap = pcap_open_dead(DLT_EN10MB, CAPTURE_SNAP_MAX);
	if (pcap == NULL)
		return error_set(fault, ERROR_INTERNAL, ENOMEM, "out of memory");
	result = pcap_compile(pcap, &recorder->program, recorder->filter, 1,
			      PCAP_NETMASK_UNKNOWN);
	if (result != 0) {
		reason = pcap_geterr(pcap);
	} else {
		recorder->has_program = true;
		recorder->capture->filter = recorder->program.bf_insns;
		reason = refuse_program(&recorder->program);
	}
	if (reason != NULL) {
		error_set(fault, ERROR_INVALID, EINVAL, "the filter is refused: %s", reason);
		error_detail(fault, "capture", "filter", recorder->filter,
			     "an expression as pcap-filter(7) describes it");
	}
	pcap_close(pcap);
	return reason != NULL ? -EINVAL : 0;
}

static int prepare_output(struct recorder *recorder)
{
	struct capture_output *output = &recorder->output;
	int rc = capture_output_open(output, recorder->file, &recorder->fault);

	if (rc != 0)
		return rc;
	output->used = pcapng_begin(output->bytes, recorder->interface, recorder->filter,
				    recorder->capture->snap);
	return 0;
}

/* ---- the thread ---- */

/* Sleeps until something may have happened; notices what ends the capture from outside. */
static void wait_awhile(struct recorder *recorder, int milliseconds)
{
	const struct capture_output *output = &recorder->output;
	const bool reads = output->fd >= 0 && !output->is_file && !output->is_broken;
	const short wanted = capture_output_is_pending(output) ? POLLOUT : 0;
	struct pollfd fds[] = {
		{ .fd = reads ? output->fd : -1, .events = wanted },
		{ .fd = recorder->over ? -1 : recorder->owner, .events = POLLIN },
		{ .fd = recorder->wake_fd, .events = POLLIN },
	};
	eventfd_t woken;

	if (poll(fds, sizeof(fds) / sizeof(fds[0]), milliseconds) <= 0)
		return;
	if (fds[0].revents & (POLLERR | POLLHUP | POLLNVAL))
		break_output(recorder, EPIPE);
	if (fds[1].revents & POLLIN)
		end(recorder, "the process that asked for it has ended");
	if (fds[2].revents & POLLIN)
		eventfd_read(recorder->wake_fd, &woken);
}

/* Writes what is left, for as long as is due to a reader that is slow. */
static void flush_all(struct recorder *recorder)
{
	const uint64_t until = now_ms() + GRACE_MS;

	flush(recorder);
	while (capture_output_is_pending(&recorder->output)) {
		if (now_ms() >= until) {
			break_output(recorder, ETIMEDOUT);
			return;
		}
		wait_awhile(recorder, PAUSE_BUSY_MS);
		flush(recorder);
	}
}

static void write_end(struct recorder *recorder)
{
	struct capture_output *output = &recorder->output;
	const struct recorder_counts counts = recorder_count(recorder);
	const struct pcapng_end last = { .began = recorder->began,
					 .ended = clock_ns(CLOCK_REALTIME),
					 .seen = counts.seen,
					 .matched = counts.matched,
					 .missed = counts.missed,
					 .written = counts.written,
					 .reason = recorder->reason };

	flush_all(recorder);
	if (output->is_broken)
		return;
	output->used = pcapng_end(output->bytes, &last);
	flush_all(recorder);
}

/* The frames that are there when no more can come. What a slow reader has no room for is lost. */
static void run_out(struct recorder *recorder)
{
	while (drain(recorder))
		flush_all(recorder);
	end(recorder, recorder->finish_reason);
}

static void run(struct recorder *recorder)
{
	while (!__atomic_load_n(&recorder->finish, __ATOMIC_ACQUIRE)) {
		const bool any = drain(recorder);

		flush(recorder);
		if (!recorder->over && now_ms() >= recorder->deadline)
			end(recorder, "the time is over");
		wait_awhile(recorder, any                ? PAUSE_BUSY_MS
				      : recorder->over ? PAUSE_OVER_MS
						       : PAUSE_IDLE_MS);
	}
	flush_all(recorder);
	run_out(recorder);
}

void *recorder_work(void *argument)
{
	struct recorder *recorder = argument;

	if (compile_filter(recorder) != 0 ||
	    (!recorder->capture->traces && prepare_output(recorder) != 0)) {
		tell(recorder, tell_started);
		return NULL;
	}
	recorder->began = clock_ns(CLOCK_REALTIME);
	recorder->deadline = now_ms() + (uint64_t)recorder->seconds * 1000;
	tell(recorder, tell_started);
	run(recorder);
	if (!recorder->capture->traces) {
		write_end(recorder);
		capture_output_close(&recorder->output);
	}
	tell(recorder, tell_ended);
	return NULL;
}
