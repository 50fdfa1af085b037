/* The tokens that are valid, as a gateway knows them: a table that is read with the routes, in the same transaction
 * (R1, R3), and shared by all snapshots between two of its changes.
 *
 * A token is never here, only its SHA-256. The table is looked up by that digest, so it takes one digest and one look
 * however many there are. What the time of a look-up could tell is how much of two digests agrees, never how much of
 * two tokens: a token that agrees with a valid one in all bytes but one has a digest that shares nothing with the
 * other's. And who knew a whole digest would still have to find what it is of: 256 random bits.
 *
 * The loop thread's, but for gateway_tokens_read(), which makes a table on a worker. Tables are counted.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "base/digest.h"
#include "base/error.h"
#include "store/store.h"

#define GATEWAY_TOKEN_NAME_SIZE 129
#define GATEWAY_TOKEN_LIMITS 1000 /* names in one token's limits; the controller refuses more */

/* Names that a token is limited to, sorted; they lie in one block behind the pointers. */
struct gateway_limit_names {
    const char **names;
    size_t count;
};

/* How many requests a token has left at some moment, in thousand millionths of one: then a rate of n thousandths a
 * second is n of them a microsecond, and nothing is ever rounded. */
struct gateway_bucket {
    uint64_t left_nano, at_us; /* at_us 0: full */
};

struct gateway_token {
    unsigned char digest[DIGEST_SIZE];
    char id[37], name[GATEWAY_TOKEN_NAME_SIZE];
    const char *role; /* static */
    unsigned may; /* a bit for each enum gateway_role */
    bool is_limited; /* to those: */
    struct gateway_limit_names deployments, collections;
    uint64_t rate_milli, burst; /* rate_milli 0: as many as it likes */
    struct gateway_bucket bucket;
    uint64_t limited_total; /* requests that were too many */
    UT_hash_handle hh; /* by digest */
};

struct gateway_tokens {
    atomic_uint references;
    int64_t generation; /* of their last change */
    struct gateway_token *all; /* count of them */
    size_t count;
    struct gateway_token *by_digest;
};

/* No tokens. */
struct gateway_tokens *gateway_tokens_empty(void);
/* Those of the database, counted; `known` once more when that is what stands there. Blocks. A row that this version
 * does not understand is no valid token. */
int gateway_tokens_read(struct store_transaction *transaction, struct gateway_tokens *known,
                        struct gateway_tokens **ret_tokens, struct error **ret_error);
struct gateway_tokens *gateway_tokens_take(struct gateway_tokens *tokens);
void gateway_tokens_release(struct gateway_tokens *tokens); /* NULL is fine */

/* The one with this digest, or NULL. */
struct gateway_token *gateway_tokens_find(const struct gateway_tokens *tokens, const unsigned char digest[DIGEST_SIZE]);
/* What each token had left and was refused goes on in the newer table. */
void gateway_tokens_carry_over(struct gateway_tokens *tokens, const struct gateway_tokens *before);
/* Whether the name is literally one of them. */
bool gateway_limit_names_have(const struct gateway_limit_names *names, const char *name);

/* Takes one request out of it; false: there is none left, and it takes so many whole seconds (1 or more) until there is
 * one. now_us: monotonic, above 0. */
bool gateway_bucket_take(struct gateway_bucket *bucket, uint64_t rate_milli, uint64_t burst, uint64_t now_us,
                         uint64_t *ret_retry_after_s);
