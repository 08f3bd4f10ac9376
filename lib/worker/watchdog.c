/* SPDX-License-Identifier: BSD-3-Clause */
/* Signals for workers that do not go on; worker/watchdog.h is the contract. */
#include "worker/watchdog.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "worker/sleep.h"

/* Its default is to be ignored, so that one too many does no harm. */
#define WATCHDOG_SIGNAL SIGURG

#define LOOK_MS 10
/* Looks in a row that found nothing new: 100 ms. */
#define LOOKS 10
/* No sleep takes so many: whose CPU is taken from it while it sleeps cannot say that it woke up. */
#define LOOKS_ASLEEP (2 * SLEEP_LAST_MS / LOOK_MS)

static void do_nothing(int number)
{
	(void)number;
}

int watchdog_init(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = do_nothing;
	/* Without SA_RESTART: an interrupted call ends. */
	sigemptyset(&action.sa_mask);
	return sigaction(WATCHDOG_SIGNAL, &action, NULL) == 0 ? 0 : -errno;
}

void watchdog_begin(struct worker *worker, bool runs)
{
	worker->thread = pthread_self();
	__atomic_store_n(&worker->runs, runs, __ATOMIC_RELEASE);
}

bool watchdog_look(struct worker *worker)
{
	const uint64_t iterations = counter_read(&worker->counters.iterations);
	bool still = iterations == worker->seen_iterations;

	worker->seen_iterations = iterations;
	if (!still || !__atomic_load_n(&worker->runs, __ATOMIC_ACQUIRE)) {
		worker->seen_asleep = 0;
		worker->seen_still = 0;
		return false;
	}
	if (__atomic_load_n(&worker->sleeps, __ATOMIC_RELAXED) &&
	    worker->seen_asleep < LOOKS_ASLEEP) {
		worker->seen_asleep++;
		worker->seen_still = 0;
		return false;
	}
	if (++worker->seen_still % LOOKS != 0)
		return false;
	worker->freed++;
	pthread_kill(worker->thread, WATCHDOG_SIGNAL);
	return true;
}

bool watchdog_is_late(const struct worker *worker)
{
	return worker->seen_still >= LOOKS;
}

bool watchdog_is_stalled(const struct worker *worker)
{
	return worker->seen_still >= WATCHDOG_STALLED_MS / LOOK_MS;
}

unsigned int watchdog_stands_ms(const struct worker *worker)
{
	return (worker->seen_asleep + worker->seen_still) * LOOK_MS;
}
