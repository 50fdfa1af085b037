/* POST /v1/embeddings as OpenAI's clients speak it. Unknown fields are passed over: those clients send more than we
 * know. Source: OpenAI's API reference, "Create embeddings". */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/number.h"
#include "base/text.h"
#include "runner/runner_service-internal.h"

/* ---- request ------------------------------------------------------------------ */

static int wrong_input(struct error **ret_error) {
    return error_set(
        ret_error, ERROR_REQUEST,
        "the field input must be a string, a list of strings, a list of token ids or a list of such lists");
}

static int add_value(struct runner_job *job, yyjson_val *value, struct error **ret_error) {
    const struct model *model = job->service->model;
    if (yyjson_is_str(value))
        return runner_texts_add(&job->texts, model, yyjson_get_str(value), yyjson_get_len(value), ret_error);
    if (yyjson_is_arr(value)) return runner_texts_add_ids(&job->texts, model, value, ret_error);
    return wrong_input(ret_error);
}

static int take_input(struct runner_job *job, yyjson_val *input, struct error **ret_error) {
    yyjson_val *first = yyjson_arr_get_first(input), *value;
    size_t index, count;
    if (!yyjson_is_arr(input) || yyjson_is_num(first)) return add_value(job, input, ret_error); /* one text */
    if (!first) return error_set(ret_error, ERROR_REQUEST, "the field input is an empty list");
    yyjson_arr_foreach(input, index, count, value) {
        if (yyjson_get_type(value) != yyjson_get_type(first)) return wrong_input(ret_error);
        int result = add_value(job, value, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

static int take_options(struct runner_job *job, yyjson_val *root, struct error **ret_error) {
    const char *format = "float", *model = NULL;
    int64_t dimensions = 0, own = (int64_t)job->service->model->dimension;
    int result = json_get_text(root, "", "model", true, &model, ret_error);
    if (result == 0) result = json_get_text(root, "", "encoding_format", false, &format, ret_error);
    if (result == 0) result = json_get_number(root, "", "dimensions", false, 1, INT64_MAX, &dimensions, ret_error);
    if (result < 0) return result;
    if (!job->service->any_name && !text_equal(model, job->service->model_name))
        return error_set(ret_error, ERROR_NOT_FOUND, "there is no model %.200s here; this is %s", model,
                         job->service->model_name);
    if (!text_equal(format, "float") && !text_equal(format, "base64"))
        return error_set(ret_error, ERROR_REQUEST, "encoding_format must be float or base64, not %.100s", format);
    if (dimensions && dimensions != own)
        return error_set(ret_error, ERROR_REQUEST, "the model gives %lld dimensions and cannot give %lld",
                         (long long)own, (long long)dimensions);
    job->base64 = text_equal(format, "base64");
    job->model_name = text_copy(model);
    return 0;
}

static int parse_embeddings(struct runner_job *job, struct error **ret_error) {
    yyjson_val *root;
    int result = json_parse_object(job->request->body, job->request->body_size, &job->v2.document, &root, ret_error);
    if (result == 0) result = take_options(job, root, ret_error);
    if (result == 0) result = take_input(job, yyjson_obj_get(root, "input"), ret_error);
    return result == 0 ? runner_texts_finish(job, ret_error) : result;
}

/* ---- answer ------------------------------------------------------------------- */

/* Base64 with padding (RFC 4648, section 4) of a vector's bytes; the caller has made room. */
static size_t write_base64(const unsigned char *bytes, size_t size, char *at) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *begin = at;
    for (; size >= 3; size -= 3, bytes += 3) {
        unsigned group = (unsigned)bytes[0] << 16 | (unsigned)bytes[1] << 8 | bytes[2];
        *at++ = digits[group >> 18];
        *at++ = digits[group >> 12 & 63];
        *at++ = digits[group >> 6 & 63];
        *at++ = digits[group & 63];
    }
    if (size) {
        unsigned group = (unsigned)bytes[0] << 16 | (size == 2 ? (unsigned)bytes[1] << 8 : 0);
        *at++ = digits[group >> 18];
        *at++ = digits[group >> 12 & 63];
        *at++ = size == 2 ? digits[group >> 6 & 63] : '=';
        *at++ = '=';
    }
    return (size_t)(at - begin);
}

static bool write_vector(const float *vector, size_t dimension, bool base64, struct buffer *body) {
    size_t size = dimension * sizeof *vector;
    if (!buffer_reserve(body, base64 ? size * 4 / 3 + 8 : dimension * (NUMBER_TEXT_MAXIMUM + 1) + 2)) return false;
    char *at = body->bytes + body->size;
    *at++ = base64 ? '"' : '[';
    if (base64) at += write_base64((const unsigned char *)vector, size, at);
    for (size_t i = 0; !base64 && i < dimension; i++) {
        if (i) *at++ = ',';
        at += number_write_float(vector[i], at);
    }
    *at++ = base64 ? '"' : ']';
    body->size = (size_t)(at - body->bytes);
    return true;
}

static bool write_all(struct runner_job *job, const char *model_json) {
    const struct runner_texts *texts = &job->texts;
    struct buffer *body = &job->answer;
    size_t dimension = job->service->model->dimension, tokens = runner_texts_tokens(texts);
    bool written = buffer_append_text(body, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; written && i < texts->count; i++)
        written =
            buffer_append_format(body, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i ? "," : "", i) &&
            write_vector(texts->vectors + i * dimension, dimension, job->base64, body) && buffer_append_text(body, "}");
    return written && buffer_append_format(body,
                                           "],\"model\":%s,\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu,"
                                           "\"truncated_inputs\":%zu}}",
                                           model_json, tokens, tokens, texts->truncated);
}

static int write_embeddings(struct runner_job *job, struct error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *name = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(name, yyjson_mut_str(name, job->model_name));
    _cleanup_free_ char *model_json = json_write(name, NULL);
    if (write_all(job, model_json)) return 0;
    return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for the answer");
}

static size_t embeddings_bytes(const struct runner_job *job) {
    return job->texts.count * job->service->model->dimension * (job->base64 ? 6 : 12);
}

static void fail_embeddings(struct http_request *request, const struct error *error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    _cleanup_free_ char *text = error_text(error);
    yyjson_mut_val *root = yyjson_mut_obj(document), *inner = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_val(document, root, "error", inner);
    json_add_text(document, inner, "message",
                  text_is_utf8(text, strlen(text)) ? text : "the request cannot be answered");
    json_add_text(document, inner, "type", error->http_status < 500 ? "invalid_request_error" : "server_error");
    json_add_text(document, inner, "code", error_class_name(error->class));
    yyjson_mut_obj_add_null(document, inner, "param");
    size_t size;
    _cleanup_free_ char *json = json_write(document, &size);
    const struct http_header headers[] = {{"Content-Type", "application/json"}, {"Retry-After", "1"}};
    bool later = error->http_status == 503 || error->http_status == 429;
    http_respond(request, error->http_status, headers, later ? 2 : 1, json, size, NULL);
}

const struct runner_protocol openai_protocol = {.large_bytes = RUNNER_LARGE_TEXT_BYTES,
                                                .parse = parse_embeddings,
                                                .write = write_embeddings,
                                                .answer_bytes = embeddings_bytes,
                                                .fail = fail_embeddings};
