#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "runner/runner_model-internal.h"
#include "runner/runner_pool-internal.h"

int model_encode(const struct model *model, const char *text, size_t size, int64_t *ids,
                 struct tokenizer_encoding *ret_encoding, struct error **ret_error) {
    const char *prompt = model->recipe->prompt;
    size_t maximum = model->recipe->maximum_length, prompt_size = strlen(prompt);
    if (prompt_size == 0) return tokenizer_encode(model->tokenizer, text, size, ids, maximum, ret_encoding, ret_error);
    _cleanup_free_ char *both = malloc(prompt_size + size);
    if (!both) return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for a text of %zu bytes", size);
    memcpy(both, prompt, prompt_size);
    memcpy(both + prompt_size, text, size);
    return tokenizer_encode(model->tokenizer, both, prompt_size + size, ids, maximum, ret_encoding, ret_error);
}

/* Memory for one input array, kept from run to run. */
static void *take_scratch(struct model *model, enum model_input input, size_t size) {
    if (model->scratch_size[input] < size) {
        free(model->scratch[input]);
        model->scratch[input] = malloc(size);
        model->scratch_size[input] = model->scratch[input] ? size : 0;
    }
    return model->scratch[input];
}

/* What stands at token `at` of the text in this input. */
static inline int64_t value_at(enum model_input input, const struct model_text *text, size_t at, int64_t padding) {
    bool real = at < text->count;
    switch (input) {
    case MODEL_INPUT_IDS: return real ? text->ids[at] : padding;
    case MODEL_ATTENTION_MASK: return real;
    default: return 0;
    }
}

static void fill_wide(int64_t *at, enum model_input input, const struct model_text *text, size_t length,
                      int64_t padding) {
    for (size_t i = 0; i < length; i++) at[i] = value_at(input, text, i, padding);
}

static void fill_narrow(int32_t *at, enum model_input input, const struct model_text *text, size_t length,
                        int64_t padding) {
    for (size_t i = 0; i < length; i++) at[i] = (int32_t)value_at(input, text, i, padding);
}

static enum model_input input_named(const char *name) {
    return text_equal(name, "input_ids")        ? MODEL_INPUT_IDS
           : text_equal(name, "attention_mask") ? MODEL_ATTENTION_MASK
                                                : MODEL_TOKEN_TYPE_IDS;
}

static int build_input(struct model *model, const struct session_value *value, const struct model_text *const *texts,
                       size_t count, size_t length, struct tensor *tensor, struct error **ret_error) {
    enum model_input input = input_named(value->name);
    size_t element = tensor_types[value->type].size;
    int64_t padding = tokenizer_padding_id(model->tokenizer);
    *tensor = (struct tensor){.name = value->name, .type = value->type, .rank = 2, .element_count = count * length};
    tensor->shape[0] = (int64_t)count;
    tensor->shape[1] = (int64_t)length;
    tensor->data_size = tensor->element_count * element;
    char *room = take_scratch(model, input, tensor->data_size);
    if (!room) return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for a batch of %zu texts", count);
    tensor->data = room;
    for (size_t i = 0; i < count; i++, room += length * element) {
        if (value->type == TENSOR_INT64)
            fill_wide((int64_t *)room, input, texts[i], length, padding);
        else
            fill_narrow((int32_t *)room, input, texts[i], length, padding);
    }
    return 0;
}

/* [count,dimension] or [count,length,dimension], FP32. */
static int check_output(struct model *model, const struct tensor *output, size_t count, size_t length,
                        struct error **ret_error) {
    size_t rank = model->pooled ? 2 : 3;
    bool fits = output->type == TENSOR_FP32 && output->rank == rank && output->shape[0] == (int64_t)count &&
                (model->pooled || output->shape[1] == (int64_t)length) && output->shape[rank - 1] > 0;
    if (fits && model->dimension == 0) model->dimension = (size_t)output->shape[rank - 1];
    if (fits && output->shape[rank - 1] == (int64_t)model->dimension) return 0;
    _cleanup_free_ char *shape = tensor_shape_text(output->shape, output->rank);
    return error_set(ret_error, ERROR_DEPLOYMENT,
                     "for %zu texts of %zu tokens the model gave %s %s %s, which is not %s", count, length,
                     output->name, tensor_types[output->type].name, shape,
                     model->pooled ? "[batch,dimension]" : "[batch,sequence,dimension]");
}

static int take_vectors(struct model *model, const struct tensor *output, const struct model_text *const *texts,
                        size_t count, size_t length, struct error **ret_error) {
    int result = check_output(model, output, count, length, ret_error);
    if (result < 0) return result;
    size_t dimension = model->dimension, stride = model->pooled ? dimension : length * dimension;
    const float *hidden = output->data;
    for (size_t i = 0; i < count; i++, hidden += stride) {
        if (!texts[i]->vector) continue; /* the first probe: nobody knew the dimension yet */
        runner_pool(model->recipe->pooling, hidden, texts[i]->count, dimension, texts[i]->vector);
        if (model->recipe->normalize) runner_normalize(texts[i]->vector, dimension);
        if (!runner_is_finite(texts[i]->vector, dimension))
            return error_set(ret_error, ERROR_DEPLOYMENT, "the model gave a vector with a value that is not finite");
    }
    return 0;
}

int model_run_texts(struct model *model, const struct model_text *const *texts, size_t count,
                    struct error **ret_error) {
    size_t length = model->fixed_length, input_count;
    for (size_t i = 0; i < count; i++)
        if (length < texts[i]->count) length = texts[i]->count;
    const struct session_value *values = session_inputs(model->session, &input_count);
    struct tensor inputs[MODEL_INPUT_COUNT];
    int result = 0;
    for (size_t i = 0; result == 0 && i < input_count; i++)
        result = build_input(model, &values[i], texts, count, length, &inputs[i], ret_error);
    if (result < 0) return result;
    struct session_result outputs;
    result = session_run(model->session, inputs, &model->output, 1, &outputs, ret_error);
    if (result < 0) return result;
    result = take_vectors(model, &outputs.tensors[0], texts, count, length, ret_error);
    session_result_clear(&outputs);
    return result;
}
