/* A replica of an embedding model as the indexer meets it, played on the test's own loop: batches of texts as a binary
 * tensor, vectors back. A text's vector follows from its bytes and the encoder's digest. It can hold, die, refuse and
 * lie. Left out: a model, tokens, JSON data, every route but inference.
 *
 * Texts with a meaning: "refuse…" is answered 400 when it stands in a batch, "broken…" 500, "zero…" is embedded as
 * zeros. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "http/http_server.h"

enum batch_encoder_does { BATCH_ENCODES, BATCH_HOLDS, BATCH_DIES, BATCH_IS_BUSY };

#define BATCH_ENCODER_HELD 64

struct fake_batch_encoder {
    struct http_server *server; /* NULL: dead */
    enum batch_encoder_does does;
    const char *digest; /* that it says; vectors follow from it */
    size_t dimension;
    bool says_refused_once; /* "refuse…" is embedded from now on */
    double drift; /* added to the first number of each vector: it is not what it was */
    size_t request_count, text_count, largest_batch;
    size_t truncated; /* that it says of each batch */
    struct http_request *held[BATCH_ENCODER_HELD];
    size_t held_count;
};

void fake_batch_encoder_open(struct fake_batch_encoder *encoder, uv_loop_t *loop, const char *path, const char *digest,
                             size_t dimension);
void fake_batch_encoder_release(struct fake_batch_encoder *encoder); /* answers what is held */
void fake_batch_encoder_close(struct fake_batch_encoder *encoder);
/* A text's vector, of length 1. */
void fake_batch_encoder_embed(const char *text, size_t size, const char *digest, float *ret_vector, size_t dimension);
