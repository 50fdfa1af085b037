/* Following events: by their ids, which grow with every commit and are never given twice (retention leaves the newest
 * one). */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/follow.h"

#define ROUND_EVENTS 256

struct event_follow {
    struct follow follow;
    char *deployment_id; /* NULL: all */
    int64_t after; /* the last that was read */
};

void event_render(yyjson_mut_doc *document, yyjson_mut_val *object, struct store_rows *rows, bool names_deployment) {
    yyjson_mut_obj_add_sint(document, object, "event_id", store_number(rows, 0));
    json_add_time(document, object, "at", store_number(rows, 1));
    json_add_text(document, object, "kind", store_text(rows, 2));
    json_add_text(document, object, "message", store_text(rows, 3));
    json_add_text(document, object, "task_id", store_text(rows, 4));
    json_add_json(document, object, "data", store_text(rows, 5));
    if (!names_deployment) return;
    json_add_text(document, object, "deployment_id", store_text(rows, 6));
    json_add_text(document, object, "deployment", store_text(rows, 7));
}

static int query(struct event_follow *self, struct store_transaction *tx, struct store_rows **ret_rows,
                 struct error **ret_error) {
    if (!self->deployment_id)
        return store_query(tx, ret_rows, ret_error,
                           "SELECT " EVENT_COLUMNS " FROM events WHERE id > ? ORDER BY id LIMIT ?", "ii", self->after,
                           (int64_t)ROUND_EVENTS);
    return store_query(tx, ret_rows, ret_error,
                       "SELECT " EVENT_COLUMNS " FROM events WHERE deployment_id = ? AND id > ? ORDER BY id LIMIT ?",
                       "tii", self->deployment_id, self->after, (int64_t)ROUND_EVENTS);
}

static void append(struct event_follow *self, struct buffer *out, struct store_rows *rows) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, object);
    event_render(document, object, rows, !self->deployment_id);
    follow_append(out, document);
    self->after = store_number(rows, 0);
}

static int read_events(struct follow *follow, struct api_call *call, struct buffer *out, bool *ret_more,
                       struct error **ret_error) {
    struct event_follow *self = CONTAINER_OF(follow, struct event_follow, follow);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_begin(call->controller->store, &tx, ret_error);
    if (result < 0 || (result = query(self, tx, &rows, ret_error)) < 0) return result;
    size_t count = 0;
    while (out->size < FOLLOW_ROUND_BYTES && (result = store_next(rows, ret_error)) > 0) {
        append(self, out, rows);
        count++;
    }
    *ret_more = count == ROUND_EVENTS || out->size >= FOLLOW_ROUND_BYTES;
    return result < 0 ? result : 0;
}

static void free_events(struct follow *follow) {
    struct event_follow *self = CONTAINER_OF(follow, struct event_follow, follow);
    free(self->deployment_id);
    free(self);
}

static const struct follow_source event_source = {.read = read_events, .free = free_events};

/* The id behind which the last `limit` stand. */
static int find_start(struct event_follow *self, struct store_transaction *tx, int64_t limit,
                      struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        self->deployment_id
            ? store_query(tx, &rows, ret_error,
                          "SELECT id FROM events WHERE deployment_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?", "ti",
                          self->deployment_id, limit)
            : store_query(tx, &rows, ret_error, "SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?", "i", limit);
    if (result < 0 || (result = store_next(rows, ret_error)) < 0) return result;
    if (result) self->after = store_number(rows, 0);
    return 0;
}

/* Where to begin: behind `after`, or with the last `limit`. */
static int place(struct event_follow *self, struct api_call *call, struct error **ret_error) {
    const char *text = call->parameters[API_AFTER];
    uint64_t after = 0;
    if (text && !text_parse_number(text, INT64_MAX, &after))
        return error_set(ret_error, ERROR_CONFIGURATION, "after must be an event_id, not \"%.64s\"", text);
    self->after = (int64_t)after;
    if (text) return 0;
    int64_t limit, offset;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = api_page(call, &limit, &offset, ret_error);
    if (result < 0 || (result = store_begin(call->controller->store, &tx, ret_error)) < 0) return result;
    return find_start(self, tx, limit, ret_error);
}

int follow_events(struct api_call *call, const char *deployment_id, struct error **ret_error) {
    if (call->follow) return follow_round(call, ret_error);
    int result = api_check_parameters(call, 1u << API_LIMIT | 1u << API_FOLLOW | 1u << API_AFTER, ret_error);
    if (result < 0) return result;
    struct event_follow *self = mem_new(struct event_follow);
    self->follow.source = &event_source;
    self->deployment_id = text_copy(deployment_id);
    if ((result = place(self, call, ret_error)) < 0) {
        follow_free(&self->follow);
        return result;
    }
    return follow_begin(call, &self->follow, ret_error);
}
