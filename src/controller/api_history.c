/* What a deployment was and what happened to it: revisions, events, logs. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/api.h"

#define LOG_TAIL_BYTES 262144

/* Parameters, page, transaction and deployment of the three handlers. */
static int begin(struct api_call *call, struct store_transaction **ret_tx, struct deployment *ret_deployment,
                 int64_t *ret_limit, int64_t *ret_offset, struct error **ret_error) {
    int result = api_check_parameters(call, 1u << API_LIMIT | 1u << API_OFFSET, ret_error);
    if (result < 0 || (result = api_page(call, ret_limit, ret_offset, ret_error)) < 0 ||
        (result = store_begin(call->controller->store, ret_tx, ret_error)) < 0)
        return result;
    return deployment_load(*ret_tx, call->arguments[0], ret_deployment, ret_error);
}

static void add_revision(yyjson_mut_doc *document, yyjson_mut_val *array, struct store_rows *rows) {
    yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, array);
    yyjson_mut_obj_add_sint(document, object, "revision", store_number(rows, 0));
    json_add_text(document, object, "model_uri", store_text(rows, 1));
    json_add_text(document, object, "deployed_model_version", store_text(rows, 2));
    json_add_text(document, object, "package_digest", store_text(rows, 3));
    json_add_text(document, object, "encoder_digest", store_text(rows, 4));
    json_add_json(document, object, "deployment_target_config", store_text(rows, 5));
    json_add_json(document, object, "recipe", store_text(rows, 6));
    json_add_json(document, object, "facts", store_text(rows, 7));
    yyjson_mut_obj_add_bool(document, object, "served", store_number(rows, 8) != 0);
    json_add_time(document, object, "created_at", store_number(rows, 9));
}

int api_deployment_revisions(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    _cleanup_rows_ struct store_rows *rows = NULL;
    int64_t limit, offset;
    int result = begin(call, &tx, &deployment, &limit, &offset, ret_error);
    if (result < 0) return result;
    result =
        store_query(tx, &rows, ret_error,
                    "SELECT number, model_uri, resolved_uri, package_digest, encoder_digest, target_json, recipe_json, "
                    "facts_json, served, created_at, count(*) OVER () FROM revisions WHERE deployment_id = ? "
                    "ORDER BY number DESC LIMIT ? OFFSET ?",
                    "tii", deployment.id, limit, offset);
    if (result < 0) return result;
    yyjson_mut_val *array = yyjson_mut_arr(document);
    call->total_count = 0;
    while ((result = store_next(rows, ret_error)) > 0) {
        call->total_count = store_number(rows, 10);
        add_revision(document, array, rows);
    }
    if (result >= 0) api_answer(call, 200, document, array);
    return result;
}

int api_deployment_events(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    _cleanup_rows_ struct store_rows *rows = NULL;
    int64_t limit, offset;
    int result = begin(call, &tx, &deployment, &limit, &offset, ret_error);
    if (result < 0) return result;
    result = store_query(tx, &rows, ret_error,
                         "SELECT id, at, kind, message, task_id, data_json, count(*) OVER () FROM events "
                         "WHERE deployment_id = ? ORDER BY id DESC LIMIT ? OFFSET ?",
                         "tii", deployment.id, limit, offset);
    if (result < 0) return result;
    yyjson_mut_val *array = yyjson_mut_arr(document);
    call->total_count = 0;
    while ((result = store_next(rows, ret_error)) > 0) {
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, array);
        yyjson_mut_obj_add_sint(document, object, "event_id", store_number(rows, 0));
        json_add_time(document, object, "at", store_number(rows, 1));
        json_add_text(document, object, "kind", store_text(rows, 2));
        json_add_text(document, object, "message", store_text(rows, 3));
        json_add_text(document, object, "task_id", store_text(rows, 4));
        json_add_json(document, object, "data", store_text(rows, 5));
        call->total_count = store_number(rows, 6);
    }
    if (result >= 0) api_answer(call, 200, document, array);
    return result;
}

/* ---- logs: the ends of the files that the supervisor keeps for each replica ---- */

struct log_lines {
    yyjson_mut_doc *document;
    yyjson_mut_val *array;
    int64_t limit, offset, total;
};

/* The lines of one replica, newest first. */
static void add_lines(struct log_lines *lines, const char *replica_id, int64_t revision, char *text) {
    size_t end = strlen(text);
    if (end && text[end - 1] == '\n') text[--end] = 0;
    while (end) {
        char *line = memrchr(text, '\n', end);
        line = line ? line + 1 : text;
        int64_t place = lines->total++;
        if (place >= lines->offset && place < lines->offset + lines->limit && text_is_utf8(line, strlen(line))) {
            yyjson_mut_val *object = yyjson_mut_arr_add_obj(lines->document, lines->array);
            json_add_text(lines->document, object, "replica_id", replica_id);
            yyjson_mut_obj_add_sint(lines->document, object, "revision", revision);
            json_add_text(lines->document, object, "line", line);
        }
        if (line == text) break;
        end = (size_t)(line - text) - 1;
        text[end] = 0;
    }
}

int api_deployment_logs(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    _cleanup_rows_ struct store_rows *rows = NULL;
    struct log_lines lines = {.document = document, .array = yyjson_mut_arr(document)};
    int result = begin(call, &tx, &deployment, &lines.limit, &lines.offset, ret_error);
    if (result < 0) return result;
    result = store_query(tx, &rows, ret_error,
                         "SELECT id, revision FROM replicas WHERE deployment_id = ? ORDER BY created_at DESC, id", "t",
                         deployment.id);
    if (result < 0) return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        _cleanup_free_ char *path =
            text_format("%s/logs/%s.log", call->controller->settings->state, store_text(rows, 0));
        _cleanup_free_ char *text = fs_read_tail(path, LOG_TAIL_BYTES);
        add_lines(&lines, store_text(rows, 0), store_number(rows, 1), text);
    }
    if (result < 0) return result;
    call->total_count = lines.total;
    api_answer(call, 200, document, lines.array);
    return 0;
}
