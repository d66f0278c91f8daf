/* SPDX-License-Identifier: Apache-2.0
 *
 * What the runner does around a test. */
#ifndef PSEUDO_MM_RUNNER_H
#define PSEUDO_MM_RUNNER_H

#include "suite.h"

enum outcome { PASSED, FAILED, SKIPPED };

/* Runs one test in a process of its own; `message` gets the failure or the reason to skip. */
enum outcome run_process(void (*run)(void), unsigned timeout, char* message, size_t size);
void processes_prepare(void);

/* state.c: what a test must leave as it found it. */
void state_open(unsigned mode); /* device, common pool */
void state_close(void);
void state_begin(void);                     /* before a test */
bool state_end(char* message, size_t size); /* after it; false: not as it was */

/* kernel_log.c */
void kernel_log_open(void);
/* A report of a kernel bug since the last call, or NULL. */
const char* kernel_log_complaint(void);

/* fail_nth.c, fuzz.c: not tests of the list, but runs of their own. */
int run_fail_nth(void);
int run_fuzz(void);
/* processes.c: what `pseudo_mm_test --helper-target` does; see permission tests. */
int helper_target(void);

#endif
