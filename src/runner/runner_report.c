#include "runner/runner_report-internal.h"

static void add_embedding(const struct model *model, yyjson_mut_doc *document, yyjson_mut_val *root) {
    yyjson_mut_obj_add_str(document, root, "encoder_digest", model->encoder_digest);
    yyjson_mut_obj_add_uint(document, root, "dimension", model->dimension);
}

static void add_sandbox(const struct sandbox_report *sandbox, yyjson_mut_doc *document, yyjson_mut_val *root) {
    yyjson_mut_val *object = yyjson_mut_obj_add_obj(document, root, "sandbox");
    yyjson_mut_obj_add_int(document, object, "landlock_abi", sandbox->landlock_abi);
    yyjson_mut_obj_add_bool(document, object, "seccomp", sandbox->seccomp);
    yyjson_mut_obj_add_str(document, object, "memory_limit", sandbox->memory_limit ? sandbox->memory_limit : "none");
    json_add_text(document, object, "missing", sandbox->asked ? sandbox->missing : "switched off");
}

char *runner_report(const struct model *model, const struct sandbox_report *sandbox, unsigned threads,
                    uint64_t memory_bytes) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    bool embedding = model->recipe->kind == RECIPE_EMBEDDING;
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_str(document, root, "kind", embedding ? "embedding" : "tensor");
    if (embedding) add_embedding(model, document, root);
    yyjson_mut_obj_add_val(document, root, "recipe",
                           yyjson_mut_val_mut_copy(document, yyjson_mut_doc_get_root(model->recipe->report)));
    yyjson_mut_obj_add_int(document, root, "recipe_version", RECIPE_VERSION);
    yyjson_mut_obj_add_bool(document, root, "batching", model->together);
    json_add_text(document, root, "batching_reason", model->together_reason);
    json_add_text(document, root, "probe_skipped", model->probe_reason);
    model_add_values(model, document, root);
    yyjson_mut_obj_add_uint(document, root, "memory_bytes", memory_bytes);
    yyjson_mut_obj_add_uint(document, root, "load_ms", model->load_ms);
    add_sandbox(sandbox, document, root);
    yyjson_mut_obj_add_uint(document, root, "threads", threads);
    return json_write(document, NULL);
}
