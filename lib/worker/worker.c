/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The polling loop. Works with snapshot.h (what to poll), forward.c (what to do with the frames)
 * and egress.c (where they leave).
 */
#include "worker/worker.h"

#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_pause.h>

#include "frame/vnet.h"
#include "port/tx_lock.h"
#include "worker/egress.h"
#include "worker/egress_queue.h"
#include "worker/ingress.h"
#include "worker/sleep.h"
#include "worker/watch.h"
#include "worker/watchdog.h"

/*
 * Adaptive idling: polling goes on this long after a frame, then come growing naps, and sleep after
 * this long.
 */
#define NAP_AFTER_US 50
#define SLEEP_AFTER_US 10000

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
	worker->waiting = calloc(ports, sizeof(*worker->waiting));
	worker->outgoing = outgoing_new(worker);
	worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	worker->epoll = -1;
	if (worker->wake_fd < 0 || worker->burst == NULL ||
	    worker->forward.staged == NULL || worker->forward.stages == NULL ||
	    worker->likely == NULL || worker->waiting == NULL || worker->outgoing == NULL) {
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
	free(worker->waiting);
	free(worker->outgoing);
	if (worker->wake_fd >= 0)
		close(worker->wake_fd);
	sleep_forget(worker);
	free(worker);
}

void worker_wake(struct worker *worker)
{
	eventfd_write(worker->wake_fd, 1);
}

void worker_stop(struct worker *worker)
{
	__atomic_store_n(&worker->stop, true, __ATOMIC_RELAXED);
	worker_wake(worker);
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

/* Checks the offload headers of a burst in which some ask for something. */
static void check_offloads(struct burst *burst)
{
	for (uint16_t i = 0; i < burst->count; i++) {
		struct frame *frame = &burst->frames[i];

		if (!vnet_is_plain(&frame->vnet) && frame->drop == DROP_NO_DESTINATION &&
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
	/* While another worker transmits there, it looks ahead for both. */
	if (outlook->likely != NULL && port_try_lock_tx(outlook->likely)) {
		outlook->likely->ops->expect(outlook->likely, PORT_TX, step);
		port_unlock_tx(outlook->likely);
	}
	if (outlook->next != NULL && step > 0)
		outlook->next->ops->expect(outlook->next, PORT_RX, step - 1);
}

/* Frames of this port went to that port last; mostly they do so again. */
static struct port_queue *likely_destination(const struct worker *worker,
					     const struct snapshot *snapshot, uint16_t from)
{
	uint16_t number = worker->likely[from];
	struct port *port = number < snapshot->port_count ? snapshot->ports[number].port : NULL;

	if (port == NULL || port->ops->expect == NULL)
		return NULL;
	return &port->queues[__atomic_load_n(&port->tx_map[0], __ATOMIC_RELAXED)];
}

static inline uint16_t receive(struct worker *worker, struct port_queue *queue, uint16_t max,
			       const struct outlook *outlook)
{
	uint16_t count = queue->ops->rx_burst(queue, worker->burst, max);

	if (count > 0) {
		expect(outlook, 1);
		if (unlikely(worker->burst->offloads))
			check_offloads(worker->burst);
	}
	return count;
}

/* As many as the port's limits let in. */
static __rte_noinline uint16_t receive_limited(struct worker *worker, struct port_queue *queue,
					       const struct outlook *outlook, bool pauses)
{
	struct ingress_visit visit;
	uint16_t max = ingress_begin(worker, queue, pauses, &visit);
	uint16_t count = receive(worker, queue, max, outlook);

	ingress_end(worker, queue, &visit, count);
	return count;
}

/* The frames of a burst, which have their verdicts, go to where they are staged for. */
static inline void leave(struct worker *worker, const struct snapshot *snapshot,
			 const struct port_queue *queue)
{
	const struct snapshot_port *from = &snapshot->ports[queue->port->number];

	if (likely(from->taps == NULL)) {
		egress_burst(worker, snapshot);
		return;
	}
	watch_received(worker, from, queue);
	egress_burst(worker, snapshot);
	watch_forwarded(worker, from);
}

static inline uint16_t visit(struct worker *worker, const struct snapshot *snapshot,
			     struct port_queue *queue, const struct outlook *outlook)
{
	const uint16_t from = queue->port->number;
	struct burst *burst = worker->burst;
	uint16_t count;

	if (likely(!ingress_is_limited(queue)))
		count = receive(worker, queue, BURST_MAX, outlook);
	else
		count = receive_limited(worker, queue, outlook, snapshot->ports[from].pauses);
	if (count == 0)
		return 0;
	worker->forward.table = &snapshot->table;
	forward_burst(&worker->forward, burst, from, &queue->counters[worker->index].rx);
	expect(outlook, 2);
	if (worker->forward.staged_count > 0)
		worker->likely[from] = worker->forward.staged[0];
	leave(worker, snapshot, queue);
	queue->ops->rx_release(queue);
	worker->notices[worker->notice_count++] = (struct notice){ queue, PORT_RX };
	if (worker->notice_count >= NOTICES_DUE)
		worker_notify(worker);
	return count;
}

uint16_t worker_visit(struct worker *worker, const struct snapshot *snapshot,
		      struct port_queue *queue, struct port_queue *next)
{
	struct outlook outlook = {
		.likely = likely_destination(worker, snapshot, queue->port->number),
	};

	worker->start = rte_rdtsc();
	if (next != NULL && next->ops->expect != NULL)
		outlook.next = next;
	expect(&outlook, 0);
	return visit(worker, snapshot, queue, &outlook);
}

static void count_burst(struct worker_counters *counters, uint16_t frames, uint64_t cycles)
{
	unsigned int class = frames == 1 ? 0 : 32u - (unsigned int)__builtin_clz(frames - 1u);

	counter_add(&counters->packets, frames);
	counter_add(&counters->busy_cycles, cycles);
	counter_add(&counters->bursts[class], 1);
}

/* What the control thread sends goes on as if its port had sent it. */
static uint16_t send_injected(struct worker *worker, const struct snapshot *snapshot)
{
	uint16_t frames = 0;

	worker->forward.table = &snapshot->table;
	while (injector_has_frames(&worker->injector)) {
		const uint64_t start = rte_rdtsc();
		const struct port *port;
		uint64_t serial;
		uint16_t number;

		worker->start = start;
		injector_take(&worker->injector, worker->burst, &number, &serial);
		port = number < snapshot->port_count ? snapshot->ports[number].port : NULL;
		if (port == NULL || port->serial != serial)
			continue;
		forward_burst(&worker->forward, worker->burst, number,
			      &port->queues[0].counters[worker->index].rx);
		leave(worker, snapshot, &port->queues[0]);
		/* Each frame, and the visits, find room for as many notices as theirs may be. */
		worker_notify(worker);
		count_burst(&worker->counters, 1, rte_rdtsc() - start);
		frames++;
	}
	return frames;
}

/* ---- which queues a round visits ---- */

/* Behind all others that are idle, for it was visited last. */
static void add_idle(struct snapshot_worker *mine, struct port_queue *queue, uint64_t visited)
{
	queue->visited = visited;
	queue->next_idle = NULL;
	if (mine->idle_first == NULL)
		mine->idle_first = queue;
	else
		mine->idle_last->next_idle = queue;
	mine->idle_last = queue;
}

static inline bool found_nothing(const struct port_queue *queue, uint16_t frames)
{
	return frames == 0 && queue->held_since == 0;
}

static uint16_t visit_active(struct worker *worker, const struct snapshot *snapshot,
			     struct snapshot_worker *mine)
{
	uint16_t frames = 0, i = 0;

	while (i < mine->active) {
		struct port_queue *queue = mine->queues[i];
		struct port_queue *next = mine->queues[i + 1 < mine->active ? i + 1 : 0];
		const uint16_t count = worker_visit(worker, snapshot, queue,
						    next != queue ? next : NULL);

		if (count > 0)
			count_burst(&worker->counters, count, rte_rdtsc() - worker->start);
		frames = (uint16_t)(frames | count);
		queue->empty = found_nothing(queue, count) ? queue->empty + 1 : 0;
		if (queue->empty < IDLE_VISITS) {
			i++;
			continue;
		}
		mine->queues[i] = mine->queues[--mine->active];
		add_idle(mine, queue, worker->start);
	}
	return frames;
}

/* How many idle queues have their turn in this round, however short it is. */
static uint16_t idle_share(struct snapshot_worker *mine, uint16_t idle)
{
	const uint32_t credit = (uint32_t)mine->credit + idle;

	if (mine->active == 0)
		return idle;
	mine->credit = (uint16_t)(credit % IDLE_ROUNDS);
	return (uint16_t)(credit / IDLE_ROUNDS);
}

static uint16_t visit_idle(struct worker *worker, const struct snapshot *snapshot,
			   struct snapshot_worker *mine)
{
	const uint64_t longest = IDLE_WAIT_US * worker->cycles_per_us;
	const uint16_t idle = mine->queue_count - mine->active;
	const uint16_t share = idle_share(mine, idle);
	const struct outlook nothing = { .next = NULL };
	uint64_t now = rte_rdtsc();
	const uint64_t round = now - worker->round_start;
	uint16_t frames = 0;

	worker->round_start = worker->start = now;
	for (uint16_t i = 0; i < idle; i++) {
		struct port_queue *queue = mine->idle_first;
		uint16_t count;

		/* Can it wait as long as another round like the last would take? */
		if (i >= share && now - queue->visited + round < longest)
			break;
		mine->idle_first = queue->next_idle;
		count = visit(worker, snapshot, queue, &nothing);
		if (likely(found_nothing(queue, count))) {
			add_idle(mine, queue, now);
			continue;
		}
		queue->empty = 0;
		mine->queues[mine->active++] = queue;
		if (count > 0) {
			const uint64_t start = now;

			now = rte_rdtsc();
			count_burst(&worker->counters, count, now - start);
		}
		frames = (uint16_t)(frames | count);
	}
	return frames;
}

uint16_t worker_iterate(struct worker *worker)
{
	struct snapshot *snapshot = __atomic_load_n(worker->current, __ATOMIC_ACQUIRE);
	struct snapshot_worker *mine = &snapshot->workers[worker->index];
	uint16_t frames = 0;
	uint64_t start;

	worker->wait = UINT64_MAX;
	/* First, as what waits for ports that are gone, or in other VLANs now, goes by that. */
	if (unlikely(worker->waiting_count > 0))
		frames = egress_drain(worker, snapshot);
	if (unlikely(injector_has_frames(&worker->injector)))
		frames = (uint16_t)(frames | send_injected(worker, snapshot));
	frames = (uint16_t)(frames | visit_active(worker, snapshot, mine));
	if (mine->active < mine->queue_count)
		frames = (uint16_t)(frames | visit_idle(worker, snapshot, mine));
	if (worker->notice_count > 0) {
		start = rte_rdtsc();
		worker_notify(worker);
		counter_add(&worker->counters.busy_cycles, rte_rdtsc() - start);
	}
	return frames;
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
	const uint64_t nap_after = NAP_AFTER_US * worker->cycles_per_us;
	const uint64_t sleep_after = SLEEP_AFTER_US * worker->cycles_per_us;
	uint64_t last_frame = rte_rdtsc(), last_tick = 0, last_count = last_frame;
	uint64_t busy = 0, slept = 0;
	long nap_length = NAP_FIRST_NS;

	/* Naps are shorter than the kernel's usual slack of 50 us. */
	prctl(PR_SET_TIMERSLACK, 1000);
	retire_online(worker->retire, worker->index);
	watchdog_begin(worker, true);
	while (!__atomic_load_n(&worker->stop, __ATOMIC_RELAXED)) {
		uint16_t frames = worker_iterate(worker);
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
		} else if (worker->idle == IDLE_ADAPTIVE && now - last_frame > nap_after) {
			nap_length = sleep_nap(worker, nap_length);
			/* A guest that wakes us for nothing does so once a nap. */
			if (now - last_frame > sleep_after)
				sleep_until_woken(worker);
			slept = rte_rdtsc() - now;
		}
	}
	watchdog_begin(worker, false);
	retire_offline(worker->retire, worker->index);
	return 0;
}
