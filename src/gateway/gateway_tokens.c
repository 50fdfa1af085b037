#include "gateway/gateway_tokens-internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway_dispatch-internal.h"

#define NANO 1000000000u /* of one request */

#define MAY(role) (1u << ROLE_##role)
static const struct role {
    const char *name;
    unsigned may;
} roles[] = {
#define TOKEN_ROLE(constant, name, may) {name, may},
#include "http/token_roles.def"
#undef TOKEN_ROLE
};

/* ---- the table -------------------------------------------------------------- */

struct gateway_tokens *gateway_tokens_empty(void) {
    struct gateway_tokens *tokens = mem_new(struct gateway_tokens);
    atomic_init(&tokens->references, 1);
    return tokens;
}

struct gateway_tokens *gateway_tokens_take(struct gateway_tokens *tokens) {
    atomic_fetch_add(&tokens->references, 1);
    return tokens;
}

void gateway_tokens_release(struct gateway_tokens *tokens) {
    if (!tokens || atomic_fetch_sub(&tokens->references, 1) > 1) return;
    HASH_CLEAR(hh, tokens->by_digest);
    for (size_t i = 0; i < tokens->count; i++) {
        free(tokens->all[i].deployments.names);
        free(tokens->all[i].collections.names);
    }
    free(tokens->all);
    free(tokens);
}

static void release_pointer(struct gateway_tokens **tokens) {
    gateway_tokens_release(*tokens);
}

struct gateway_token *gateway_tokens_find(const struct gateway_tokens *tokens,
                                          const unsigned char digest[DIGEST_SIZE]) {
    struct gateway_token *token = NULL;
    HASH_FIND(hh, tokens->by_digest, digest, DIGEST_SIZE, token);
    return token;
}

void gateway_tokens_carry_over(struct gateway_tokens *tokens, const struct gateway_tokens *before) {
    if (tokens == before) return;
    for (size_t i = 0; i < tokens->count; i++) {
        struct gateway_token *token = &tokens->all[i];
        const struct gateway_token *same = token->rate_milli ? gateway_tokens_find(before, token->digest) : NULL;
        if (!same) continue;
        token->bucket = same->bucket;
        token->limited_total = same->limited_total;
    }
}

/* ---- reading ---------------------------------------------------------------- */

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool gateway_limit_names_have(const struct gateway_limit_names *names, const char *name) {
    return names->count && bsearch(&name, names->names, names->count, sizeof *names->names, by_text);
}

/* From a JSON array of names; what is none is left out, so that a broken row allows less, not more. */
static struct gateway_limit_names read_names(const char *json) {
    _cleanup_json_ yyjson_doc *document = json ? yyjson_read(json, strlen(json), 0) : NULL;
    yyjson_val *array = yyjson_doc_get_root(document), *item;
    size_t index, maximum, size = 0, count = yyjson_arr_size(array);
    if (!count || count > GATEWAY_TOKEN_LIMITS) return (struct gateway_limit_names){0};
    yyjson_arr_foreach(array, index, maximum, item) size += yyjson_get_len(item) + 1;
    struct gateway_limit_names names = {.names = mem_alloc(count * sizeof *names.names + size)};
    char *at = (char *)(names.names + count);
    yyjson_arr_foreach(array, index, maximum, item) {
        const char *name = yyjson_get_str(item);
        if (!name || !text_is_name(name)) continue;
        names.names[names.count++] = strcpy(at, name);
        at += strlen(name) + 1;
    }
    qsort(names.names, names.count, sizeof *names.names, by_text);
    return names;
}

static const struct role *find_role(const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
        if (text_equal(roles[i].name, name)) return &roles[i];
    return NULL;
}

#define TOKEN_COLUMNS "id, name, digest, role, deployments_json, collections_json, rate_milli, burst"

/* False: not one that is understood here. */
static bool read_token(struct store_rows *rows, struct gateway_token *token) {
    const struct role *role = find_role(store_text(rows, 3));
    const char *id = store_text(rows, 0), *name = store_text(rows, 1);
    if (!role || !text_is_uuid(id) || !text_is_name(name) || !digest_parse(store_text(rows, 2), token->digest))
        return false;
    strcpy(token->id, id);
    strcpy(token->name, name);
    token->role = role->name;
    token->may = role->may;
    token->is_limited = !store_is_null(rows, 4) || !store_is_null(rows, 5);
    token->deployments = read_names(store_text(rows, 4));
    token->collections = read_names(store_text(rows, 5));
    token->rate_milli = (uint64_t)store_number(rows, 6);
    token->burst = (uint64_t)store_number(rows, 7);
    return true;
}

static int read_all(struct store_transaction *transaction, struct gateway_tokens *tokens, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    size_t room = 0;
    int step =
        store_query(transaction, &rows, ret_error, "SELECT " TOKEN_COLUMNS " FROM tokens WHERE revoked_at IS NULL", "");
    if (step) return step;
    while ((step = store_next(rows, ret_error)) == 1) {
        if (tokens->count == room) {
            room = room ? 2 * room : 16;
            tokens->all = mem_resize(tokens->all, room, sizeof *tokens->all);
        }
        struct gateway_token *token = &tokens->all[tokens->count];
        *token = (struct gateway_token){0};
        tokens->count += read_token(rows, token);
    }
    if (step) return step;
    /* When they move no more. */
    for (size_t i = 0; i < tokens->count; i++) HASH_ADD(hh, tokens->by_digest, digest, DIGEST_SIZE, &tokens->all[i]);
    return 0;
}

static int read_generation(struct store_transaction *transaction, int64_t *ret_generation, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int step = store_query(transaction, &rows, ret_error, "SELECT tokens_generation FROM routing WHERE one = 1", "");
    if (step || (step = store_next(rows, ret_error)) < 0) return step;
    *ret_generation = step ? store_number(rows, 0) : 0;
    return 0;
}

int gateway_tokens_read(struct store_transaction *transaction, struct gateway_tokens *known,
                        struct gateway_tokens **ret_tokens, struct error **ret_error) {
    __attribute__((cleanup(release_pointer))) struct gateway_tokens *tokens = gateway_tokens_empty();
    int failed = read_generation(transaction, &tokens->generation, ret_error);
    if (failed) return failed;
    if (known && known->generation == tokens->generation) {
        *ret_tokens = gateway_tokens_take(known);
        return 0;
    }
    failed = read_all(transaction, tokens, ret_error);
    if (!failed) *ret_tokens = TAKE(tokens);
    return failed;
}

/* ---- the rate --------------------------------------------------------------- */

bool gateway_bucket_take(struct gateway_bucket *bucket, uint64_t rate_milli, uint64_t burst, uint64_t now_us,
                         uint64_t *ret_retry_after_s) {
    uint64_t room = burst * NANO, spent_us = now_us > bucket->at_us ? now_us - bucket->at_us : 0;
    /* So long ago that it is full: also where the product would not fit. */
    if (!bucket->at_us || spent_us >= (room - bucket->left_nano) / rate_milli + 1)
        bucket->left_nano = room;
    else
        bucket->left_nano += spent_us * rate_milli;
    bucket->at_us = now_us;
    if (bucket->left_nano >= NANO) {
        bucket->left_nano -= NANO;
        return true;
    }
    uint64_t wait_us = (NANO - bucket->left_nano + rate_milli - 1) / rate_milli;
    *ret_retry_after_s = (wait_us + 999999) / 1000000;
    return false;
}
