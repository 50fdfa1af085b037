#include "controller/reindex_work.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"

#define CLEAR_TEXT(name) free(work->name);
#define CLEAR_NUMBER(name)
#define CLEAR_REAL(name)
#define CLEAR_FLAG(name)
#define REQUESTED(kind, name) CLEAR_##kind(name)
#define FOUND(kind, name) CLEAR_##kind(name)

void reindex_work_clear(struct reindex_work *work) {
#include "controller/reindex_work.def"
    *work = (struct reindex_work){0};
}
#undef REQUESTED
#undef FOUND

#define READ_TEXT(name) ret_work->name = text_copy(yyjson_get_str(yyjson_obj_get(root, #name)));
#define READ_NUMBER(name) ret_work->name = yyjson_get_sint(yyjson_obj_get(root, #name));
#define READ_REAL(name) ret_work->name = yyjson_get_num(yyjson_obj_get(root, #name));
#define READ_FLAG(name) ret_work->name = yyjson_get_bool(yyjson_obj_get(root, #name));
#define REQUESTED(kind, name) READ_##kind(name)
#define FOUND(kind, name) READ_##kind(name)

static void read_json(const char *json, struct reindex_work *ret_work) {
    *ret_work = (struct reindex_work){0};
    if (!json) return;
    _cleanup_json_ yyjson_doc *document = yyjson_read(json, strlen(json), 0);
    yyjson_val *root = yyjson_doc_get_root(document);
#include "controller/reindex_work.def"
}
#undef REQUESTED
#undef FOUND

void reindex_work_read(const struct task *task, struct reindex_work *ret_work) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(task, &state);
    read_json(state.work_json, ret_work);
}

#define ADD_TEXT(name) json_add_text(document, root, #name, work->name);
#define ADD_NUMBER(name)                                                                                               \
    if (work->name) yyjson_mut_obj_add_sint(document, root, #name, work->name);
#define ADD_REAL(name)                                                                                                 \
    if (work->name > 0) yyjson_mut_obj_add_real(document, root, #name, work->name);
#define ADD_FLAG(name)                                                                                                 \
    if (work->name) yyjson_mut_obj_add_bool(document, root, #name, true);
#define REQUESTED(kind, name) ADD_##kind(name)
#define FOUND(kind, name) ADD_##kind(name)

static char *as_json(const struct reindex_work *work) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
#include "controller/reindex_work.def"
    return json_write(document, NULL);
}
#undef FOUND
#define FOUND(kind, name)

static char *requested_as_json(const struct reindex_work *work) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
#include "controller/reindex_work.def"
    if (work->has_index) { /* given with the request, as is what hangs on it */
        json_add_text(document, root, "index_id", work->index_id);
        json_add_text(document, root, "deployment_id", work->deployment_id);
        json_add_text(document, root, "digest", work->digest);
    }
    return json_write(document, NULL);
}
#undef REQUESTED
#undef FOUND

int reindex_work_write(struct store_transaction *tx, struct step_run *run, const struct reindex_work *work,
                       struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    free(state.work_json);
    state.work_json = as_json(work);
    return step_state_write(tx, run, &state, ret_error);
}

char *reindex_work_state(const struct reindex_work *work) {
    _cleanup_state_ struct step_state state = {.work_json = as_json(work)};
    return step_state_as_json(&state);
}

char *reindex_work_restart(const struct task *task) {
    _cleanup_work_ struct reindex_work work = {0};
    reindex_work_read(task, &work);
    _cleanup_state_ struct step_state state = {.work_json = requested_as_json(&work)};
    return step_state_as_json(&state);
}
