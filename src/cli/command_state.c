/* backup, restore, check: on a state folder of this machine, without the service (state/state.h). */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/settings.h"
#include "base/text.h"
#include "cli/cli-internal.h"
#include "state/state.h"

#define SHOW_EVERY_MS 100

/* ---- errors ---- */

static int exit_of(const struct error *error) {
    switch (error->class) {
    case ERROR_CONFIGURATION: return EXIT_USAGE;
    case ERROR_CONFLICT: return EXIT_CONFLICT;
    case ERROR_UNAVAILABLE: return EXIT_UNAVAILABLE;
    default: return EXIT_FAILED;
    }
}

/* Takes the error. */
static int fail(const struct cli *cli, struct error *error) {
    int status = exit_of(error);
    if (cli->json) {
        _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(document);
        yyjson_mut_doc_set_root(document, root);
        json_add_error(document, root, error);
        _cleanup_free_ char *json = json_write(document, NULL);
        fprintf(stderr, "%s\n", json);
    } else {
        _cleanup_free_ char *text = error_text(error);
        fprintf(stderr, "slipway %s: %s\n", cli->command->name, text);
    }
    error_free(error);
    return status;
}

/* ---- the folder ---- */

/* Settings as `serve` reads them, --state above all. NULL after saying what is wrong. */
static struct settings *read_settings(const struct cli *cli) {
    struct settings *settings = settings_new();
    struct error *error = NULL;
    const char *file = cli->flags[FLAG_SETTINGS] ? cli->flags[FLAG_SETTINGS] : getenv("SLIPWAY_SETTINGS");
    int result = file && *file ? settings_read_file(settings, file, &error) : 0;
    if (!result) result = settings_read_environment(settings, environ, &error);
    if (!result && cli->flags[FLAG_STATE]) result = settings_set(settings, "state", cli->flags[FLAG_STATE], &error);
    if (!result) return settings;
    fail(cli, error);
    settings_free(settings);
    return NULL;
}

/* ---- progress ---- */

struct showing {
    struct cli_progress progress;
    uint64_t shown_ms;
};

static void show(void *context, const char *what, uint64_t done_bytes, uint64_t total_bytes) {
    struct showing *showing = context;
    uint64_t now = clock_monotonic_ms();
    bool is_end = total_bytes && done_bytes >= total_bytes;
    if (now - showing->shown_ms < SHOW_EVERY_MS && !is_end) return;
    showing->shown_ms = now;
    _cleanup_free_ char *done = text_size(done_bytes);
    _cleanup_free_ char *bar = cli_progress_bar(&showing->progress, (int64_t)done_bytes, (int64_t)total_bytes);
    _cleanup_free_ char *line = text_format("%s: %s%s", what, done, bar);
    cli_progress_show(&showing->progress, line);
}

/* NULL where nobody looks: then nothing is shown. */
static const struct state_progress *begin_showing(const struct cli *cli, struct showing *showing,
                                                  struct state_progress *progress) {
    *showing = (struct showing){0};
    cli_progress_begin(cli, &showing->progress);
    *progress = (struct state_progress){show, showing};
    return showing->progress.is_terminal ? progress : NULL;
}

/* ---- backup and restore ---- */

static void print_summary_json(const struct state_summary *summary) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "folder", summary->folder);
    json_add_text(document, root, "created_at", summary->created_at);
    yyjson_mut_obj_add_uint(document, root, "collections", summary->collections);
    yyjson_mut_obj_add_uint(document, root, "documents", summary->documents);
    yyjson_mut_obj_add_uint(document, root, "packages", summary->packages);
    yyjson_mut_obj_add_bool(document, root, "with_packages", summary->with_packages);
    yyjson_mut_obj_add_uint(document, root, "fetched", summary->fetched);
    yyjson_mut_obj_add_uint(document, root, "files", summary->files);
    yyjson_mut_obj_add_uint(document, root, "size_bytes", summary->size_bytes);
    yyjson_mut_val *missing = yyjson_mut_obj_add_arr(document, root, "missing");
    for (size_t i = 0; i < summary->missing_count; i++) yyjson_mut_arr_add_str(document, missing, summary->missing[i]);
    _cleanup_free_ char *json = json_write(document, NULL);
    cli_print_json(json);
}

static int print_summary(const struct cli *cli, const char *verb, struct state_summary *summary) {
    if (cli->json) {
        print_summary_json(summary);
    } else {
        _cleanup_free_ char *size = text_size(summary->size_bytes);
        _cleanup_free_ char *collections = text_count(summary->collections, "collection", "collections");
        _cleanup_free_ char *documents = text_count(summary->documents, "document", "documents");
        _cleanup_free_ char *packages = text_count(summary->packages, "package", "packages");
        printf("%s %s: %s; %s with %s, %s%s\n", verb, summary->folder, size, collections, documents, packages,
               summary->with_packages ? "" : " (files not in the backup)");
        if (summary->fetched) printf("packages that were fetched again: %zu\n", summary->fetched);
    }
    for (size_t i = 0; i < summary->missing_count; i++)
        fprintf(stderr, "slipway %s: %s\n", cli->command->name, summary->missing[i]);
    state_summary_clear(summary);
    return EXIT_OK;
}

int cli_backup(struct cli *cli) {
    struct settings *settings = read_settings(cli);
    if (!settings) return EXIT_USAGE;
    struct showing showing;
    struct state_progress progress;
    struct state_summary summary = {0};
    struct error *error = NULL;
    const struct state_backup backup = {.state = settings->state,
                                        .destination = cli->arguments[0],
                                        .with_packages = !cli->flags[FLAG_WITHOUT_PACKAGES],
                                        .progress = begin_showing(cli, &showing, &progress)};
    int result = state_backup(&backup, &summary, &error);
    cli_progress_end(&showing.progress);
    settings_free(settings);
    return result < 0 ? fail(cli, error) : print_summary(cli, "backed up to", &summary);
}

int cli_restore(struct cli *cli) {
    if (!cli->flags[FLAG_STATE]) {
        fprintf(stderr, "slipway restore: name the folder that the state is to be laid out in with --state\n");
        return EXIT_USAGE;
    }
    struct settings *settings = read_settings(cli);
    if (!settings) return EXIT_USAGE;
    struct showing showing;
    struct state_progress progress;
    struct state_summary summary = {0};
    struct error *error = NULL;
    const struct state_restore restore = {.backup = cli->arguments[0],
                                          .state = settings->state,
                                          .settings = settings,
                                          .progress = begin_showing(cli, &showing, &progress)};
    int result = state_restore(&restore, &summary, &error);
    cli_progress_end(&showing.progress);
    settings_free(settings);
    return result < 0 ? fail(cli, error) : print_summary(cli, "restored to", &summary);
}

/* ---- check ---- */

static const char *name_of(enum state_gravity gravity) {
    return gravity == STATE_FAULT ? "fault" : "note";
}

static void print_report_json(const struct settings *settings, const struct state_report *report) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "state", settings->state);
    yyjson_mut_obj_add_bool(document, root, "is_running", report->is_running);
    yyjson_mut_obj_add_uint(document, root, "databases", report->databases);
    yyjson_mut_obj_add_uint(document, root, "packages", report->packages);
    yyjson_mut_obj_add_uint(document, root, "indexes", report->indexes);
    yyjson_mut_obj_add_uint(document, root, "faults", state_report_faults(report));
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(document, root, "findings");
    for (size_t i = 0; i < report->count; i++) {
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, list);
        json_add_text(document, object, "gravity", name_of(report->findings[i].gravity));
        json_add_text(document, object, "subject", report->findings[i].subject);
        json_add_text(document, object, "what", report->findings[i].what);
        json_add_text(document, object, "advice", report->findings[i].advice);
    }
    _cleanup_free_ char *json = json_write(document, NULL);
    cli_print_json(json);
}

static void print_report(const struct settings *settings, const struct state_report *report) {
    for (size_t i = 0; i < report->count; i++) {
        const struct state_finding *finding = &report->findings[i];
        printf("%-5s  %s: %s; %s\n", name_of(finding->gravity), finding->subject, finding->what, finding->advice);
    }
    size_t faults = state_report_faults(report);
    _cleanup_free_ char *databases = text_count(report->databases, "database", "databases");
    _cleanup_free_ char *packages = text_count(report->packages, "package", "packages");
    _cleanup_free_ char *indexes = text_count(report->indexes, "index", "indexes");
    _cleanup_free_ char *found = text_count(faults, "fault", "faults");
    _cleanup_free_ char *notes = text_count(report->count - faults, "note", "notes");
    printf("%s (%s): %s, %s, %s; %s, %s\n", settings->state, report->is_running ? "in use by a service" : "not in use",
           databases, packages, indexes, found, notes);
}

int cli_check(struct cli *cli) {
    struct settings *settings = read_settings(cli);
    if (!settings) return EXIT_USAGE;
    struct showing showing;
    struct state_progress progress;
    struct state_report report = {0};
    struct error *error = NULL;
    int result = state_check(settings->state, begin_showing(cli, &showing, &progress), &report, &error);
    cli_progress_end(&showing.progress);
    int status = result < 0 ? fail(cli, error) : state_report_faults(&report) ? EXIT_FAILED : EXIT_OK;
    if (!result) (cli->json ? print_report_json : print_report)(settings, &report);
    state_report_clear(&report);
    settings_free(settings);
    return status;
}
