/* The Open Inference Protocol v2 as bytes: inference requests into tensors, tensors into answers.
 *
 * JSON, and the binary tensor extension: the body is then a JSON head of Inference-Header-Content-Length bytes,
 * followed by the raw data of each tensor that says binary_data_size, in order. Lengths must fit exactly. Pure
 * functions over bytes from outside; REQUEST (or json.h's CONFIGURATION) errors, all of them status 400. Unknown fields
 * are passed over. Sources: the Open Inference Protocol's REST specification; Triton's extension_binary_data.
 */
#pragma once
#include "base/buffer.h"
#include "base/json.h"
#include "runner/runner_tensor-internal.h"

#define V2_TENSORS_MAXIMUM 256

struct v2_output {
    const char *name;
    bool binary;
};

struct v2_request {
    yyjson_doc *document;
    const char *id; /* or NULL */
    struct tensor *inputs;
    size_t input_count;
    struct v2_output *outputs; /* NULL: all that the model has */
    size_t output_count;
    bool binary_outputs; /* parameters.binary_data_output: how outputs that are not listed come */
};

/* `head_size`: the value of Inference-Header-Content-Length, or -1 without one. The body must outlive the request:
 * tensors and strings point into it. */
int v2_parse(const char *body, size_t size, int64_t head_size, struct v2_request *ret_request,
             struct error **ret_error);
void v2_request_clear(struct v2_request *request);

/* Gives `tensor`, whose type and shape are set, the next binary_data_size bytes of the binary part; *position is how
 * far that has been used. (Data that does not lie as its element needs is copied.) */
int v2_take_binary(struct tensor *tensor, const char *binary, size_t binary_size, uint64_t data_size, size_t *position,
                   struct error **ret_error);

struct v2_answer {
    const char *model_name, *model_version, *id; /* id: NULL for none */
    const struct tensor *outputs;
    const bool *binary; /* for each output */
    size_t output_count;
};

/* Writes the body. *ret_head_size is the JSON head's size when any output is binary, else -1. DEPLOYMENT error when a
 * value is not finite and would have to stand in JSON. */
int v2_write(const struct v2_answer *answer, struct buffer *body, int64_t *ret_head_size, struct error **ret_error);
