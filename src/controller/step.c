/* What steps share: the table, the durable working memory, transactions, generations, waiting for gateways. */
#include "controller/steps.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/push.h"

#define ACKNOWLEDGE_MS 10000 /* R3: a gateway that does not answer for so long is killed and started again */

/* ---- the table ---- */

static const struct {
    const char *name;
    step_function run;
} steps[] = {
#define STEP(name) {#name, step_##name},
#include "controller/steps.def"
#undef STEP
};

#define STEPS_MAXIMUM 12

static const struct {
    const char *kind;
    const char *steps[STEPS_MAXIMUM];
} pipelines[] = {
#define KIND(name, ...) {#name, {__VA_ARGS__, NULL}},
#include "controller/steps.def"
#undef KIND
};

step_function step_find(const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
        if (text_equal(steps[i].name, name)) return steps[i].run;
    return NULL;
}

const char *const *step_pipeline(const struct task *task) {
    const char *kind = task->collection && text_equal(task->kind, "retire") ? "retire_index" : task->kind;
    for (size_t i = 0; i < ARRAY_SIZE(pipelines); i++)
        if (text_equal(pipelines[i].kind, kind)) return pipelines[i].steps;
    return NULL;
}

bool step_is_wanted(struct step_run *run, const char *name) {
    return !text_equal(name, "image") || push_image_is_wanted(run);
}

/* ---- the working memory ---- */

void step_state_clear(struct step_state *state) {
    free(state->digest);
    free(state->resolved_uri);
    free(state->fingerprint);
    free(state->facts_json);
    free(state->note);
    free(state->ending);
    free(state->work_json);
    *state = (struct step_state){0};
}

static char *read_text(yyjson_val *root, const char *key) {
    return text_copy(yyjson_get_str(yyjson_obj_get(root, key)));
}

static int64_t read_number(yyjson_val *root, const char *key) {
    return yyjson_get_sint(yyjson_obj_get(root, key));
}

void step_state_read(const struct task *task, struct step_state *ret_state) {
    *ret_state = (struct step_state){0};
    if (!task->state_json) return;
    _cleanup_json_ yyjson_doc *document = yyjson_read(task->state_json, strlen(task->state_json), 0);
    yyjson_val *root = yyjson_doc_get_root(document);
    *ret_state = (struct step_state){
        .digest = read_text(root, "digest"),
        .resolved_uri = read_text(root, "resolved_uri"),
        .fingerprint = read_text(root, "fingerprint"),
        .facts_json = read_text(root, "facts"),
        .size_bytes = read_number(root, "size_bytes"),
        .file_count = read_number(root, "file_count"),
        .present = yyjson_get_bool(yyjson_obj_get(root, "present")),
        .generation = read_number(root, "generation"),
        .committed = yyjson_get_bool(yyjson_obj_get(root, "committed")),
        .old_revision = read_number(root, "old_revision"),
        .old_count = read_number(root, "old_count"),
        .old_reserved = read_number(root, "old_reserved"),
        .old_limit = read_number(root, "old_limit"),
        .old_cpu = yyjson_get_num(yyjson_obj_get(root, "old_cpu")),
        .recreated = yyjson_get_bool(yyjson_obj_get(root, "recreated")),
        .note = read_text(root, "note"),
        .ending = read_text(root, "ending"),
    };
    yyjson_val *work = yyjson_obj_get(root, "work");
    if (work) ret_state->work_json = json_write_value(work, NULL);
}

static void add_number(yyjson_mut_doc *document, yyjson_mut_val *root, const char *key, int64_t number) {
    if (number) yyjson_mut_obj_add_sint(document, root, key, number);
}

static void add_flag(yyjson_mut_doc *document, yyjson_mut_val *root, const char *key, bool flag) {
    if (flag) yyjson_mut_obj_add_bool(document, root, key, true);
}

char *step_state_as_json(const struct step_state *state) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "digest", state->digest);
    json_add_text(document, root, "resolved_uri", state->resolved_uri);
    json_add_text(document, root, "fingerprint", state->fingerprint);
    json_add_text(document, root, "facts", state->facts_json);
    add_number(document, root, "size_bytes", state->size_bytes);
    add_number(document, root, "file_count", state->file_count);
    add_flag(document, root, "present", state->present);
    add_number(document, root, "generation", state->generation);
    add_flag(document, root, "committed", state->committed);
    add_number(document, root, "old_revision", state->old_revision);
    add_number(document, root, "old_count", state->old_count);
    add_number(document, root, "old_reserved", state->old_reserved);
    add_number(document, root, "old_limit", state->old_limit);
    if (state->old_cpu > 0) yyjson_mut_obj_add_real(document, root, "old_cpu", state->old_cpu);
    add_flag(document, root, "recreated", state->recreated);
    json_add_text(document, root, "note", state->note);
    json_add_text(document, root, "ending", state->ending);
    json_add_json(document, root, "work", state->work_json);
    return json_write(document, NULL);
}

int step_state_write(struct store_transaction *tx, struct step_run *run, const struct step_state *state,
                     struct error **ret_error) {
    _cleanup_free_ char *json = step_state_as_json(state);
    int result = store_run(tx, NULL, ret_error, "UPDATE tasks SET state_json = ?, updated_at = ? WHERE id = ?", "tit",
                           json, clock_wall_ms(), run->task.id);
    if (result < 0) return result;
    free(run->task.state_json);
    run->task.state_json = TAKE(json);
    return 0;
}

void step_state_note(struct step_state *state, const char *sentence) {
    if (!sentence || (state->note && strstr(state->note, sentence))) return;
    char *note = state->note ? text_format("%s; %s", state->note, sentence) : text_copy(sentence);
    free(state->note);
    state->note = note;
}

/* ---- interruption and transactions ---- */

int step_canceled(struct error **ret_error) {
    return error_set(ret_error, ERROR_UNAVAILABLE, "it was interrupted");
}

int step_check(struct step_run *run, struct error **ret_error) {
    return atomic_load(&run->interrupted) ? step_canceled(ret_error) : 0;
}

int step_begin(struct step_run *run, struct store_transaction **ret_tx, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_check(run, ret_error);
    if (result < 0 || (result = store_begin(run->controller->store, &tx, ret_error)) < 0) return result;
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    int64_t canceled = 0;
    result = state.committed ? 0
                             : store_ask_number(tx, &canceled, ret_error,
                                                "SELECT cancel_requested FROM tasks WHERE id = ?", "t", run->task.id);
    if (result < 0) return result;
    if (canceled) return step_canceled(ret_error);
    *ret_tx = TAKE(tx);
    return 0;
}

int step_commit(struct step_run *run, struct store_transaction *tx, struct error **ret_error) {
    int result = store_commit(tx, ret_error);
    if (result >= 0 && run->controller->api) api_changed(run->controller->api);
    return result;
}

int step_load(struct step_run *run, struct store_transaction *tx, struct deployment *ret_deployment,
              struct revision *ret_revision, struct error **ret_error) {
    if (package_task_is(&run->task)) return package_task_load(&run->task, ret_revision, ret_error);
    int result = deployment_load(tx, run->task.deployment_id, ret_deployment, ret_error);
    return result < 0 ? result
                      : revision_load(tx, run->task.deployment_id, run->task.revision, ret_revision, ret_error);
}

/* ---- routes ---- */

int step_next_generation(struct store_transaction *tx, int64_t *ret_generation, struct error **ret_error) {
    int result = store_run(tx, NULL, ret_error, "UPDATE routing SET generation = generation + 1 WHERE one = 1", "");
    if (result < 0) return result;
    result = store_ask_number(tx, ret_generation, ret_error, "SELECT generation FROM routing WHERE one = 1", "");
    return result < 0 ? result : 0;
}

int step_route_serving(struct store_transaction *tx, const char *deployment_id, struct error **ret_error) {
    int result =
        store_run(tx, NULL, ret_error, "DELETE FROM route_replicas WHERE deployment_id = ?", "t", deployment_id);
    if (result < 0) return result;
    return store_run(tx, NULL, ret_error,
                     "INSERT INTO route_replicas (deployment_id, replica_id) "
                     "SELECT deployment_id, id FROM replicas WHERE deployment_id = ? AND state = 'serving'",
                     "t", deployment_id);
}

int step_wait_drained(struct step_run *run, int64_t generation, struct error **ret_error) {
    if (!generation) return 0;
    routing_announce(run->controller->routing, (uint64_t)generation);
    uint64_t deadline = clock_monotonic_ms() + run->controller->settings->drain_ms;
    enum routing_outcome outcome =
        routing_wait(run->controller->routing, (uint64_t)generation, deadline, &run->interrupted);
    return outcome == ROUTING_INTERRUPTED ? step_canceled(ret_error) : 0;
}

int step_wait_acknowledged(struct step_run *run, int64_t generation, struct error **ret_error) {
    routing_announce(run->controller->routing, (uint64_t)generation);
    uint64_t deadline = clock_monotonic_ms() + ACKNOWLEDGE_MS;
    enum routing_outcome outcome =
        routing_wait_acknowledged(run->controller->routing, (uint64_t)generation, deadline, &run->interrupted);
    return outcome == ROUTING_INTERRUPTED ? step_canceled(ret_error) : 0;
}

/* ---- small questions ---- */

bool step_is_recreate(const struct revision *revision) {
    if (!revision->target_json) return false;
    _cleanup_json_ yyjson_doc *document = yyjson_read(revision->target_json, strlen(revision->target_json), 0);
    return yyjson_equals_str(yyjson_obj_get(yyjson_doc_get_root(document), "strategy"), "recreate");
}

/* 1 with an id, 0 when there is none left. */
static int next_retire_task(struct store_transaction *tx, const char *deployment_id, int64_t revision, char **ret_id,
                            struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT id FROM tasks WHERE deployment_id = ? AND kind = 'retire' AND status = 'pending' "
                             "AND (? = 0 OR revision = ?) LIMIT 1",
                             "tii", deployment_id, revision, revision);
    if (result < 0 || (result = store_next(rows, ret_error)) <= 0) return result;
    *ret_id = store_text_copy(rows, 0);
    return 1;
}

int step_end_retire_tasks(struct store_transaction *tx, const char *deployment_id, int64_t revision,
                          enum task_status status, const char *detail, struct error **ret_error) {
    for (;;) {
        _cleanup_free_ char *id = NULL;
        int result = next_retire_task(tx, deployment_id, revision, &id, ret_error);
        if (result <= 0) return result;
        if ((result = task_set_status(tx, id, status, detail, NULL, ret_error)) < 0) return result;
    }
}
