/* What stands in a collection's own database and in the folders of its indexes: read, never written. The database is
 * opened for each look: a collection may be deleted at any time, and nobody waits for the controller to let go. */
#include <stdlib.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"
#include "vector/vector.h"

static void close_pointer(struct collection **collection) {
    collection_close(*collection);
}
#define _cleanup_collection_ __attribute__((cleanup(close_pointer)))

void catalog_view_clear(struct catalog_view *view) {
    collection_facts_clear(&view->facts);
    collection_pair_clear(&view->pair);
    collection_indexes_free(view->indexes, view->count);
    *view = (struct catalog_view){0};
}

static int open_to_read(const struct controller *controller, const char *collection_id,
                        struct collection **ret_collection, struct error **ret_error) {
    _cleanup_free_ char *folder = catalog_folder(controller, collection_id);
    return collection_open(folder, COLLECTION_READS, ret_collection, ret_error);
}

static int read_query_head(struct collection *collection, struct catalog_view *view, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    if (!view->facts.keep_queries) return 0;
    int result = collection_read_begin(collection, COLLECTION_QUERIES, &read, ret_error);
    if (result >= 0) view->query_head = collection_head(read);
    return result;
}

static int read_view(struct collection *collection, struct catalog_view *view, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    int result = collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result < 0 || (result = collection_load_facts(read, &view->facts, ret_error)) < 0 ||
        (result = collection_load_pair(read, &view->pair, ret_error)) < 0 ||
        (result = collection_list_indexes(read, &view->indexes, &view->count, ret_error)) < 0)
        return result;
    view->head = collection_head(read);
    view->live = collection_live(read);
    return 0;
}

int catalog_view_load(const struct controller *controller, const char *collection_id, struct catalog_view *ret_view,
                      struct error **ret_error) {
    _cleanup_collection_ struct collection *collection = NULL;
    _cleanup_view_ struct catalog_view view = {0};
    int result = open_to_read(controller, collection_id, &collection, ret_error);
    if (result < 0 || (result = read_view(collection, &view, ret_error)) < 0 ||
        (result = read_query_head(collection, &view, ret_error)) < 0)
        return result;
    *ret_view = view;
    view = (struct catalog_view){0};
    return 0;
}

const struct collection_index *catalog_view_find(const struct catalog_view *view, const char *index_id) {
    for (size_t i = 0; i < view->count; i++)
        if (text_equal(view->indexes[i].index_id, index_id)) return &view->indexes[i];
    return NULL;
}

const struct collection_index *catalog_view_rollback(const struct catalog_view *view) {
    const struct collection_index *newest = NULL;
    for (size_t i = 0; i < view->count; i++) {
        const struct collection_index *index = &view->indexes[i];
        if (index->set != COLLECTION_DOCUMENTS || !text_equal(index->state, "rollback")) continue;
        if (!newest || index->epoch > newest->epoch) newest = index;
    }
    return newest;
}

int catalog_count_failed(const struct controller *controller, const char *collection_id, const char *index_id,
                         uint64_t *ret_failed, struct error **ret_error) {
    _cleanup_collection_ struct collection *collection = NULL;
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_failure *failures = NULL;
    size_t count = 0;
    int result = open_to_read(controller, collection_id, &collection, ret_error);
    if (result < 0 || (result = collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, ret_error)) < 0 ||
        (result = collection_list_failures(read, index_id, 0, 0, &failures, &count, ret_failed, ret_error)) < 0)
        return result;
    collection_failures_free(failures, count);
    return 0;
}

/* ---- an index as the API shows it ---- */

/* What its folder says; false when it is not there or not whole yet. */
static bool look_into_folder(struct controller *controller, const struct catalog_view *view,
                             const struct collection_index *index, struct vector_info *ret_info) {
    _cleanup_free_ char *folder = catalog_folder(controller, view->facts.collection_id);
    _cleanup_free_ char *path = text_format("%s/indexes/%s", folder, index->index_id);
    const struct vector_spec spec = {
        .index_id = index->index_id,
        .log_id = view->facts.log_id,
        .encoder_digest = index->encoder_digest,
        .dimension = (uint32_t)index->dimension,
        .quantized = view->facts.quantized,
    };
    struct vector_reader *reader = NULL;
    if (folder_vectors.open_reader(path, &spec, &reader, NULL) < 0) return false;
    folder_vectors.info(reader, ret_info);
    folder_vectors.close_reader(reader);
    return true;
}

yyjson_mut_val *catalog_render_index(struct controller *controller, const struct catalog_view *view,
                                     const struct collection_index *index, const char *deployment_name,
                                     yyjson_mut_doc *document) {
    yyjson_mut_val *object = yyjson_mut_obj(document);
    struct vector_info info = {0};
    struct index_progress progress = {0};
    uint64_t failed = 0;
    bool is_there = look_into_folder(controller, view, index, &info);
    bool is_told = indexer_link_progress(controller->indexer, index->index_id, &progress);
    catalog_count_failed(controller, view->facts.collection_id, index->index_id, &failed, NULL);
    bool of_documents = index->set == COLLECTION_DOCUMENTS;
    json_add_text(document, object, "index_id", index->index_id);
    json_add_text(document, object, "set", collection_set_name(index->set));
    json_add_text(document, object, "deployment", deployment_name);
    yyjson_mut_obj_add_sint(document, object, "revision", index->revision);
    json_add_text(document, object, "digest", index->encoder_digest);
    yyjson_mut_obj_add_sint(document, object, "dimension", index->dimension);
    json_add_text(document, object, "state", index->state);
    yyjson_mut_obj_add_uint(document, object, "applied_seq", is_there ? info.applied : index->durable_seq);
    yyjson_mut_obj_add_uint(document, object, "durable_seq", index->durable_seq);
    yyjson_mut_obj_add_uint(document, object, "head_seq", of_documents ? view->head : view->query_head);
    yyjson_mut_obj_add_uint(document, object, "rows", is_there ? info.rows : 0);
    yyjson_mut_obj_add_uint(document, object, "failed", failed);
    yyjson_mut_obj_add_real(document, object, "rate", is_told ? progress.rate : info.rate);
    json_add_text(document, object, "detail", index->detail);
    return object;
}
