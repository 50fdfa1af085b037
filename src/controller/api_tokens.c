/* The handlers of /v1/tokens. A change is answered when every gateway that is up has acknowledged it (R2), so that a
 * new token is valid and a revoked one is not from the answer on. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "controller/api.h"
#include "controller/engine-internal.h"
#include "controller/tokens.h"

#define ACKNOWLEDGED_TIMEOUT_MS 5000

/* ---- showing ---- */

static void add_rate(yyjson_mut_doc *document, yyjson_mut_val *object, int64_t rate_milli) {
    if (rate_milli % 1000)
        yyjson_mut_obj_add_real(document, object, "rate", (double)rate_milli / 1000);
    else
        yyjson_mut_obj_add_sint(document, object, "rate", rate_milli / 1000);
}

/* secret, detail: NULL, or told beside what stands in the row. */
static yyjson_mut_val *render(const struct token *token, const char *secret, const char *detail,
                              yyjson_mut_doc *document) {
    yyjson_mut_val *object = yyjson_mut_obj(document);
    json_add_text(document, object, "token_id", token->id);
    json_add_text(document, object, "name", token->name);
    json_add_text(document, object, "role", token->role);
    json_add_json(document, object, "deployments", token->deployments_json);
    json_add_json(document, object, "collections", token->collections_json);
    if (token->rate_milli) {
        add_rate(document, object, token->rate_milli);
        yyjson_mut_obj_add_sint(document, object, "burst", token->burst);
    }
    json_add_time(document, object, "created_at", token->created_at);
    json_add_time(document, object, "revoked_at", token->revoked_at);
    json_add_text(document, object, "token", secret);
    json_add_text(document, object, "detail", detail);
    return object;
}

int api_token_list(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    struct token *tokens = NULL;
    size_t count = 0;
    int64_t limit, offset;
    int result = api_check_parameters(call, 1u << API_LIMIT | 1u << API_OFFSET, ret_error);
    if (result < 0 || (result = api_page(call, &limit, &offset, ret_error)) < 0 ||
        (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = token_list(tx, limit, offset, &tokens, &count, &call->total_count, ret_error)) < 0)
        return result;
    yyjson_mut_val *array = yyjson_mut_arr(document);
    for (size_t i = 0; i < count; i++) yyjson_mut_arr_append(array, render(&tokens[i], NULL, NULL, document));
    token_list_free(tokens, count);
    api_answer(call, 200, document, array);
    return 0;
}

/* ---- changing ---- */

/* False: not within the time. */
static bool wait_acknowledged(struct controller *controller) {
    static const atomic_bool never = false;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int64_t generation = 0;
    if (store_begin(controller->store, &tx, NULL) < 0 ||
        store_ask_number(tx, &generation, NULL, "SELECT generation FROM routing WHERE one = 1", "") < 0)
        return false;
    store_rollback(TAKE(tx));
    routing_announce(controller->routing, (uint64_t)generation);
    return routing_wait_acknowledged(controller->routing, (uint64_t)generation,
                                     clock_monotonic_ms() + ACKNOWLEDGED_TIMEOUT_MS, &never) == ROUTING_REACHED;
}

static int create_it(struct api_call *call, const struct token_request *request, char ret_secret[TOKEN_SIZE],
                     struct token *ret_token, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(call->controller->store, &tx, ret_error);
    if (result < 0 || (result = token_create(tx, request, ret_secret, ret_token, ret_error)) < 0) return result;
    return store_commit(TAKE(tx), ret_error);
}

int api_token_create(struct api_call *call, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *body = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    _cleanup_token_request_ struct token_request request = {0};
    _cleanup_token_ struct token token = {0};
    char secret[TOKEN_SIZE];
    yyjson_val *root = NULL;
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = json_parse_object(call->body, call->body_size, &body, &root, ret_error)) < 0 ||
        (result = token_request_parse(root, &request, ret_error)) < 0 ||
        (result = create_it(call, &request, secret, &token, ret_error)) < 0)
        return result;
    call->changed = true;
    const char *detail = wait_acknowledged(call->controller)
                             ? NULL
                             : "a gateway has not taken it up within 5 s: until it does, it does not know the token";
    api_answer(call, 201, document, render(&token, secret, detail, document));
    explicit_bzero(secret, sizeof secret);
    return 0;
}

static int revoke_it(struct api_call *call, struct token *ret_token, bool *ret_is_last, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int64_t left = 0;
    int result = store_begin(call->controller->store, &tx, ret_error);
    if (result < 0 || (result = token_load(tx, call->arguments[0], ret_token, ret_error)) < 0 ||
        (result = token_revoke(tx, ret_token, ret_error)) < 0 ||
        (result = store_ask_number(tx, &left, ret_error, "SELECT count(*) FROM tokens WHERE revoked_at IS NULL", "")) <
            0)
        return result;
    *ret_is_last = !left;
    return store_commit(TAKE(tx), ret_error);
}

/* Repeated, it waits again: whoever did not hear the first answer gets the same promise. */
int api_token_revoke(struct api_call *call, struct error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    _cleanup_token_ struct token token = {0};
    bool is_last = false;
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = revoke_it(call, &token, &is_last, ret_error)) < 0) return result;
    call->changed = true;
    const char *detail = NULL;
    if (!wait_acknowledged(call->controller))
        detail = "it is revoked, but a gateway has not taken that up within 5 s: until it does, it still lets the "
                 "token in; ask again to wait for it";
    else if (is_last && !*call->controller->settings->token)
        detail = "there is no token left, and none in the settings: from now on every request on this machine is let "
                 "in";
    api_answer(call, 200, document, render(&token, NULL, detail, document));
    return 0;
}
