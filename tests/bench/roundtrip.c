/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How far apart two CPUs are: two pinned threads pass one atomic back and forth, and what a round
 * trip takes in nanoseconds is printed. bench.py runs it beside each measurement, because the CPUs
 * of a virtual machine move about, and most of a switch's time is cache lines travelling between
 * them.
 *
 *     roundtrip CPU1 CPU2
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WARM_UP = 20000, ROUNDS = 200000 };

/*
 * Odd: it is the second thread's turn; even: the first one's. Alone in its cache lines (two, for
 * they may be fetched in pairs).
 */
static _Alignas(128) _Atomic uint32_t ball;

static void pin(int cpu)
{
	cpu_set_t set;
	int err;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	err = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	if (err != 0) {
		fprintf(stderr, "roundtrip: CPU %d: %s\n", cpu, strerror(err));
		exit(1);
	}
}

static void wait_for(uint32_t value)
{
	while (atomic_load_explicit(&ball, memory_order_acquire) != value)
		;
}

static void *second(void *cpu)
{
	pin(*(const int *)cpu);
	for (uint32_t i = 0; i < WARM_UP + ROUNDS; i++) {
		wait_for(2 * i + 1);
		atomic_store_explicit(&ball, 2 * i + 2, memory_order_release);
	}
	return NULL;
}

static int parse_cpu(const char *text)
{
	char *end;
	long cpu;

	errno = 0;
	cpu = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || cpu < 0 || cpu >= CPU_SETSIZE) {
		fprintf(stderr, "roundtrip: \"%s\" is no CPU number\n", text);
		exit(2);
	}
	return (int)cpu;
}

int main(int argc, char **argv)
{
	struct timespec start = {0}, end;
	pthread_t thread;
	double nanoseconds;
	int cpus[2], err;

	if (argc != 3) {
		fprintf(stderr, "usage: roundtrip CPU1 CPU2\n");
		return 2;
	}
	for (int i = 0; i < 2; i++)
		cpus[i] = parse_cpu(argv[i + 1]);
	if (cpus[0] == cpus[1]) {
		fprintf(stderr, "roundtrip: two different CPUs are needed\n");
		return 2;
	}
	pin(cpus[0]);
	err = pthread_create(&thread, NULL, second, &cpus[1]);
	if (err != 0) {
		fprintf(stderr, "roundtrip: no thread: %s\n", strerror(err));
		return 1;
	}
	for (uint32_t i = 0; i < WARM_UP + ROUNDS; i++) {
		if (i == WARM_UP)
			clock_gettime(CLOCK_MONOTONIC, &start);
		atomic_store_explicit(&ball, 2 * i + 1, memory_order_release);
		wait_for(2 * i + 2);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	pthread_join(thread, NULL);
	nanoseconds = (double)(end.tv_sec - start.tv_sec) * 1e9 +
		      (double)(end.tv_nsec - start.tv_nsec);
	printf("%.1f\n", nanoseconds / ROUNDS);
	return 0;
}
