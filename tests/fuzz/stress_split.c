/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ring fuzzer on its own, for any compiler: many scenarios from one seed, or the inputs of a
 * corpus once each.
 *
 *     stress_split --seconds 20                     as long as that
 *     stress_split --bursts 10000000 --seed 7       that many
 *     stress_split --bursts 1 --seed 123 --only     that one scenario again, as a failure told
 *     stress_split FILE...                          inputs of the fuzzing engine
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "guest.h"
#include "split.h"

#define SCENARIO_BURSTS 64
#define INPUT_BURSTS 8
#define INPUT_MAX (1 << 20)

/* One scenario in so many has a thread that changes memory meanwhile. */
#define POKES_EVERY 8

static uint64_t current_seed;
static const char *current_input;

void check_failed(const char *condition, const char *file, int line)
{
	fprintf(stderr, "%s:%d: not true: %s\n", file, line, condition);
	if (current_input != NULL)
		fprintf(stderr, "again: stress_split %s\n", current_input);
	else
		fprintf(stderr, "again: stress_split --bursts 1 --only --seed %" PRIu64 "\n",
			current_seed);
	abort();
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void replay(const char *path)
{
	uint8_t *bytes = malloc(INPUT_MAX);
	FILE *file = fopen(path, "rb");
	struct entropy entropy;

	current_input = path;
	CHECK(file != NULL && bytes != NULL);
	entropy_init(&entropy, 0, bytes, fread(bytes, 1, INPUT_MAX, file));
	fclose(file);
	split_run(&entropy, INPUT_BURSTS, false);
	free(bytes);
}

/* Runs scenarios until so many bursts or seconds are over. Returns the bursts. */
static uint64_t run(uint64_t seed, uint64_t bursts, double seconds)
{
	double end = now() + seconds;
	uint64_t done = 0;

	for (uint64_t i = 0; done < bursts && (seconds == 0 || now() < end); i++) {
		struct entropy entropy;

		current_seed = seed + i;
		entropy_init(&entropy, current_seed, NULL, 0);
		done += split_run(&entropy, SCENARIO_BURSTS, current_seed % POKES_EVERY == 0);
	}
	return done;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "bursts", required_argument, NULL, 'b' },
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'x' },
		{ "only", no_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t bursts = UINT64_MAX, seed = 1, done;
	double seconds = 0, start = now();
	bool only = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'b')
			bursts = strtoull(optarg, NULL, 10);
		else if (option == 's')
			seconds = strtod(optarg, NULL);
		else if (option == 'x')
			seed = strtoull(optarg, NULL, 10);
		else if (option == 'o')
			only = true;
		else
			return 2;
	}
	for (int i = optind; i < argc; i++)
		replay(argv[i]);
	if (optind < argc) {
		printf("%d inputs\n", argc - optind);
		return 0;
	}
	if (bursts == UINT64_MAX && seconds == 0)
		seconds = 20;
	/* Seeds of different runs do not share scenarios. */
	done = run(only ? seed : seed << 32, bursts, seconds);
	printf("%" PRIu64 " bursts in %.1f s, %.0f bursts/s, seed %" PRIu64 "\n", done,
	       now() - start, (double)done / (now() - start), seed);
	return 0;
}
