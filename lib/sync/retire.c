/* SPDX-License-Identifier: BSD-3-Clause */
/* Retiring over rte_rcu_qsbr; sync/retire.h is the contract. */
#include "sync/retire.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <time.h>

#include <rte_rcu_qsbr.h>

#include "base/log.h"

struct retiree {
	uint64_t token;
	void (*run)(void *argument);
	void *argument;
	STAILQ_ENTRY(retiree) next;
};

struct retire {
	struct rte_rcu_qsbr *qsbr;
	STAILQ_HEAD(, retiree) waiting; /* by token, oldest first; control thread only */
};

struct retire *retire_new(unsigned int workers)
{
	size_t size = rte_rcu_qsbr_get_memsize(workers);
	struct retire *retire = calloc(1, sizeof(*retire));

	if (retire == NULL)
		return NULL;
	STAILQ_INIT(&retire->waiting);
	retire->qsbr = aligned_alloc(RTE_CACHE_LINE_SIZE,
				     RTE_ALIGN_CEIL(size, RTE_CACHE_LINE_SIZE));
	if (retire->qsbr == NULL || rte_rcu_qsbr_init(retire->qsbr, workers) != 0) {
		free(retire->qsbr);
		free(retire);
		return NULL;
	}
	for (unsigned int worker = 0; worker < workers; worker++)
		rte_rcu_qsbr_thread_register(retire->qsbr, worker);
	return retire;
}

void retire_free(struct retire *retire)
{
	if (retire == NULL)
		return;
	retire_poll(retire);
	free(retire->qsbr);
	free(retire);
}

void retire_online(struct retire *retire, unsigned int worker)
{
	rte_rcu_qsbr_thread_online(retire->qsbr, worker);
}

void retire_offline(struct retire *retire, unsigned int worker)
{
	rte_rcu_qsbr_thread_offline(retire->qsbr, worker);
}

void retire_quiescent(struct retire *retire, unsigned int worker)
{
	rte_rcu_qsbr_quiescent(retire->qsbr, worker);
}

void retire_wait(struct retire *retire)
{
	const struct timespec pause = { .tv_nsec = 20000 };
	uint64_t token = rte_rcu_qsbr_start(retire->qsbr);
	struct timespec start, now;
	bool warned = false;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (rte_rcu_qsbr_check(retire->qsbr, token, false) == 0) {
		nanosleep(&pause, NULL);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (!warned && now.tv_sec - start.tv_sec > 1) {
			log_warning("retire", "a worker has not been quiescent for over a second");
			warned = true;
		}
	}
}

int retire_later(struct retire *retire, void (*run)(void *argument), void *argument)
{
	struct retiree *retiree = malloc(sizeof(*retiree));

	if (retiree == NULL)
		return -ENOMEM;
	retiree->run = run;
	retiree->argument = argument;
	retiree->token = rte_rcu_qsbr_start(retire->qsbr);
	STAILQ_INSERT_TAIL(&retire->waiting, retiree, next);
	return 0;
}

unsigned int retire_poll(struct retire *retire)
{
	unsigned int left = 0;
	struct retiree *retiree;

	while ((retiree = STAILQ_FIRST(&retire->waiting)) != NULL &&
	       rte_rcu_qsbr_check(retire->qsbr, retiree->token, false) != 0) {
		STAILQ_REMOVE_HEAD(&retire->waiting, next);
		retiree->run(retiree->argument);
		free(retiree);
	}
	STAILQ_FOREACH(retiree, &retire->waiting, next)
		left++;
	return left;
}
