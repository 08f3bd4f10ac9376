/* SPDX-License-Identifier: BSD-3-Clause */
/* Single stepping; step.h is the contract. */
#include "step.h"

#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ucontext.h>

#include "check.h"

#if defined(__x86_64__)

#define TRAP_FLAG (1 << 8)

static struct {
	sigjmp_buf back;
	enum step_next (*reached)(void *argument);
	void *argument;
	volatile bool on;
} stepping;

/* Comes by raise() first, and then after each instruction while the flag is set. */
static void on_trap(int signal, siginfo_t *info, void *context)
{
	greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

	(void)signal;
	(void)info;
	*flags &= ~TRAP_FLAG;
	if (!stepping.on)
		return;
	switch (stepping.reached(stepping.argument)) {
	case STEP_ON:
		*flags |= TRAP_FLAG;
		break;
	case STEP_FREE:
		stepping.on = false;
		break;
	default:
		stepping.on = false;
		siglongjmp(stepping.back, 1);
	}
}

bool step_run(void (*call)(void *argument), enum step_next (*reached)(void *argument),
	      void *argument)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };

	CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
	stepping.reached = reached;
	stepping.argument = argument;
	if (sigsetjmp(stepping.back, 1) != 0)
		return false;
	stepping.on = true;
	raise(SIGTRAP);
	call(argument);
	stepping.on = false;
	return true;
}

#else

bool step_run(void (*call)(void *argument), enum step_next (*reached)(void *argument),
	      void *argument)
{
	(void)reached;
	call(argument);
	return true;
}

#endif
