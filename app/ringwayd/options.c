/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line, and EAL's; app/ringwayd/options.h says more. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include "base/log.h"

#define DEFAULT_SOCKET "/run/ringway/ringway.sock"

/* MB of EAL's heap: 10 for the library itself, and what a port's rings take. */
#define HEAP_BASE_MB 32
#define HEAP_PORT_KB 100

#define EAL_ARGUMENTS_MAX 64

static const char usage[] =
	"usage: ringwayd [--config FILE] [--socket PATH] [--log-level LEVEL] [-- EAL arguments]\n"
	"\n"
	"  --config FILE      the configuration, JSON; without it the switch starts empty\n"
	"  --socket PATH      where ringwayctl connects (" DEFAULT_SOCKET ")\n"
	"  --log-level LEVEL  error, warning, info or debug (info)\n"
	"  --help, --version\n"
	"\n"
	"Stays in the foreground and logs on stderr. Ready when its socket answers.\n";

static void set_log_level(const char *name)
{
	for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
		if (strcmp(log_level_name((enum log_level)level), name) == 0) {
			log_set_level((enum log_level)level);
			return;
		}
	}
	fprintf(stderr, "ringwayd: --log-level %s: error, warning, info or debug\n", name);
	exit(1);
}

void options_parse(struct options *options, int argc, char **argv)
{
	static const struct option known[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "socket", required_argument, NULL, 's' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	options->config = NULL;
	options->socket = DEFAULT_SOCKET;
	while ((option = getopt_long(argc, argv, "+", known, NULL)) != -1) {
		switch (option) {
		case 'c':
			options->config = optarg;
			break;
		case 's':
			options->socket = optarg;
			break;
		case 'l':
			set_log_level(optarg);
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		case 'v':
			puts("ringwayd " RINGWAY_VERSION);
			exit(0);
		default:
			fputs(usage, stderr);
			exit(1);
		}
	}
	/* What follows `--` is EAL's; anything else there is a mistake. */
	if (optind < argc && strcmp(argv[optind - 1], "--") != 0) {
		fprintf(stderr, "ringwayd: what is %s?\n%s", argv[optind], usage);
		exit(1);
	}
	options->eal_argc = argc - optind;
	options->eal_argv = argv + optind;
}

void options_allowed_cpus(cpu_set_t *allowed, unsigned int *last)
{
	*last = 0;
	if (sched_getaffinity(0, sizeof(*allowed), allowed) != 0) {
		CPU_ZERO(allowed);
		CPU_SET(0, allowed);
	}
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, allowed))
			*last = cpu;
}

/* The CPUs of a set as EAL writes them: "0,2,3". */
static void format_cpus(const cpu_set_t *cpus, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE && used + 8 < size; cpu++)
		if (CPU_ISSET(cpu, cpus))
			used += (size_t)snprintf(text + used, size - used, "%s%u", used ? "," : "",
						 cpu);
}

static int check_worker_cpus(const struct model *model, const cpu_set_t *allowed, struct error *err)
{
	char accepted[120];

	format_cpus(allowed, accepted, sizeof(accepted));
	for (uint32_t i = 0; i < model->worker_count; i++) {
		char value[16];

		if (model->workers[i].cpu < CPU_SETSIZE &&
		    CPU_ISSET(model->workers[i].cpu, allowed))
			continue;
		snprintf(value, sizeof(value), "%u", model->workers[i].cpu);
		error_set(err, ERROR_INVALID, EINVAL,
			  "workers[%u]: CPU %s is not there or not allowed", i, value);
		error_detail(err, "workers", "cpu", value, accepted);
		return -EINVAL;
	}
	return 0;
}

/* "0@(0),1@1": lcore 0 is the control thread, the others are workers. */
static void format_lcores(const struct model *model, const cpu_set_t *allowed, char *text,
			  size_t size)
{
	cpu_set_t control = *allowed;
	char cpus[512];
	size_t used;

	for (uint32_t i = 0; i < model->worker_count; i++)
		CPU_CLR(model->workers[i].cpu, &control);
	if (CPU_COUNT(&control) == 0) {
		log_warning("ringwayd",
			    "no CPU is left beside the workers': control shares theirs");
		control = *allowed;
	}
	format_cpus(&control, cpus, sizeof(cpus));
	used = (size_t)snprintf(text, size, "0@(%s)", cpus);
	for (uint32_t i = 0; i < model->worker_count && used + 16 < size; i++)
		used += (size_t)snprintf(text + used, size - used, ",%u@%u", i + 1,
					 model->workers[i].cpu);
}

/*
 * A name of its own for each control socket keeps instances apart, and is the same after a restart.
 */
static unsigned int hash_path(const char *path)
{
	unsigned int hash = 2166136261u;

	for (; *path != '\0'; path++)
		hash = (hash ^ (unsigned char)*path) * 16777619u;
	return hash;
}

/* One line, or several, that DPDK logs: to our log, as a VMM can cause them without end. */
static ssize_t log_of_dpdk(void *cookie, const char *text, size_t size)
{
	size_t length = size;

	(void)cookie;
	while (length > 0 && text[length - 1] == '\n')
		length--;
	if (length > 0)
		LOG_LIMITED(LOG_WARNING, "dpdk", "%.*s", (int)length, text);
	return (ssize_t)size;
}

static void take_over_log(void)
{
	const cookie_io_functions_t functions = { .write = log_of_dpdk };
	FILE *stream = fopencookie(NULL, "w", functions);

	if (stream == NULL)
		return;
	setvbuf(stream, NULL, _IOLBF, 0);
	rte_openlog_stream(stream);
}

int options_start_eal(const struct options *options, const struct model *model, struct error *err)
{
	static char lcores[1024], heap[16], prefix[32];
	static char *arguments[EAL_ARGUMENTS_MAX + 1];
	char *own[] = { (char *)"ringwayd",
			(char *)"--no-pci",
			(char *)"--no-huge",
			(char *)"-m",
			heap,
			(char *)"--file-prefix",
			prefix,
			(char *)"--lcores",
			lcores,
			(char *)"--log-level=lib.*:warning" };
	const int own_count = sizeof(own) / sizeof(own[0]);
	cpu_set_t allowed;
	unsigned int last;
	int result;

	options_allowed_cpus(&allowed, &last);
	result = check_worker_cpus(model, &allowed, err);
	if (result != 0)
		return result;
	if (own_count + options->eal_argc > EAL_ARGUMENTS_MAX)
		return error_set(err, ERROR_INVALID, E2BIG, "more than %d EAL arguments",
				 EAL_ARGUMENTS_MAX - own_count);
	format_lcores(model, &allowed, lcores, sizeof(lcores));
	snprintf(heap, sizeof(heap), "%u",
		 HEAP_BASE_MB + model->port_count * HEAP_PORT_KB / 1024);
	snprintf(prefix, sizeof(prefix), "ringway-%08x", hash_path(options->socket));
	memcpy(arguments, own, sizeof(own));
	memcpy(arguments + own_count, options->eal_argv,
	       (size_t)options->eal_argc * sizeof(*arguments));
	if (rte_eal_init(own_count + options->eal_argc, arguments) < 0)
		return error_set(err, ERROR_SYSTEM, rte_errno, "DPDK's EAL did not start: %s",
				 rte_strerror(rte_errno));
	take_over_log();
	return 0;
}
