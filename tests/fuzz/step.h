/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Interrupts a call at any of its instructions: by the processor's own single stepping, so that the
 * same seed interrupts the same place again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum step_next {
	STEP_ON,   /* to the next instruction */
	STEP_FREE, /* nobody wants to know any more */
	STEP_DIE,  /* the call is left where it is */
};

/*
 * Runs call(argument) and asks reached(argument) after each instruction how to go on. Returns
 * whether the call came to its end. Where this is not x86-64 nobody is asked.
 */
bool step_run(void (*call)(void *argument), enum step_next (*reached)(void *argument),
	      void *argument);
