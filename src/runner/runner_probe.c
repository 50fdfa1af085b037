#include "runner/runner_probe-internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

#define PROBE_ELEMENTS_MAXIMUM (16u << 20)

/* ---- embedding ----------------------------------------------------------- */

static const char *const sentences[] = {
    "The harbour lies still.",
    "A ship that is finished slides down the ways into the water, stern first, while the crowd on the quay holds its breath.",
    "42",
    "Which of these two roads leads to the old shipyard behind the railway station?",
};
#define SENTENCES ARRAY_SIZE(sentences)

struct probe_texts {
    int64_t *ids; /* [SENTENCES][maximum_length] */
    float *alone, *together; /* [SENTENCES][dimension] */
    struct model_text texts[SENTENCES];
    const struct model_text *pointers[SENTENCES];
};

static void probe_texts_clear(struct probe_texts *probe) {
    free(probe->ids);
    free(probe->alone);
    free(probe->together);
}

static int encode_sentences(const struct model *model, struct probe_texts *probe, struct error **ret_error) {
    size_t maximum = model->recipe->maximum_length;
    probe->ids = mem_new_array(SENTENCES * maximum, int64_t);
    for (size_t i = 0; i < SENTENCES; i++) {
        struct tokenizer_encoding encoding;
        int64_t *ids = probe->ids + i * maximum;
        int result = model_encode(model, sentences[i], strlen(sentences[i]), ids, &encoding, ret_error);
        if (result < 0) return result;
        if (encoding.count == 0)
            return error_set(ret_error, ERROR_CONFIGURATION, "the tokenizer makes no token of a sentence");
        probe->texts[i] = (struct model_text){.ids = ids, .count = encoding.count};
        probe->pointers[i] = &probe->texts[i];
    }
    return 0;
}

static double cosine(const float *a, const float *b, size_t dimension) {
    double product = 0, left = 0, right = 0;
    for (size_t i = 0; i < dimension; i++) {
        product += (double)a[i] * b[i];
        left += (double)a[i] * a[i];
        right += (double)b[i] * b[i];
    }
    return product / (sqrt(left * right) > 0 ? sqrt(left * right) : 1);
}

/* Sets together_reason when a vector differs by more than the tolerance. */
static void compare_vectors(struct model *model, const struct probe_texts *probe) {
    size_t dimension = model->dimension;
    double largest = 0, lowest = 1;
    for (size_t i = 0; i < SENTENCES; i++) {
        const float *alone = probe->alone + i * dimension, *together = probe->together + i * dimension;
        for (size_t j = 0; j < dimension; j++) largest = fmax(largest, fabs((double)alone[j] - together[j]));
        lowest = fmin(lowest, cosine(alone, together, dimension));
    }
    if (largest > PROBE_TOLERANCE)
        model->together_reason = text_format("batching changes the result: cosine %.4f alone against together, largest "
                                             "difference %.2g (allowed %.0e)",
                                             lowest, largest, PROBE_TOLERANCE);
}

static int run_alone(struct model *model, struct probe_texts *probe, struct error **ret_error) {
    int result = model_run_texts(model, probe->pointers, 1, ret_error); /* warms up and finds the dimension */
    if (result < 0) return result;
    probe->alone = mem_new_array(SENTENCES * model->dimension, float);
    for (size_t i = 0; result == 0 && i < SENTENCES; i++) {
        probe->texts[i].vector = probe->alone + i * model->dimension;
        result = model_run_texts(model, &probe->pointers[i], 1, ret_error);
    }
    return result;
}

static void run_together(struct model *model, struct probe_texts *probe) {
    struct error *error = NULL;
    probe->together = mem_new_array(SENTENCES * model->dimension, float);
    for (size_t i = 0; i < SENTENCES; i++) probe->texts[i].vector = probe->together + i * model->dimension;
    if (model_run_texts(model, probe->pointers, SENTENCES, &error) == 0) {
        compare_vectors(model, probe);
        return;
    }
    _cleanup_free_ char *text = error_text(error);
    model->together_reason = text_format("the model fails on a batch: %.500s", text);
    error_free(error);
}

int runner_probe_embedding(struct model *model, struct error **ret_error) {
    struct probe_texts probe = {0};
    int result = encode_sentences(model, &probe, ret_error);
    if (result == 0) result = run_alone(model, &probe, ret_error);
    if (result == 0 && !model->together_reason) run_together(model, &probe);
    probe_texts_clear(&probe);
    return result < 0 ? error_wrap(ret_error, "try the model with a sentence") : 0;
}

/* ---- tensors ------------------------------------------------------------- */

/* Writes element `index` of a probe: all `level` (0 or 1), or, for `varied`, values that differ from one to the next.
 */
static void put_element(enum tensor_type type, char *at, size_t index, int level, bool varied) {
    float real = varied ? 0.1f * (float)(index % 7 + 1) : (float)level;
    int whole = varied ? (int)(index % 2) : level;
    double wide = real;
    uint16_t narrow;
    switch (type) {
    case TENSOR_FP16:
        narrow = tensor_float_to_half(real);
        memcpy(at, &narrow, sizeof narrow);
        break;
    case TENSOR_BF16:
        narrow = tensor_float_to_brain(real);
        memcpy(at, &narrow, sizeof narrow);
        break;
    case TENSOR_FP32: memcpy(at, &real, sizeof real); break;
    case TENSOR_FP64: memcpy(at, &wide, sizeof wide); break;
    case TENSOR_BYTES:
        memcpy(at, "\1\0\0", 4);
        at[4] = (char)('0' + whole);
        break;
    default:
        memset(at, 0, tensor_types[type].size);
        at[0] = (char)whole;
        break; /* little endian */
    }
}

static bool make_probe_input(const struct session_value *value, int level, bool varied, struct tensor *tensor) {
    *tensor = (struct tensor){.name = value->name, .type = value->type, .rank = value->rank};
    for (size_t i = 0; i < value->rank; i++) tensor->shape[i] = value->shape[i] < 0 ? 1 : value->shape[i];
    if (!tensor_count_elements(tensor->shape, tensor->rank, &tensor->element_count)) return false;
    if (tensor->element_count > PROBE_ELEMENTS_MAXIMUM) return false;
    size_t element = value->type == TENSOR_BYTES ? 5 : tensor_types[value->type].size;
    tensor->data_size = tensor->element_count * element;
    tensor->data = tensor->owned = mem_alloc(tensor->data_size);
    for (size_t i = 0; i < tensor->element_count; i++)
        put_element(value->type, (char *)tensor->owned + i * element, i, level, varied);
    return true;
}

/* A request of one row that wants every output; false when the declared shape is too large to try. */
static bool make_request(const struct model *model, int level, bool varied, struct model_tensors *request) {
    size_t count, output_count;
    const struct session_value *values = session_inputs(model->session, &count);
    session_outputs(model->session, &output_count);
    *request = (struct model_tensors){.inputs = mem_new_array(count, struct tensor),
                                      .wanted = mem_new_array(output_count, size_t),
                                      .wanted_count = output_count,
                                      .outputs = mem_new_array(output_count, struct tensor)};
    for (size_t i = 0; i < output_count; i++) request->wanted[i] = i;
    for (size_t i = 0; i < count; i++)
        if (!make_probe_input(&values[i], level, varied, &request->inputs[i])) return false;
    return true;
}

static void clear_request(const struct model *model, struct model_tensors *request) {
    size_t count;
    session_inputs(model->session, &count);
    tensor_clear_all(request->inputs, count);
    tensor_clear_all(request->outputs, request->wanted_count);
    free(request->wanted);
    free(request->signature);
}

/* ONNX Runtime only warns when an output is not of the declared shape. */
static int check_outputs(const struct model *model, const struct model_tensors *request, bool *ret_finite,
                         struct error **ret_error) {
    size_t count;
    const struct session_value *values = session_outputs(model->session, &count);
    for (size_t i = 0; i < count; i++) {
        const struct tensor *output = &request->outputs[i];
        *ret_finite = *ret_finite && tensor_is_finite(output);
        bool fits = output->type == values[i].type && (values[i].rank == 0 || values[i].rank == output->rank);
        for (size_t j = 0; fits && j < values[i].rank; j++)
            fits = values[i].shape[j] < 0 || values[i].shape[j] == output->shape[j];
        if (fits) continue;
        _cleanup_free_ char *given = tensor_shape_text(output->shape, output->rank);
        _cleanup_free_ char *declared = tensor_shape_text(values[i].shape, values[i].rank);
        return error_set(ret_error, ERROR_CONFIGURATION, "the model declares its output %s as %s, but gives %s",
                         values[i].name, declared, given);
    }
    return 0;
}

enum outcome { OUTCOME_FINE, OUTCOME_NOT_FINITE, OUTCOME_REFUSED };

/* One try with all ones or all zeros. *ret_reason is why the model refused it. */
static int try_level(struct model *model, int level, enum outcome *ret_outcome, char **ret_reason,
                     struct error **ret_error) {
    struct model_tensors request;
    struct error *error = NULL;
    int result = 0;
    bool finite = true;
    if (!make_request(model, level, false, &request)) {
        *ret_outcome = OUTCOME_REFUSED;
        *ret_reason = text_copy("the declared shapes are too large to try");
    } else if (model_run_tensors(model, (struct model_tensors *[]){&request}, 1, &error) < 0) {
        *ret_outcome = OUTCOME_REFUSED;
        *ret_reason = error_text(error);
    } else {
        result = check_outputs(model, &request, &finite, ret_error);
        *ret_outcome = finite ? OUTCOME_FINE : OUTCOME_NOT_FINITE;
    }
    error_free(error);
    clear_request(model, &request);
    return result;
}

/* The largest difference between the parts' own outputs and those they got together; infinite when their sizes differ.
 */
static double largest_difference(const struct model_tensors *alone, const struct model_tensors *together) {
    double largest = 0;
    for (size_t i = 0; i < alone->wanted_count; i++) {
        const struct tensor *a = &alone->outputs[i], *b = &together->outputs[i];
        if (a->data_size != b->data_size) return INFINITY;
        if (tensor_types[a->type].form != TENSOR_FORM_REAL) {
            if (a->data_size && memcmp(a->data, b->data, a->data_size)) return INFINITY;
            continue;
        }
        for (size_t j = 0; j < a->element_count; j++) {
            double left = tensor_real_at(a, j), right = tensor_real_at(b, j);
            double scale = fmax(1, fabs(left)); /* relative where values are large */
            if (!(left == right || (isnan(left) && isnan(right)))) largest = fmax(largest, fabs(left - right) / scale);
            if (isnan(left) != isnan(right)) return INFINITY;
        }
    }
    return largest;
}

/* Two different rows alone, then as a batch; whatever fails or differs keeps requests apart. */
static void probe_together(struct model *model) {
    struct model_tensors alone[2], batch[2];
    struct error *error = NULL;
    double largest = 0;
    bool made = true;
    for (int i = 0; i < 2; i++) {
        made = make_request(model, 1, i == 1, &alone[i]) && made;
        made = make_request(model, 1, i == 1, &batch[i]) && made;
    }
    int result = made ? 0 : -1;
    for (int i = 0; i < 2 && result == 0; i++)
        result = model_run_tensors(model, (struct model_tensors *[]){&alone[i]}, 1, &error);
    if (result == 0) result = model_run_tensors(model, (struct model_tensors *[]){&batch[0], &batch[1]}, 2, &error);
    for (int i = 0; i < 2 && result == 0; i++) largest = fmax(largest, largest_difference(&alone[i], &batch[i]));
    if (result < 0) {
        _cleanup_free_ char *text = error_text(error);
        model->together_reason =
            text_format("the model could not be tried with a batch: %.500s", error ? text : "too large");
    } else if (largest > PROBE_TOLERANCE) {
        model->together_reason = text_format("batching changes the result: largest difference %.2g (allowed %.0e)",
                                             largest, PROBE_TOLERANCE);
    }
    error_free(error);
    for (int i = 0; i < 2; i++) {
        clear_request(model, &alone[i]);
        clear_request(model, &batch[i]);
    }
}

int runner_probe_tensors(struct model *model, struct error **ret_error) {
    _cleanup_free_ char *ones_reason = NULL, *zeros_reason = NULL;
    enum outcome ones = OUTCOME_REFUSED, zeros = OUTCOME_REFUSED;
    int result = try_level(model, 1, &ones, &ones_reason, ret_error);
    if (result == 0 && ones != OUTCOME_FINE) result = try_level(model, 0, &zeros, &zeros_reason, ret_error);
    if (result < 0) return error_wrap(ret_error, "try the model with ones and zeros");
    bool fine = ones == OUTCOME_FINE || zeros == OUTCOME_FINE;
    if (ones == OUTCOME_NOT_FINITE && zeros == OUTCOME_NOT_FINITE)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "try the model: what it gives for ones and for zeros is not finite");
    if (!fine) {
        model->probe_reason = text_format("the model refuses ones and zeros of its declared shape: %.500s",
                                          ones_reason ? ones_reason : zeros_reason);
        if (!model->together_reason)
            model->together_reason = text_copy("the model could not be tried with a batch: it refuses ones and zeros");
        return 0;
    }
    if (!model->together_reason) probe_together(model);
    return 0;
}
