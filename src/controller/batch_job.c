/* What a batch job may reach, and its rows: the input's identity, the parts that are recorded, the rejected rows. */
#include "controller/batch_job.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/registries.h"
#include "registry/registry_s3.h"

/* ---- access ---- */

static char *real_or_copy(const char *path) {
    char *real = realpath(path, NULL);
    return real ? real : text_copy(path);
}

static int open_s3(void *context, const char *bucket, struct s3 **ret_s3, struct error **ret_error) {
    const struct batch_job_access *access = context;
    struct registry_context registry = registries_context(access->controller);
    registry.canceled = access->interrupted;
    return registry_s3_open(&registry, bucket, ret_s3, ret_error);
}

void batch_job_open_access(const struct controller *controller, atomic_bool *interrupted,
                           struct batch_job_access *ret_access) {
    _cleanup_free_ char *copy = text_copy(controller->settings->batch_roots);
    char **roots = NULL, *save = NULL;
    size_t count = 0;
    for (char *root = strtok_r(copy, ":", &save); root; root = strtok_r(NULL, ":", &save)) {
        roots = mem_resize(roots, count + 1, sizeof *roots);
        roots[count++] = real_or_copy(root);
    }
    *ret_access = (struct batch_job_access){
        .roots = roots,
        .state = real_or_copy(controller->settings->state),
        .spool = fs_join(controller->settings->state, "spool"),
        .controller = controller,
        .interrupted = interrupted,
    };
    ret_access->access = (struct batch_access){.roots = (const char *const *)roots,
                                               .root_count = count,
                                               .state = ret_access->state,
                                               .spool = ret_access->spool,
                                               .open_s3 = open_s3,
                                               .context = ret_access};
}

void batch_job_close_access(struct batch_job_access *access) {
    for (size_t i = 0; i < access->access.root_count; i++) free(access->roots[i]);
    free(access->roots);
    free(access->state);
    free(access->spool);
    *access = (struct batch_job_access){0};
}

static int parse_spec(const char *target_json, struct batch_spec *ret_spec, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    int result = json_parse_object(target_json, strlen(target_json), &document, &root, ret_error);
    return result < 0 ? result : batch_spec_parse(root, "deployment_target_config", ret_spec, ret_error);
}

int batch_job_check(const struct controller *controller, const char *target_json, struct error **ret_error) {
    _cleanup_batch_spec_ struct batch_spec spec = {0};
    _cleanup_batch_access_ struct batch_job_access access = {0};
    int result = parse_spec(target_json, &spec, ret_error);
    if (result < 0) return result;
    batch_job_open_access(controller, NULL, &access);
    result = batch_check(&spec, &access.access, ret_error);
    return result < 0 ? error_wrap(ret_error, "deployment_target_config") : 0;
}

bool batch_job_is_idle(const char *target_json) {
    _cleanup_batch_spec_ struct batch_spec spec = {0};
    return batch_is_job(target_json) && parse_spec(target_json, &spec, NULL) >= 0 && spec.is_idle;
}

/* ---- rows ---- */

void batch_job_rows_clear(struct batch_job_rows *rows) {
    free(rows->input_identity);
    free(rows->name);
    free(rows->sha256);
    *rows = (struct batch_job_rows){0};
}

static int load_identity(struct store_transaction *tx, const char *task_id, struct batch_job_rows *rows,
                         struct error **ret_error) {
    _cleanup_rows_ struct store_rows *found = NULL;
    int result =
        store_query(tx, &found, ret_error, "SELECT input_identity FROM batch_jobs WHERE task_id = ?", "t", task_id);
    if (result >= 0 && (result = store_next(found, ret_error)) > 0) rows->input_identity = store_text_copy(found, 0);
    rows->checkpoint.input_identity = rows->input_identity;
    return result < 0 ? result : 0;
}

static int load_totals(struct store_transaction *tx, const char *task_id, struct batch_checkpoint *checkpoint,
                       struct error **ret_error) {
    _cleanup_rows_ struct store_rows *found = NULL;
    int result = store_query(tx, &found, ret_error,
                             "SELECT count(*), coalesce(sum(row_count), 0), coalesce(sum(rejected_count), 0) FROM "
                             "batch_parts WHERE task_id = ?",
                             "t", task_id);
    if (result < 0 || (result = store_next(found, ret_error)) <= 0) return result;
    checkpoint->parts = store_number(found, 0);
    checkpoint->rows = store_number(found, 1);
    checkpoint->rejected = store_number(found, 2);
    return 0;
}

#define PART_COLUMNS                                                                                                   \
    "SELECT number, name, input_end, line_end, row_count, rejected_count, truncated_count, size_bytes, sha256 FROM "   \
    "batch_parts WHERE task_id = ? "

/* Its texts are the row's. */
static struct batch_part part_of(struct store_rows *rows) {
    return (struct batch_part){.number = store_number(rows, 0),
                               .name = store_text(rows, 1),
                               .input_end = store_number(rows, 2),
                               .line_end = store_number(rows, 3),
                               .rows = store_number(rows, 4),
                               .rejected = store_number(rows, 5),
                               .truncated = store_number(rows, 6),
                               .size_bytes = store_number(rows, 7),
                               .sha256 = store_text(rows, 8)};
}

static int load_last(struct store_transaction *tx, const char *task_id, struct batch_job_rows *rows,
                     struct error **ret_error) {
    _cleanup_rows_ struct store_rows *found = NULL;
    struct batch_checkpoint *checkpoint = &rows->checkpoint;
    int result = store_query(tx, &found, ret_error, PART_COLUMNS "ORDER BY number DESC LIMIT 1", "t", task_id);
    if (result < 0 || (result = store_next(found, ret_error)) <= 0) return result;
    checkpoint->last = part_of(found);
    checkpoint->last.name = rows->name = store_text_copy(found, 1);
    checkpoint->last.sha256 = rows->sha256 = store_text_copy(found, 8);
    checkpoint->input_end = checkpoint->last.input_end;
    checkpoint->line_end = checkpoint->last.line_end;
    return 0;
}

int batch_job_load(struct store_transaction *tx, const char *task_id, struct batch_job_rows *ret_rows,
                   struct error **ret_error) {
    int result = load_identity(tx, task_id, ret_rows, ret_error);
    if (result < 0 || (result = load_totals(tx, task_id, &ret_rows->checkpoint, ret_error)) < 0) return result;
    return load_last(tx, task_id, ret_rows, ret_error);
}

int batch_job_begin(struct store_transaction *tx, const char *task_id, const char *input_identity,
                    struct error **ret_error) {
    return store_run(tx, NULL, ret_error, "INSERT INTO batch_jobs (task_id, input_identity) VALUES (?, ?)", "tt",
                     task_id, input_identity);
}

int batch_job_record(struct store_transaction *tx, const char *task_id, const struct batch_part *part,
                     struct error **ret_error) {
    int result = store_run(tx, NULL, ret_error,
                           "INSERT INTO batch_parts (task_id, number, name, input_end, line_end, row_count, "
                           "rejected_count, truncated_count, size_bytes, sha256) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                           "titiiiiiit", task_id, part->number, part->name, part->input_end, part->line_end, part->rows,
                           part->rejected, part->truncated, part->size_bytes, part->sha256);
    for (size_t i = 0; i < part->rejected_listed && result >= 0; i++)
        result = store_run(tx, NULL, ret_error,
                           "INSERT INTO batch_rejected (task_id, line, stage, detail) VALUES (?, ?, ?, ?) "
                           "ON CONFLICT DO NOTHING",
                           "titt", task_id, part->rejected_list[i].line, part->rejected_list[i].stage,
                           part->rejected_list[i].detail);
    return result;
}

int batch_job_list(struct store_transaction *tx, const char *task_id,
                   int (*tell)(const struct batch_part *part, void *to), void *to, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *found = NULL;
    int result = store_query(tx, &found, ret_error, PART_COLUMNS "ORDER BY number", "t", task_id);
    while (result >= 0 && (result = store_next(found, ret_error)) > 0) {
        const struct batch_part part = part_of(found);
        tell(&part, to);
    }
    return result;
}

int batch_job_render_rejected(struct store_transaction *tx, const char *task_id, int64_t limit, int64_t offset,
                              yyjson_mut_doc *document, yyjson_mut_val *array, int64_t *ret_total,
                              struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_ask_number(tx, ret_total, ret_error, "SELECT count(*) FROM batch_rejected WHERE task_id = ?",
                                  "t", task_id);
    if (result < 0 || (result = store_query(tx, &rows, ret_error,
                                            "SELECT line, stage, detail FROM batch_rejected WHERE task_id = ? "
                                            "ORDER BY line LIMIT ? OFFSET ?",
                                            "tii", task_id, limit, offset)) < 0)
        return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, array);
        _cleanup_free_ char *id = text_format("%lld", (long long)store_number(rows, 0));
        json_add_text(document, object, "id", id);
        yyjson_mut_obj_add_sint(document, object, "line", store_number(rows, 0));
        json_add_text(document, object, "stage", store_text(rows, 1));
        json_add_text(document, object, "detail", store_text(rows, 2));
    }
    return result;
}

/* ---- what is left of jobs ---- */

int batch_job_forget(struct store_transaction *tx, struct error **ret_error) {
    int result = store_run(tx, NULL, ret_error,
                           "DELETE FROM batch_jobs WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = task_id)", "");
    if (result < 0 ||
        (result = store_run(tx, NULL, ret_error,
                            "DELETE FROM batch_parts WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = task_id)",
                            "")) < 0)
        return result;
    return store_run(tx, NULL, ret_error,
                     "DELETE FROM batch_rejected WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = task_id)", "");
}

static int is_needed(struct controller *controller, const char *task_id, bool *ret_needed, struct error **ret_error) {
    int64_t tasks = 0;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0) return result;
    result = store_ask_number(tx, &tasks, ret_error,
                              "SELECT count(*) FROM tasks WHERE id = ? AND status NOT IN ('done', 'canceled')", "t",
                              task_id);
    *ret_needed = tasks > 0;
    return result < 0 ? result : 0;
}

int batch_job_trim_spool(struct controller *controller, struct error **ret_error) {
    _cleanup_free_ char *spool = fs_join(controller->settings->state, "spool");
    DIR *folder = opendir(spool);
    int result = 0;
    for (struct dirent *entry; folder && result >= 0 && (entry = readdir(folder));) {
        bool needed = true;
        if (entry->d_name[0] == '.') continue;
        _cleanup_free_ char *path = fs_join(spool, entry->d_name);
        result = is_needed(controller, entry->d_name, &needed, ret_error);
        if (result >= 0 && !needed) result = fs_remove_tree(path, ret_error);
    }
    if (folder) closedir(folder);
    return result;
}
