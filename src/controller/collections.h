/* Collections, as the controller knows them. Their documents, indexes and pairs are in a database each, which the
 * gateway and the indexer write (S3); here are their names (the table collections), the tasks that change them, and
 * what keeps their encoders from being deleted.
 *
 *   catalog.c              rows of the table collections
 *   catalog_view.c         what stands in a collection's own database and indexes, for the API and for the steps
 *   controller_indexer.c   asking the indexer (indexer/asks.def), and what it tells
 *   controller_outbox.c    copying the events of the collections (S4); folders that belong to no collection
 *   encoders.c             encoders in use: pins and what they forbid (S6)
 *   operation_collection.c requests to rows: create, delete, re-index, switch, rollback
 *   reindex_work.c         the durable memory of their tasks
 *   reindex_*.c, step_*.c  the steps (steps.def); initiate_model_deployment_and_wait, initiate_model_deletion and
 *                          blue_switch among them
 *   failed_items.c         what could not be embedded
 *   engine_undo_collection.c the ends of their tasks
 *
 * docs/internals/reindex-life.md tells it as a story.
 */
#pragma once
#include "collection/collection.h"
#include "controller/operation.h"
#include "controller/reindex_work.h"

struct wire_message;

/* ---- rows (catalog.c) ---- */

struct catalog_entry {
    char *id, *name, *state, *metric; /* state: "active" or "deleting" */
    bool keep_queries, quantized;
    int64_t outbox_id, created_at;
};
void catalog_entry_clear(struct catalog_entry *entry);
#define _cleanup_entry_ __attribute__((cleanup(catalog_entry_clear)))
/* By name; by id where the text has the shape of one. NOT_FOUND "no collection X". */
int catalog_find(struct store_transaction *tx, const char *name_or_id, struct catalog_entry *ret_entry,
                 struct error **ret_error);
/* Newest first, then id. limit 0: all. Free with catalog_list_free(). */
int catalog_list(struct store_transaction *tx, int64_t limit, int64_t offset, struct catalog_entry **ret_entries,
                 size_t *ret_count, int64_t *ret_total, struct error **ret_error);
void catalog_list_free(struct catalog_entry *entries, size_t count);
/* Until every gateway knows the collections as they are now, or for so long. Blocking. */
void catalog_wait_routed(struct controller *controller, uint64_t timeout_ms);
/* <state>/collections, and a collection's folder in it; caller frees. */
char *catalog_root(const struct controller *controller);
char *catalog_folder(const struct controller *controller, const char *collection_id);

/* ---- what is in it (catalog_view.c) ---- */

/* One snapshot of a collection's database. */
struct catalog_view {
    struct collection_facts facts;
    struct collection_pair pair;
    struct collection_index *indexes;
    size_t count;
    uint64_t head, query_head, live;
};
void catalog_view_clear(struct catalog_view *view);
#define _cleanup_view_ __attribute__((cleanup(catalog_view_clear)))
/* Blocking: opens the database. UNAVAILABLE and transient when it is not there. */
int catalog_view_load(const struct controller *controller, const char *collection_id, struct catalog_view *ret_view,
                      struct error **ret_error);
/* NULL when it is not on the list. Borrowed from the view. */
const struct collection_index *catalog_view_find(const struct catalog_view *view, const char *index_id);
/* The document index in state rollback that came last, or NULL. */
const struct collection_index *catalog_view_rollback(const struct catalog_view *view);
/* How many documents the index could not take. */
int catalog_count_failed(const struct controller *controller, const char *collection_id, const char *index_id,
                         uint64_t *ret_failed, struct error **ret_error);
/* The API's shape "index". Blocking: looks into the index's folder. `deployment_name` is the current one. */
yyjson_mut_val *catalog_render_index(struct controller *controller, const struct catalog_view *view,
                                     const struct collection_index *index, const char *deployment_name,
                                     yyjson_mut_doc *document);

/* ---- what could not be embedded (failed_items.c) ---- */

/* Appends the API's "failed item"s of a re-index to the array. *ret_total: all of them. Blocking. */
int failed_items_render(struct controller *controller, const char *task_id, int64_t limit, int64_t offset,
                        yyjson_mut_doc *document, yyjson_mut_val *array, int64_t *ret_total, struct error **ret_error);

/* ---- asking the indexer (controller_indexer.c) ---- */

struct indexer_link;
/* `say` takes a message to the supervisor, from any thread, and copies it. */
struct indexer_link *indexer_link_new(int (*say)(const struct wire_message *message, void *context,
                                                 struct error **ret_error),
                                      void *context);
void indexer_link_free(struct indexer_link *link); /* nobody may be asking; NULL is fine */
/* indexer_up, indexer_down, indexer_answer, index_progress; false when it is about something else. */
bool indexer_link_take(struct indexer_link *link, const struct wire_message *message);
/* Those who ask look at their `interrupted` again. NULL is fine. */
void indexer_link_wake(struct indexer_link *link);

struct index_progress {
    char index_id[40], state[16];
    uint64_t done, total, failed;
    double rate; /* documents a second */
};
/* What the indexer said last of that index: false when nothing is known. NULL gives false. */
bool indexer_link_progress(struct indexer_link *link, const char *index_id, struct index_progress *ret_progress);

struct indexer_question {
    const char *verb, *collection_id, *body_json; /* body_json NULL: {} */
    uint64_t timeout_ms; /* from now */
    const atomic_bool *interrupted; /* or NULL: only the timeout ends it */
    /* While it waits: each progress of this index is shown on the asker's thread. `stall_ms` without `done` growing is
     * an error. May be NULL. */
    const char *index_id;
    uint64_t stall_ms;
    void (*on_progress)(const struct index_progress *progress, void *context);
    void *context;
};
/* Asks, again whenever the indexer has come back, and waits for the answer. *ret_body (may be NULL): its JSON; caller
 * frees. Errors are the indexer's, and UNAVAILABLE: transient at the timeout, not transient when interrupted. */
int indexer_link_ask(struct indexer_link *link, const struct indexer_question *question, char **ret_body,
                     struct error **ret_error);

/* ---- events and folders (controller_outbox.c) ---- */

struct outbox;
struct outbox *outbox_new(struct controller *controller);
/* From here on a thread of its own copies; it begins with all collections, and with removing the folders that no row
 * names. Before the API answers. */
int outbox_start(struct outbox *outbox, struct error **ret_error);
void outbox_free(struct outbox *outbox); /* waits for the thread; NULL is fine */
/* The collection's outbox has new events. Any thread; returns at once. */
void outbox_note(struct outbox *outbox, const char *collection_id);

/* ---- encoders in use (encoders.c, S6) ---- */

int encoder_pin(struct store_transaction *tx, const char *deployment_id, const char *collection_id,
                const char *index_id, const char *task_id, struct error **ret_error);
/* index_id NULL: all of the collection. */
int encoder_unpin(struct store_transaction *tx, const char *collection_id, const char *index_id,
                  struct error **ret_error);
/* 1 with the names of the collections that use it (caller frees), 0 when none does. */
int encoder_find_users(struct store_transaction *tx, const char *deployment_id, char **ret_names,
                       struct error **ret_error);
/* CONFLICT that names the collection when it may not be deleted now. */
int encoder_check_unused(struct store_transaction *tx, const struct deployment *deployment, struct error **ret_error);
/* CONFLICT that says to re-index when the deployment is an encoder in use and `digest` is not what serves. digest NULL:
 * not known yet, 0; "": it embeds nothing. `serving`: the revision that serves, or did before the task took it down. */
int encoder_check_digest(struct store_transaction *tx, const struct deployment *deployment, int64_t serving,
                         const char *digest, struct error **ret_error);
/* The encoder_digest that a package with that recipe was seen to have, or NULL; caller frees. */
int encoder_known_digest(struct store_transaction *tx, const char *package_digest, const char *recipe_json,
                         char **ret_digest, struct error **ret_error);
/* Pins and lists of indexes agree again: what no collection refers to goes (never an unfinished task's), what lacks its
 * pin gets it. At the start. */
int encoder_reconcile(struct controller *controller, struct store_transaction *tx, struct error **ret_error);

/* ---- operations (operation_collection.c) ---- */

struct collection_request {
    const char *name, *deployment, *metric;
    bool keep_queries, quantized;
};
/* Blocking, in transactions of its own: folder, row, pin and the finished task collection_create. Errors: CONFLICT
 * (name taken, deployment not active), CONFIGURATION (not an encoder), NOT_FOUND. The caller announces the routes. */
int operation_collection_create(struct controller *controller, const struct collection_request *request,
                                struct catalog_entry *ret_entry, struct error **ret_error);
int operation_collection_delete(struct controller *controller, struct store_transaction *tx,
                                const struct catalog_entry *entry, struct task *ret_task, struct error **ret_error);
/* The task is pending, or refused for the reason that is in it. `work` holds what was asked for; `request` is its
 * request_json taken apart, or NULL. NOT_FOUND: there is no such destination. CONFLICT: the destination's name stands
 * for another model, or the collection is being deleted. CONFIGURATION: the destination is no encoder. */
int operation_reindex(struct controller *controller, struct store_transaction *tx, const struct catalog_entry *entry,
                      const struct catalog_view *view, const struct operation_origin *origin,
                      const struct reindex_work *work, const struct deployment_request *request, struct task *ret_task,
                      struct error **ret_error);
/* work->index_id: the index to switch to; is_rollback: back to the pair before. What was not given comes from the
 * re-index that made the index, or from the settings. NOT_FOUND: there is no such index. CONFLICT: it is not in a state
 * to be switched to. */
struct switch_given {
    bool window, delete_source;
};
int operation_switch(struct controller *controller, struct store_transaction *tx, const struct catalog_entry *entry,
                     const struct catalog_view *view, const struct operation_origin *origin,
                     const struct switch_given *given, struct reindex_work *work, struct task *ret_task,
                     struct error **ret_error);
/* A failed, refused or canceled task on a collection is pending again, from the beginning. */
int operation_restart_collection_task(struct controller *controller, struct store_transaction *tx,
                                      const struct task *task, struct error **ret_error);
/* 1 with an unfinished task of that kind on the collection other than `except` (may be NULL), 0 when there is none. */
int task_find_on_collection(struct store_transaction *tx, const char *collection, const char *kind, const char *except,
                            struct task *ret_task, struct error **ret_error);

/* ---- what the steps share (reindex_steps.c) ---- */

/* Waits until the task is finished; the engine is woken first. UNAVAILABLE when interrupted. */
int reindex_wait_task(struct step_run *run, const char *task_id, struct task *ret_task, struct error **ret_error);
/* Asks the indexer about the task's collection. UNAVAILABLE when the run is interrupted. */
int reindex_ask(struct step_run *run, const char *verb, const char *collection_id, yyjson_mut_doc *body,
                yyjson_doc **ret_answer, struct error **ret_error);
/* The same with what else a question has. */
int reindex_ask_with(struct step_run *run, struct indexer_question *question, yyjson_mut_doc *body,
                     yyjson_doc **ret_answer, struct error **ret_error);
/* An object to be filled as a body. */
yyjson_mut_doc *reindex_body(yyjson_mut_val **ret_root);
/* The work in a transaction of its own. */
int reindex_record(struct step_run *run, const struct reindex_work *work, struct error **ret_error);
/* Appends a sentence to what the task's detail will say. In the caller's transaction. */
int reindex_note(struct store_transaction *tx, struct step_run *run, const char *sentence, struct error **ret_error);
/* True: the error says that the collection is deleted or gone, so that nothing is left to clean up in it. */
bool reindex_is_gone(const struct error *error);
/* How many documents may fail of `live`. */
uint64_t reindex_allowed_failures(const struct reindex_work *work, uint64_t live);
/* Copies the index's failed items to the task, at most 10 000, in place of those that it had. */
int reindex_copy_failed_items(struct step_run *run, const struct reindex_work *work, struct error **ret_error);

/* ---- the three operations (DESIGN §9) ---- */

/* The destination is deployed by a child task, or found deployed, and answers. Errors: "Deployment task is pending too
 * long.", "Deployment task is processing too long.", "Model is not ready.", "Deployment task failed: …"; REFUSED as the
 * child was. `work` gets deployment_id and deploy_task_id, and is recorded. */
int initiate_model_deployment_and_wait(struct step_run *run, struct reindex_work *work,
                                       struct deployment *ret_deployment, struct error **ret_error);
/* Until a replica of what serves is up. "Model is not ready." when that takes too long, REFUSED when the model is
 * leaving. */
int reindex_wait_ready(struct step_run *run, const char *deployment_id, struct deployment *ret_deployment,
                       struct error **ret_error);
/* A child task that deletes the model, which is not waited for. REFUSED with the collection's name when it is an
 * encoder in use: the child is there, refused. work->delete_task_id is recorded; it stays NULL when there is nothing to
 * delete. */
int initiate_model_deletion(struct step_run *run, struct reindex_work *work, const char *deployment_id,
                            const char *reason, struct error **ret_error);
/* The destination must be ready, there, and not the source; it becomes blue. X2: every gateway routes its digest before
 * the indexer is asked to flip. A cancel that comes before the flip ends it with UNAVAILABLE; one that comes later is
 * forgotten. work->flipped, epoch and the source are recorded. */
int blue_switch(struct step_run *run, struct reindex_work *work, struct error **ret_error);

/* ---- ends ---- */

/* In the transaction that ends the task `done`: its detail, which the caller frees, and what else goes with that. */
int collection_task_done(struct step_run *run, struct store_transaction *tx, char **ret_detail,
                         struct error **ret_error);
/* engine_undo() of a task on a collection. */
int collection_task_undo(struct step_run *run, enum task_status ending, const struct error *why,
                         struct error **ret_error);
