/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A worker: one polling lcore with its queues, its frames and its counters.
 *
 * It never blocks, allocates or logs while it works, and takes no lock but that of a tx side which
 * it shares with other workers (port/tx_lock.h). Each iteration it loads the snapshot, sends what
 * the control thread injected, visits its queues (rx, forward, egress, release, notify) and reports
 * quiescence. `adaptive` workers sleep when there was no frame for a while (worker/sleep.h).
 *
 * A queue is idle when many visits in a row found nothing. While others have frames, the idle ones
 * are visited in turns, so that hundreds of them cost little; the first frame makes a queue active
 * again. One whose frames a limiter holds back is not idle.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "bridge/forward.h"
#include "frame/frame.h"
#include "sync/retire.h"
#include "worker/inject.h"
#include "worker/snapshot.h"

#define WORKERS_MAX 64
#define WORKER_LATE_US 5
#define WORKER_BURSTS 7 /* classes of burst sizes: 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64 */

/*
 * After this many visits in a row that found nothing a queue is idle. It is visited in one round of
 * IDLE_ROUNDS then, or more often where that would be later than IDLE_WAIT_US.
 */
#define IDLE_VISITS 64
#define IDLE_ROUNDS 16
#define IDLE_WAIT_US 50

enum worker_idle { IDLE_ADAPTIVE, IDLE_BUSY };

/* w: worker, r: anyone */
struct worker_counters {
	uint64_t iterations;
	uint64_t packets;      /* frames received */
	uint64_t busy_cycles;  /* of visits that returned a frame, TSC */
	uint64_t idle_cycles;  /* the rest, sleep apart, TSC */
	uint64_t sleep_ns;
	uint64_t bursts[WORKER_BURSTS];
};

/* A queue whose other side may want to be told, once the burst is done. */
struct notice {
	struct port_queue *queue;
	enum port_direction direction;
};

/* A port for which frames wait in the worker's queue; one that has gone is told by its serial. */
struct worker_waiting {
	uint64_t serial;
	uint16_t port;
};

/*
 * One burst to one port touches at most BURST_MAX of its queues, and there is the receiving queue.
 */
#define NOTICES_MAX (2 * BURST_MAX + 1)

struct worker {
	/* Set before the worker starts. */
	uint16_t index;
	uint16_t cpu;
	enum worker_idle idle;
	struct retire *retire;
	struct snapshot *const *current; /* where the control thread publishes */
	struct forward forward;
	struct burst *burst;
	uint64_t cycles_per_us;

	bool stop;   /* w: control, r: worker */
	int wake_fd; /* an eventfd; w: anyone, r: worker */

	/* For the watchdog. w: worker, r: control */
	pthread_t thread;
	bool runs;
	bool sleeps;
	/* The same. w: control */
	uint64_t seen_iterations;
	uint32_t seen_asleep; /* looks in a row that found no more, while it slept */
	uint32_t seen_still;  /* and while it should have made some */
	uint64_t freed;      /* times that it was interrupted */

	/* The worker's own. */
	uint16_t *likely; /* by port: where its frames went last */
	uint64_t start;   /* of this visit, TSC */
	uint64_t now;     /* limiter_now(), as it was at `asked` */
	uint64_t asked;   /* TSC */
	uint64_t wait;    /* ns until frames that a limit holds back may go on */
	uint16_t waiting_count;
	struct worker_waiting *waiting; /* for which frames wait: worker/egress_queue.h */
	uint64_t round_start; /* when the last round came to its idle queues, TSC */
	int epoll;        /* of its last sleep; -1: closed */
	uint16_t notice_count;
	struct notice notices[NOTICES_MAX];
	struct outgoing *outgoing; /* egress's scratch memory */
	struct capture *traced;    /* that follows frames of this burst; NULL: none does */

	struct worker_counters counters;
	struct learner learner;   /* w: worker and control, as bridge/fdb.h says */
	struct injector injector; /* the same, as worker/inject.h says */
};

/*
 * A worker that is not running yet. `ports` is the most ports that a snapshot will have.
 * Returns NULL without memory. Control thread.
 */
struct worker *worker_new(uint16_t index, uint16_t cpu, enum worker_idle idle, uint16_t ports,
			  struct retire *retire, struct snapshot *const *current);
void worker_free(struct worker *worker);

/* The body of a worker's lcore, for rte_eal_remote_launch; argument is the worker. Returns 0. */
int worker_run(void *argument);

/*
 * Has a worker that sleeps look at all that there is, as one does that is about to sleep. For what
 * no queue tells of: a snapshot, an injected frame, a queue that can be watched now. Any thread.
 */
void worker_wake(struct worker *worker);

/* Has worker_run return. Any thread. */
void worker_stop(struct worker *worker);

/*
 * One iteration, but for reporting quiescence. Returns 0 if there was no frame. Part of worker_run;
 * tests call it alone.
 */
uint16_t worker_iterate(struct worker *worker);

/*
 * One visit of one queue; `next` is visited after it (NULL: not known). Returns how many frames it
 * had. Notices may be left for worker_notify. Part of worker_run; tests call it alone.
 */
uint16_t worker_visit(struct worker *worker, const struct snapshot *snapshot,
		      struct port_queue *queue, struct port_queue *next);

/* The time for limits. It is behind by up to WORKER_LATE_US, as asking the kernel takes a while. */
static inline uint64_t worker_now(struct worker *worker)
{
	if (worker->start - worker->asked >= WORKER_LATE_US * worker->cycles_per_us) {
		worker->now = limiter_now();
		worker->asked = worker->start;
	}
	return worker->now;
}

/* Tells those in worker->notices, behind one fence. For egress. */
void worker_notify(struct worker *worker);

/* The name of an idle mode, as in the configuration. */
extern const char *const worker_idle_names[];
