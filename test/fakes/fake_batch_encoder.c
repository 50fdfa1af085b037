#include "fakes/fake_batch_encoder.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"

static uint64_t mix(uint64_t state, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) state = (state ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    return state;
}

void fake_batch_encoder_embed(const char *text, size_t size, const char *digest, float *ret_vector, size_t dimension) {
    uint64_t state = mix(mix(0xcbf29ce484222325u, text, size), digest, strlen(digest));
    double square = 0;
    for (size_t i = 0; i < dimension; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ret_vector[i] = (float)((double)(state >> 40) / (1 << 23) - 1.0);
        square += (double)ret_vector[i] * ret_vector[i];
    }
    for (size_t i = 0; i < dimension; i++) ret_vector[i] = (float)(ret_vector[i] / sqrt(square));
}

/* ---- a request -------------------------------------------------------------- */

struct text {
    const char *bytes;
    uint32_t size;
};

static bool begins(const struct text *text, const char *word) {
    return text->size >= strlen(word) && !memcmp(text->bytes, word, strlen(word));
}

/* The binary part: each text behind its length. */
static size_t read_texts(const struct http_request *request, struct text **ret_texts) {
    const char *head = http_request_header(request, "Inference-Header-Content-Length");
    assert(head);
    size_t at = strtoul(head, NULL, 10), count = 0;
    struct text *texts = NULL;
    while (at < request->body_size) {
        texts = mem_resize(texts, count + 1, sizeof *texts);
        memcpy(&texts[count].size, request->body + at, sizeof(uint32_t));
        texts[count].bytes = request->body + at + sizeof(uint32_t);
        at += sizeof(uint32_t) + texts[count++].size;
    }
    assert(at == request->body_size);
    *ret_texts = texts;
    return count;
}

static void refuse(const struct fake_batch_encoder *encoder, struct http_request *request, int status) {
    static const char body[] = "{\"error\":\"text 0 has no tokens\"}";
    const struct http_header headers[] = {{"X-Slipway-Encoder", encoder->digest}};
    http_respond(request, status, headers, 1, body, sizeof body - 1, NULL);
}

static void embed(const struct fake_batch_encoder *encoder, const struct text *text, float *ret_vector) {
    if (begins(text, "zero")) {
        memset(ret_vector, 0, encoder->dimension * sizeof *ret_vector);
        return;
    }
    fake_batch_encoder_embed(text->bytes, text->size, encoder->digest, ret_vector, encoder->dimension);
    ret_vector[0] += (float)encoder->drift;
}

static void encode(struct fake_batch_encoder *encoder, struct http_request *request, const struct text *texts,
                   size_t count) {
    size_t bytes = encoder->dimension * sizeof(float);
    _cleanup_buffer_ struct buffer body = {0};
    _cleanup_free_ float *vector = mem_alloc(bytes);
    char head_size[24], truncated[24];
    buffer_append_format(
        &body,
        "{\"model_name\":\"m\",\"outputs\":[{\"name\":\"embedding\",\"datatype\":\"FP32\",\"shape\":[%zu,"
        "%zu],\"parameters\":{\"binary_data_size\":%zu}}]}",
        count, encoder->dimension, count * bytes);
    snprintf(head_size, sizeof head_size, "%zu", body.size);
    snprintf(truncated, sizeof truncated, "%zu", encoder->truncated);
    for (size_t i = 0; i < count; i++) {
        embed(encoder, &texts[i], vector);
        buffer_append(&body, vector, bytes);
    }
    encoder->text_count += count;
    if (count > encoder->largest_batch) encoder->largest_batch = count;
    const struct http_header headers[] = {{"X-Slipway-Encoder", encoder->digest},
                                          {"X-Slipway-Truncated", truncated},
                                          {"Inference-Header-Content-Length", head_size}};
    http_respond(request, 200, headers, ARRAY_SIZE(headers), body.bytes, body.size, NULL);
}

static void answer(struct fake_batch_encoder *encoder, struct http_request *request) {
    _cleanup_free_ struct text *texts = NULL;
    size_t count = read_texts(request, &texts);
    bool is_refused = false, is_broken = false;
    for (size_t i = 0; i < count; i++) {
        is_refused = is_refused || (begins(&texts[i], "refuse") && !encoder->says_refused_once);
        is_broken = is_broken || begins(&texts[i], "broken");
    }
    if (is_refused)
        refuse(encoder, request, 400);
    else if (is_broken)
        refuse(encoder, request, 500);
    else
        encode(encoder, request, texts, count);
}

/* ---- the server --------------------------------------------------------------- */

static enum http_body_mode on_head(struct http_request *request, void *context) {
    (void)request, (void)context;
    return HTTP_BODY_WHOLE;
}

static void on_request(struct http_request *request, void *context) {
    struct fake_batch_encoder *encoder = context;
    encoder->request_count++;
    switch (encoder->does) {
    case BATCH_ENCODES: answer(encoder, request); break;
    case BATCH_IS_BUSY: refuse(encoder, request, 503); break;
    case BATCH_DIES: fake_batch_encoder_close(encoder); break;
    case BATCH_HOLDS: assert(encoder->held_count < BATCH_ENCODER_HELD); encoder->held[encoder->held_count++] = request;
    }
}

static void on_gone(struct http_request *request, void *context) {
    struct fake_batch_encoder *encoder = context;
    size_t kept = 0;
    for (size_t i = 0; i < encoder->held_count; i++)
        if (encoder->held[i] != request) encoder->held[kept++] = encoder->held[i];
    encoder->held_count = kept;
    http_break(request);
}

static const struct http_handler handler = {.on_head = on_head, .on_request = on_request, .on_gone = on_gone};

void fake_batch_encoder_open(struct fake_batch_encoder *encoder, uv_loop_t *loop, const char *path, const char *digest,
                             size_t dimension) {
    *encoder = (struct fake_batch_encoder){.digest = digest, .dimension = dimension};
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

void fake_batch_encoder_release(struct fake_batch_encoder *encoder) {
    while (encoder->held_count) answer(encoder, encoder->held[--encoder->held_count]);
}

void fake_batch_encoder_close(struct fake_batch_encoder *encoder) {
    if (encoder->server) http_server_close(TAKE(encoder->server));
}
