/* Who asks, and whether they may: the one place that opens the door (docs/tokens.md).
 *
 * Who comes over the local control socket, or brings the token of the settings, may everything. Any other token is
 * looked up by its digest in the table of the routes in force, so that one that was revoked is refused from the moment
 * on that the gateway acknowledges that generation (R2). Tokens are asked for when the setting has one, or when any
 * valid one stands in the table. It takes a fifth of a microsecond however many there are, nearly all of it for the
 * digest. */
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

#define MAY(role) (1u << (role))

static const char *const role_names[] = {
    [ROLE_MEMBER] = NULL,     [ROLE_READ] = "read",   [ROLE_INFER] = "infer",
    [ROLE_DEPLOY] = "deploy", [ROLE_ADMIN] = "admin",
};

/* The scheme is case-insensitive, one or more blanks follow (RFC 9110 11.4). */
static const char *bearer_token(const char *authorization) {
    static const char scheme[] = "bearer";
    for (size_t i = 0; i < sizeof scheme - 1; i++)
        if ((authorization[i] | 0x20) != scheme[i]) return NULL;
    const char *token = authorization + sizeof scheme - 1;
    if (*token != ' ') return NULL;
    return token + strspn(token, " ");
}

/* ---- who asks ---------------------------------------------------------------- */

enum identity {
    IDENTITY_ANYBODY, /* tokens are not asked for */
    IDENTITY_OWNER, /* may everything */
    IDENTITY_TOKEN, /* exchange->token */
    IDENTITY_STRANGER,
    IDENTITY_UNKNOWN, /* the table could not be read yet */
};

/* The table stays as long as the exchange: it may be replaced meanwhile. */
static enum identity find_token(struct exchange *exchange, struct gateway_tokens *tokens, const char *brought) {
    unsigned char digest[DIGEST_SIZE];
    digest_again(exchange->gateway->digest, brought, strlen(brought), digest);
    const struct gateway_token *token = gateway_tokens_find(tokens, digest);
    if (!token) return IDENTITY_STRANGER;
    exchange->tokens = gateway_tokens_take(tokens);
    exchange->token = token;
    exchange->token_name = token->name;
    return IDENTITY_TOKEN;
}

static enum identity identify(struct exchange *exchange) {
    const struct gateway *gateway = exchange->gateway;
    if (exchange->request->local) {
        exchange->token_name = "(local)";
        return IDENTITY_OWNER;
    }
    const char *authorization = http_request_header(exchange->request, "Authorization");
    const char *brought = authorization ? bearer_token(authorization) : NULL;
    const char *own = gateway->settings->token;
    if (*own && brought && text_equal_constant_time(brought, own)) {
        exchange->token_name = "(setting)";
        return IDENTITY_OWNER;
    }
    struct gateway_tokens *tokens = gateway->routes.current ? gateway->routes.current->tokens : NULL;
    if (!tokens) return IDENTITY_UNKNOWN;
    if (!*own && !tokens->count) return IDENTITY_ANYBODY;
    exchange->token_was_wrong = brought != NULL;
    return brought ? find_token(exchange, tokens, brought) : IDENTITY_STRANGER;
}

/* ---- refusing ---------------------------------------------------------------- */

static bool refuse_stranger(struct exchange *exchange) {
    bool brought = http_request_header(exchange->request, "Authorization");
    exchange_fail_with(exchange, ERROR_UNAUTHORIZED, 401, "%s",
                       brought ? "the Authorization header has no token that is valid here"
                               : "this service asks for a token: send \"Authorization: Bearer <token>\"");
    return false;
}

static bool refuse_role(struct exchange *exchange, enum gateway_role role) {
    const struct gateway_token *token = exchange->token;
    exchange_fail_with(exchange, ERROR_UNAUTHORIZED, 403,
                       "this needs a token of role %s%s; the token %s has the role %s", role_names[role],
                       role == ROLE_ADMIN ? "" : " or above", token->name, token->role);
    return false;
}

static bool refuse_rate(struct exchange *exchange) {
    const struct gateway_token *token = exchange->token;
    exchange_fail_with(exchange, ERROR_REQUEST, 429,
                       "the token %s may make %llu.%03llu requests a second, %llu at once: try again in %llu s",
                       token->name, (unsigned long long)token->rate_milli / 1000,
                       (unsigned long long)token->rate_milli % 1000, (unsigned long long)token->burst,
                       (unsigned long long)exchange->retry_after_s);
    return false;
}

/* Every request counts, also one that is then refused: trying is not free. The buckets are not part of what a snapshot
 * promises; they are the loop's. */
static bool is_in_time(struct exchange *exchange) {
    struct gateway_token *token = (struct gateway_token *)exchange->token;
    if (!token->rate_milli || gateway_bucket_take(&token->bucket, token->rate_milli, token->burst,
                                                  exchange->request->received_us + 1, &exchange->retry_after_s))
        return true;
    token->limited_total++;
    return false;
}

static bool authorise_token(struct exchange *exchange, enum gateway_role role) {
    const struct gateway_token *token = exchange->token;
    if (!is_in_time(exchange)) return refuse_rate(exchange);
    if (!(token->may & MAY(role))) return refuse_role(exchange, role);
    return !token->is_limited || gateway_limits_judge_head(exchange);
}

bool gateway_authorise(struct exchange *exchange) {
    const struct gateway_endpoint *endpoint = exchange->match.endpoint;
    enum gateway_role role = endpoint ? endpoint->role : ROLE_MEMBER;
    if (role == ROLE_ANYONE) return true;
    switch (identify(exchange)) {
    case IDENTITY_ANYBODY:
    case IDENTITY_OWNER: return true;
    case IDENTITY_TOKEN: return authorise_token(exchange, role);
    case IDENTITY_STRANGER: return refuse_stranger(exchange);
    case IDENTITY_UNKNOWN: break;
    }
    exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503,
                       "the control database could not be read yet, so nobody knows which tokens are valid: try again");
    return false;
}
