/* What the routes of collections answer, as the public structs. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

struct owned_collection {
    struct slipway_collection collection;
    struct slipway_index blue, rollback;
    yyjson_doc *document; /* NULL for an element of a list: the list owns it */
    char *json;
};

struct owned_collection_list {
    struct slipway_collection_list list;
    yyjson_doc *document;
};

struct owned_index_list {
    struct slipway_index_list list;
    yyjson_doc *document;
};

struct owned_document {
    struct slipway_document document;
    yyjson_doc *parsed;
    char *payload;
};

struct owned_hits {
    struct slipway_hits hits;
    yyjson_doc *document;
    char **payloads;
    float **vectors;
    char *json;
};

struct owned_failed_item_list {
    struct slipway_failed_item_list list;
    yyjson_doc *document;
};

static const char *text_field(yyjson_val *object, const char *field) {
    return yyjson_get_str(yyjson_obj_get(object, field));
}

static uint64_t number_field(yyjson_val *object, const char *field) {
    return yyjson_get_uint(yyjson_obj_get(object, field));
}

/* ---- collections and indexes ---- */

static struct slipway_index read_index(yyjson_val *object) {
    return (struct slipway_index){
        .index_id = text_field(object, "index_id"),
        .set = text_field(object, "set"),
        .deployment = text_field(object, "deployment"),
        .digest = text_field(object, "digest"),
        .state = text_field(object, "state"),
        .revision = yyjson_get_sint(yyjson_obj_get(object, "revision")),
        .dimension = yyjson_get_sint(yyjson_obj_get(object, "dimension")),
        .applied_seq = number_field(object, "applied_seq"),
        .durable_seq = number_field(object, "durable_seq"),
        .head_seq = number_field(object, "head_seq"),
        .rows = number_field(object, "rows"),
        .failed = number_field(object, "failed"),
        .rate = yyjson_get_num(yyjson_obj_get(object, "rate")),
        .detail = text_field(object, "detail"),
    };
}

static struct slipway_collection *make_collection(yyjson_val *object, yyjson_doc *document) {
    struct owned_collection *owned = mem_new(struct owned_collection);
    yyjson_val *blue = yyjson_obj_get(object, "blue"), *rollback = yyjson_obj_get(object, "rollback");
    owned->document = document;
    owned->json = json_write_value(object, NULL);
    owned->blue = read_index(blue);
    owned->rollback = read_index(rollback);
    owned->collection = (struct slipway_collection){
        .name = text_field(object, "name"),
        .deployment = text_field(object, "deployment"),
        .metric = text_field(object, "metric"),
        .keep_queries = yyjson_get_bool(yyjson_obj_get(object, "keep_queries")),
        .quantized = yyjson_get_bool(yyjson_obj_get(object, "quantized")),
        .documents = number_field(object, "documents"),
        .blue = yyjson_is_obj(blue) ? &owned->blue : NULL,
        .rollback = yyjson_is_obj(rollback) ? &owned->rollback : NULL,
        .json = owned->json,
    };
    return &owned->collection;
}

void slipway_collection_free(struct slipway_collection *collection) {
    if (!collection) return;
    struct owned_collection *owned = CONTAINER_OF(collection, struct owned_collection, collection);
    yyjson_doc_free(owned->document);
    free(owned->json);
    free(owned);
}

int client_read_collection(struct client_answer *answer, struct slipway_collection **ret_collection,
                           struct slipway_error **ret_error) {
    yyjson_doc *document = NULL;
    int result = client_read_object(answer, &document, ret_error);
    if (result >= 0) *ret_collection = make_collection(yyjson_doc_get_root(document), document);
    return result;
}

int client_read_collections(struct client_answer *answer, struct slipway_collection_list **ret_list,
                            struct slipway_error **ret_error) {
    yyjson_doc *document = NULL;
    int result = client_read_array(answer, &document, ret_error);
    if (result < 0) return result;
    yyjson_val *array = yyjson_doc_get_root(document), *item;
    struct owned_collection_list *owned = mem_new(struct owned_collection_list);
    owned->document = document;
    owned->list.total_count = answer->total_count;
    owned->list.collections = mem_new_array(yyjson_arr_size(array), struct slipway_collection *);
    size_t index, maximum;
    yyjson_arr_foreach(array, index, maximum, item) {
        owned->list.collections[owned->list.count++] = make_collection(item, NULL);
    }
    *ret_list = &owned->list;
    return 0;
}

void slipway_collection_list_free(struct slipway_collection_list *list) {
    if (!list) return;
    struct owned_collection_list *owned = CONTAINER_OF(list, struct owned_collection_list, list);
    for (size_t i = 0; i < list->count; i++) slipway_collection_free(list->collections[i]);
    free(list->collections);
    yyjson_doc_free(owned->document);
    free(owned);
}

int client_read_indexes(struct client_answer *answer, struct slipway_index_list **ret_list,
                        struct slipway_error **ret_error) {
    yyjson_doc *document = NULL;
    int result = client_read_array(answer, &document, ret_error);
    if (result < 0) return result;
    yyjson_val *array = yyjson_doc_get_root(document), *item;
    struct owned_index_list *owned = mem_new(struct owned_index_list);
    owned->document = document;
    owned->list.total_count = answer->total_count;
    owned->list.indexes = mem_new_array(yyjson_arr_size(array), struct slipway_index);
    size_t index, maximum;
    yyjson_arr_foreach(array, index, maximum, item) {
        owned->list.indexes[owned->list.count++] = read_index(item);
    }
    *ret_list = &owned->list;
    return 0;
}

void slipway_index_list_free(struct slipway_index_list *list) {
    if (!list) return;
    struct owned_index_list *owned = CONTAINER_OF(list, struct owned_index_list, list);
    free(list->indexes);
    yyjson_doc_free(owned->document);
    free(owned);
}

/* ---- documents and writes ---- */

int client_read_document(struct client_answer *answer, struct slipway_document **ret_document,
                         struct slipway_error **ret_error) {
    yyjson_doc *parsed = NULL;
    int result = client_read_object(answer, &parsed, ret_error);
    if (result < 0) return result;
    yyjson_val *root = yyjson_doc_get_root(parsed), *payload = yyjson_obj_get(root, "payload");
    struct owned_document *owned = mem_new(struct owned_document);
    owned->parsed = parsed;
    owned->payload = payload ? json_write_value(payload, NULL) : text_copy("{}");
    owned->document = (struct slipway_document){
        .id = text_field(root, "id"),
        .text = text_field(root, "text"),
        .payload_json = owned->payload,
        .seq = number_field(root, "seq"),
        .updated_at = text_field(root, "updated_at"),
    };
    *ret_document = &owned->document;
    return 0;
}

void slipway_document_free(struct slipway_document *document) {
    if (!document) return;
    struct owned_document *owned = CONTAINER_OF(document, struct owned_document, document);
    yyjson_doc_free(owned->parsed);
    free(owned->payload);
    free(owned);
}

void slipway_write_clear(struct slipway_write *write) {
    if (write) free(write->detail);
    if (write) write->detail = NULL;
}

int client_read_write(struct client_answer *answer, struct slipway_write *ret_write, struct slipway_error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    int result = client_read_object(answer, &document, ret_error);
    if (result < 0 || !ret_write) return result;
    yyjson_val *root = yyjson_doc_get_root(document);
    *ret_write = (struct slipway_write){
        .seq = number_field(root, "seq"),
        .indexed = yyjson_get_bool(yyjson_obj_get(root, "indexed")),
        .detail = text_copy(text_field(root, "detail")),
    };
    return 0;
}

static void add_line_error(struct slipway_bulk *bulk, uint64_t lines_before, yyjson_val *error) {
    if (bulk->error_count == SLIPWAY_BULK_ERRORS) return;
    bulk->errors = mem_resize(bulk->errors, bulk->error_count + 1, sizeof *bulk->errors);
    bulk->errors[bulk->error_count++] = (struct slipway_line_error){
        .line = lines_before + number_field(error, "line"),
        .id = text_copy(text_field(error, "id")),
        .detail = text_copy(text_field(error, "detail")),
    };
}

int client_read_bulk(struct client_answer *answer, uint64_t lines_before, struct slipway_bulk *bulk,
                     struct slipway_error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    int result = client_read_object(answer, &document, ret_error);
    if (result < 0) return result;
    yyjson_val *root = yyjson_doc_get_root(document), *errors = yyjson_obj_get(root, "errors"), *error;
    uint64_t seq = number_field(root, "seq");
    if (seq > bulk->seq) bulk->seq = seq;
    bulk->accepted += number_field(root, "accepted");
    bulk->failed += number_field(root, "rejected"); /* also those that the service does not list */
    bulk->indexed = (bulk->indexed || !lines_before) && yyjson_get_bool(yyjson_obj_get(root, "indexed"));
    if (!bulk->detail) bulk->detail = text_copy(text_field(root, "detail"));
    size_t index, maximum;
    if (!yyjson_is_arr(errors)) return 0;
    yyjson_arr_foreach(errors, index, maximum, error) {
        add_line_error(bulk, lines_before, error);
    }
    return 0;
}

void slipway_bulk_free(struct slipway_bulk *bulk) {
    if (!bulk) return;
    for (size_t i = 0; i < bulk->error_count; i++) {
        free(bulk->errors[i].id);
        free(bulk->errors[i].detail);
    }
    free(bulk->errors);
    free(bulk->detail);
    free(bulk);
}

/* ---- search ---- */

static float *read_vector(yyjson_val *array, size_t *ret_dimension) {
    size_t index, maximum;
    yyjson_val *number;
    if (!yyjson_is_arr(array)) return NULL;
    float *vector = mem_new_array(yyjson_arr_size(array) + 1, float);
    yyjson_arr_foreach(array, index, maximum, number) {
        vector[index] = (float)yyjson_get_num(number);
    }
    *ret_dimension = yyjson_arr_size(array);
    return vector;
}

static void read_hit(struct owned_hits *owned, size_t place, yyjson_val *item) {
    struct slipway_hit *hit = &owned->hits.hits[place];
    yyjson_val *payload = yyjson_obj_get(item, "payload");
    owned->payloads[place] = payload ? json_write_value(payload, NULL) : NULL;
    owned->vectors[place] = read_vector(yyjson_obj_get(item, "vector"), &hit->dimension);
    hit->id = text_field(item, "id");
    hit->score = yyjson_get_num(yyjson_obj_get(item, "score"));
    hit->payload_json = owned->payloads[place];
    hit->vector = owned->vectors[place];
}

int client_read_hits(struct client_answer *answer, struct slipway_hits **ret_hits, struct slipway_error **ret_error) {
    yyjson_doc *document = NULL;
    int result = client_read_object(answer, &document, ret_error);
    if (result < 0) return result;
    yyjson_val *root = yyjson_doc_get_root(document), *array = yyjson_obj_get(root, "hits"), *item;
    yyjson_val *encoder = yyjson_obj_get(root, "encoder");
    if (!yyjson_is_arr(array)) {
        yyjson_doc_free(document);
        return client_error(ret_error, SLIPWAY_PROTOCOL, 200, "search: the answer has no hits");
    }
    size_t count = yyjson_arr_size(array), index, maximum;
    struct owned_hits *owned = mem_new(struct owned_hits);
    owned->document = document;
    owned->payloads = mem_new_array(count, char *);
    owned->vectors = mem_new_array(count, float *);
    owned->json = json_write_value(root, NULL);
    owned->hits = (struct slipway_hits){
        .hits = mem_new_array(count, struct slipway_hit),
        .count = count,
        .deployment = text_field(encoder, "deployment"),
        .digest = text_field(encoder, "digest"),
        .revision = yyjson_get_sint(yyjson_obj_get(encoder, "revision")),
        .applied_seq = number_field(root, "applied_seq"),
        .json = owned->json,
    };
    yyjson_arr_foreach(array, index, maximum, item) {
        read_hit(owned, index, item);
    }
    *ret_hits = &owned->hits;
    return 0;
}

void slipway_hits_free(struct slipway_hits *hits) {
    if (!hits) return;
    struct owned_hits *owned = CONTAINER_OF(hits, struct owned_hits, hits);
    for (size_t i = 0; i < hits->count; i++) {
        free(owned->payloads[i]);
        free(owned->vectors[i]);
    }
    free(owned->payloads);
    free(owned->vectors);
    free(hits->hits);
    free(owned->json);
    yyjson_doc_free(owned->document);
    free(owned);
}

/* ---- failed items ---- */

int client_read_failed_items(struct client_answer *answer, struct slipway_failed_item_list **ret_list,
                             struct slipway_error **ret_error) {
    yyjson_doc *document = NULL;
    int result = client_read_array(answer, &document, ret_error);
    if (result < 0) return result;
    yyjson_val *array = yyjson_doc_get_root(document), *item;
    struct owned_failed_item_list *owned = mem_new(struct owned_failed_item_list);
    owned->document = document;
    owned->list.total_count = answer->total_count;
    owned->list.items = mem_new_array(yyjson_arr_size(array), struct slipway_failed_item);
    size_t index, maximum;
    yyjson_arr_foreach(array, index, maximum, item) {
        owned->list.items[owned->list.count++] = (struct slipway_failed_item){
            .id = text_field(item, "id"), .stage = text_field(item, "stage"), .detail = text_field(item, "detail")};
    }
    *ret_list = &owned->list;
    return 0;
}

void slipway_failed_item_list_free(struct slipway_failed_item_list *list) {
    if (!list) return;
    struct owned_failed_item_list *owned = CONTAINER_OF(list, struct owned_failed_item_list, list);
    free(list->items);
    yyjson_doc_free(owned->document);
    free(owned);
}
