#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

void slipway_text_free(char *text) {
    free(text);
}

int slipway_get_json(struct slipway *service, const char *path, char **ret_json, uint64_t *ret_total_count,
                     struct slipway_error **ret_error) {
    if (*path != '/') return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "get %s: a path begins with '/'", path);
    const struct client_request request = {.method = "GET", .path = path};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    if (result < 0) return result;
    if (ret_total_count) *ret_total_count = answer.total_count;
    *ret_json = buffer_take(&answer.body, NULL);
    return 0;
}

int slipway_send_json(struct slipway *service, const char *method, const char *path, const char *json, char **ret_json,
                      struct slipway_error **ret_error) {
    if (*path != '/')
        return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "%s %s: a path begins with '/'", method, path);
    const struct client_request request = {
        .method = method, .path = path, .body = json, .body_size = json ? strlen(json) : 0};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    if (result >= 0 && ret_json) *ret_json = buffer_take(&answer.body, NULL);
    return result;
}

int slipway_infer(struct slipway *service, const char *deployment_name, const char *request_json,
                  char **ret_answer_json, struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path("/v2/models/", deployment_name, "/infer");
    const struct client_request request = {
        .method = "POST", .path = path, .body = request_json, .body_size = strlen(request_json)};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    if (result < 0) return result;
    *ret_answer_json = buffer_take(&answer.body, NULL);
    return 0;
}

/* ---- embeddings ---- */

void slipway_embeddings_free(struct slipway_embeddings *embeddings) {
    if (!embeddings) return;
    free(embeddings->values);
    free(embeddings);
}

static char *write_embed_request(const char *deployment_name, const char *const *texts, const size_t *sizes,
                                 size_t count, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "model", deployment_name);
    yyjson_mut_val *input = yyjson_mut_obj_add_arr(document, root, "input");
    for (size_t i = 0; i < count; i++)
        yyjson_mut_arr_add_strn(document, input, texts[i], sizes ? sizes[i] : strlen(texts[i]));
    return yyjson_mut_write(document, 0, ret_size); /* NULL when a text is not UTF-8 */
}

static bool read_row(yyjson_val *vector, float *row, size_t dimension) {
    if (yyjson_arr_size(vector) != dimension) return false;
    size_t index, maximum;
    yyjson_val *number;
    yyjson_arr_foreach(vector, index, maximum, number) {
        if (!yyjson_is_num(number)) return false;
        row[index] = (float)yyjson_get_num(number);
    }
    return true;
}

/* {"data":[{"index":0,"embedding":[…]}, …],"usage":{…}}; NULL when it is something else. */
static struct slipway_embeddings *read_embeddings(yyjson_val *root, size_t count) {
    yyjson_val *data = yyjson_obj_get(root, "data"), *usage = yyjson_obj_get(root, "usage"), *item;
    size_t dimension = yyjson_arr_size(yyjson_obj_get(yyjson_arr_get_first(data), "embedding")), index, maximum;
    if (!yyjson_is_arr(data) || yyjson_arr_size(data) != count || (count && !dimension)) return NULL;
    struct slipway_embeddings *embeddings = mem_new(struct slipway_embeddings);
    embeddings->count = count;
    embeddings->dimension = dimension;
    embeddings->prompt_tokens = yyjson_get_uint(yyjson_obj_get(usage, "prompt_tokens"));
    embeddings->truncated_texts = yyjson_get_uint(yyjson_obj_get(usage, "truncated_inputs"));
    embeddings->values = mem_new_array(count * dimension, float);
    yyjson_arr_foreach(data, index, maximum, item) {
        uint64_t place = yyjson_get_uint(yyjson_obj_get(item, "index"));
        if (place < count &&
            read_row(yyjson_obj_get(item, "embedding"), embeddings->values + place * dimension, dimension))
            continue;
        slipway_embeddings_free(embeddings);
        return NULL;
    }
    return embeddings;
}

int slipway_embed(struct slipway *service, const char *deployment_name, const char *const *texts, const size_t *sizes,
                  size_t count, struct slipway_embeddings **ret_embeddings, struct slipway_error **ret_error) {
    size_t size = 0;
    _cleanup_free_ char *body = write_embed_request(deployment_name, texts, sizes, count, &size);
    if (!body) return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "embed: a text is not valid UTF-8");
    const struct client_request request = {.method = "POST", .path = "/v1/embeddings", .body = body, .body_size = size};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    if (result < 0) return result;
    _cleanup_json_ yyjson_doc *document = yyjson_read(answer.body.bytes ? answer.body.bytes : "", answer.body.size, 0);
    struct slipway_embeddings *embeddings = read_embeddings(yyjson_doc_get_root(document), count);
    if (!embeddings)
        return client_error(ret_error, SLIPWAY_PROTOCOL, 200, "embed: the answer of %s is not a list of embeddings",
                            deployment_name);
    *ret_embeddings = embeddings;
    return 0;
}
