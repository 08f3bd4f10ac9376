/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line, and EAL's; app/ringwayd/options.h says more. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include "base/log.h"
#include "base/units.h"
#include "port/ethdev.h"
#include "port/vhost_user.h"

#define DEFAULT_SOCKET "/run/ringway/ringway.sock"
#define DEFAULT_SOCKET_MODE 0660

#define EAL_ARGUMENTS_MAX 64

/* Descriptors: of the daemon and its clients, and of a port with a VMM that has one queue pair. */
#define FILES_BASE 320
#define FILES_PORT 11
#define FILES_WORKER 6 /* what wakes it, and EAL's pipes to it and from it */

static const char usage[] =
	"usage: ringwayd [OPTIONS] [-- EAL arguments]\n"
	"\n"
	"  --config FILE        the configuration, JSON; without it the switch starts empty\n"
	"  --state FILE         keeps what runs over restarts; it wins over an unchanged --config\n"
	"  --socket PATH        where ringwayctl connects (" DEFAULT_SOCKET ")\n"
	"  --socket-mode MODE   file mode of the socket, octal (0660)\n"
	"  --socket-user USER   its owner (whoever runs the daemon)\n"
	"  --socket-group GROUP its group (the same)\n"
	"  --log-level LEVEL    error, warning, info or debug (info)\n"
	"  --schema             prints methods, parameters and configuration as OpenRPC, and ends\n"
	"  --metrics            prints which metrics there are, as JSON, and ends\n"
	"  --help, --version\n"
	"\n"
	"Stays in the foreground and logs on stderr. Ready when its socket answers. SIGHUP\n"
	"applies a --config that has changed; SIGINT and SIGTERM end it.\n";

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

static void set_socket_mode(struct options *options, const char *text)
{
	if (mode_parse(text, &options->socket_mode) == 0)
		return;
	fprintf(stderr, "ringwayd: --socket-mode %s: 0000 to 0777\n", text);
	exit(1);
}

static void set_socket_user(struct options *options, const char *name)
{
	const struct passwd *user = getpwnam(name);

	if (user == NULL) {
		fprintf(stderr, "ringwayd: --socket-user %s: no such user\n", name);
		exit(1);
	}
	options->socket_user = user->pw_uid;
}

static void set_socket_group(struct options *options, const char *name)
{
	const struct group *group = getgrnam(name);

	if (group == NULL) {
		fprintf(stderr, "ringwayd: --socket-group %s: no such group\n", name);
		exit(1);
	}
	options->socket_group = group->gr_gid;
}

static void find_cpus(struct options *options)
{
	if (sched_getaffinity(0, sizeof(options->allowed), &options->allowed) != 0) {
		CPU_ZERO(&options->allowed);
		CPU_SET(0, &options->allowed);
	}
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &options->allowed))
			options->last_cpu = cpu;
}

/* A path that is too long is refused as a socket's. */
static void find_directory(struct options *options)
{
	char path[sizeof(options->directory)];

	snprintf(path, sizeof(path), "%s", options->socket);
	snprintf(options->directory, sizeof(options->directory), "%s", dirname(path));
}

void options_parse(struct options *options, int argc, char **argv)
{
	static const struct option known[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "state", required_argument, NULL, 'S' },
		{ "socket", required_argument, NULL, 's' },
		{ "socket-mode", required_argument, NULL, 'm' },
		{ "socket-user", required_argument, NULL, 'u' },
		{ "socket-group", required_argument, NULL, 'g' },
		{ "schema", no_argument, NULL, 'j' },
		{ "metrics", no_argument, NULL, 'M' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	*options = (struct options){ .socket = DEFAULT_SOCKET,
				     .socket_mode = DEFAULT_SOCKET_MODE,
				     .socket_user = (uid_t)-1,
				     .socket_group = (gid_t)-1 };
	while ((option = getopt_long(argc, argv, "+", known, NULL)) != -1) {
		switch (option) {
		case 'c':
			options->config = optarg;
			break;
		case 's':
			options->socket = optarg;
			break;
		case 'S':
			options->state = optarg;
			break;
		case 'm':
			set_socket_mode(options, optarg);
			break;
		case 'u':
			set_socket_user(options, optarg);
			break;
		case 'g':
			set_socket_group(options, optarg);
			break;
		case 'j':
			options->schema = true;
			break;
		case 'M':
			options->metrics = true;
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
	find_cpus(options);
	find_directory(options);
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

int options_check_cpus(const struct options *options, const struct model *model,
		       struct error *err)
{
	const cpu_set_t *allowed = &options->allowed;
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

/* EAL ends the process, without a word for operators, where it cannot open what it needs. */
static int check_files(const struct model *model, struct error *err)
{
	const rlim_t needed = FILES_BASE + (rlim_t)model->port_count * FILES_PORT +
			      (rlim_t)(model->worker_count - 1) * FILES_WORKER;
	struct rlimit limit;
	char value[24], accepted[80];

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 0;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max >= needed)
		return 0;
	snprintf(value, sizeof(value), "%llu", (unsigned long long)limit.rlim_max);
	snprintf(accepted, sizeof(accepted), "%llu or more (ulimit -n, LimitNOFILE=)",
		 (unsigned long long)needed);
	error_set(err, ERROR_SYSTEM, EMFILE,
		  "only %s files may be open, which is too few for %u ports", value,
		  model->port_count);
	error_detail(err, "process", "RLIMIT_NOFILE", value, accepted);
	return -EMFILE;
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
	static char lcores[2048], heap[16], prefix[32];
	static char *arguments[EAL_ARGUMENTS_MAX + 1];
	char *own[] = { (char *)"ringwayd",
			/* No PCI device but those that a port asks for: none has this address. */
			(char *)"-a",
			(char *)"ffff:ff:1f.7",
			(char *)"--no-huge",
			(char *)"-m",
			heap,
			(char *)"--file-prefix",
			prefix,
			(char *)"--lcores",
			lcores,
			(char *)"--log-level=lib.*:warning" };
	const int own_count = sizeof(own) / sizeof(own[0]);
	int result = options_check_cpus(options, model, err);

	if (result == 0)
		result = check_files(model, err);
	if (result != 0)
		return result;
	if (own_count + options->eal_argc > EAL_ARGUMENTS_MAX)
		return error_set(err, ERROR_INVALID, E2BIG, "more than %d EAL arguments",
				 EAL_ARGUMENTS_MAX - own_count);
	format_lcores(model, &options->allowed, lcores, sizeof(lcores));
	snprintf(heap, sizeof(heap), "%u", VHOST_USER_HEAP_MB + ETHDEV_HEAP_MB);
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
