/* destination: the other model is there, answers, and embeds differently from the one that is blue. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

/* It may have waited for another re-index, and things have changed since it was asked for. */
static int check_collection(struct step_run *run, const struct reindex_work *work, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_entry_ struct catalog_entry entry = {0};
    struct error *error = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0) return result;
    result = catalog_find(tx, work->collection_id, &entry, &error);
    bool is_gone =
        (result < 0 && error->class == ERROR_NOT_FOUND) || (result >= 0 && !text_equal(entry.state, "active"));
    if (result < 0 && !is_gone && ret_error) *ret_error = TAKE(error);
    error_free(error);
    if (is_gone) return error_set(ret_error, ERROR_REFUSED, "the collection %s is being deleted", run->task.collection);
    return result;
}

static int load_encoder(struct step_run *run, const struct deployment *deployment, struct reindex_work *work,
                        struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_revision_ struct revision revision = {0};
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 ||
        (result = revision_load(tx, deployment->id, deployment->serving_revision, &revision, ret_error)) < 0)
        return result;
    _cleanup_json_ yyjson_doc *facts =
        revision.facts_json ? yyjson_read(revision.facts_json, strlen(revision.facts_json), 0) : NULL;
    int64_t dimension = yyjson_get_sint(yyjson_obj_get(yyjson_doc_get_root(facts), "dimension"));
    if (!revision.encoder_digest || dimension <= 0)
        return error_set(ret_error, ERROR_CONFIGURATION, "the destination %s is not an embedding model",
                         deployment->name);
    free(work->digest);
    work->digest = text_copy(revision.encoder_digest);
    work->revision = revision.number;
    work->dimension = dimension;
    return 0;
}

static int check_differs(struct step_run *run, const struct deployment *deployment, const struct reindex_work *work,
                         struct error **ret_error) {
    _cleanup_view_ struct catalog_view view = {0};
    int result = catalog_view_load(run->controller, work->collection_id, &view, ret_error);
    if (result < 0) return result;
    /* Blue already by this very task: a kill came between the flip and its record. */
    if (text_equal(view.pair.flipped_by, run->task.id)) return 0;
    if (text_equal(view.pair.deployment_id, deployment->id))
        return error_set(ret_error, ERROR_REFUSED, "the collection is indexed with model %s already", deployment->name);
    if (text_equal(view.pair.encoder_digest, work->digest))
        return error_set(ret_error, ERROR_REFUSED,
                         "model %s embeds exactly as the present one does (the same encoder_digest): there is nothing "
                         "to re-index",
                         deployment->name);
    return 0;
}

int step_destination(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    _cleanup_deployment_ struct deployment deployment = {0};
    reindex_work_read(&run->task, &work);
    int result = check_collection(run, &work, ret_error);
    if (result < 0 || (result = initiate_model_deployment_and_wait(run, &work, &deployment, ret_error)) < 0 ||
        (result = load_encoder(run, &deployment, &work, ret_error)) < 0 ||
        (result = check_differs(run, &deployment, &work, ret_error)) < 0)
        return result;
    return reindex_record(run, &work, ret_error);
}
