#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

#define LOOK_EVERY_MS 500
#define WAIT_DEFAULT_MS (35u * 60 * 1000) /* longer than the longest a deploy task may take by default */
#define BAR_WIDTH 24

void cli_progress_begin(const struct cli *cli, struct cli_progress *ret_progress) {
    bool is_terminal = isatty(STDERR_FILENO) && !cli->json;
    const char *no_color = getenv("NO_COLOR");
    *ret_progress =
        (struct cli_progress){.is_terminal = is_terminal, .has_color = is_terminal && !(no_color && *no_color)};
}

void cli_progress_show(struct cli_progress *progress, const char *line) {
    if (text_equal(progress->last, line)) return;
    free(progress->last);
    progress->last = text_copy(line);
    if (progress->is_terminal)
        fprintf(stderr, "\r\033[K%s", line);
    else
        fprintf(stderr, "%s\n", line);
    progress->has_line = progress->is_terminal;
    fflush(stderr);
}

void cli_progress_end(struct cli_progress *progress) {
    if (progress->has_line) fprintf(stderr, "\r\033[K");
    free(progress->last);
    progress->last = NULL;
}

char *cli_progress_bar(const struct cli_progress *progress, int64_t done, int64_t total) {
    if (total <= 0 || done < 0 || done > total) return text_copy("");
    int percent = (int)(100.0 * (double)done / (double)total);
    if (!progress->is_terminal) return text_format(" %d %%", percent / 10 * 10);
    char drawn[BAR_WIDTH + 1];
    int filled = BAR_WIDTH * percent / 100;
    memset(drawn, ' ', BAR_WIDTH);
    memset(drawn, '#', (size_t)filled);
    drawn[BAR_WIDTH] = 0;
    return text_format(" [%s%s%s] %d %%", progress->has_color ? "\033[32m" : "", drawn,
                       progress->has_color ? "\033[0m" : "", percent);
}

char *cli_duration(double seconds) {
    uint64_t whole = seconds < 0 ? 0 : seconds > 1e9 ? 1000000000 : (uint64_t)(seconds + 0.5);
    if (whole < 60) return text_format("%d s", (int)whole);
    if (whole < 3600) return text_format("%d min %d s", (int)(whole / 60), (int)(whole % 60));
    return text_format("%d h %d min", (int)(whole / 3600), (int)(whole / 60 % 60));
}

/* "[######      ] 43 % of 86.1 MiB" while bytes are counted, "… of 1000 rows" in a batch job, else "". */
static char *bytes_bar(const struct cli_progress *progress, const struct slipway_progress *state) {
    if (state->total <= 0 || state->done >= state->total) return text_copy("");
    bool counts_rows = text_equal(state->step, "batch");
    _cleanup_free_ char *total =
        counts_rows ? text_count((uint64_t)state->total, "row", "rows") : text_size((uint64_t)state->total);
    _cleanup_free_ char *bar = cli_progress_bar(progress, state->done, state->total);
    return text_format("%s of %s", bar, total);
}

static void show(struct cli_progress *progress, const struct slipway_deployment *deployment) {
    _cleanup_free_ char *drawn = bytes_bar(progress, &deployment->progress);
    _cleanup_free_ char *line = text_format("%s: %s%s%s%s", deployment->deployment_name, deployment->status,
                                            deployment->progress.step ? ", " : "",
                                            deployment->progress.step ? deployment->progress.step : "", drawn);
    cli_progress_show(progress, line);
}

/* Looks at the deployment twice a second and whenever it is settled, until it is or the time is over. */
static int wait_and_show(struct cli *cli, const char *name, struct cli_progress *progress,
                         struct slipway_deployment **ret_deployment, struct slipway_error **ret_error) {
    uint64_t deadline_ms = clock_monotonic_ms() + (cli->timeout_ms ? cli->timeout_ms : WAIT_DEFAULT_MS);
    for (;;) {
        struct slipway_error *error = NULL;
        int result = slipway_wait_for_deployment(cli->service, name, LOOK_EVERY_MS, ret_deployment, &error);
        bool is_over = clock_monotonic_ms() >= deadline_ms;
        if (result != -SLIPWAY_UNAVAILABLE || is_over) {
            *ret_error = error;
            return result;
        }
        bool restarts = error->http_status != 504;
        slipway_error_free(error);
        struct slipway_deployment *deployment = NULL;
        if (!restarts && slipway_get_deployment_status(cli->service, name, &deployment, NULL) == 0)
            show(progress, deployment);
        if (restarts) cli_progress_show(progress, "the service does not answer; trying again");
        slipway_deployment_free(deployment);
    }
}

int cli_wait_and_print(struct cli *cli, const char *name, bool until_gone) {
    struct cli_progress progress;
    cli_progress_begin(cli, &progress);
    struct slipway_deployment *deployment = NULL;
    struct slipway_error *error = NULL;
    int result = wait_and_show(cli, name, &progress, &deployment, &error);
    cli_progress_end(&progress);
    if (result == -SLIPWAY_NOT_FOUND && until_gone) { /* deleted: its name is free */
        slipway_error_free(error);
        return EXIT_OK;
    }
    if (result < 0) {
        int status = cli_fail(cli, error);
        return result == -SLIPWAY_UNAVAILABLE ? EXIT_NOT_SETTLED : status;
    }
    cli_print_deployment(cli, deployment);
    bool is_good = text_equal(deployment->status, until_gone ? "inactive" : "active") ||
                   (!until_gone && text_equal(deployment->status, "inactive"));
    if (!is_good && !cli->json)
        fprintf(stderr, "slipway %s: %s is %s: %s\n", cli->command->name, deployment->deployment_name,
                deployment->status, deployment->message ? deployment->message : "no cause was given");
    slipway_deployment_free(deployment);
    return is_good ? EXIT_OK : EXIT_FAILED;
}
