/* The runner's confinement (RULES P5): no new privileges, Landlock (reading its package and a few facts of the kernel,
 * no network), seccomp (what inference needs and no more; no socket, no exec, no ptrace), resource limits.
 *
 * Entered on the only thread of the process, after binding its socket and opening ONNX Runtime and before any other
 * thread: Landlock does not bind threads that exist already. Where the kernel lacks a piece, the report says so and the
 * rest is done. Sources: docs.kernel.org/userspace-api/landlock, seccomp(2), getrlimit(2).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct sandbox_config {
    const char *const *read_paths; /* folders and files that stay readable */
    size_t read_path_count;
    uint64_t memory_limit; /* bytes; 0: none */
    uint64_t descriptors; /* that may be open at once */
    bool complete; /* where the kernel lacks a piece, that is an error */
    int highest_abi; /* Landlock rights are masked to this ABI; 0: whatever the kernel has (others: for tests) */
};

struct sandbox_report {
    bool asked; /* false: switched off */
    int landlock_abi; /* in force; 0: none */
    bool seccomp; /* in force */
    const char *memory_limit; /* "rlimit_data" or "none" */
    char *missing; /* what could not be put in force and why, or NULL; caller frees */
};

/* Before the event loop is made: io_uring passes by every filter on system calls, and libuv, from 1.45 on, makes a ring
 * with each loop where it can; it then does without. DEPLOYMENT error when privileges cannot be given up. */
int runner_sandbox_forbid_io_uring(struct error **ret_error);
/* DEPLOYMENT error when a step fails that the kernel does have. */
int runner_sandbox_enter(const struct sandbox_config *config, struct sandbox_report *ret_report,
                         struct error **ret_error);
/* The Landlock ABI of this kernel, 0 without it. */
int runner_sandbox_landlock_abi(void);
