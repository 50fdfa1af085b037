/* A replica of an embedding model, played on the test's own loop: a text is the numbers that stand in it ("1 0 0.5"),
 * which are its vector, filled up with zeros. It says which encoder it is. Left out: a model, batches, all of the
 * protocol but one text in and one binary tensor out. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "http/http_server.h"

#define FAKE_ENCODER_DIMENSIONS 16

enum fake_encoder_does { ENCODES, ENCODER_HOLDS, ENCODER_REFUSES, ENCODER_DIES, ENCODER_ANSWERS_NONSENSE };

struct fake_encoder {
    struct http_server *server; /* NULL: dead */
    enum fake_encoder_does does;
    const char *digest;
    size_t dimension;
    size_t request_count;
    struct http_request *held[16];
    size_t held_count;
};

void fake_encoder_open(struct fake_encoder *encoder, uv_loop_t *loop, const char *path, const char *digest,
                       size_t dimension);
/* Answers what is held. */
void fake_encoder_release(struct fake_encoder *encoder);
void fake_encoder_close(struct fake_encoder *encoder);
/* A text's vector. */
void fake_encoder_embed(const char *text, float *ret_vector, size_t dimension);
