/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Napping, and sleeping on descriptors; worker/sleep.h is the contract.
 *
 * Each sleep has an epoll instance of its own. A descriptor that is closed meanwhile may be known
 * to the VMM, too, and would stay registered; with the instance its registration ends. That takes
 * some time, so it waits until the frames that the worker woke up for are gone.
 */
#include "worker/sleep.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 64

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t fall_asleep(struct worker *worker)
{
	__atomic_store_n(&worker->sleeps, true, __ATOMIC_RELAXED);
	retire_offline(worker->retire, worker->index);
	return now_ns();
}

static void wake_up(struct worker *worker, uint64_t asleep)
{
	const uint64_t now = now_ns();

	retire_online(worker->retire, worker->index);
	__atomic_store_n(&worker->sleeps, false, __ATOMIC_RELAXED);
	counter_add(&worker->counters.sleep_ns, now - asleep);
}

void sleep_forget(struct worker *worker)
{
	if (worker->epoll >= 0)
		close(worker->epoll);
	worker->epoll = -1;
}

long sleep_nap(struct worker *worker, long length)
{
	const bool is_awaited = worker->wait < (uint64_t)length;
	const struct timespec pause = { .tv_nsec = is_awaited ? (long)worker->wait : length };
	const uint64_t asleep = fall_asleep(worker);

	sleep_forget(worker);
	nanosleep(&pause, NULL);
	wake_up(worker, asleep);
	return length * 2 > NAP_LAST_NS ? NAP_LAST_NS : length * 2;
}

/* Milliseconds that it may take. A limiter's time was told before the last nap. */
static int longest_sleep(const struct worker *worker)
{
	const uint64_t wait = worker->wait / 1000000;

	if (wait > SLEEP_LAST_MS)
		return SLEEP_LAST_MS;
	return wait > 0 ? (int)wait - 1 : 0;
}

/* Has the worker found all its queues empty, but for those that a limiter holds back? */
static bool all_idle(const struct snapshot_worker *mine)
{
	for (uint16_t i = 0; i < mine->active; i++)
		if (mine->queues[i]->held_since == 0)
			return false;
	return true;
}

static int add(int epoll, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/* Returns 0 if all idle queues that may ever tell of a frame are watched. */
static int watch_queues(int epoll, const struct snapshot_worker *mine)
{
	for (struct port_queue *queue = mine->idle_first; queue != NULL; queue = queue->next_idle) {
		int fd = queue->ops->watch != NULL ? queue->ops->watch(queue) : -ENOTSUP;

		if (fd != -ENOTCONN && (fd < 0 || add(epoll, fd, EPOLLIN | EPOLLET) != 0))
			return -1;
	}
	return 0;
}

/* What was told before counts as an edge, too. False if it does not end. */
static bool forget_edges(int epoll, const struct snapshot_worker *mine)
{
	struct epoll_event events[EVENTS];

	for (int i = 0; i <= mine->queue_count / EVENTS + 1; i++)
		if (epoll_wait(epoll, events, EVENTS, 0) <= 0)
			return true;
	return false;
}

/* Returns whether there is still nothing to do. */
static bool arm_queues(const struct snapshot_worker *mine)
{
	struct port_queue *queue;

	for (queue = mine->idle_first; queue != NULL; queue = queue->next_idle)
		if (queue->ops->arm != NULL)
			queue->ops->arm(queue);
	/* What we ask for must be seen before we look (virtio 1.2, 2.7.13.4.1 and 2.8.21.3.1). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (queue = mine->idle_first; queue != NULL; queue = queue->next_idle)
		if (queue->ops->is_waiting != NULL && queue->ops->is_waiting(queue))
			return false;
	return true;
}

void sleep_until_woken(struct worker *worker)
{
	const int longest = longest_sleep(worker);
	const struct snapshot_worker *mine;
	struct epoll_event event;
	eventfd_t count;

	if (longest == 0)
		return;
	/* Whatever we were woken for until now is looked at below; what comes later lasts. */
	eventfd_read(worker->wake_fd, &count);
	mine = &__atomic_load_n(worker->current, __ATOMIC_ACQUIRE)->workers[worker->index];
	if (!all_idle(mine) || injector_has_frames(&worker->injector) ||
	    __atomic_load_n(&worker->stop, __ATOMIC_RELAXED))
		return;
	sleep_forget(worker);
	worker->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (worker->epoll >= 0 && watch_queues(worker->epoll, mine) == 0 &&
	    forget_edges(worker->epoll, mine) &&
	    add(worker->epoll, worker->wake_fd, EPOLLIN) == 0 && arm_queues(mine)) {
		const uint64_t asleep = fall_asleep(worker);

		epoll_wait(worker->epoll, &event, 1, longest);
		wake_up(worker, asleep);
	}
}
