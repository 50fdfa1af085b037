/* Reconciliation: once after every start, when the target has told what lives and before the API answers, the record is
 * put right with it. Nothing is undone that a task will go on with: rows of unfinished tasks are left to them.
 *
 * In this order: followers of finished tasks; stuck statuses; replicas of finished tasks; processes without a row;
 * pins; packages; what was being fetched. The routes' generation goes up by one, so that every gateway says anew what
 * it uses. */
#include <dirent.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

/* ---- lists of pairs of texts from a query ---- */

struct pair {
    char *first, *second;
};
struct pairs {
    struct pair *items;
    size_t count;
};

static void pairs_clear(struct pairs *pairs) {
    for (size_t i = 0; i < pairs->count; i++) {
        free(pairs->items[i].first);
        free(pairs->items[i].second);
    }
    free(pairs->items);
}
#define _cleanup_pairs_ __attribute__((cleanup(pairs_clear)))

static void pairs_add(struct pairs *pairs, const char *first, const char *second) {
    pairs->items = mem_resize(pairs->items, pairs->count + 1, sizeof *pairs->items);
    pairs->items[pairs->count++] = (struct pair){text_copy(first), text_copy(second)};
}

static int ask_pairs(struct store_transaction *tx, const char *sql, struct pairs *pairs, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error, sql, "");
    if (result < 0) return result;
    while ((result = store_next(rows, ret_error)) > 0) pairs_add(pairs, store_text(rows, 0), store_text(rows, 1));
    return result;
}

/* ---- tasks and statuses ---- */

/* A follower whose leader ended while nobody looked ends as it did. */
static int end_followers(struct store_transaction *tx, struct error **ret_error) {
    _cleanup_pairs_ struct pairs pairs = {0};
    int result = ask_pairs(
        tx,
        "SELECT f.id, l.id FROM tasks f LEFT JOIN tasks l ON l.id = f.leader_id WHERE f.leader_id IS NOT NULL "
        "AND f.status IN ('pending', 'processing') "
        "AND (l.id IS NULL OR l.status NOT IN ('pending', 'processing'))",
        &pairs, ret_error);
    for (size_t i = 0; i < pairs.count && result >= 0; i++) {
        _cleanup_task_ struct task leader = {0};
        bool known = pairs.items[i].second && task_load(tx, pairs.items[i].second, &leader, NULL) >= 0;
        struct error *error = known && leader.error_json ? json_to_error(leader.error_json) : NULL;
        result = task_set_status(tx, pairs.items[i].first, known ? leader.status : TASK_FAILED,
                                 known ? leader.detail : "the task that it was to end with is gone", error, ret_error);
        error_free(error);
    }
    return result;
}

static int settle(struct controller *controller, struct store_transaction *tx, const char *id,
                  struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    int result = deployment_load(tx, id, &deployment, ret_error);
    if (result < 0) return result;
    _cleanup_error_ struct error *error = NULL;
    error_set(&error, ERROR_DEPLOYMENT, "it was %s, but no task works on that",
              deployment_status_name(deployment.status));
    enum deployment_status status = deployment.status == DEPLOYMENT_DELETING ? DEPLOYMENT_DELETE_FAILED
                                    : deployment.serving_revision            ? DEPLOYMENT_ACTIVE
                                                                             : DEPLOYMENT_FAILED;
    result = deployment_set_status(tx, id, status, error->message, status == DEPLOYMENT_ACTIVE ? NULL : error, NULL,
                                   ret_error);
    (void)controller;
    return result;
}

static int settle_stuck(struct controller *controller, struct store_transaction *tx, struct error **ret_error) {
    _cleanup_pairs_ struct pairs pairs = {0};
    int result =
        ask_pairs(tx,
                  "SELECT d.id, NULL FROM deployments d WHERE d.status IN ('creating', 'updating', 'deleting') "
                  "AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.deployment_id = d.id AND t.kind <> 'retire' "
                  "AND t.status IN ('pending', 'processing'))",
                  &pairs, ret_error);
    for (size_t i = 0; i < pairs.count && result >= 0; i++)
        result = settle(controller, tx, pairs.items[i].first, ret_error);
    return result;
}

/* ---- replicas ---- */

#define NO_TASK_WORKS_ON                                                                                               \
    " NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = r.task_id AND t.status IN ('pending', 'processing')) "

/* Rows that nobody will come back for: half-way states of finished tasks, and whatever an inactive deployment has. */
static int mark_leftovers(struct store_transaction *tx, struct error **ret_error) {
    return store_run(tx, NULL, ret_error,
                     "UPDATE replicas AS r SET state = 'stopping' WHERE" NO_TASK_WORKS_ON
                     "AND (r.state IN ('starting', 'ready', "
                     "'draining', 'stopping') OR NOT EXISTS (SELECT 1 FROM deployments d WHERE d.id = r.deployment_id "
                     "AND d.status <> 'inactive'))",
                     "");
}

/* A warm set whose retire task is gone would stay for ever. */
static int mark_forgotten_warm(struct store_transaction *tx, struct error **ret_error) {
    return store_run(
        tx, NULL, ret_error,
        "UPDATE replicas AS r SET state = 'stopping' WHERE r.state = 'warm' AND NOT EXISTS (SELECT 1 FROM tasks t "
        "WHERE t.deployment_id = r.deployment_id AND t.kind <> 'restart' AND t.status IN ('pending', 'processing'))",
        "");
}

/* Also those that are up: a stop asked for twice is one stop, and health.c deletes the row when it is reaped. */
static int stop_leftovers(struct controller *controller, const struct pairs *leaving, struct error **ret_error) {
    int result = 0;
    for (size_t i = 0; i < leaving->count && result >= 0; i++) {
        replicas_expect(controller->replicas, leaving->items[i].first);
        result = controller->target_ops->stop(controller->target, leaving->items[i].first,
                                              controller->settings->drain_ms, ret_error);
    }
    return result;
}

static bool stays_up(const struct replica_row *row, const void *context) {
    (void)context;
    return text_equal(row->state, "serving") || text_equal(row->state, "warm");
}

struct start {
    struct deployment deployment;
    struct revision revision;
    struct replica_row row;
};

static int load_start(struct store_transaction *tx, const char *deployment_id, const struct replica_row *row,
                      struct start *ret_start, struct error **ret_error) {
    int result = deployment_load(tx, deployment_id, &ret_start->deployment, ret_error);
    return result < 0 ? result : revision_load(tx, deployment_id, row->revision, &ret_start->revision, ret_error);
}

/* A replica that cannot even be asked for (its package is gone) is not worth keeping the whole service from starting.
 */
static void start_again(struct controller *controller, struct store_transaction *tx, const char *deployment_id,
                        const struct replica_row *row) {
    struct start start = {0};
    _cleanup_error_ struct error *error = NULL;
    struct replica_view view;
    replicas_get(controller->replicas, row->id, &view);
    bool known =
        view.up || view.pid || view.final_down; /* of one that was given up the engine is told apart from this */
    replica_view_clear(&view);
    if (!known && load_start(tx, deployment_id, row, &start, &error) >= 0)
        replica_start(controller, &start.deployment, &start.revision, row, &error);
    if (error) {
        _cleanup_free_ char *text = error_text(error);
        struct target_event event = {
            .kind = TARGET_DOWN, .replica_id = row->id, .cause = text, .final = true, .incarnation = UINT64_MAX};
        log_write(LOG_WARNING, "a replica cannot be started again", "replica", row->id, "error", text, NULL);
        replicas_take_event(controller->replicas, &event);
    }
    deployment_clear(&start.deployment);
    revision_clear(&start.revision);
}

static int start_missing(struct controller *controller, struct store_transaction *tx, struct error **ret_error) {
    _cleanup_pairs_ struct pairs deployments = {0};
    int result = ask_pairs(tx, "SELECT DISTINCT deployment_id, NULL FROM replicas WHERE state IN ('serving', 'warm')",
                           &deployments, ret_error);
    for (size_t i = 0; i < deployments.count && result >= 0; i++) {
        _cleanup_replica_rows_ struct replica_rows rows = {0};
        if ((result = replica_rows_load(tx, deployments.items[i].first, &rows, ret_error)) < 0) break;
        replica_rows_filter(&rows, stays_up, NULL);
        for (size_t r = 0; r < rows.count; r++) start_again(controller, tx, deployments.items[i].first, &rows.rows[r]);
        result = health_update(controller, tx, deployments.items[i].first, ret_error);
    }
    return result;
}

/* Processes that live without a row. */
static int stop_orphans(struct controller *controller, struct store_transaction *tx, struct error **ret_error) {
    size_t count = 0;
    char **ids = replicas_list(controller->replicas, &count);
    int result = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t rows = 0;
        if (result >= 0)
            result = store_ask_number(tx, &rows, ret_error, "SELECT count(*) FROM replicas WHERE id = ?", "t", ids[i]);
        if (result >= 0 && !rows) {
            log_write(LOG_WARNING, "a replica without a record is stopped", "replica", ids[i], NULL);
            result =
                controller->target_ops->stop(controller->target, ids[i], controller->settings->drain_ms, ret_error);
        }
        free(ids[i]);
    }
    free(ids);
    return result;
}

static int reconcile_replicas(struct controller *controller, struct store_transaction *tx, struct error **ret_error) {
    _cleanup_pairs_ struct pairs leaving = {0};
    int result = mark_leftovers(tx, ret_error);
    if (result < 0 || (result = mark_forgotten_warm(tx, ret_error)) < 0 ||
        (result = ask_pairs(tx, "SELECT r.id, NULL FROM replicas AS r WHERE r.state = 'stopping' AND" NO_TASK_WORKS_ON,
                            &leaving, ret_error)) < 0 ||
        (result = stop_leftovers(controller, &leaving, ret_error)) < 0 ||
        (result = start_missing(controller, tx, ret_error)) < 0)
        return result;
    return stop_orphans(controller, tx, ret_error);
}

/* ---- pins and packages (S6) ---- */

/* What nothing refers to, but never what belongs to an unfinished task. */
static int drop_stale_pins(struct store_transaction *tx, struct error **ret_error) {
    return store_run(
        tx, NULL, ret_error,
        "DELETE FROM pins WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = pins.task_id AND t.status IN "
        "('pending', 'processing')) AND (substr(holder, 1, 5) IN ('task:', 'call:') OR (substr(holder, 1, 9) = 'revision:' AND "
        "NOT EXISTS (SELECT 1 FROM revisions v JOIN deployments d ON d.id = v.deployment_id "
        "WHERE 'revision:' || v.deployment_id || '/' || v.number = pins.holder AND d.status <> 'inactive')))",
        "");
}

/* Rows of unused packages whose files have gone (a restore without packages): a deployment that names one has to fetch
 * it, and what was uploaded has to be uploaded again. */
static int drop_rows_without_files(struct controller *controller, struct store_transaction *tx,
                                   struct error **ret_error) {
    _cleanup_pairs_ struct pairs unused = {0};
    int result = ask_pairs(tx,
                           "SELECT digest, 'kept:' || digest FROM packages WHERE NOT EXISTS (SELECT 1 FROM pins WHERE "
                           "pins.subject = 'package:' || packages.digest AND substr(holder, 1, 5) <> 'kept:')",
                           &unused, ret_error);
    for (size_t i = 0; i < unused.count && result >= 0; i++) {
        _cleanup_free_ char *path = NULL;
        if (controller->packages->locate(controller->package_store, unused.items[i].first, &path, NULL) >= 0) continue;
        result = store_run(tx, NULL, ret_error, "DELETE FROM packages WHERE digest = ?", "t", unused.items[i].first);
        if (result >= 0) result = pin_release(tx, unused.items[i].second, ret_error);
    }
    return result;
}

struct scanned {
    struct controller *controller;
    struct pairs digests;
};

static void visit(const char *digest, void *context) {
    pairs_add(&((struct scanned *)context)->digests, digest, NULL);
}

static _Thread_local struct { int64_t bytes, files; } measured; /* nftw() takes no context */

static int measure_entry(const char *path, const struct stat *entry, int kind, struct FTW *where) {
    (void)path, (void)where;
    if (kind != FTW_F) return 0;
    measured.bytes += entry->st_size;
    measured.files++;
    return 0;
}

/* A package that is pinned but has lost its row gets one. */
static int adopt(struct controller *controller, struct store_transaction *tx, const char *digest,
                 struct error **ret_error) {
    _cleanup_free_ char *path = NULL;
    if (controller->packages->locate(controller->package_store, digest, &path, NULL) < 0) return 0;
    measured.bytes = measured.files = 0;
    nftw(path, measure_entry, 16, FTW_PHYS);
    int64_t now = clock_wall_ms();
    return store_run(
        tx, NULL, ret_error,
        "INSERT INTO packages (digest, size_bytes, file_count, created_at, used_at) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        "tiiii", digest, measured.bytes, measured.files, now, now);
}

static int reconcile_package(struct controller *controller, struct store_transaction *tx, const char *digest,
                             struct error **ret_error) {
    _cleanup_free_ char *subject = text_format("package:%s", digest);
    int64_t rows = 0, pins = 0, working = 0;
    int result = store_ask_number(tx, &rows, ret_error, "SELECT count(*) FROM packages WHERE digest = ?", "t", digest);
    if (result < 0 ||
        (result = store_ask_number(tx, &pins, ret_error, "SELECT count(*) FROM pins WHERE subject = ?", "t", subject)) <
            0 ||
        (result = store_ask_number(
             tx, &working, ret_error,
             "SELECT count(*) FROM tasks WHERE status IN ('pending', 'processing') AND instr(state_json, ?) > 0", "t",
             digest)) < 0)
        return result;
    if (rows) return 0;
    if (!pins && !working) return controller->packages->remove(controller->package_store, digest, ret_error);
    return working ? 0 : adopt(controller, tx, digest, ret_error);
}

static int reconcile_packages(struct controller *controller, struct store_transaction *tx, struct error **ret_error) {
    struct scanned scanned = {.controller = controller};
    int result = drop_stale_pins(tx, ret_error);
    if (result < 0 || (result = drop_rows_without_files(controller, tx, ret_error)) < 0 ||
        (result = pins_drop_excess_rows(controller, tx, ret_error)) < 0)
        return result;
    result = controller->packages->scan(controller->package_store, visit, &scanned, ret_error);
    for (size_t i = 0; i < scanned.digests.count && result >= 0; i++)
        result = reconcile_package(controller, tx, scanned.digests.items[i].first, ret_error);
    pairs_clear(&scanned.digests);
    return result;
}

/* What finished tasks left of their fetching. */
static int drop_incoming(struct controller *controller, struct store_transaction *tx, struct error **ret_error) {
    _cleanup_free_ char *packages = fs_join(controller->settings->state, "packages");
    _cleanup_free_ char *incoming = fs_join(packages, "incoming");
    DIR *folder = opendir(incoming);
    int result = 0;
    for (struct dirent *entry; folder && result >= 0 && (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        int64_t working = 0;
        result = store_ask_number(tx, &working, ret_error,
                                  "SELECT count(*) FROM tasks WHERE id = ? AND status IN ('pending', 'processing')",
                                  "t", entry->d_name);
        if (result >= 0 && !working) controller->packages->abandon(controller->package_store, entry->d_name);
    }
    if (folder) closedir(folder);
    return result;
}

int reconcile_run(struct controller *controller, struct error **ret_error) {
    int64_t generation = 0;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = end_followers(tx, ret_error)) < 0 ||
        (result = settle_stuck(controller, tx, ret_error)) < 0 ||
        (result = reconcile_replicas(controller, tx, ret_error)) < 0 ||
        (result = reconcile_packages(controller, tx, ret_error)) < 0 ||
        (result = encoder_reconcile(controller, tx, ret_error)) < 0 ||
        (result = drop_incoming(controller, tx, ret_error)) < 0 ||
        (result = replica_logs_remove_stale(controller, tx, ret_error)) < 0 ||
        (result = step_next_generation(tx, &generation, ret_error)) < 0 ||
        (result = store_commit(TAKE(tx), ret_error)) < 0)
        return result;
    routing_announce(controller->routing, (uint64_t)generation);
    return 0;
}
