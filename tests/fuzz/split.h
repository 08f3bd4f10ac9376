/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ring fuzzer's body, shared by the fuzzing engine's target and the stand-alone driver: one
 * guest sends, another receives, both lie, and the switch's own code stands between them.
 */
#pragma once

#include "entropy.h"

/*
 * Runs bursts between two new guests; with `pokes` a thread changes their memory at the same time.
 * Returns how many were run. Whatever is found to be wrong ends the process.
 */
uint64_t split_run(struct entropy *entropy, uint32_t bursts, bool pokes);
