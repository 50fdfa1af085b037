#include "controller/request_collection.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/registries.h"

#define WINDOW_MAXIMUM_S (366 * 86400.0)
#define OVERLAP_MAXIMUM 1000
#define COUNT_MAXIMUM 1e15

/* ---- POST /v1/collections ---- */

int request_parse_collection(yyjson_val *root, struct collection_request *ret_request, struct error **ret_error) {
    static const char *const known[] = {"name", "deployment", "metric", "keep_queries", "quantized"};
    struct collection_request request = {.metric = "cosine"};
    int result = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error);
    if (result < 0 || (result = json_get_text(root, "", "name", true, &request.name, ret_error)) < 0 ||
        (result = json_get_text(root, "", "deployment", true, &request.deployment, ret_error)) < 0 ||
        (result = json_get_text(root, "", "metric", false, &request.metric, ret_error)) < 0 ||
        (result = json_get_boolean(root, "", "keep_queries", &request.keep_queries, ret_error)) < 0 ||
        (result = json_get_boolean(root, "", "quantized", &request.quantized, ret_error)) < 0)
        return result;
    if (!text_is_name(request.name) || text_is_uuid(request.name))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "name must be letters, digits, '.', '_' and '-', begin with a letter or digit, have at most "
                         "128 characters and not the shape of a UUID; it is \"%.128s\"",
                         request.name);
    if (!text_equal(request.metric, "cosine"))
        return error_set(ret_error, ERROR_CONFIGURATION, "metric must be cosine, not \"%.64s\"", request.metric);
    *ret_request = request;
    return 0;
}

/* ---- fields ---- */

void reindex_request_clear(struct reindex_request *request) {
    reindex_work_clear(&request->work);
    request_clear(&request->destination);
}

static int get_name(yyjson_val *root, const char *where, const char *field, bool required, const char **ret_text,
                    struct error **ret_error) {
    int result = json_get_text(root, where, field, required, ret_text, ret_error);
    if (result < 0 || !*ret_text || text_is_name(*ret_text)) return result;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "%s%s%s must be letters, digits, '.', '_' and '-', begin with a letter or digit and have at most "
                     "128 characters; it is \"%.128s\"",
                     where, *where ? "." : "", field, *ret_text);
}

/* Seconds, as everywhere in the API. *ret_given: it was there. */
static int get_window(yyjson_val *root, int64_t *ret_ms, bool *ret_given, struct error **ret_error) {
    double seconds = -1;
    int result = json_get_real(root, "", "rollback_window", false, 0, WINDOW_MAXIMUM_S, &seconds, ret_error);
    *ret_given = result >= 0 && seconds >= 0;
    if (*ret_given) *ret_ms = (int64_t)llround(seconds * 1000);
    return result;
}

static int get_flag(yyjson_val *root, const char *field, bool *flag, bool *ret_given, struct error **ret_error) {
    yyjson_val *value = yyjson_obj_get(root, field);
    *ret_given = value && !yyjson_is_null(value);
    return json_get_boolean(root, "", field, flag, ret_error);
}

/* A count, or below 1 a share of the documents. */
static int get_max_failed(yyjson_val *root, double *ret_max_failed, struct error **ret_error) {
    double number = 0;
    int result = json_get_real(root, "", "max_failed", false, 0, COUNT_MAXIMUM, &number, ret_error);
    if (result < 0) return result;
    if (number >= 1 && number != floor(number))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "max_failed must be a whole number of documents, or a share below 1, not %g", number);
    *ret_max_failed = number;
    return 0;
}

static int get_overlap(yyjson_val *root, struct reindex_work *work, struct error **ret_error) {
    static const char *const known[] = {"k", "at_least"};
    yyjson_val *overlap = NULL;
    int result = json_get_object(root, "", "min_overlap", false, &overlap, ret_error);
    if (result < 0 || !overlap) return result;
    if ((result = json_check_fields(overlap, "min_overlap", known, ARRAY_SIZE(known), ret_error)) < 0 ||
        (result = json_get_number(overlap, "min_overlap", "k", true, 1, OVERLAP_MAXIMUM, &work->overlap_k, ret_error)) <
            0)
        return result;
    if (!yyjson_obj_get(overlap, "at_least"))
        return error_set(ret_error, ERROR_CONFIGURATION, "the field min_overlap.at_least is missing");
    return json_get_real(overlap, "min_overlap", "at_least", true, 0, 1, &work->overlap_at_least, ret_error);
}

/* A name, an id or a whole request. */
static int get_destination(yyjson_val *root, const struct registry_context *registry, struct reindex_request *request,
                           struct error **ret_error) {
    yyjson_val *value = yyjson_obj_get(root, "destination");
    const char *name = NULL;
    if (!yyjson_is_obj(value)) {
        int result = get_name(root, "", "destination", true, &name, ret_error);
        if (result >= 0) request->work.destination = text_copy(name);
        return result;
    }
    request->work.request_json = json_write_canonical(value);
    return request_parse(value, "destination", REQUEST_SERVICE, registry, &request->destination, ret_error);
}

static int get_ids(yyjson_val *root, struct reindex_request *request, struct error **ret_error) {
    int result = get_name(root, "", "task_id", false, &request->task_id, ret_error);
    return result < 0 ? result : get_name(root, "", "parent_id", false, &request->parent_id, ret_error);
}

/* ---- POST …/reindex, …/switch, …/rollback ---- */

int request_parse_reindex(yyjson_val *root, const struct controller *controller, struct reindex_request *ret_request,
                          struct error **ret_error) {
    static const char *const known[] = {"destination",      "blue_switch", "rollback_window",
                                        "wait_on_conflict", "max_failed",  "delete_source",
                                        "min_overlap",      "task_id",     "parent_id"};
    _cleanup_reindex_request_ struct reindex_request request = {
        .work = {.blue_switch = true,
                 .delete_source = true,
                 .window_ms = (int64_t)controller->settings->rollback_window_ms}};
    const struct registry_context registry = registries_context(controller);
    int result = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error);
    if (result < 0 || (result = get_destination(root, &registry, &request, ret_error)) < 0 ||
        (result = json_get_boolean(root, "", "blue_switch", &request.work.blue_switch, ret_error)) < 0 ||
        (result = json_get_boolean(root, "", "wait_on_conflict", &request.work.wait_on_conflict, ret_error)) < 0 ||
        (result = get_flag(root, "delete_source", &request.work.delete_source, &request.given.delete_source,
                           ret_error)) < 0 ||
        (result = get_window(root, &request.work.window_ms, &request.given.window, ret_error)) < 0 ||
        (result = get_max_failed(root, &request.work.max_failed, ret_error)) < 0 ||
        (result = get_overlap(root, &request.work, ret_error)) < 0 || (result = get_ids(root, &request, ret_error)) < 0)
        return result;
    *ret_request = request;
    request = (struct reindex_request){0};
    return 0;
}

int request_parse_switch(yyjson_val *root, bool is_rollback, struct reindex_request *ret_request,
                         struct error **ret_error) {
    static const char *const known[] = {"rollback_window", "task_id", "parent_id", "delete_source", "index_id"};
    _cleanup_reindex_request_ struct reindex_request request = {.work = {.is_rollback = is_rollback}};
    const char *index_id = NULL;
    size_t count = is_rollback ? 3 : ARRAY_SIZE(known);
    int result = json_check_fields(root, "", known, count, ret_error);
    if (result < 0 || (result = get_name(root, "", "index_id", !is_rollback, &index_id, ret_error)) < 0 ||
        (result = get_flag(root, "delete_source", &request.work.delete_source, &request.given.delete_source,
                           ret_error)) < 0 ||
        (result = get_window(root, &request.work.window_ms, &request.given.window, ret_error)) < 0 ||
        (result = get_ids(root, &request, ret_error)) < 0)
        return result;
    request.work.index_id = text_copy(index_id);
    *ret_request = request;
    request = (struct reindex_request){0};
    return 0;
}

/* ---- POST …/reindex-tasks/run ---- */

static int get_model(yyjson_val *root, const char *field, const char **ret_model, struct error **ret_error) {
    static const char *const known[] = {"embedding_model_id"};
    yyjson_val *object = NULL;
    int result = json_get_object(root, "", field, true, &object, ret_error);
    if (result < 0 || (result = json_check_fields(object, field, known, ARRAY_SIZE(known), ret_error)) < 0)
        return result;
    return get_name(object, field, "embedding_model_id", true, ret_model, ret_error);
}

int request_parse_reindex_run(yyjson_val *root, struct reindex_run_request *ret_request, struct error **ret_error) {
    static const char *const known[] = {"id", "source", "dest", "deploy_as_blue", "wait_on_conflict", "collection"};
    struct reindex_run_request request = {0};
    int result = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error);
    if (result < 0 || (result = get_name(root, "", "id", false, &request.id, ret_error)) < 0 ||
        (result = get_model(root, "source", &request.source, ret_error)) < 0 ||
        (result = get_model(root, "dest", &request.destination, ret_error)) < 0 ||
        (result = get_name(root, "", "collection", false, &request.collection, ret_error)) < 0 ||
        (result = json_get_boolean(root, "", "deploy_as_blue", &request.deploy_as_blue, ret_error)) < 0 ||
        (result = json_get_boolean(root, "", "wait_on_conflict", &request.wait_on_conflict, ret_error)) < 0)
        return result;
    *ret_request = request;
    return 0;
}
