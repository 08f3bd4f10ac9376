/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The event loop of the control thread.
 *
 * libevent is used without its locks: other threads reach the loop only through a list behind a
 * mutex and an eventfd which wakes the loop. The mutex is held for a few instructions and nothing
 * is called under it, so it can be taken from any callback of any library.
 */
#include "base/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

struct posted {
	struct posted *next;
	void (*run)(void *argument);
	void *argument;
};

struct loop {
	struct event_base *base;
	struct event *wake;
	int wake_fd;
	atomic_bool stop;      /* w: any thread, r: the loop */
	pthread_mutex_t lock;  /* guards the list */
	struct posted *first;
	struct posted **last;
};

static struct posted *take_posted(struct loop *loop)
{
	struct posted *list;

	pthread_mutex_lock(&loop->lock);
	list = loop->first;
	loop->first = NULL;
	loop->last = &loop->first;
	pthread_mutex_unlock(&loop->lock);
	return list;
}

/*
 * Runs what was posted before this call. What that posts in turn wakes the loop again, so that
 * other events have their turn in between.
 */
static void wake_up(evutil_socket_t fd, short events, void *argument)
{
	struct loop *loop = argument;
	struct posted *list;
	eventfd_t count;
	bool stop;

	(void)events;
	/* Read before the list is taken: a post after that point then wakes the loop again. */
	(void)eventfd_read(fd, &count);
	/* And this: who stops the loop may count on all that was posted earlier. */
	stop = atomic_load(&loop->stop);
	list = take_posted(loop);
	while (list != NULL) {
		struct posted *post = list;

		list = post->next;
		post->run(post->argument);
		free(post);
	}
	if (stop)
		event_base_loopbreak(loop->base);
}

struct loop *loop_new(void)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (loop == NULL)
		return NULL;
	loop->last = &loop->first;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		goto free_loop;
	loop->base = event_base_new();
	if (loop->base == NULL)
		goto close_fd;
	loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, wake_up, loop);
	if (loop->wake == NULL)
		goto free_base;
	if (event_add(loop->wake, NULL) != 0)
		goto free_event;
	pthread_mutex_init(&loop->lock, NULL);
	/* libevent writes to sockets with writev, which knows no MSG_NOSIGNAL. */
	signal(SIGPIPE, SIG_IGN);
	return loop;

free_event:
	event_free(loop->wake);
free_base:
	event_base_free(loop->base);
close_fd:
	close(loop->wake_fd);
free_loop:
	free(loop);
	return NULL;
}

void loop_free(struct loop *loop)
{
	struct posted *list;

	if (loop == NULL)
		return;
	list = take_posted(loop);
	while (list != NULL) {
		struct posted *post = list;

		list = post->next;
		free(post);
	}
	event_free(loop->wake);
	event_base_free(loop->base);
	close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

int loop_run(struct loop *loop)
{
	int rc = event_base_dispatch(loop->base);

	atomic_store(&loop->stop, false);
	return rc < 0 ? -EIO : 0;
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stop, true);
	/* Fails only when the counter is full, and then the loop is awake anyway. */
	(void)eventfd_write(loop->wake_fd, 1);
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

int loop_post(struct loop *loop, void (*run)(void *argument), void *argument)
{
	struct posted *post = malloc(sizeof(*post));

	if (post == NULL)
		return -ENOMEM;
	post->next = NULL;
	post->run = run;
	post->argument = argument;
	pthread_mutex_lock(&loop->lock);
	*loop->last = post;
	loop->last = &post->next;
	pthread_mutex_unlock(&loop->lock);
	(void)eventfd_write(loop->wake_fd, 1);
	return 0;
}

static void timer_fired(evutil_socket_t fd, short events, void *argument)
{
	struct loop_timer *timer = argument;

	(void)fd;
	(void)events;
	/* The owner may stop and free the timer in here, so it is not touched afterwards. */
	timer->run(timer->argument);
}

static int start(struct loop_timer *timer, struct loop *loop, int number, short events,
		 const struct timeval *period, void (*run)(void *argument), void *argument)
{
	timer->run = run;
	timer->argument = argument;
	timer->event = event_new(loop->base, number, events | EV_PERSIST, timer_fired, timer);
	if (timer->event == NULL)
		return -ENOMEM;
	if (event_add(timer->event, period) != 0) {
		loop_timer_stop(timer);
		return -ENOMEM;
	}
	return 0;
}

int loop_timer_start(struct loop_timer *timer, struct loop *loop, unsigned int milliseconds,
		     void (*run)(void *argument), void *argument)
{
	struct timeval period = {
		.tv_sec = milliseconds / 1000,
		.tv_usec = milliseconds % 1000 * 1000,
	};

	return start(timer, loop, -1, 0, &period, run, argument);
}

void loop_timer_stop(struct loop_timer *timer)
{
	if (timer->event == NULL)
		return;
	event_free(timer->event);
	timer->event = NULL;
}

int loop_signal_start(struct loop_timer *signal, struct loop *loop, int number,
		      void (*run)(void *argument), void *argument)
{
	return start(signal, loop, number, EV_SIGNAL, NULL, run, argument);
}
