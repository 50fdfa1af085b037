/* blue_switch: the destination becomes blue. The flip itself, and that nobody sees less than before, is the indexer's
 * (X3 to X5); before it is asked, every gateway routes the destination's digest (X2). From the moment of asking only
 * the indexer knows whether it has flipped: what cannot be told here is asked of it (engine_undo_collection.c). */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "controller/collections.h"

#define ANSWER_SLACK_MS 120000 /* beyond switch_deadline: until every gateway has acknowledged */

/* ---- X2 ---- */

/* The generation that routes the digest; CONFLICT when another one is routed. */
static int find_generation(struct step_run *run, const struct reindex_work *work, const struct deployment *deployment,
                           int64_t *ret_generation, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_revision_ struct revision revision = {0};
    int64_t routed = 0;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 ||
        (result = store_ask_number(tx, &routed, ret_error, "SELECT revision FROM routes WHERE deployment_id = ?", "t",
                                   deployment->id)) < 0)
        return result;
    if (!result) return error_set(ret_error, ERROR_DEPLOYMENT, "Model is not ready.");
    if ((result = revision_load(tx, deployment->id, routed, &revision, ret_error)) < 0) return result;
    if (!text_equal(revision.encoder_digest, work->digest))
        return error_set(ret_error, ERROR_CONFLICT, "the destination %s embeds with another digest now: %s",
                         deployment->name, revision.encoder_digest ? revision.encoder_digest : "none");
    result = store_ask_number(tx, ret_generation, ret_error, "SELECT generation FROM routing WHERE one = 1", "");
    return result < 0 ? result : 0;
}

static int route_destination(struct step_run *run, const struct reindex_work *work, struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    int64_t generation = 0;
    int result = reindex_wait_ready(run, work->deployment_id, &deployment, ret_error);
    if (result < 0 || (result = find_generation(run, work, &deployment, &generation, ret_error)) < 0) return result;
    struct routing *routing = run->controller->routing;
    routing_announce(routing, (uint64_t)generation);
    uint64_t deadline = clock_monotonic_ms() + run->controller->settings->switch_deadline_ms;
    switch (routing_wait_acknowledged(routing, (uint64_t)generation, deadline, &run->interrupted)) {
    case ROUTING_REACHED: return 0;
    case ROUTING_INTERRUPTED: return step_canceled(ret_error);
    default:
        return error_set(ret_error, ERROR_DEPLOYMENT, "a gateway does not route generation %lld within %llu s",
                         (long long)generation,
                         (unsigned long long)(run->controller->settings->switch_deadline_ms / 1000));
    }
}

/* ---- the flip ---- */

static int record_asking(struct step_run *run, struct reindex_work *work, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if (work->flip_asked) return 0;
    work->flip_asked = true;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = reindex_work_write(tx, run, work, ret_error)) < 0) return result;
    return step_commit(run, TAKE(tx), ret_error);
}

/* There is no way back from here. */
static int record_flip(struct step_run *run, struct reindex_work *work, yyjson_doc *answer, struct error **ret_error) {
    yyjson_val *root = yyjson_doc_get_root(answer);
    free(work->source_index_id);
    free(work->source_deployment_id);
    work->flipped = true;
    work->epoch = yyjson_get_sint(yyjson_obj_get(root, "epoch"));
    work->source_index_id = text_copy(yyjson_get_str(yyjson_obj_get(root, "source_index_id")));
    work->source_deployment_id = text_copy(yyjson_get_str(yyjson_obj_get(root, "source_deployment_id")));
    _cleanup_state_ struct step_state state = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = reindex_work_write(tx, run, work, ret_error)) < 0) return result;
    step_state_read(&run->task, &state);
    state.committed = true;
    _cleanup_free_ char *words = text_format("index %s is blue in the collection %s (epoch %lld)", work->index_id,
                                             run->task.collection, (long long)work->epoch);
    if ((result = step_state_write(tx, run, &state, ret_error)) < 0 ||
        (result = event_add(tx, "collection", work->deployment_id, run->task.id, words, NULL, ret_error)) < 0 ||
        (result = step_commit(run, TAKE(tx), ret_error)) < 0)
        return result;
    engine_set_committed(run);
    return 0;
}

static int flip(struct step_run *run, struct reindex_work *work, struct error **ret_error) {
    yyjson_mut_val *root = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *body = reindex_body(&root);
    _cleanup_json_ yyjson_doc *answer = NULL;
    json_add_text(body, root, "task_id", run->task.id);
    json_add_text(body, root, "index_id", work->index_id);
    struct indexer_question question = {
        .verb = "flip",
        .collection_id = work->collection_id,
        .timeout_ms = run->controller->settings->switch_deadline_ms + ANSWER_SLACK_MS,
    };
    int result = reindex_ask_with(run, &question, body, &answer, ret_error);
    if (result < 0) return result;
    pause_point("flip_answered");
    return record_flip(run, work, answer, ret_error);
}

int blue_switch(struct step_run *run, struct reindex_work *work, struct error **ret_error) {
    if (work->flipped && work->epoch) return 0;
    int result = work->flipped ? 0 : route_destination(run, work, ret_error);
    if (result < 0) return result;
    pause_point("before_flip_asked");
    if ((result = record_asking(run, work, ret_error)) < 0) return result;
    return flip(run, work, ret_error);
}

int step_blue_switch(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    reindex_work_read(&run->task, &work);
    return work.blue_switch ? blue_switch(run, &work, ret_error) : 0;
}
