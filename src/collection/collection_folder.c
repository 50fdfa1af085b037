/* The folder of a collection: made whole beside its place, then renamed into it, and renamed away before it is removed:
 * what stands under its name is never a part of one. Names that begin with a dot are of this file. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs.h"
#include "collection/collection-internal.h"

static int insert_meta(struct store_transaction *tx, const struct collection_spec *spec, struct error **ret_error) {
    char log_id[37]; /* each log has its own (S9) */
    text_new_uuid(log_id);
    return store_run(tx, NULL, ret_error,
                     "INSERT INTO meta (one, collection_id, name, log_id, head, live, metric, keep_queries, quantized, "
                     "created_at) VALUES (1, ?, ?, ?, 0, 0, ?, ?, ?, ?)",
                     "ttttiii", spec->collection_id, spec->name, log_id, spec->metric, (int64_t)spec->keep_queries,
                     (int64_t)spec->quantized, clock_wall_ms());
}

static int insert_first_index(struct store_transaction *tx, const struct collection_spec *spec, enum collection_set set,
                              struct error **ret_error) {
    bool is_queries = set == COLLECTION_QUERIES;
    const struct collection_index index = {
        .index_id = (char *)(is_queries ? spec->query_index_id : spec->index_id),
        .partner_id = (char *)(is_queries ? spec->index_id : spec->query_index_id),
        .set = set,
        .deployment_id = (char *)spec->deployment_id,
        .encoder_digest = (char *)spec->encoder_digest,
        .state = "blue",
        .revision = spec->revision,
        .dimension = spec->dimension,
        .epoch = 1,
    };
    return collection_insert_index(tx, &index, ret_error);
}

static int insert_first_pair(struct store_transaction *tx, const struct collection_spec *spec,
                             struct error **ret_error) {
    int result = insert_first_index(tx, spec, COLLECTION_DOCUMENTS, ret_error);
    if (!result && spec->keep_queries) result = insert_first_index(tx, spec, COLLECTION_QUERIES, ret_error);
    if (result < 0) return result;
    result = store_run(tx, NULL, ret_error,
                       "INSERT INTO pair (one, epoch, index_id, query_index_id, deployment_id, revision, "
                       "encoder_digest) VALUES (1, 1, ?, ?, ?, ?, ?)",
                       "tttit", spec->index_id, spec->keep_queries ? spec->query_index_id : NULL, spec->deployment_id,
                       spec->revision, spec->encoder_digest);
    if (result < 0) return result;
    return collection_add_event(tx, NULL, "collection", NULL, ret_error, "made the collection %s", spec->name);
}

/* Makes one database and closes it, which moves all of it out of its write-ahead log, synced. */
static int make_database(const char *folder, const struct collection_spec *spec, enum collection_set set,
                         struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(folder, collection_file_name(set));
    const struct store_options options = {.schema = &collection_schema, .role = STORE_OWNER, .create = true};
    struct store *store = NULL;
    int result = store_open_as(path, &options, &store, ret_error);
    if (result < 0) return result;
    struct store_transaction *tx = NULL;
    result = store_begin(store, &tx, ret_error);
    if (!result) result = insert_meta(tx, spec, ret_error);
    if (!result && set == COLLECTION_DOCUMENTS) result = insert_first_pair(tx, spec, ret_error);
    if (!result)
        result = store_commit(TAKE(tx), ret_error);
    else
        store_rollback(tx);
    if (!result) result = store_checkpoint(store, ret_error);
    store_close(store);
    return result;
}

static int make_folder(const char *path, struct error **ret_error) {
    if (!mkdir(path, 0700)) return 0;
    return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "make the folder %s", path);
}

static int fill_folder(const char *folder, const struct collection_spec *spec, struct error **ret_error) {
    _cleanup_free_ char *indexes = fs_join(folder, "indexes");
    int result = make_folder(folder, ret_error);
    if (!result) result = make_folder(indexes, ret_error);
    if (!result) result = make_database(folder, spec, COLLECTION_DOCUMENTS, ret_error);
    if (!result && spec->keep_queries) result = make_database(folder, spec, COLLECTION_QUERIES, ret_error);
    if (!result) result = fs_sync_folder(indexes, ret_error);
    if (!result) result = fs_sync_folder(folder, ret_error);
    return result;
}

static int rename_folder(const char *from, const char *to, struct error **ret_error) {
    if (!rename(from, to)) return 0;
    return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "rename %s to %s", from, to);
}

/* root/<prefix><collection_id>: what an earlier attempt left there is removed. */
static int clear_beside(const char *root, const char *prefix, const char *collection_id, char **ret_path,
                        struct error **ret_error) {
    _cleanup_free_ char *name = text_format("%s%s", prefix, collection_id);
    _cleanup_free_ char *path = fs_join(root, name);
    int result = fs_remove_tree(path, ret_error);
    if (!result) *ret_path = TAKE(path);
    return result;
}

int collection_create(const char *root, const struct collection_spec *spec, struct error **ret_error) {
    _cleanup_free_ char *folder = fs_join(root, spec->collection_id), *beside = NULL;
    int result = fs_make_folders(root, ret_error);
    if (!result) result = clear_beside(root, ".new-", spec->collection_id, &beside, ret_error);
    if (!result && !fs_exists(folder)) {
        result = fill_folder(beside, spec, ret_error);
        if (!result) result = rename_folder(beside, folder, ret_error);
        if (result < 0) fs_remove_tree(beside, NULL);
    }
    if (!result) result = fs_sync_folder(root, ret_error); /* also when it was there: who renamed may have died */
    if (result < 0) error_wrap(ret_error, "make the collection %s", spec->name);
    return result;
}

int collection_remove(const char *root, const char *collection_id, struct error **ret_error) {
    _cleanup_free_ char *folder = fs_join(root, collection_id), *beside = NULL;
    int result = clear_beside(root, ".gone-", collection_id, &beside, ret_error);
    if (!result && fs_exists(folder)) {
        result = rename_folder(folder, beside, ret_error);
        if (!result) result = fs_sync_folder(root, ret_error);
        if (!result) result = fs_remove_tree(beside, ret_error);
    }
    if (result < 0) error_wrap(ret_error, "remove the collection %s", collection_id);
    return result;
}
