/* SPDX-License-Identifier: BSD-3-Clause */
/* One thread and a list of jobs; base/background.h is the contract. */
#include "base/background.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>

struct job {
	void (*run)(void *argument);
	void *argument;
	STAILQ_ENTRY(job) next;
};

struct background {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping;
	STAILQ_HEAD(, job) jobs;
};

static void *work(void *argument)
{
	struct background *background = argument;
	struct job *job;

	pthread_mutex_lock(&background->lock);
	for (;;) {
		job = STAILQ_FIRST(&background->jobs);
		if (job == NULL) {
			if (background->stopping)
				break;
			pthread_cond_wait(&background->changed, &background->lock);
			continue;
		}
		STAILQ_REMOVE_HEAD(&background->jobs, next);
		pthread_mutex_unlock(&background->lock);
		job->run(job->argument);
		free(job);
		pthread_mutex_lock(&background->lock);
	}
	pthread_mutex_unlock(&background->lock);
	return NULL;
}

struct background *background_new(const char *name)
{
	struct background *background = calloc(1, sizeof(*background));

	if (background == NULL)
		return NULL;
	STAILQ_INIT(&background->jobs);
	pthread_mutex_init(&background->lock, NULL);
	pthread_cond_init(&background->changed, NULL);
	if (pthread_create(&background->thread, NULL, work, background) != 0) {
		free(background);
		return NULL;
	}
	pthread_setname_np(background->thread, name);
	return background;
}

void background_free(struct background *background)
{
	if (background == NULL)
		return;
	pthread_mutex_lock(&background->lock);
	background->stopping = true;
	pthread_cond_signal(&background->changed);
	pthread_mutex_unlock(&background->lock);
	pthread_join(background->thread, NULL);
	pthread_cond_destroy(&background->changed);
	pthread_mutex_destroy(&background->lock);
	free(background);
}

int background_run(struct background *background, void (*run)(void *argument), void *argument)
{
	struct job *job = malloc(sizeof(*job));

	if (job == NULL)
		return -ENOMEM;
	job->run = run;
	job->argument = argument;
	pthread_mutex_lock(&background->lock);
	STAILQ_INSERT_TAIL(&background->jobs, job, next);
	pthread_cond_signal(&background->changed);
	pthread_mutex_unlock(&background->lock);
	return 0;
}
