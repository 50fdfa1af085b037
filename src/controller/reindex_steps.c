/* What the steps on collections share: asking the indexer, waiting for other tasks, recording. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

#define ASK_TIMEOUT_MS 120000 /* of what the indexer does at once; it may have to start first */
#define FAILED_ITEMS_MAXIMUM 10000
#define FAILED_PAGE 500

/* ---- asking ---- */

yyjson_mut_doc *reindex_body(yyjson_mut_val **ret_root) {
    yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    *ret_root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, *ret_root);
    return document;
}

int reindex_ask_with(struct step_run *run, struct indexer_question *question, yyjson_mut_doc *body,
                     yyjson_doc **ret_answer, struct error **ret_error) {
    _cleanup_free_ char *text = body ? json_write(body, NULL) : NULL, *answer = NULL;
    question->body_json = text;
    question->interrupted = &run->interrupted;
    int result = indexer_link_ask(run->controller->indexer, question, &answer, ret_error);
    if (result < 0 || !ret_answer) return result;
    *ret_answer = yyjson_read(answer, strlen(answer), 0);
    if (yyjson_is_obj(yyjson_doc_get_root(*ret_answer))) return 0;
    yyjson_doc_free(TAKE(*ret_answer));
    return error_set(ret_error, ERROR_DEPLOYMENT, "%s: the indexer's answer cannot be read", question->verb);
}

int reindex_ask(struct step_run *run, const char *verb, const char *collection_id, yyjson_mut_doc *body,
                yyjson_doc **ret_answer, struct error **ret_error) {
    struct indexer_question question = {.verb = verb, .collection_id = collection_id, .timeout_ms = ASK_TIMEOUT_MS};
    return reindex_ask_with(run, &question, body, ret_answer, ret_error);
}

/* Marked deleted is a CONFLICT, gone a NOT_FOUND. */
bool reindex_is_gone(const struct error *error) {
    for (const struct error *layer = error; layer; layer = layer->cause)
        if (layer->class == ERROR_NOT_FOUND ||
            (layer->class == ERROR_CONFLICT && strstr(layer->message, "being deleted")))
            return true;
    return false;
}

/* ---- waiting ---- */

static int load_task(struct step_run *run, const char *task_id, struct task *ret_task, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    return result < 0 ? result : task_load(tx, task_id, ret_task, ret_error);
}

int reindex_wait_task(struct step_run *run, const char *task_id, struct task *ret_task, struct error **ret_error) {
    engine_wake(run->controller->engine);
    for (;;) {
        uint64_t version = engine_version(run->controller->engine);
        _cleanup_task_ struct task task = {0};
        int result = load_task(run, task_id, &task, ret_error);
        if (result < 0) return result;
        if (task_status_is_finished(task.status)) {
            *ret_task = task;
            task = (struct task){0};
            return 0;
        }
        engine_wait_change(run, version, STEP_NO_DEADLINE);
        if ((result = step_check(run, ret_error)) < 0) return result;
    }
}

/* ---- recording ---- */

int reindex_record(struct step_run *run, const struct reindex_work *work, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = reindex_work_write(tx, run, work, ret_error)) < 0) return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int reindex_note(struct store_transaction *tx, struct step_run *run, const char *sentence, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    step_state_note(&state, sentence);
    return step_state_write(tx, run, &state, ret_error);
}

/* ---- failed items ---- */

uint64_t reindex_allowed_failures(const struct reindex_work *work, uint64_t live) {
    double allowed = work->max_failed < 1 ? work->max_failed * (double)live : work->max_failed;
    return (uint64_t)allowed;
}

struct copying {
    struct store_transaction *tx;
    const char *task_id;
    int64_t place;
};

static int copy_page(struct copying *copying, const struct collection_failure *failures, size_t count,
                     struct error **ret_error) {
    int result = 0;
    for (size_t i = 0; i < count && result >= 0; i++)
        result = store_run(copying->tx, NULL, ret_error,
                           "INSERT INTO task_failed_items (task_id, place, id, stage, detail) VALUES (?, ?, ?, ?, ?)",
                           "tittt", copying->task_id, ++copying->place, failures[i].id, failures[i].stage,
                           failures[i].detail);
    return result;
}

/* All pages in one transaction: a second run finds them all or none. */
static int copy_items(struct collection_read *read, const char *index_id, struct copying *copying, uint64_t *ret_total,
                      struct error **ret_error) {
    uint64_t after = 0;
    for (;;) {
        struct collection_failure *failures = NULL;
        size_t count = 0;
        int result =
            collection_list_failures(read, index_id, after, FAILED_PAGE, &failures, &count, ret_total, ret_error);
        if (result < 0) return result;
        result = copy_page(copying, failures, count, ret_error);
        if (count) after = failures[count - 1].seq;
        collection_failures_free(failures, count);
        if (result < 0 || count < FAILED_PAGE || copying->place >= FAILED_ITEMS_MAXIMUM) return result;
    }
}

static int copy_in_transaction(struct step_run *run, struct collection_read *read, const char *index_id,
                               struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    uint64_t total = 0;
    int result = store_begin(run->controller->store, &tx, ret_error);
    struct copying copying = {.tx = tx, .task_id = run->task.id};
    if (result < 0 ||
        (result = store_run(tx, NULL, ret_error, "DELETE FROM task_failed_items WHERE task_id = ?", "t",
                            run->task.id)) < 0 ||
        (result = copy_items(read, index_id, &copying, &total, ret_error)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE tasks SET progress_failed = ? WHERE id = ?", "it",
                            (int64_t)total, run->task.id)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int reindex_copy_failed_items(struct step_run *run, const struct reindex_work *work, struct error **ret_error) {
    struct collection *collection = NULL;
    struct collection_read *read = NULL;
    _cleanup_free_ char *folder = catalog_folder(run->controller, work->collection_id);
    int result = collection_open(folder, COLLECTION_READS, &collection, ret_error);
    if (result >= 0) result = collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result >= 0) result = copy_in_transaction(run, read, work->index_id, ret_error);
    collection_read_end(read);
    collection_close(collection);
    return result;
}
