/* Tokens: making, listing, revoking them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

#define TOKENS "/v1/tokens"

struct owned_token {
    struct slipway_token token;
    yyjson_doc *document; /* NULL for an element of a list: the list owns it */
    const char **deployments, **collections;
    char *json;
};

struct owned_token_list {
    struct slipway_token_list list;
    yyjson_doc *document;
};

/* ---- answers ---- */

static const char *text_field(yyjson_val *object, const char *field) {
    return yyjson_get_str(yyjson_obj_get(object, field));
}

/* The names of a limit, NULL when there is none; the texts are the document's. */
static const char **read_names(yyjson_val *array, size_t *ret_count) {
    if (!yyjson_is_arr(array)) return NULL;
    const char **names = mem_new_array(yyjson_arr_size(array) + 1, const char *);
    size_t index, maximum, count = 0;
    yyjson_val *item;
    yyjson_arr_foreach(array, index, maximum, item) {
        if (yyjson_is_str(item)) names[count++] = yyjson_get_str(item);
    }
    *ret_count = count;
    return names;
}

static struct slipway_token *make_token(yyjson_val *object, yyjson_doc *document) {
    struct owned_token *owned = mem_new(struct owned_token);
    struct slipway_token *token = &owned->token;
    owned->document = document;
    owned->json = json_write_value(object, NULL);
    owned->deployments = read_names(yyjson_obj_get(object, "deployments"), &token->deployment_count);
    owned->collections = read_names(yyjson_obj_get(object, "collections"), &token->collection_count);
    token->token_id = text_field(object, "token_id");
    token->name = text_field(object, "name");
    token->role = text_field(object, "role");
    token->is_limited = owned->deployments || owned->collections;
    token->deployments = owned->deployments;
    token->collections = owned->collections;
    token->rate = yyjson_get_num(yyjson_obj_get(object, "rate"));
    token->burst = (uint32_t)yyjson_get_uint(yyjson_obj_get(object, "burst"));
    token->created_at = text_field(object, "created_at");
    token->revoked_at = text_field(object, "revoked_at");
    token->token = text_field(object, "token");
    token->detail = text_field(object, "detail");
    token->json = owned->json;
    return token;
}

void slipway_token_free(struct slipway_token *token) {
    if (!token) return;
    struct owned_token *owned = CONTAINER_OF(token, struct owned_token, token);
    yyjson_doc_free(owned->document);
    free(owned->deployments);
    free(owned->collections);
    free(owned->json);
    free(owned);
}

static int read_token(struct client_answer *answer, struct slipway_token **ret_token,
                      struct slipway_error **ret_error) {
    yyjson_doc *document = NULL;
    int result = client_read_object(answer, &document, ret_error);
    if (result >= 0) *ret_token = make_token(yyjson_doc_get_root(document), document);
    return result;
}

void slipway_token_list_free(struct slipway_token_list *list) {
    if (!list) return;
    struct owned_token_list *owned = CONTAINER_OF(list, struct owned_token_list, list);
    for (size_t i = 0; i < list->count; i++) slipway_token_free(list->tokens[i]);
    free(list->tokens);
    yyjson_doc_free(owned->document);
    free(owned);
}

static int read_tokens(struct client_answer *answer, struct slipway_token_list **ret_list,
                       struct slipway_error **ret_error) {
    yyjson_doc *document = NULL;
    int result = client_read_array(answer, &document, ret_error);
    if (result < 0) return result;
    yyjson_val *array = yyjson_doc_get_root(document), *item;
    struct owned_token_list *owned = mem_new(struct owned_token_list);
    owned->document = document;
    owned->list.total_count = answer->total_count;
    owned->list.tokens = mem_new_array(yyjson_arr_size(array), struct slipway_token *);
    size_t index, maximum;
    yyjson_arr_foreach(array, index, maximum, item) {
        owned->list.tokens[owned->list.count++] = make_token(item, NULL);
    }
    *ret_list = &owned->list;
    return 0;
}

/* ---- calls ---- */

static int send_for_token(struct slipway *service, const struct client_request *request,
                          struct slipway_token **ret_token, struct slipway_error **ret_error) {
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, request, &answer, ret_error);
    return result < 0 ? result : read_token(&answer, ret_token, ret_error);
}

static void add_names(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, const char *const *names,
                      size_t count) {
    if (!names) return;
    yyjson_mut_val *array = yyjson_mut_obj_add_arr(document, object, key);
    for (size_t i = 0; i < count; i++) yyjson_mut_arr_add_strcpy(document, array, names[i]);
}

int slipway_create_token(struct slipway *service, const struct slipway_token_request *request,
                         struct slipway_token **ret_token, struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "name", request->name);
    json_add_text(document, root, "role", request->role);
    add_names(document, root, "deployments", request->deployments, request->deployment_count);
    add_names(document, root, "collections", request->collections, request->collection_count);
    if (request->rate != 0 && isfinite(request->rate)) yyjson_mut_obj_add_real(document, root, "rate", request->rate);
    if (request->burst) yyjson_mut_obj_add_uint(document, root, "burst", request->burst);
    size_t size = 0;
    _cleanup_free_ char *body = json_write(document, &size);
    const struct client_request sent = {.method = "POST", .path = TOKENS, .body = body, .body_size = size};
    return send_for_token(service, &sent, ret_token, ret_error);
}

int slipway_list_tokens(struct slipway *service, size_t limit, size_t offset, struct slipway_token_list **ret_list,
                        struct slipway_error **ret_error) {
    _cleanup_free_ char *path = text_format(TOKENS "?limit=%zu&offset=%zu", limit ? limit : 100, offset);
    const struct client_request request = {.method = "GET", .path = path};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    return result < 0 ? result : read_tokens(&answer, ret_list, ret_error);
}

int slipway_revoke_token(struct slipway *service, const char *name_or_id, struct slipway_token **ret_token,
                         struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path(TOKENS "/", name_or_id, "");
    const struct client_request request = {.method = "DELETE", .path = path};
    struct slipway_token *token = NULL;
    int result = send_for_token(service, &request, &token, ret_error);
    if (result < 0) return result;
    if (ret_token)
        *ret_token = token;
    else
        slipway_token_free(token);
    return 0;
}
