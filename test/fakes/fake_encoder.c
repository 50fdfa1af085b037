#include "fakes/fake_encoder.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"

void fake_encoder_embed(const char *text, float *ret_vector, size_t dimension) {
    for (size_t i = 0; i < dimension; i++) {
        char *end;
        ret_vector[i] = strtof(text, &end);
        if (end == text) ret_vector[i] = 0;
        text = end;
    }
}

static void encode(struct fake_encoder *encoder, struct http_request *request) {
    static const char head[] = "{\"outputs\":[{\"name\":\"embedding\"}]}";
    _cleanup_json_ yyjson_doc *document = yyjson_read(request->body, request->body_size, 0);
    yyjson_val *input = yyjson_arr_get_first(yyjson_obj_get(yyjson_doc_get_root(document), "inputs"));
    const char *text = yyjson_get_str(yyjson_arr_get_first(yyjson_obj_get(input, "data")));
    float vector[FAKE_ENCODER_DIMENSIONS];
    char head_size[16];
    assert(text && encoder->dimension <= FAKE_ENCODER_DIMENSIONS);
    fake_encoder_embed(text, vector, encoder->dimension);
    _cleanup_buffer_ struct buffer body = {0};
    buffer_append_text(&body, head);
    buffer_append(&body, vector, encoder->dimension * sizeof(float));
    snprintf(head_size, sizeof head_size, "%zu", sizeof head - 1);
    const struct http_header headers[] = {{"X-Slipway-Encoder", encoder->digest},
                                          {"X-Slipway-Batch", "1"},
                                          {"Inference-Header-Content-Length", head_size}};
    http_respond(request, 200, headers, ARRAY_SIZE(headers), body.bytes, body.size, NULL);
}

static void answer(struct fake_encoder *encoder, struct http_request *request) {
    static const char refusal[] = "{\"error\":\"text 0 has no tokens\"}", nonsense[] = "{\"outputs\":[]}";
    const struct http_header headers[] = {{"X-Slipway-Encoder", encoder->digest}};
    if (encoder->does == ENCODER_REFUSES)
        http_respond(request, 400, headers, 1, refusal, sizeof refusal - 1, NULL);
    else if (encoder->does == ENCODER_ANSWERS_NONSENSE)
        http_respond(request, 200, headers, 1, nonsense, sizeof nonsense - 1, NULL);
    else
        encode(encoder, request);
}

static enum http_body_mode on_head(struct http_request *request, void *context) {
    (void)request, (void)context;
    return HTTP_BODY_WHOLE;
}

static void on_request(struct http_request *request, void *context) {
    struct fake_encoder *encoder = context;
    encoder->request_count++;
    if (encoder->does == ENCODER_DIES) {
        fake_encoder_close(encoder);
    } else if (encoder->does == ENCODER_HOLDS) {
        assert(encoder->held_count < ARRAY_SIZE(encoder->held));
        encoder->held[encoder->held_count++] = request;
    } else {
        answer(encoder, request);
    }
}

static void on_gone(struct http_request *request, void *context) {
    struct fake_encoder *encoder = context;
    size_t kept = 0;
    for (size_t i = 0; i < encoder->held_count; i++)
        if (encoder->held[i] != request) encoder->held[kept++] = encoder->held[i];
    encoder->held_count = kept;
    http_break(request);
}

static const struct http_handler handler = {.on_head = on_head, .on_request = on_request, .on_gone = on_gone};

void fake_encoder_open(struct fake_encoder *encoder, uv_loop_t *loop, const char *path, const char *digest,
                       size_t dimension) {
    *encoder = (struct fake_encoder){.digest = digest, .dimension = dimension};
    const struct http_server_config config = {
        .loop = loop,
        .limits = {.head_maximum = 65536, .body_maximum = 16 << 20, .connections_maximum = 256},
        .handler = &handler,
        .context = encoder,
    };
    _cleanup_free_ char *address = text_format("unix:%s", path);
    int descriptor = -1;
    encoder->server = http_server_new(&config);
    if (http_listen(address, &descriptor, NULL) || http_server_listen(encoder->server, descriptor, NULL)) abort();
}

void fake_encoder_release(struct fake_encoder *encoder) {
    while (encoder->held_count) answer(encoder, encoder->held[--encoder->held_count]);
}

void fake_encoder_close(struct fake_encoder *encoder) {
    if (encoder->server) http_server_close(TAKE(encoder->server));
}
