/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The call descriptor of a ring changes while a worker uses the ring. The library is played here:
 * it only says which descriptor it has. Under a thread sanitizer, too.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_vhost.h>

#include <cmocka.h>

#include "port/vhost_rings.h"
#include "port/vhost_user.h"
#include "sync/retire.h"

#define CHANGES 400

struct scene {
	struct session *session;
	struct connection connection;
	struct port_queue queue;
	bool changed, stop;
	struct vring_avail avail;
};

static struct rte_vhost_vring vring; /* as the library tells it */

int rte_vhost_get_vhost_vring(int vid, uint16_t index, struct rte_vhost_vring *told)
{
	(void)vid;
	(void)index;
	*told = vring;
	return 0;
}

static int new_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static uint64_t taken(int fd)
{
	uint64_t count = 0;

	return eventfd_read(fd, &count) == 0 ? count : 0;
}

/* What the attaching of a split ring leaves, of a guest that wants every interrupt. */
static struct scene *set_up(int call_fd)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	struct ring *ring;

	assert_non_null(scene);
	scene->session = calloc(1, sizeof(*scene->session) + 2 * sizeof(struct ring));
	assert_non_null(scene->session);
	scene->session->retire = retire_new(1);
	assert_non_null(scene->session->retire);
	scene->session->ring_count = 2;
	scene->connection.session = scene->session;
	ring = &scene->session->rings[0];
	ring->state = RING_ATTACHED;
	ring->vq.avail = &scene->avail;
	ring->attached = &ring->vq;
	ring->call_fd = fcntl(call_fd, F_DUPFD_CLOEXEC, 0);
	scene->queue.driver = scene->session;
	return scene;
}

static void tear_down(struct scene *scene)
{
	if (scene->session->rings[0].call_fd >= 0)
		close(scene->session->rings[0].call_fd);
	retire_free(scene->session->retire);
	free(scene->session);
	free(scene);
}

/* As a worker that has used buffers of the ring. */
static bool notify(struct scene *scene)
{
	scene->session->rings[0].vq.published = true;
	return vhost_user_ops.notify(&scene->queue, PORT_TX);
}

static void *change(void *argument)
{
	struct scene *scene = argument;

	rings_change_call(&scene->connection, 0);
	__atomic_store_n(&scene->changed, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Until every worker has moved on, one may still write to the old descriptor. */
static void the_old_one_outlives_its_readers(void **state)
{
	int old = new_eventfd(), new = new_eventfd(), own;
	struct scene *scene = set_up(old);
	pthread_t thread;

	(void)state;
	own = scene->session->rings[0].call_fd;
	vring.callfd = new;
	retire_online(scene->session->retire, 0);
	assert_int_equal(pthread_create(&thread, NULL, change, scene), 0);
	while (__atomic_load_n(&scene->session->rings[0].call_fd, __ATOMIC_RELAXED) == own)
		usleep(100);
	usleep(20000);
	assert_false(__atomic_load_n(&scene->changed, __ATOMIC_ACQUIRE));
	assert_int_equal(eventfd_write(own, 1), 0);
	assert_int_equal(taken(old), 1);
	assert_true(notify(scene));
	assert_int_equal(taken(new), 1);
	retire_quiescent(scene->session->retire, 0);
	pthread_join(thread, NULL);
	/* What was said to the old one may not have been heard. */
	assert_int_equal(taken(new), 1);
	assert_int_equal(fcntl(own, F_GETFD), -1);
	retire_offline(scene->session->retire, 0);
	close(old);
	close(new);
	tear_down(scene);
}

/* A guest that polls has none. */
static void there_may_be_none(void **state)
{
	int old = new_eventfd();
	struct scene *scene = set_up(old);

	(void)state;
	vring.callfd = -1;
	change(scene);
	assert_int_equal(scene->session->rings[0].call_fd, -1);
	assert_false(notify(scene));
	vring.callfd = old;
	change(scene);
	assert_int_equal(taken(old), 1);
	assert_true(notify(scene));
	assert_int_equal(taken(old), 1);
	close(old);
	tear_down(scene);
}

static void *run_worker(void *argument)
{
	struct scene *scene = argument;

	retire_online(scene->session->retire, 0);
	while (!__atomic_load_n(&scene->stop, __ATOMIC_RELAXED)) {
		notify(scene);
		retire_quiescent(scene->session->retire, 0);
	}
	retire_offline(scene->session->retire, 0);
	return NULL;
}

/* The numbers of descriptors that were closed are used again at once, by others. */
static void nobody_else_is_interrupted(void **state)
{
	int first = new_eventfd(), stranger = -1;
	struct scene *scene = set_up(first);
	pthread_t worker;

	(void)state;
	assert_int_equal(pthread_create(&worker, NULL, run_worker, scene), 0);
	for (unsigned int i = 0; i < CHANGES; i++) {
		int call = new_eventfd(), own = scene->session->rings[0].call_fd;

		vring.callfd = call;
		change(scene);
		assert_true(taken(call) > 0);
		stranger = new_eventfd();
		assert_int_equal(stranger, own);
		sched_yield();
		assert_int_equal(taken(stranger), 0);
		close(stranger);
		close(call);
	}
	__atomic_store_n(&scene->stop, true, __ATOMIC_RELAXED);
	pthread_join(worker, NULL);
	close(first);
	tear_down(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_old_one_outlives_its_readers),
		cmocka_unit_test(there_may_be_none),
		cmocka_unit_test(nobody_else_is_interrupted),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
