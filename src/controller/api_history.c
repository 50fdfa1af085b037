/* What a deployment was and what happened to it: revisions, events, logs; and what happened to the whole service. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/engine-internal.h"
#include "controller/follow.h"

#define LIST_PARAMETERS (1u << API_LIMIT | 1u << API_OFFSET)
#define FOLLOW_PARAMETERS (LIST_PARAMETERS | 1u << API_FOLLOW)

/* Parameters, page, transaction and deployment of the three handlers. */
static int begin(struct api_call *call, unsigned allowed, struct store_transaction **ret_tx,
                 struct deployment *ret_deployment, int64_t *ret_limit, int64_t *ret_offset, struct error **ret_error) {
    int result = api_check_parameters(call, allowed, ret_error);
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
    json_add_text(document, object, "image_reference", store_text(rows, 11));
    json_add_text(document, object, "image_digest", store_text(rows, 12));
}

int api_deployment_revisions(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    _cleanup_rows_ struct store_rows *rows = NULL;
    int64_t limit, offset;
    int result = begin(call, LIST_PARAMETERS, &tx, &deployment, &limit, &offset, ret_error);
    if (result < 0) return result;
    result = store_query(
        tx, &rows, ret_error,
        "SELECT number, model_uri, resolved_uri, package_digest, encoder_digest, target_json, recipe_json, "
        "facts_json, served, created_at, count(*) OVER (), image_reference, image_digest FROM revisions WHERE deployment_id = ? "
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

/* ---- events ---- */

static int answer_events(struct api_call *call, struct store_rows *rows, bool names_deployment,
                         struct error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *array = yyjson_mut_arr(document);
    int result;
    call->total_count = 0;
    while ((result = store_next(rows, ret_error)) > 0) {
        event_render(document, yyjson_mut_arr_add_obj(document, array), rows, names_deployment);
        call->total_count = store_number(rows, 8);
    }
    if (result >= 0) api_answer(call, 200, document, array);
    return result;
}

/* The id of the deployment to follow; a follow by name stays with the one that had it at the beginning. */
static int load_id(struct api_call *call, char **ret_id, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    if (call->follow) return 0; /* it goes on */
    int result = store_begin(call->controller->store, &tx, ret_error);
    if (result < 0 || (result = deployment_load(tx, call->arguments[0], &deployment, ret_error)) < 0) return result;
    *ret_id = TAKE(deployment.id);
    return 0;
}

int api_deployment_events(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_rows_ struct store_rows *rows = NULL;
    _cleanup_free_ char *id = NULL;
    int64_t limit, offset;
    bool follows;
    int result = follow_is_asked(call, &follows, ret_error);
    if (result >= 0 && follows)
        return (result = load_id(call, &id, ret_error)) < 0 ? result : follow_events(call, id, ret_error);
    if (result < 0 || (result = begin(call, FOLLOW_PARAMETERS, &tx, &deployment, &limit, &offset, ret_error)) < 0 ||
        (result = store_query(tx, &rows, ret_error,
                              "SELECT " EVENT_COLUMNS ", (SELECT count(*) FROM events WHERE deployment_id = ?) "
                              "FROM events WHERE deployment_id = ? ORDER BY id DESC LIMIT ? OFFSET ?",
                              "ttii", deployment.id, deployment.id, limit, offset)) < 0)
        return result;
    return answer_events(call, rows, false, ret_error);
}

int api_event_list(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_rows_ struct store_rows *rows = NULL;
    int64_t limit, offset;
    bool follows;
    int result = follow_is_asked(call, &follows, ret_error);
    if (result >= 0 && follows) return follow_events(call, NULL, ret_error);
    if (result < 0 || (result = api_check_parameters(call, FOLLOW_PARAMETERS, ret_error)) < 0 ||
        (result = api_page(call, &limit, &offset, ret_error)) < 0 ||
        (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = store_query(tx, &rows, ret_error,
                              "SELECT " EVENT_COLUMNS
                              ", (SELECT count(*) FROM events) FROM events ORDER BY id DESC LIMIT ? OFFSET ?",
                              "ii", limit, offset)) < 0)
        return result;
    return answer_events(call, rows, true, ret_error);
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
        if (place >= lines->offset && place < lines->offset + lines->limit)
            log_line_render(lines->document, yyjson_mut_arr_add_obj(lines->document, lines->array), replica_id,
                            revision, line);
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
    _cleanup_free_ char *id = NULL;
    struct log_lines lines = {.document = document, .array = yyjson_mut_arr(document)};
    bool follows;
    int result = follow_is_asked(call, &follows, ret_error);
    if (result >= 0 && follows)
        return (result = load_id(call, &id, ret_error)) < 0 ? result : follow_logs(call, id, ret_error);
    if (result < 0 ||
        (result = begin(call, FOLLOW_PARAMETERS, &tx, &deployment, &lines.limit, &lines.offset, ret_error)) < 0)
        return result;
    result = store_query(tx, &rows, ret_error,
                         "SELECT id, revision FROM replicas WHERE deployment_id = ? ORDER BY created_at DESC, id", "t",
                         deployment.id);
    if (result < 0) return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        _cleanup_free_ char *text = replica_log_tail(call->controller, store_text(rows, 0));
        add_lines(&lines, store_text(rows, 0), store_number(rows, 1), text);
    }
    if (result < 0) return result;
    call->total_count = lines.total;
    api_answer(call, 200, document, lines.array);
    return 0;
}
