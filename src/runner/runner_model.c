#include "runner/runner_model-internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "runner/runner_onnx-internal.h"
#include "runner/runner_probe-internal.h"

#define TOKENIZER_MAXIMUM (64u << 20)

static const char *const input_names[MODEL_INPUT_COUNT] = {"input_ids", "attention_mask", "token_type_ids"};

/* "a [-1,-1] INT64, b [-1] FP32" for messages; caller frees. */
static char *describe_values(const struct session_value *values, size_t count) {
    struct buffer text = {.maximum = 4096};
    for (size_t i = 0; i < count; i++) {
        _cleanup_free_ char *shape = tensor_shape_text(values[i].shape, values[i].rank);
        buffer_append_format(&text, "%s%.100s %s %s", i ? ", " : "", values[i].name, shape,
                             tensor_types[values[i].type].name);
    }
    return buffer_take(&text, NULL);
}

/* ---- the inputs and the output of an embedding graph ---------------------- */

static int check_embedding_input(struct model *model, const struct session_value *value, struct error **ret_error) {
    bool known = false;
    for (size_t i = 0; i < MODEL_INPUT_COUNT; i++) known = known || text_equal(value->name, input_names[i]);
    if (!known || value->rank != 2 || (value->type != TENSOR_INT64 && value->type != TENSOR_INT32)) return -1;
    if (value->shape[0] > 1)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the graph takes exactly %lld texts at a time; export it with a dynamic batch dimension",
                         (long long)value->shape[0]);
    if (value->shape[0] == 1 && !model->together_reason)
        model->together_reason = text_copy("the graph takes one text at a time");
    if (value->shape[1] > 0) model->fixed_length = (size_t)value->shape[1];
    return 0;
}

static int check_embedding_inputs(struct model *model, struct error **ret_error) {
    size_t count;
    const struct session_value *inputs = session_inputs(model->session, &count);
    bool has_ids = false;
    for (size_t i = 0; i < count; i++) {
        has_ids = has_ids || text_equal(inputs[i].name, "input_ids");
        struct error *error = NULL;
        if (check_embedding_input(model, &inputs[i], &error) == 0) continue;
        if (error) {
            *ret_error = error;
            return -(int)error->class;
        }
        has_ids = false;
        break;
    }
    if (has_ids) return 0;
    _cleanup_free_ char *found = describe_values(inputs, count);
    return error_set(
        ret_error, ERROR_CONFIGURATION,
        "the graph's inputs are not those of an embedding model: it has %s; wanted are input_ids and, where it "
        "needs them, attention_mask and token_type_ids, each [batch,sequence] INT64 or INT32",
        found);
}

/* The output of that rank with one of the names, else the only one of that rank that no name in `not` stands for. */
static const struct session_value *find_output(const struct session_value *outputs, size_t count, size_t rank,
                                               const char *const *names, const char *const * not ) {
    const struct session_value *only = NULL;
    size_t found = 0;
    for (const char *const *name = names; *name; name++)
        for (size_t i = 0; i < count; i++)
            if (outputs[i].rank == rank && outputs[i].type == TENSOR_FP32 && text_equal(outputs[i].name, *name))
                return &outputs[i];
    for (size_t i = 0; i < count; i++) {
        bool excluded = outputs[i].rank != rank || outputs[i].type != TENSOR_FP32;
        for (const char *const *name = not ; *name; name++) excluded = excluded || text_equal(outputs[i].name, *name);
        if (excluded) continue;
        only = &outputs[i];
        found++;
    }
    return found == 1 ? only : NULL;
}

static int no_output(const struct model *model, const struct session_value *outputs, size_t count,
                     struct error **ret_error) {
    _cleanup_free_ char *found = describe_values(outputs, count);
    if (model->recipe->pooling == RECIPE_POOLING_UNKNOWN)
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "no file says how the tokens' vectors are pooled (modules.json, 1_Pooling/config.json), and the graph "
            "does not do it: set recipe.pooling; its outputs are %s",
            found);
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "the graph's outputs are not those of an embedding model: it has %s; wanted is one of "
                     "[batch,sequence,dimension] or, with pooling none, [batch,dimension], FP32",
                     found);
}

static int choose_output(struct model *model, struct error **ret_error) {
    static const char *const token_names[] = {"last_hidden_state", "token_embeddings", NULL};
    static const char *const pooled_names[] = {"sentence_embedding", NULL};
    static const char *const no_embedding[] = {"logits", "pooler_output", NULL}, *const nothing[] = {NULL};
    struct recipe *recipe = model->recipe;
    size_t count;
    const struct session_value *outputs = session_outputs(model->session, &count);
    const struct session_value *tokens = find_output(outputs, count, 3, token_names, no_embedding);
    const struct session_value *pooled =
        find_output(outputs, count, 2, pooled_names, recipe->pooling == RECIPE_NONE ? nothing : no_embedding);
    bool by_recipe = text_equal(yyjson_mut_get_str(yyjson_mut_doc_ptr_get(recipe->report, "/pooling/from")), "recipe");
    if (recipe->pooling == RECIPE_POOLING_UNKNOWN || recipe->pooling == RECIPE_NONE || (!tokens && !by_recipe))
        tokens = NULL;
    if (tokens) pooled = NULL;
    if (!tokens && (!pooled || (by_recipe && recipe->pooling != RECIPE_NONE)))
        return no_output(model, outputs, count, ret_error);
    const struct session_value *chosen = tokens ? tokens : pooled;
    model->output = (size_t)(chosen - outputs);
    model->pooled = chosen == pooled;
    if (model->pooled && recipe->pooling != RECIPE_NONE) recipe_set_pooling(recipe, RECIPE_NONE, recipe->model_file);
    recipe_note_text(recipe, "output", chosen->name, recipe->model_file);
    model->dimension = chosen->shape[chosen->rank - 1] > 0 ? (size_t)chosen->shape[chosen->rank - 1] : 0;
    return 0;
}

/* ---- opening ------------------------------------------------------------- */

static int open_tokenizer(struct model *model, const char *folder, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(folder, model->recipe->tokenizer_file);
    _cleanup_free_ char *bytes = NULL;
    size_t size;
    int result = fs_read_file(path, TOKENIZER_MAXIMUM, &bytes, &size, ret_error);
    if (result == 0) result = tokenizer_open(bytes, size, &model->tokenizer, ret_error);
    return result < 0 ? error_wrap(ret_error, "read %s", model->recipe->tokenizer_file) : 0;
}

static int open_embedding(struct model *model, const struct model_config *config, struct error **ret_error) {
    int result = check_embedding_inputs(model, ret_error);
    if (result == 0) result = choose_output(model, ret_error);
    if (result == 0) result = open_tokenizer(model, config->folder, ret_error);
    if (result < 0) return result;
    if (model->fixed_length && model->recipe->maximum_length > model->fixed_length)
        model->recipe->maximum_length = model->fixed_length;
    recipe_encoder_digest(model->recipe, config->package_digest, model->encoder_digest);
    return runner_probe_embedding(model, ret_error);
}

/* Whether the graph takes and gives any number of rows. */
static void check_batch_dimension(struct model *model) {
    size_t input_count, output_count;
    const struct session_value *inputs = session_inputs(model->session, &input_count);
    const struct session_value *outputs = session_outputs(model->session, &output_count);
    const struct session_value *fixed = NULL;
    for (size_t i = 0; i < input_count && !fixed; i++)
        if (inputs[i].rank == 0 || inputs[i].shape[0] != -1) fixed = &inputs[i];
    for (size_t i = 0; i < output_count && !fixed; i++)
        if (outputs[i].rank == 0 || outputs[i].shape[0] != -1) fixed = &outputs[i];
    if (input_count == 0) model->together_reason = text_copy("the graph has no inputs");
    if (fixed) model->together_reason = text_format("the first dimension of %s is not free", fixed->name);
}

static int open_graph(struct model *model, const struct model_config *config, struct error **ret_error) {
    const struct session_options options = {.threads = config->threads ? config->threads : 1, .varying = true};
    _cleanup_free_ char *path = fs_join(config->folder, model->recipe->model_file);
    int result = runner_onnx_check(config->folder, model->recipe->model_file, ret_error);
    return result == 0 ? session_open(config->ort, path, &options, &model->session, ret_error) : result;
}

int model_open(const struct model_config *config, struct model **ret_model, struct error **ret_error) {
    uint64_t begin = clock_monotonic_ms();
    struct model *model = mem_new(struct model);
    int result = recipe_read(config->folder, config->recipe_json, &model->recipe, ret_error);
    if (result == 0) result = open_graph(model, config, ret_error);
    if (result == 0 && model->recipe->kind == RECIPE_EMBEDDING) {
        result = open_embedding(model, config, ret_error);
    } else if (result == 0) {
        check_batch_dimension(model);
        result = runner_probe_tensors(model, ret_error);
    }
    if (result < 0) {
        model_free(model);
        return result;
    }
    model->together = model->together_reason == NULL;
    model->load_ms = clock_monotonic_ms() - begin;
    *ret_model = model;
    return 0;
}

void model_free(struct model *model) {
    if (!model) return;
    recipe_free(model->recipe);
    session_free(model->session);
    tokenizer_free(model->tokenizer);
    free(model->together_reason);
    free(model->probe_reason);
    for (size_t i = 0; i < MODEL_INPUT_COUNT; i++) free(model->scratch[i]);
    free(model);
}
