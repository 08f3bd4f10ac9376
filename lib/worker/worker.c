/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The polling loop. Works with snapshot.h (what to poll), forward.c (what to do with the frames)
 * and egress.c (where they leave).
 */
#include "worker/worker.h"

#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_pause.h>

#include "frame/vnet.h"
#include "worker/egress.h"

/*
 * Adaptive idling: polling goes on this long after a frame, then naps grow from the first to the
 * last.
 */
#define IDLE_AFTER_US 50
#define NAP_FIRST_NS 5000
#define NAP_LAST_NS 100000

/* Interrupts wait for the end of the round, to share one fence, but for no more than this many. */
#define NOTICES_DUE 16

/* How often the clock and the learner's memory are renewed. */
#define TICK_US 100000

const char *const worker_idle_names[] = { "adaptive", "busy", NULL };

struct worker *worker_new(uint16_t index, uint16_t cpu, enum worker_idle idle, uint16_t ports,
			  struct retire *retire, struct snapshot *const *current)
{
	struct worker *worker = aligned_alloc(64, (sizeof(*worker) + 63) / 64 * 64);

	if (worker == NULL)
		return NULL;
	memset(worker, 0, sizeof(*worker));
	worker->index = index;
	worker->cpu = cpu;
	worker->idle = idle;
	worker->retire = retire;
	worker->current = current;
	worker->cycles_per_us = rte_get_tsc_hz() / 1000000;
	worker->burst = burst_new();
	worker->forward.learner = &worker->learner;
	worker->forward.staged = calloc(ports, sizeof(*worker->forward.staged));
	worker->forward.stages = calloc(ports, sizeof(*worker->forward.stages));
	worker->likely = calloc(ports, sizeof(*worker->likely));
	if (worker->burst == NULL || worker->forward.staged == NULL ||
	    worker->forward.stages == NULL || worker->likely == NULL) {
		worker_free(worker);
		return NULL;
	}
	return worker;
}

void worker_free(struct worker *worker)
{
	if (worker == NULL)
		return;
	burst_free(worker->burst);
	free(worker->forward.staged);
	free(worker->forward.stages);
	free(worker->likely);
	free(worker);
}

void worker_notify(struct worker *worker)
{
	/*
	 * What was published must be seen before the wish for an interrupt is read (virtio 1.2,
	 * 2.7.7.2).
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (uint16_t i = 0; i < worker->notice_count; i++) {
		struct port_queue *queue = worker->notices[i].queue;
		struct port_counters *counters = &queue->counters[worker->index];

		if (queue->ops->notify == NULL ||
		    !queue->ops->notify(queue, worker->notices[i].direction))
			continue;
		if (worker->notices[i].direction == PORT_RX)
			counter_add(&counters->rx.notifications, 1);
		else
			counter_add(&counters->tx.notifications, 1);
	}
	worker->notice_count = 0;
}

/* Checks the offload headers; most frames have none. */
static void check_offloads(struct burst *burst)
{
	for (uint16_t i = 0; i < burst->count; i++) {
		struct frame *frame = &burst->frames[i];

		if (likely(vnet_is_plain(&frame->vnet)))
			memset(&frame->vnet, 0, sizeof(frame->vnet));
		else if (frame->drop == DROP_NO_DESTINATION &&
			 vnet_check(frame, burst->allowed) != 0)
			frame_drop(frame, DROP_BAD_OFFLOAD);
	}
}

/* What a visit asks for ahead of need: the queue that comes next, and the one frames may go to. */
struct outlook {
	struct port_queue *next;
	struct port_queue *likely;
};

static inline void expect(const struct outlook *outlook, unsigned int step)
{
	if (outlook->likely != NULL)
		outlook->likely->ops->expect(outlook->likely, PORT_TX, step);
	if (outlook->next != NULL && step > 0)
		outlook->next->ops->expect(outlook->next, PORT_RX, step - 1);
}

/* Frames of this port went to that port last; mostly they do so again. */
static struct port_queue *likely_destination(const struct worker *worker,
					     const struct snapshot *snapshot, uint16_t from)
{
	uint16_t number = worker->likely[from];
	struct port *port = number < snapshot->port_count ? snapshot->ports[number] : NULL;

	if (port == NULL || port->ops->expect == NULL)
		return NULL;
	return &port->queues[__atomic_load_n(&port->tx_map[0], __ATOMIC_RELAXED)];
}

uint16_t worker_visit(struct worker *worker, const struct snapshot *snapshot,
		      struct port_queue *queue, struct port_queue *next)
{
	const uint16_t from = queue->port->number;
	struct burst *burst = worker->burst;
	struct outlook outlook = { .likely = likely_destination(worker, snapshot, from) };
	uint16_t count;

	if (next != NULL && next->ops->expect != NULL)
		outlook.next = next;
	expect(&outlook, 0);
	count = queue->ops->rx_burst(queue, burst, BURST_MAX);
	if (count == 0)
		return 0;
	expect(&outlook, 1);
	check_offloads(burst);
	worker->forward.table = &snapshot->table;
	forward_burst(&worker->forward, burst, from, &queue->counters[worker->index].rx);
	expect(&outlook, 2);
	if (worker->forward.staged_count > 0)
		worker->likely[from] = worker->forward.staged[0];
	egress_burst(worker, snapshot);
	queue->ops->rx_release(queue);
	worker->notices[worker->notice_count++] = (struct notice){ queue, PORT_RX };
	if (worker->notice_count >= NOTICES_DUE)
		worker_notify(worker);
	return count;
}

static void count_burst(struct worker_counters *counters, uint16_t frames, uint64_t cycles)
{
	unsigned int class = frames == 1 ? 0 : 32u - (unsigned int)__builtin_clz(frames - 1u);

	counter_add(&counters->packets, frames);
	counter_add(&counters->busy_cycles, cycles);
	counter_add(&counters->bursts[class], 1);
}

static uint16_t iterate(struct worker *worker)
{
	const struct snapshot *snapshot = __atomic_load_n(worker->current, __ATOMIC_ACQUIRE);
	const struct snapshot_worker *mine = &snapshot->workers[worker->index];
	uint16_t frames = 0;
	uint64_t start;

	for (uint16_t i = 0; i < mine->queue_count; i++) {
		struct port_queue *next =
			mine->queues[i + 1 < mine->queue_count ? i + 1 : 0];
		uint16_t count;

		start = rte_rdtsc();
		count = worker_visit(worker, snapshot, mine->queues[i], next);
		if (count > 0)
			count_burst(&worker->counters, count, rte_rdtsc() - start);
		frames = (uint16_t)(frames | count);
	}
	if (worker->notice_count > 0) {
		start = rte_rdtsc();
		worker_notify(worker);
		counter_add(&worker->counters.busy_cycles, rte_rdtsc() - start);
	}
	return frames;
}

/* Sleeps with nothing armed. Returns the next nap's length. */
static long nap(struct worker *worker, long length)
{
	struct timespec before, after, pause = { .tv_nsec = length };
	long slept;

	retire_offline(worker->retire, worker->index);
	clock_gettime(CLOCK_MONOTONIC, &before);
	nanosleep(&pause, NULL);
	clock_gettime(CLOCK_MONOTONIC, &after);
	retire_online(worker->retire, worker->index);
	slept = (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec;
	counter_add(&worker->counters.sleep_ns, (uint64_t)slept);
	return length * 2 > NAP_LAST_NS ? NAP_LAST_NS : length * 2;
}

static void tick(struct worker *worker)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	worker->forward.now = (uint16_t)now.tv_sec;
	learner_forget(&worker->learner);
}

int worker_run(void *argument)
{
	struct worker *worker = argument;
	uint64_t idle_after = IDLE_AFTER_US * worker->cycles_per_us;
	uint64_t last_frame = rte_rdtsc(), last_tick = 0, last_count = last_frame;
	uint64_t busy = 0, slept = 0;
	long nap_length = NAP_FIRST_NS;

	/* Naps are shorter than the kernel's usual slack of 50 us. */
	prctl(PR_SET_TIMERSLACK, 1000);
	retire_online(worker->retire, worker->index);
	while (!__atomic_load_n(&worker->stop, __ATOMIC_RELAXED)) {
		uint16_t frames = iterate(worker);
		uint64_t now = rte_rdtsc();

		retire_quiescent(worker->retire, worker->index);
		/* Whatever was neither busy nor sleep is idle. */
		counter_add(&worker->counters.idle_cycles,
			    now - last_count - slept - (worker->counters.busy_cycles - busy));
		busy = worker->counters.busy_cycles;
		last_count = now;
		slept = 0;
		counter_add(&worker->counters.iterations, 1);
		if (unlikely(now - last_tick > TICK_US * worker->cycles_per_us)) {
			last_tick = now;
			tick(worker);
		}
		if (frames > 0) {
			last_frame = now;
			nap_length = NAP_FIRST_NS;
		} else if (worker->idle == IDLE_ADAPTIVE && now - last_frame > idle_after) {
			nap_length = nap(worker, nap_length);
			slept = rte_rdtsc() - now;
		}
	}
	retire_offline(worker->retire, worker->index);
	return 0;
}
