/* Starting, awaiting and ending a task's replicas: what provision, ready, roll, retire, stop and the undoing share. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/steps.h"

#define REAP_SLACK_MS 15000 /* beyond the drain time: the supervisor kills then, and the kernel takes its time */

/* ---- memory that was seen ---- */

static uint64_t read_pss(uint64_t pid) {
    _cleanup_free_ char *path = text_format("/proc/%llu/smaps_rollup", (unsigned long long)pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    char line[256];
    unsigned long long kib = 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "Pss: %llu kB", &kib) == 1) break;
    fclose(file);
    return (uint64_t)kib * 1024;
}

static int keep_seen(struct store_transaction *tx, const char *deployment_id, int64_t revision, uint64_t bytes,
                     struct error **ret_error) {
    if (!bytes || bytes > INT64_MAX) return 0;
    return store_run(tx, NULL, ret_error,
                     "UPDATE packages SET seen_memory_bytes = ? WHERE seen_memory_bytes < ? AND digest = "
                     "(SELECT package_digest FROM revisions WHERE deployment_id = ? AND number = ?)",
                     "iiti", (int64_t)bytes, (int64_t)bytes, deployment_id, revision);
}

struct leaving {
    char *id, *deployment_id;
    int64_t revision;
};
struct leaving_list {
    struct leaving *items;
    size_t count;
};

static void leaving_clear(struct leaving_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].id);
        free(list->items[i].deployment_id);
    }
    free(list->items);
}
#define _cleanup_leaving_ __attribute__((cleanup(leaving_clear)))

/* The rows of the task in that state, of whatever deployment (those evicted are of others). */
static int load_leaving(struct store *store, const char *task_id, const char *state, struct leaving_list *list,
                        struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_begin(store, &tx, ret_error);
    if (result < 0 ||
        (result = store_query(tx, &rows, ret_error,
                              "SELECT id, deployment_id, revision FROM replicas WHERE task_id = ? AND state = ?", "tt",
                              task_id, state)) < 0)
        return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        list->items = mem_resize(list->items, list->count + 1, sizeof *list->items);
        list->items[list->count++] = (struct leaving){.id = store_text_copy(rows, 0),
                                                      .deployment_id = store_text_copy(rows, 1),
                                                      .revision = store_number(rows, 2)};
    }
    return result;
}

static void record_memory_of(struct step_run *run, const struct leaving_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        struct replica_view view __attribute__((cleanup(replica_view_clear)));
        replicas_get(run->controller->replicas, list->items[i].id, &view);
        uint64_t bytes = view.up && view.pid ? read_pss(view.pid) : 0;
        if (!bytes) continue;
        _cleanup_transaction_ struct store_transaction *tx = NULL;
        if (store_begin(run->controller->store, &tx, NULL) < 0) return;
        if (keep_seen(tx, list->items[i].deployment_id, list->items[i].revision, bytes, NULL) >= 0)
            store_commit(TAKE(tx), NULL);
    }
}

/* A better estimate for next time is no reason to fail. */
void step_record_memory(struct step_run *run) {
    _cleanup_leaving_ struct leaving_list list = {0};
    if (load_leaving(run->controller->store, run->task.id, "draining", &list, NULL) >= 0) record_memory_of(run, &list);
}

/* ---- ending ---- */

int step_move_rows(struct store_transaction *tx, struct step_run *run, const char *from, const char *to,
                   const char *why, struct error **ret_error) {
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    int result = replica_rows_load(tx, run->task.deployment_id, &rows, ret_error);
    for (size_t i = 0; i < rows.count && result >= 0; i++)
        if (text_equal(rows.rows[i].task_id, run->task.id) && text_equal(rows.rows[i].state, from))
            result =
                replica_row_set_state(tx, run->task.deployment_id, &rows.rows[i], to, run->task.id, why, ret_error);
    return result;
}

static bool is_gone(struct replicas *replicas, const char *id) {
    struct replica_view view;
    replicas_get(replicas, id, &view);
    bool gone = !view.known || view.final_down;
    replica_view_clear(&view);
    return gone;
}

static int ask_to_stop(struct step_run *run, const struct leaving_list *list, struct error **ret_error) {
    struct controller *controller = run->controller;
    for (size_t i = 0; i < list->count; i++) {
        const char *id = list->items[i].id;
        struct replica_view view;
        replicas_get(controller->replicas, id, &view);
        bool down = view.known && view.final_down;
        replica_view_clear(&view);
        if (down) continue;
        replicas_expect(controller->replicas, id);
        int result = controller->target_ops->stop(controller->target, id, controller->settings->drain_ms, ret_error);
        if (result < 0) return error_wrap(ret_error, "stop replica %s", id);
    }
    return 0;
}

static int wait_gone(struct step_run *run, const struct leaving_list *list, struct error **ret_error) {
    struct replicas *replicas = run->controller->replicas;
    uint64_t deadline = clock_monotonic_ms() + run->controller->settings->drain_ms + REAP_SLACK_MS;
    for (;;) {
        uint64_t version = replicas_version(replicas);
        const char *waiting = NULL;
        for (size_t i = 0; i < list->count && !waiting; i++)
            if (!is_gone(replicas, list->items[i].id)) waiting = list->items[i].id;
        if (!waiting) return 0;
        if (replicas_wait_change(replicas, version, deadline, &run->interrupted)) continue;
        int result = step_check(run, ret_error);
        if (result < 0) return result;
        if (clock_monotonic_ms() < deadline) continue;
        error_set(ret_error, ERROR_DEPLOYMENT, "stop replica %s: it has not ended %llu s after it was asked to",
                  waiting, (unsigned long long)((run->controller->settings->drain_ms + REAP_SLACK_MS) / 1000));
        return ret_error ? error_mark_transient(ret_error) : -ERROR_DEPLOYMENT;
    }
}

static int delete_gone(struct step_run *run, const struct leaving_list *list, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    for (size_t i = 0; i < list->count && result >= 0; i++)
        result =
            replica_row_delete(tx, list->items[i].deployment_id, list->items[i].id, run->task.id, "stopped", ret_error);
    if (result < 0 || (result = step_commit(run, TAKE(tx), ret_error)) < 0) return result;
    for (size_t i = 0; i < list->count; i++) {
        replicas_forget(run->controller->replicas, list->items[i].id);
        replica_log_remove(run->controller, list->items[i].id);
    }
    return 0;
}

int step_finish_stopping(struct step_run *run, struct error **ret_error) {
    _cleanup_leaving_ struct leaving_list list = {0};
    int result = load_leaving(run->controller->store, run->task.id, "stopping", &list, ret_error);
    if (result < 0 || !list.count) return result;
    record_memory_of(run, &list);
    if ((result = ask_to_stop(run, &list, ret_error)) < 0 || (result = wait_gone(run, &list, ret_error)) < 0)
        return result;
    return delete_gone(run, &list, ret_error);
}

/* ---- coming up ---- */

struct wanted {
    const char *task_id;
    int64_t revision;
};

bool step_is_coming(const struct replica_row *row, const char *task_id, int64_t revision) {
    return row->revision == revision && text_equal(row->task_id, task_id) &&
           (text_equal(row->state, "starting") || text_equal(row->state, "ready"));
}

static bool is_wanted(const struct replica_row *row, const void *context) {
    const struct wanted *wanted = context;
    return step_is_coming(row, wanted->task_id, wanted->revision);
}

static int load_coming(struct step_run *run, int64_t revision_number, struct deployment *deployment,
                       struct revision *revision, struct replica_rows *rows, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    const struct wanted wanted = {run->task.id, revision_number};
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = deployment_load(tx, run->task.deployment_id, deployment, ret_error)) < 0 ||
        (result = revision_load(tx, run->task.deployment_id, revision_number, revision, ret_error)) < 0 ||
        (result = replica_rows_load(tx, run->task.deployment_id, rows, ret_error)) < 0)
        return result;
    replica_rows_filter(rows, is_wanted, &wanted);
    return 0;
}

/* 1: all are up; 0: not yet; negative: one is given up. */
static int look(struct step_run *run, const struct replica_rows *rows, struct error **ret_error) {
    int all_up = 1;
    for (size_t i = 0; i < rows->count; i++) {
        struct replica_view view __attribute__((cleanup(replica_view_clear)));
        replicas_get(run->controller->replicas, rows->rows[i].id, &view);
        if (view.final_down) {
            struct error *words = replica_last_words(rows->rows[i].id, &view);
            if (ret_error)
                *ret_error = words;
            else
                error_free(words);
            return -ERROR_DEPLOYMENT;
        }
        if (!view.up) all_up = 0;
    }
    return all_up;
}

/* Which is not up, and why it went down last, if it did. */
static int say_not_ready(struct step_run *run, const struct replica_rows *rows, enum error_class class,
                         struct error **ret_error) {
    for (size_t i = 0; i < rows->count; i++) {
        struct replica_view view __attribute__((cleanup(replica_view_clear)));
        replicas_get(run->controller->replicas, rows->rows[i].id, &view);
        if (view.up) continue;
        return error_set(ret_error, class, "replica %s of revision %lld is not ready yet%s%s", rows->rows[i].id,
                         (long long)rows->rows[i].revision, view.cause ? "; it went down before: " : "",
                         view.cause ? view.cause : "");
    }
    return error_set(ret_error, class, "a replica is not ready yet");
}

static int start_missing(struct step_run *run, const struct deployment *deployment, const struct revision *revision,
                         const struct replica_rows *rows, struct error **ret_error) {
    for (size_t i = 0; i < rows->count; i++) {
        struct replica_view view;
        replicas_get(run->controller->replicas, rows->rows[i].id, &view);
        bool settled = view.up || view.final_down || view.pid;
        replica_view_clear(&view);
        if (settled) continue;
        int result = replica_start(run->controller, deployment, revision, &rows->rows[i], ret_error);
        if (result < 0) return result;
    }
    return 0;
}

int step_start_coming(struct step_run *run, int64_t revision_number, struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_revision_ struct revision revision = {0};
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    int result = load_coming(run, revision_number, &deployment, &revision, &rows, ret_error);
    return result < 0 ? result : start_missing(run, &deployment, &revision, &rows, ret_error);
}

int step_wait_up(struct step_run *run, int64_t revision_number, uint64_t deadline_ms, struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_revision_ struct revision revision = {0};
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    int result = load_coming(run, revision_number, &deployment, &revision, &rows, ret_error);
    if (result < 0 || (result = start_missing(run, &deployment, &revision, &rows, ret_error)) < 0) return result;
    for (;;) {
        uint64_t version = replicas_version(run->controller->replicas);
        if ((result = look(run, &rows, ret_error)) != 0) return result < 0 ? result : 0;
        if (atomic_load(&run->interrupted)) return say_not_ready(run, &rows, ERROR_UNAVAILABLE, ret_error);
        if (clock_monotonic_ms() >= deadline_ms) return say_not_ready(run, &rows, ERROR_DEPLOYMENT, ret_error);
        replicas_wait_change(run->controller->replicas, version, deadline_ms, &run->interrupted);
    }
}

/* ---- what they report ---- */

/* The most recent report of those rows; the text is owned by the caller. */
static char *take_report(struct step_run *run, const struct replica_rows *rows) {
    for (size_t i = 0; i < rows->count; i++) {
        struct replica_view view;
        replicas_get(run->controller->replicas, rows->rows[i].id, &view);
        char *report = text_copy(view.report_json);
        replica_view_clear(&view);
        if (report) return report;
    }
    return NULL;
}

/* What the runner found out, and under "source" what the model's source says of it. Caller frees *ret_facts. */
static int join_facts(struct store_transaction *tx, const char *deployment_id, int64_t revision,
                      const yyjson_doc *report, char **ret_facts, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT p.facts_json FROM packages p JOIN revisions v ON v.package_digest = p.digest "
                             "WHERE v.deployment_id = ? AND v.number = ?",
                             "ti", deployment_id, revision);
    if (result < 0 || (result = store_next(rows, ret_error)) < 0) return result;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_doc_mut_copy((yyjson_doc *)report, NULL);
    if (result) json_add_json(document, yyjson_mut_doc_get_root(document), "source", store_text(rows, 0));
    *ret_facts = json_write(document, NULL);
    return 0;
}

static int record_report(struct store_transaction *tx, const char *deployment_id, int64_t revision, const char *report,
                         struct error **ret_error) {
    if (!report) return 0;
    _cleanup_json_ yyjson_doc *document = yyjson_read(report, strlen(report), 0);
    _cleanup_free_ char *facts = NULL;
    yyjson_val *root = yyjson_doc_get_root(document);
    if (!yyjson_is_obj(root)) return 0;
    int result = join_facts(tx, deployment_id, revision, document, &facts, ret_error);
    if (result >= 0)
        result =
            store_run(tx, NULL, ret_error,
                      "UPDATE revisions SET facts_json = ?, encoder_digest = ? WHERE deployment_id = ? AND number = ?",
                      "ttti", facts, yyjson_get_str(yyjson_obj_get(root, "encoder_digest")), deployment_id, revision);
    if (result < 0) return result;
    uint64_t memory = yyjson_get_uint(yyjson_obj_get(root, "memory_bytes"));
    result = keep_seen(tx, deployment_id, revision, memory, ret_error);
    if (result < 0 || memory > INT64_MAX) return result;
    /* Reckoned too low: what it uses is taken, whatever was reserved. What was given is its limit and stays. */
    return store_run(tx, NULL, ret_error,
                     "UPDATE replicas SET reserved_bytes = ? WHERE deployment_id = ? AND revision = ? AND "
                     "memory_limit_bytes = 0 AND reserved_bytes < ? AND state IN ('starting', 'ready')",
                     "itii", (int64_t)memory, deployment_id, revision, (int64_t)memory);
}

int step_record_ready(struct step_run *run, int64_t revision_number, struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_revision_ struct revision revision = {0};
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    int result = load_coming(run, revision_number, &deployment, &revision, &rows, ret_error);
    if (result < 0 || !rows.count) return result;
    _cleanup_free_ char *report = take_report(run, &rows);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if ((result = store_begin(run->controller->store, &tx, ret_error)) < 0 ||
        (result = record_report(tx, deployment.id, revision_number, report, ret_error)) < 0)
        return result;
    for (size_t i = 0; i < rows.count && result >= 0; i++)
        if (text_equal(rows.rows[i].state, "starting"))
            result = replica_row_set_state(tx, deployment.id, &rows.rows[i], "ready", run->task.id, NULL, ret_error);
    return result < 0 ? result : step_commit(run, TAKE(tx), ret_error);
}
