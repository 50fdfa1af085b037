/* What a runner says of itself: metrics as Prometheus text, metadata as the Open Inference Protocol has it, memory. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "runner/runner_service-internal.h"

/* ---- memory ------------------------------------------------------------------- */

uint64_t runner_memory_pss(void) {
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    char line[256];
    unsigned long long kilobytes = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Pss: %llu kB", &kilobytes) == 1) break;
    if (file) fclose(file);
    return kilobytes * 1024;
}

uint64_t runner_memory_resident(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long pages = 0;
    if (file && fscanf(file, "%*u %llu", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- metrics ------------------------------------------------------------------- */

struct metric {
    const char *name, *type, *help;
    double value;
};

static void write_requests(const struct runner_service *service, struct buffer *text) {
    buffer_append_text(text, "# HELP slipway_runner_requests_total Requests answered, by class of status.\n"
                             "# TYPE slipway_runner_requests_total counter\n");
    for (int i = 2; i < 6; i++)
        buffer_append_format(text, "slipway_runner_requests_total{status=\"%dxx\"} %" PRIu64 "\n", i,
                             service->statistics.requests[i]);
}

static void write_batches(const struct batch_statistics *batches, struct buffer *text) {
    uint64_t below = 0;
    buffer_append_text(text, "# HELP slipway_runner_batch_size Texts or requests that ran together.\n"
                             "# TYPE slipway_runner_batch_size histogram\n");
    for (size_t i = 0; i < ARRAY_SIZE(batches->sizes); i++) {
        below += atomic_load(&batches->sizes[i]);
        if (i + 1 < ARRAY_SIZE(batches->sizes))
            buffer_append_format(text, "slipway_runner_batch_size_bucket{le=\"%d\"} %" PRIu64 "\n", 1 << i, below);
        else
            buffer_append_format(text, "slipway_runner_batch_size_bucket{le=\"+Inf\"} %" PRIu64 "\n", below);
    }
    buffer_append_format(text,
                         "slipway_runner_batch_size_sum %" PRIu64 "\nslipway_runner_batch_size_count %" PRIu64 "\n",
                         (uint64_t)atomic_load(&batches->units), below);
}

char *runner_metrics(const struct runner_service *service, size_t *ret_size) {
    const struct batch_statistics *batches = batcher_statistics(service->batcher);
    const struct metric metrics[] = {
        {"inference_seconds_total", "counter", "Time spent in the model.", (double)atomic_load(&batches->run_us) / 1e6},
        {"queue_units", "gauge", "Texts or requests that wait.", (double)atomic_load(&batches->queued_units)},
        {"requests_in_flight", "gauge", "Inference requests that are not answered yet.", (double)service->jobs},
        {"queue_refused_total", "counter", "Requests refused because too many wait.",
         (double)service->statistics.refused_queue},
        {"abandoned_total", "counter", "Requests whose client went away first.", (double)service->statistics.abandoned},
        {"truncated_texts_total", "counter", "Texts that were longer than the model takes.",
         (double)service->statistics.truncated_texts},
        {"resident_memory_bytes", "gauge", "Resident memory.", (double)runner_memory_resident()},
        {"load_seconds", "gauge", "Time that loading and probing the model took.",
         (double)service->model->load_ms / 1e3},
    };
    struct buffer text = {0};
    write_requests(service, &text);
    write_batches(batches, &text);
    for (size_t i = 0; i < ARRAY_SIZE(metrics); i++)
        buffer_append_format(
            &text, "# HELP slipway_runner_%s %s\n# TYPE slipway_runner_%s %s\nslipway_runner_%s %.15g\n",
            metrics[i].name, metrics[i].help, metrics[i].name, metrics[i].type, metrics[i].name, metrics[i].value);
    return buffer_take(&text, ret_size);
}

/* ---- metadata ------------------------------------------------------------------- */

static void add_value(yyjson_mut_doc *document, yyjson_mut_val *list, const char *name, enum tensor_type type,
                      const int64_t *shape, size_t rank) {
    yyjson_mut_val *value = yyjson_mut_arr_add_obj(document, list),
                   *dimensions = yyjson_mut_arr_with_sint64(document, shape, rank);
    yyjson_mut_obj_add_strcpy(document, value, "name", name);
    yyjson_mut_obj_add_str(document, value, "datatype", tensor_types[type].name);
    yyjson_mut_obj_add_val(document, value, "shape", dimensions);
}

static void add_values(yyjson_mut_doc *document, yyjson_mut_val *list, const struct session_value *values,
                       size_t count) {
    for (size_t i = 0; i < count; i++)
        add_value(document, list, values[i].name, values[i].type, values[i].shape, values[i].rank);
}

void model_add_values(const struct model *model, yyjson_mut_doc *document, yyjson_mut_val *object) {
    yyjson_mut_val *inputs = yyjson_mut_obj_add_arr(document, object, "inputs");
    yyjson_mut_val *outputs = yyjson_mut_obj_add_arr(document, object, "outputs");
    size_t count;
    if (model->recipe->kind == RECIPE_EMBEDDING) {
        add_value(document, inputs, "text", TENSOR_BYTES, (int64_t[]){-1}, 1);
        add_value(document, outputs, "embedding", TENSOR_FP32, (int64_t[]){-1, (int64_t)model->dimension}, 2);
        return;
    }
    const struct session_value *values = session_inputs(model->session, &count);
    add_values(document, inputs, values, count);
    values = session_outputs(model->session, &count);
    add_values(document, outputs, values, count);
}

char *runner_metadata(const struct runner_service *service, const char *name, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_str(document, root, "name", name);
    yyjson_mut_val *versions = yyjson_mut_obj_add_arr(document, root, "versions");
    yyjson_mut_arr_add_str(document, versions, service->version);
    yyjson_mut_obj_add_str(document, root, "platform", "onnxruntime_onnx");
    model_add_values(service->model, document, root);
    return json_write(document, ret_size);
}
