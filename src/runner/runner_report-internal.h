/* What a runner reports when it is ready: docs/internals/runner-report.md. */
#pragma once
#include "runner/runner_model-internal.h"
#include "runner/runner_sandbox-internal.h"

/* Caller frees. */
char *runner_report(const struct model *model, const struct sandbox_report *sandbox, unsigned threads,
                    uint64_t memory_bytes);
