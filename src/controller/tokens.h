/* Tokens: who may do what at the front door. The controller makes and revokes them; gateways read the table with the
 * routes and judge by it (gateway/gateway_tokens-internal.h). The token itself is told once, to who made it, and kept
 * nowhere: the table has its SHA-256, which for 256 random bits needs nothing slower. Rows are never deleted, so that
 * it can be said whose a name in an old log was. */
#pragma once
#include "controller/controller-internal.h"

#define TOKEN_LIMITS_MAXIMUM 1000 /* names in each of its limits */
#define TOKEN_SIZE 48 /* "slp_", 43 characters of base64url, NUL */

struct token_request {
    const char *name, *role; /* borrowed from the body */
    char *deployments_json, *collections_json; /* both NULL: it is not limited */
    int64_t rate_milli, burst; /* 0: as many as it likes */
};
void token_request_clear(struct token_request *request);
#define _cleanup_token_request_ __attribute__((cleanup(token_request_clear)))
/* POST /v1/tokens (request_token.c). */
int token_request_parse(yyjson_val *root, struct token_request *ret_request, struct error **ret_error);

/* A row; all strings owned. */
struct token {
    char *id, *name, *role, *deployments_json, *collections_json;
    int64_t rate_milli, burst, created_at, revoked_at; /* revoked_at 0: it is valid */
};
void token_clear(struct token *token);
#define _cleanup_token_ __attribute__((cleanup(token_clear)))

/* In the caller's transaction, with its event and a new generation of routes. CONFLICT when a valid one has the name.
 */
int token_create(struct store_transaction *tx, const struct token_request *request, char ret_secret[TOKEN_SIZE],
                 struct token *ret_token, struct error **ret_error);
/* The same way; one that is revoked stays as it is. */
int token_revoke(struct store_transaction *tx, struct token *token, struct error **ret_error);
/* By id, else by name: the valid one, else the one that was revoked last. NOT_FOUND. */
int token_load(struct store_transaction *tx, const char *id_or_name, struct token *ret_token, struct error **ret_error);
/* Newest first, then id, with those that were revoked. Free with token_list_free(). */
int token_list(struct store_transaction *tx, int64_t limit, int64_t offset, struct token **ret_tokens,
               size_t *ret_count, int64_t *ret_total, struct error **ret_error);
void token_list_free(struct token *tokens, size_t count);
