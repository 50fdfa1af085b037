/* A search on its way: what was asked (gateway_search.c), the query's vector (gateway_embed.c), what was found
 * (gateway_find.c). It is its exchange's part. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/gateway-internal.h"

struct gateway_search {
    struct exchange *exchange;
    enum collection_set set;

    /* asked: */
    yyjson_doc *body; /* owns the texts */
    const char *query; /* NULL: by vector */
    const char *digest; /* of the encoder that made the vector; NULL with a query */
    size_t limit, offset;
    bool with_payload, with_vector;
    struct collection_filter *filter; /* NULL: none */

    /* the query's vector: */
    float *vector;
    size_t dimension;

    /* embedding: */
    struct buffer request, answer;
    bool is_same_encoder;
    uint64_t head_size, begun_us;
    void (*when_embedded)(struct exchange *exchange);

    /* found: */
    char *deployment; /* its name, and */
    int64_t revision; /* that which embedded the query, or the index's first, for the answer */
    char *json;
    size_t size;
    struct error *error;
};

/* Asks a replica of the pair's deployment for the query's vector; goes on in `done` with search->vector, or answers and
 * ends the exchange. */
void gateway_embed(struct exchange *exchange, void (*done)(struct exchange *exchange));
/* Worker: sets json or error. */
void gateway_find(struct gateway_search *search);
