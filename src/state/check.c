/* Looking at a whole state folder.
 *
 * A service that runs changes it meanwhile: a package may be deleted between its record's reading and its own. So what
 * one look finds there counts only if another finds it as well. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "state/check-internal.h"

#define LOOKS_MAXIMUM 3
#define RESTORE_ADVICE "stop the service, and restore a backup (`slipway restore`)"

/* ---- the report ---- */

static void clear_finding(struct state_finding *finding) {
    free(finding->subject);
    free(finding->what);
    free(finding->advice);
}

void state_report_clear(struct state_report *report) {
    for (size_t i = 0; i < report->count; i++) clear_finding(&report->findings[i]);
    free(report->findings);
    *report = (struct state_report){0};
}

size_t state_report_faults(const struct state_report *report) {
    size_t faults = 0;
    for (size_t i = 0; i < report->count; i++) faults += report->findings[i].gravity == STATE_FAULT;
    return faults;
}

static void add(struct checking *checking, enum state_gravity gravity, const char *subject, const char *advice,
                const char *format, va_list arguments) {
    struct state_report *report = checking->report;
    report->findings = mem_resize(report->findings, report->count + 1, sizeof *report->findings);
    report->findings[report->count++] = (struct state_finding){.gravity = gravity,
                                                               .subject = text_copy(subject),
                                                               .what = text_format_list(format, arguments),
                                                               .advice = text_copy(advice)};
}

void check_find(struct checking *checking, enum state_gravity gravity, const char *subject, const char *advice,
                const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add(checking, gravity, subject, advice, format, arguments);
    va_end(arguments);
}

void check_find_mended(struct checking *checking, const char *subject, const char *what_start_does, const char *format,
                       ...) {
    bool is_running = checking->report->is_running;
    _cleanup_free_ char *advice = text_format(
        is_running ? "restart the service: at its start, it %s" : "the next start of the service %s", what_start_does);
    va_list arguments;
    va_start(arguments, format);
    add(checking, is_running ? STATE_FAULT : STATE_NOTE, subject, advice, format, arguments);
    va_end(arguments);
}

void check_each_name(const char *folder, void (*take)(void *context, const char *name), void *context) {
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) take(context, entry->d_name);
    if (entries) closedir(entries);
}

int check_ask_number(struct checking *checking, int64_t *ret_number, struct error **ret_error, const char *sql,
                     const char *text) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(checking->cut->tx, &rows, ret_error, sql, "t", text);
    if (!result) result = store_next(rows, ret_error);
    if (result > 0) *ret_number = store_number(rows, 0);
    return result < 0 ? result : 0;
}

/* ---- is it in use ---- */

/* A lock of ours on supervisor.lock, however short, could keep a service from starting: /proc/locks (proc(5)) is only
 * read. "1: FLOCK  ADVISORY  WRITE 4711 08:01:131079 0 EOF" */
static bool is_in_use(const char *state) {
    _cleanup_free_ char *path = fs_join(state, "supervisor.lock");
    struct stat status;
    FILE *locks = stat(path, &status) ? NULL : fopen("/proc/locks", "re");
    char line[256];
    bool found = false;
    while (locks && !found && fgets(line, sizeof line, locks)) {
        unsigned long long inode = 0;
        found = sscanf(line, "%*d: FLOCK %*s WRITE %*d %*x:%*x:%llu", &inode) == 1 && inode == status.st_ino;
    }
    if (locks) fclose(locks);
    return found;
}

/* ---- the control database ---- */

struct listening {
    struct checking *checking;
    const char *subject;
};

static void tell(void *context, const char *fault) {
    const struct listening *listening = context;
    check_find(listening->checking, STATE_FAULT, listening->subject, RESTORE_ADVICE, "%s", fault);
}

int check_control(struct checking *checking, struct error **ret_error) {
    struct listening listening = {checking, "control.db"};
    int64_t version = 0, newest = (int64_t)store_control_schema()->count;
    checking->report->databases++;
    int result = store_get_version(checking->cut->tx, &version, ret_error);
    if (!result && version < newest)
        check_find_mended(checking, "control.db", "brings it to this version's",
                          "its schema is version %" PRId64 " of %" PRId64, version, newest);
    return result < 0 ? result : store_verify(checking->cut->tx, tell, &listening, ret_error);
}

/* ---- one look ---- */

static void clear_lists(struct checking *checking) {
    for (size_t i = 0; i < checking->index_count; i++) {
        struct index_look *look = &checking->indexes[i];
        free(look->subject);
        free(look->folder);
        free(look->index_id);
        free(look->log_id);
        free(look->encoder_digest);
    }
    for (size_t i = 0; i < checking->package_count; i++) free(checking->packages[i].users);
    free(checking->indexes);
    free(checking->packages);
}

static int look_at_databases(struct checking *checking, struct error **ret_error) {
    static int (*const parts[])(struct checking * checking, struct error * *ret_error) = {
        check_control, check_pins, check_list_packages, check_collections, check_leftovers};
    int result = state_cut_open(checking->state, true, &checking->cut, ret_error);
    for (size_t i = 0; i < ARRAY_SIZE(parts) && !result; i++) result = parts[i](checking, ret_error);
    state_cut_close(TAKE(checking->cut));
    return result;
}

static int look(const char *state, const struct state_progress *progress, struct state_report *report,
                struct error **ret_error) {
    struct checking checking = {.state = state, .progress = progress, .report = report};
    struct error *error = NULL;
    report->is_running = is_in_use(state);
    int result = look_at_databases(&checking, &error);
    if (!result) {
        check_packages(&checking);
        check_indexes(&checking);
    } else if (error->class == ERROR_UNAVAILABLE && error->transient) {
        if (ret_error) *ret_error = TAKE(error);
    } else { /* what it would have said of the rest nobody knows */
        _cleanup_free_ char *text = error_text(error);
        check_find(&checking, STATE_FAULT, "control.db", RESTORE_ADVICE, "%s", text);
        result = 0;
    }
    error_free(error);
    clear_lists(&checking);
    return result;
}

/* ---- looks that agree ---- */

static bool has(const struct state_report *report, const struct state_finding *finding) {
    for (size_t i = 0; i < report->count; i++)
        if (report->findings[i].gravity == finding->gravity &&
            text_equal(report->findings[i].subject, finding->subject) &&
            text_equal(report->findings[i].what, finding->what))
            return true;
    return false;
}

/* Leaves what both have found. */
static void intersect(struct state_report *report, const struct state_report *other) {
    size_t kept = 0;
    for (size_t i = 0; i < report->count; i++) {
        if (has(other, &report->findings[i]))
            report->findings[kept++] = report->findings[i];
        else
            clear_finding(&report->findings[i]);
    }
    report->count = kept;
}

int state_check(const char *state, const struct state_progress *progress, struct state_report *ret_report,
                struct error **ret_error) {
    static const struct timespec pause = {.tv_nsec = 300 * 1000 * 1000};
    struct state_report report = {0};
    _cleanup_free_ char *path = fs_join(state, "control.db");
    if (!fs_exists(path))
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "%s is no state folder of Slipway: there is no control.db in it; name another one with --state", state);
    int result = look(state, progress, &report, ret_error);
    for (int looks = 1; !result && report.is_running && report.count && looks < LOOKS_MAXIMUM; looks++) {
        struct state_report other = {0};
        nanosleep(&pause, NULL);
        if (!(result = look(state, progress, &other, ret_error))) intersect(&report, &other);
        state_report_clear(&other);
    }
    if (result < 0) {
        state_report_clear(&report);
        return error_wrap(ret_error, "check %s", state);
    }
    *ret_report = report;
    return 0;
}
