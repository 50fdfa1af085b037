/* Waiting for a task, with its progress. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

#define LOOK_EVERY_MS 500

/* " [####    ] 43 %, 12345 of 28700 documents, 350/s, 47 s left, 2 failed"; caller frees. */
static char *describe_progress(const struct cli_progress *progress, const struct slipway_task *task) {
    const struct slipway_progress *state = &task->progress;
    _cleanup_free_ char *bar = cli_progress_bar(progress, state->done, state->total);
    _cleanup_free_ char *failed =
        state->failed ? text_format(", %lld failed", (long long)state->failed) : text_copy("");
    bool is_batch = text_equal(task->kind, "batch");
    if (!*bar || !progress->is_terminal || (!text_equal(task->kind, "reindex") && !is_batch))
        return text_format("%s%s", bar, failed);
    _cleanup_free_ char *left = cli_duration(state->rate > 0 ? (double)(state->total - state->done) / state->rate : 0);
    _cleanup_free_ char *rate = state->rate > 0 ? text_format(", %.0f/s, %s left", state->rate, left) : text_copy("");
    return text_format("%s, %lld of %lld %s%s%s", bar, (long long)state->done, (long long)state->total,
                       is_batch ? "rows" : "documents", rate, failed);
}

static void show(struct cli_progress *progress, const struct slipway_task *task) {
    _cleanup_free_ char *drawn = describe_progress(progress, task);
    _cleanup_free_ char *line =
        text_format("%s%s%s: %s%s%s%s%s%s", task->kind ? task->kind : "task", task->collection ? " " : "",
                    task->collection ? task->collection : "", task->status, task->step ? ", " : "",
                    task->step ? task->step : "", drawn, task->detail ? ": " : "", task->detail ? task->detail : "");
    cli_progress_show(progress, line);
}

static int wait_and_show(struct cli *cli, const char *task_id, struct cli_progress *progress,
                         struct slipway_task **ret_task, struct slipway_error **ret_error) {
    uint64_t deadline_ms = cli->timeout_ms ? clock_monotonic_ms() + cli->timeout_ms : UINT64_MAX;
    for (;;) {
        struct slipway_error *error = NULL;
        int result = slipway_wait_for_task(cli->service, task_id, LOOK_EVERY_MS, ret_task, &error);
        if (result != -SLIPWAY_UNAVAILABLE || clock_monotonic_ms() >= deadline_ms) {
            *ret_error = error;
            return result;
        }
        bool restarts = error->http_status != 504;
        slipway_error_free(error);
        struct slipway_task *task = NULL;
        if (restarts)
            cli_progress_show(progress, "the service does not answer; trying again");
        else if (slipway_get_task(cli->service, task_id, &task, NULL) == 0)
            show(progress, task);
        slipway_task_free(task);
    }
}

/* EXIT_OK for a task that is done or goes on; otherwise says why it ended. */
static int judge(const struct cli *cli, const struct slipway_task *task) {
    bool ended_badly = text_equal(task->status, "failed") || text_equal(task->status, "refused") ||
                       text_equal(task->status, "canceled");
    if (!ended_badly) return EXIT_OK;
    const char *why = task->error && task->error->message ? task->error->message : task->detail;
    if (!cli->json)
        fprintf(stderr, "slipway %s: task %s is %s: %s\n", cli->command->name, task->task_id, task->status,
                why ? why : "no cause was given");
    return EXIT_FAILED;
}

int cli_wait_for_task(struct cli *cli, const char *task_id) {
    struct cli_progress progress;
    cli_progress_begin(cli, &progress);
    struct slipway_task *task = NULL;
    struct slipway_error *error = NULL;
    int result = wait_and_show(cli, task_id, &progress, &task, &error);
    cli_progress_end(&progress);
    if (result < 0) {
        int status = cli_fail(cli, error);
        return result == -SLIPWAY_UNAVAILABLE ? EXIT_NOT_SETTLED : status;
    }
    if (cli->json) cli_print_json(task->json);
    int status = judge(cli, task);
    slipway_task_free(task);
    return status;
}

int cli_finish_task(struct cli *cli, int result, struct slipway_task *task, struct slipway_error *error) {
    if (result < 0) return cli_fail(cli, error);
    _cleanup_free_ char *task_id = text_copy(task->task_id);
    bool waits = cli->flags[FLAG_WAIT] != NULL;
    int status = EXIT_OK;
    if (!waits) {
        cli_print_task(cli, task);
        status = judge(cli, task);
    }
    slipway_task_free(task);
    return waits ? cli_wait_for_task(cli, task_id) : status;
}
