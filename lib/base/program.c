/* SPDX-License-Identifier: BSD-3-Clause */
/* One child process; base/program.h is the contract. */
#include "base/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Returns 0 or an errno. */
static int start(const char *const argv[], int fd, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, ignored;
	int result;

	sigemptyset(&none);
	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &ignored);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	if (fd >= 0)
		posix_spawn_file_actions_adddup2(&actions, fd, PROGRAM_FD);
	posix_spawn_file_actions_addclosefrom_np(&actions, PROGRAM_FD + (fd >= 0));
	result = posix_spawn(pid, argv[0], &actions, &attributes, (char *const *)(uintptr_t)argv,
			     environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return result;
}

/* Does the process end in time? */
static bool ends(pid_t pid, unsigned int seconds)
{
	struct pollfd end = { .fd = pidfd_open(pid, 0), .events = POLLIN };
	int ready;

	if (end.fd < 0)
		return false;
	do
		ready = poll(&end, 1, (int)seconds * 1000);
	while (ready < 0 && errno == EINTR);
	close(end.fd);
	return ready > 0;
}

int program_run(const char *const argv[], int fd, unsigned int seconds, struct error *err)
{
	pid_t pid;
	int status;
	int errnum = start(argv, fd, &pid);
	bool in_time;

	if (errnum != 0)
		return error_set(err, ERROR_SYSTEM, errnum, "%s cannot be run: %s", argv[0],
				 strerror(errnum));
	in_time = ends(pid, seconds);
	if (!in_time)
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (in_time && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	/* Of one that failed nothing is left behind. */
	kill(-pid, SIGKILL);
	if (!in_time)
		return error_set(err, ERROR_SYSTEM, ETIMEDOUT,
				 "%s was not done after %u s and was killed", argv[0], seconds);
	if (WIFSIGNALED(status))
		return error_set(err, ERROR_SYSTEM, EIO, "%s was ended by signal %d", argv[0],
				 WTERMSIG(status));
	return error_set(err, ERROR_SYSTEM, EIO, "%s failed with status %d", argv[0],
			 WEXITSTATUS(status));
}
