#include "controller/tokens.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/engine-internal.h"

#define SECRET_BYTES 32
#define PREFIX "slp_" /* so that whoever finds one in a text knows what it is */

void token_clear(struct token *token) {
    free(token->id);
    free(token->name);
    free(token->role);
    free(token->deployments_json);
    free(token->collections_json);
    *token = (struct token){0};
}

/* ---- the secret ---- */

/* RFC 4648 5, without padding: 43 characters of 32 bytes. */
static void write_base64url(const unsigned char bytes[SECRET_BYTES], char *ret_text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned held = 0, bits = 0;
    for (size_t i = 0; i < SECRET_BYTES; i++) {
        held = (held << 8 | bytes[i]) & 0xffff;
        for (bits += 8; bits >= 6; bits -= 6) *ret_text++ = digits[held >> (bits - 6) & 63];
    }
    if (bits) *ret_text++ = digits[held << (6 - bits) & 63];
    *ret_text = 0;
}

static int make_secret(char ret_secret[TOKEN_SIZE], struct error **ret_error) {
    unsigned char bytes[SECRET_BYTES];
    ssize_t size = getrandom(bytes, sizeof bytes, 0); /* so few come whole, once the kernel is up */
    if (size != sizeof bytes)
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, size < 0 ? errno : EIO, "make a token: read random bytes");
    strcpy(ret_secret, PREFIX);
    write_base64url(bytes, ret_secret + sizeof PREFIX - 1);
    explicit_bzero(bytes, sizeof bytes);
    return 0;
}

/* ---- rows ---- */

#define TOKEN_COLUMNS                                                                                                  \
    "id, name, role, deployments_json, collections_json, rate_milli, burst, created_at, COALESCE(revoked_at, 0)"

static struct token token_from_row(struct store_rows *rows) {
    return (struct token){
        .id = store_text_copy(rows, 0),
        .name = store_text_copy(rows, 1),
        .role = store_text_copy(rows, 2),
        .deployments_json = store_text_copy(rows, 3),
        .collections_json = store_text_copy(rows, 4),
        .rate_milli = store_number(rows, 5),
        .burst = store_number(rows, 6),
        .created_at = store_number(rows, 7),
        .revoked_at = store_number(rows, 8),
    };
}

int token_load(struct store_transaction *tx, const char *id_or_name, struct token *ret_token,
               struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT " TOKEN_COLUMNS " FROM tokens WHERE id = lower(?) OR name = ? "
                             "ORDER BY revoked_at IS NOT NULL, revoked_at DESC, id LIMIT 1",
                             "tt", id_or_name, id_or_name);
    if (result < 0 || (result = store_next(rows, ret_error)) < 0) return result;
    if (!result) return error_set(ret_error, ERROR_NOT_FOUND, "no token %s", id_or_name);
    *ret_token = token_from_row(rows);
    return 0;
}

int token_list(struct store_transaction *tx, int64_t limit, int64_t offset, struct token **ret_tokens,
               size_t *ret_count, int64_t *ret_total, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_ask_number(tx, ret_total, ret_error, "SELECT count(*) FROM tokens", "");
    if (result < 0 ||
        (result = store_query(tx, &rows, ret_error,
                              "SELECT " TOKEN_COLUMNS " FROM tokens ORDER BY created_at DESC, id LIMIT ? OFFSET ?",
                              "ii", limit, offset)) < 0)
        return result;
    struct token *tokens = mem_new_array((size_t)limit, struct token);
    size_t count = 0;
    while (count < (size_t)limit && (result = store_next(rows, ret_error)) > 0) tokens[count++] = token_from_row(rows);
    if (result < 0) {
        token_list_free(tokens, count);
        return result;
    }
    *ret_tokens = tokens;
    *ret_count = count;
    return 0;
}

void token_list_free(struct token *tokens, size_t count) {
    for (size_t i = 0; i < count; i++) token_clear(&tokens[i]);
    free(tokens);
}

/* ---- changes ---- */

/* What every change ends with: its event, and that gateways shall read. */
static int tell(struct store_transaction *tx, const char *kind, const struct token *token, struct error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "token_id", token->id);
    json_add_text(document, root, "name", token->name);
    json_add_text(document, root, "role", token->role);
    _cleanup_free_ char *data = json_write(document, NULL);
    _cleanup_free_ char *message = text_format("token %s of role %s", token->name, token->role);
    int result = event_add(tx, kind, NULL, NULL, message, data, ret_error);
    if (result < 0) return result;
    return store_run(tx, NULL, ret_error,
                     "UPDATE routing SET generation = generation + 1, tokens_generation = generation + 1 WHERE one = 1",
                     "");
}

static int check_name_is_free(struct store_transaction *tx, const char *name, struct error **ret_error) {
    int64_t taken = 0;
    int result = store_ask_number(tx, &taken, ret_error,
                                  "SELECT count(*) FROM tokens WHERE name = ? AND revoked_at IS NULL", "t", name);
    if (result < 0) return result;
    return taken ? error_set(ret_error, ERROR_CONFLICT, "the name %s is taken by another valid token", name) : 0;
}

int token_create(struct store_transaction *tx, const struct token_request *request, char ret_secret[TOKEN_SIZE],
                 struct token *ret_token, struct error **ret_error) {
    char id[37], digest[DIGEST_HEX_SIZE];
    int result = check_name_is_free(tx, request->name, ret_error);
    if (result < 0 || (result = make_secret(ret_secret, ret_error)) < 0) return result;
    digest_bytes(ret_secret, strlen(ret_secret), digest);
    text_new_uuid(id);
    result = store_run(tx, NULL, ret_error,
                       "INSERT INTO tokens (id, name, digest, role, deployments_json, collections_json, rate_milli, "
                       "burst, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       "ttttttiii", id, request->name, digest, request->role, request->deployments_json,
                       request->collections_json, request->rate_milli, request->burst, clock_wall_ms());
    _cleanup_token_ struct token token = {0};
    if (result < 0 || (result = token_load(tx, id, &token, ret_error)) < 0 ||
        (result = tell(tx, "token_created", &token, ret_error)) < 0)
        return result;
    *ret_token = token;
    token = (struct token){0};
    return 0;
}

int token_revoke(struct store_transaction *tx, struct token *token, struct error **ret_error) {
    if (token->revoked_at) return 0;
    token->revoked_at = clock_wall_ms();
    int result = store_run(tx, NULL, ret_error, "UPDATE tokens SET revoked_at = ? WHERE id = ?", "it",
                           token->revoked_at, token->id);
    return result < 0 ? result : tell(tx, "token_revoked", token, ret_error);
}
