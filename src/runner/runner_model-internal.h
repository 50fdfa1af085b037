/* A loaded model: its recipe, tokenizer and session, and what the probes found out about it.
 *
 * model_open() does everything that `ready` promises: checks, loads, warms up, runs one real inference and looks at its
 * result, and probes whether a batch changes it. Blocking: worker thread. Afterwards a model is immutable, but for the
 * scratch memory of model_run_…(), which belongs to the inference thread. */
#pragma once
#include "runner/runner_batch-internal.h"
#include "runner/runner_recipe-internal.h"
#include "runner/runner_session-internal.h"
#include "runner/tokenizer.h"

/* The inputs that an embedding graph may have, by name. */
enum model_input { MODEL_INPUT_IDS, MODEL_ATTENTION_MASK, MODEL_TOKEN_TYPE_IDS, MODEL_INPUT_COUNT };

struct model {
    struct recipe *recipe;
    struct session *session;
    struct tokenizer *tokenizer; /* embedding only, as all down to `scratch` */
    size_t output; /* index of the output that holds the vectors */
    bool pooled; /* that output is [batch,dimension], not [batch,sequence,dimension] */
    size_t fixed_length; /* the graph takes only sequences of this length; 0: any */
    size_t dimension;
    char encoder_digest[DIGEST_HEX_SIZE];

    bool together; /* requests may run in one batch */
    char *together_reason; /* why not; NULL when they may */
    char *probe_reason; /* why no real inference was run (tensor models only); NULL when it was */
    uint64_t load_ms;

    void *scratch[MODEL_INPUT_COUNT]; /* input arrays, reused */
    size_t scratch_size[MODEL_INPUT_COUNT];
};

struct model_config {
    struct ort *ort;
    const char *folder;
    const char *package_digest;
    const char *recipe_json; /* "" or NULL: no overrides */
    unsigned threads;
};

/* CONFIGURATION error: this model cannot be served as it is (permanent); transient ones are marked so. */
int model_open(const struct model_config *config, struct model **ret_model, struct error **ret_error);
void model_free(struct model *model);

/* ---- embedding ----------------------------------------------------------- */

/* A text as token ids, and the room for its vector: payload of an embedding's units. */
struct model_text {
    const int64_t *ids;
    size_t count;
    float *vector; /* [dimension]; written by model_run_texts() */
};

/* Ids of a text with the recipe's prompt, at most recipe->maximum_length, into ids[0..that). Any thread. */
int model_encode(const struct model *model, const char *text, size_t size, int64_t *ids,
                 struct tokenizer_encoding *ret_encoding, struct error **ret_error);
/* Embeds the texts in one run: pooled, normalised, all finite (else DEPLOYMENT error). */
int model_run_texts(struct model *model, const struct model_text *const *texts, size_t count, struct error **ret_error);

/* ---- tensors ------------------------------------------------------------- */

/* A tensor request: payload of its one unit. */
struct model_tensors {
    struct tensor *inputs; /* in the model's order; borrowed data */
    size_t *wanted; /* indexes of the outputs */
    size_t wanted_count;
    struct tensor *outputs; /* [wanted_count], written by model_run_tensors(); each owns its data */
    int64_t *signature; /* what must agree for requests to run together */
    size_t signature_size; /* bytes */
};

/* Checks the inputs against the model: names were resolved by the caller; types, ranks and fixed dimensions here.
 * REQUEST error. Also makes the signature. */
int model_check_tensors(const struct model *model, struct model_tensors *request, struct error **ret_error);
/* Rows that the request adds to a batch (its first dimension, or 1). */
size_t model_rows(const struct model_tensors *request);
/* Runs one request, or several with equal signatures joined along their first dimension. */
int model_run_tensors(struct model *model, struct model_tensors *const *requests, size_t count,
                      struct error **ret_error);

/* Adds "inputs" and "outputs" as the protocol's metadata shows them: an embedding model's text and embedding, or the
 * graph's. */
void model_add_values(const struct model *model, yyjson_mut_doc *document, yyjson_mut_val *object);
