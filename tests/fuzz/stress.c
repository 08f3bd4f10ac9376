/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs a fuzzer on its own, for any compiler: the given files once each, then what it makes, all
 * after one seed. target.h is what it runs.
 *
 *     stress_ring --seconds 20                     as long as that
 *     stress_ring --runs 10000000 --seed 7         that many
 *     stress_ring --runs 1 --only --seed 123       that one again, as a failure told
 *     stress_ring --layout packed --seconds 20     packed rings alone
 *     stress_rpc --seconds 20 FILE...              the files once each, then made of them as well
 *     stress_rpc FILE...                           the files once each
 *     stress_rpc --show --runs 10                  prints what is made
 */
#include <getopt.h>
#include <inttypes.h>
#include <sanitizer/common_interface_defs.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "target.h"

struct options {
	uint64_t runs, seed;
	double seconds;
	bool only, show;
	const char *choice; /* NULL: everything */
};

static struct options options = { .runs = UINT64_MAX, .seed = 1 };
static struct target_file *files;
static uint32_t file_count;
static uint64_t current_seed;
static const char *current_file; /* NULL: an input that was made */

static void say_again(void)
{
	if (current_file != NULL)
		fprintf(stderr, "again: stress_%s %s\n", target_name, current_file);
	else
		fprintf(stderr, "again: stress_%s%s%s --runs 1 --only --seed %" PRIu64 "%s\n",
			target_name, options.choice != NULL ? " --layout " : "",
			options.choice != NULL ? options.choice : "", current_seed,
			file_count > 0 ? " FILE..." : "");
}

void check_failed(const char *condition, const char *file, int line)
{
	fprintf(stderr, "%s:%d: not true: %s\n", file, line, condition);
	say_again();
	abort();
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void read_file(const char *path, struct target_file *file)
{
	FILE *stream = fopen(path, "rb");
	long size;

	current_file = path;
	CHECK(stream != NULL && fseek(stream, 0, SEEK_END) == 0);
	size = ftell(stream);
	rewind(stream);
	CHECK(size >= 0);
	file->path = path;
	file->count = (size_t)size;
	file->bytes = malloc(file->count + 1);
	CHECK(file->bytes != NULL && fread(file->bytes, 1, file->count, stream) == file->count);
	fclose(stream);
	target_input(file->bytes, file->count);
	current_file = NULL;
}

/* Makes inputs until there were enough units or the time is over. Returns the units. */
static uint64_t run(void)
{
	/* Seeds of different runs do not share inputs. */
	const uint64_t first = options.only ? options.seed : options.seed << 32;
	double end = now() + options.seconds;
	uint64_t done = 0;

	for (uint64_t i = 0; done < options.runs && (options.seconds == 0 || now() < end); i++) {
		current_seed = first + i;
		done += target_make(current_seed, files, file_count, options.show);
	}
	return done;
}

static bool read_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "runs", required_argument, NULL, 'r' },
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'x' },
		{ "layout", required_argument, NULL, 'l' },
		{ "only", no_argument, NULL, 'o' },
		{ "show", no_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == 'r')
			options.runs = strtoull(optarg, NULL, 10);
		else if (option == 's')
			options.seconds = strtod(optarg, NULL);
		else if (option == 'x')
			options.seed = strtoull(optarg, NULL, 10);
		else if (option == 'l' && target_choose(optarg))
			options.choice = optarg;
		else if (option == 'o')
			options.only = true;
		else if (option == 'w')
			options.show = true;
		else
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	double start, took;
	uint64_t done;

	if (!read_options(argc, argv))
		return 2;
	__sanitizer_set_death_callback(say_again);
	target_init();
	file_count = (uint32_t)(argc - optind);
	files = calloc(file_count + 1u, sizeof(*files));
	CHECK(files != NULL);
	for (uint32_t i = 0; i < file_count; i++)
		read_file(argv[(uint32_t)optind + i], &files[i]);
	start = now();
	if (options.runs != UINT64_MAX || options.seconds != 0 || file_count == 0) {
		if (options.runs == UINT64_MAX && options.seconds == 0)
			options.seconds = 20;
		done = run();
		took = now() - start;
		printf("%s: %" PRIu64 " %s in %.1f s, %.0f a second, seed %" PRIu64 "\n",
		       target_name, done, target_unit, took, (double)done / took, options.seed);
	}
	printf("%s: %u files\n", target_name, file_count);
	for (uint32_t i = 0; i < file_count; i++)
		free(files[i].bytes);
	free(files);
	return 0;
}
