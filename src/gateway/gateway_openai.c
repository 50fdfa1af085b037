/* OpenAI's routes: the model stands in the body, so the body is taken whole and looked through for its name; the
 * list of models is made from the routes. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

/* Larger bodies are looked through on a worker (P6). */
#define SEARCH_HERE_MAXIMUM (256u * 1024)

/* ---- looking for the model ------------------------------------------------ */

struct cursor {
    const char *at, *end;
};

static void skip_blanks(struct cursor *cursor) {
    while (cursor->at < cursor->end && strchr(" \t\r\n", *cursor->at) && *cursor->at) cursor->at++;
}

/* From its opening quote to behind its closing one; false when it does not end. Escapes are left as they stand. */
static bool take_string(struct cursor *cursor, struct gateway_slice *ret_text) {
    const char *begin = ++cursor->at;
    for (; cursor->at < cursor->end; cursor->at++) {
        if (*cursor->at == '"') {
            *ret_text = (struct gateway_slice){begin, (size_t)(cursor->at - begin)};
            cursor->at++;
            return true;
        }
        if (*cursor->at == '\\') cursor->at++;
    }
    return false;
}

/* To behind the value: nested ones by counting brackets, others up to what ends them. */
static bool skip_value(struct cursor *cursor) {
    size_t depth = 0;
    struct gateway_slice text;
    while (cursor->at < cursor->end) {
        switch (*cursor->at) {
        case '"':
            if (!take_string(cursor, &text)) return false;
            if (!depth) return true;
            continue;
        case '{':
        case '[': depth++; break;
        case '}':
        case ']':
            if (!depth) return true;
            if (!--depth) {
                cursor->at++;
                return true;
            }
            break;
        case ',':
            if (!depth) return true;
            break;
        default: break;
        }
        cursor->at++;
    }
    return false;
}

/* A member's value as a name; names need no escapes, but may be written with them. */
static bool take_name(const struct gateway_slice *text, char ret_model[GATEWAY_NAME_MAXIMUM + 1]) {
    if (text->size > 6 * GATEWAY_NAME_MAXIMUM) return false;
    _cleanup_json_ yyjson_doc *document = yyjson_read(text->bytes - 1, text->size + 2, 0); /* with its quotes */
    const char *name = yyjson_get_str(yyjson_doc_get_root(document));
    if (!name || !text_is_name(name)) return false;
    strcpy(ret_model, name); /* a name's length is bounded */
    return true;
}

bool gateway_find_model(const char *json, size_t size, char ret_model[GATEWAY_NAME_MAXIMUM + 1]) {
    struct cursor cursor = {json, json + size};
    skip_blanks(&cursor);
    if (cursor.at == cursor.end || *cursor.at != '{') return false;
    do {
        cursor.at++; /* the brace or the comma */
        struct gateway_slice key, value;
        skip_blanks(&cursor);
        if (cursor.at == cursor.end || *cursor.at != '"' || !take_string(&cursor, &key)) return false;
        skip_blanks(&cursor);
        if (cursor.at == cursor.end || *cursor.at++ != ':') return false;
        skip_blanks(&cursor);
        if (key.size == 5 && !memcmp(key.bytes, "model", 5)) {
            if (cursor.at == cursor.end || *cursor.at != '"' || !take_string(&cursor, &value)) return false;
            return take_name(&value, ret_model);
        }
        if (!skip_value(&cursor)) return false;
        skip_blanks(&cursor);
    } while (cursor.at < cursor.end && *cursor.at == ',');
    return false;
}

/* ---- embeddings ------------------------------------------------------------ */

struct search {
    uv_work_t work;
    struct exchange *exchange;
    bool found;
};

static void go_on(struct exchange *exchange, bool found) {
    if (found && !gateway_limits_allow(exchange->token, exchange->gateway->routes.current, exchange->model)) {
        gateway_limits_refuse(exchange, "deployment", exchange->model);
        return;
    }
    if (found) {
        gateway_proxy_admit(exchange);
        return;
    }
    exchange_fail_with(exchange, ERROR_CONFIGURATION, 400,
                       "the body must be a JSON object whose \"model\" is the name of a deployment");
}

static bool search_body(struct exchange *exchange) {
    return gateway_find_model(exchange->request->body, exchange->request->body_size, exchange->model);
}

static void on_work(uv_work_t *work) {
    struct search *search = CONTAINER_OF(work, struct search, work);
    search->found = search_body(search->exchange);
}

/* The request was not ended meanwhile, whatever its client did: the worker read its body. */
static void on_searched(uv_work_t *work, int status) {
    struct search *search = CONTAINER_OF(work, struct search, work);
    struct exchange *exchange = search->exchange;
    bool found = !status && search->found;
    free(search);
    exchange->is_with_worker = false;
    if (http_is_gone(exchange->request))
        exchange_break(exchange);
    else
        go_on(exchange, found);
}

static void find_model(struct exchange *exchange) {
    if (exchange->request->body_size <= SEARCH_HERE_MAXIMUM) {
        go_on(exchange, search_body(exchange));
        return;
    }
    struct search *search = mem_new(struct search);
    search->exchange = exchange;
    exchange->is_with_worker = true;
    uv_queue_work(exchange->gateway->config.loop, &search->work, on_work, on_searched);
}

enum http_body_mode gateway_serve_openai_embeddings(struct exchange *exchange) {
    exchange->request->body_maximum = exchange->gateway->settings->body_maximum;
    exchange->when_body_whole = find_model;
    exchange_set_step(exchange, EXCHANGE_BODY);
    return HTTP_BODY_WHOLE;
}

/* ---- models ---------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return strcmp((*(struct gateway_route *const *)a)->name, (*(struct gateway_route *const *)b)->name);
}

static void add_model(yyjson_mut_doc *document, yyjson_mut_val *list, const struct gateway_route *route) {
    yyjson_mut_val *model = yyjson_mut_arr_add_obj(document, list);
    yyjson_mut_obj_add_str(document, model, "id", route->name);
    yyjson_mut_obj_add_str(document, model, "object", "model");
    yyjson_mut_obj_add_sint(document, model, "created", route->created_at_ms / 1000);
    yyjson_mut_obj_add_str(document, model, "owned_by", "slipway");
}

/* Those that the token may use. */
enum http_body_mode gateway_serve_openai_models(struct exchange *exchange) {
    const struct gateway_snapshot *snapshot = exchange->gateway->routes.current;
    size_t count = 0;
    _cleanup_free_ struct gateway_route **sorted = mem_new_array(HASH_COUNT(snapshot->routes), struct gateway_route *);
    for (struct gateway_route *route = snapshot->routes; route; route = route->hh.next)
        if (gateway_limits_allow(exchange->token, snapshot, route->name)) sorted[count++] = route;
    if (count) qsort(sorted, count, sizeof *sorted, by_name);

    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_str(document, root, "object", "list");
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(document, root, "data");
    for (size_t i = 0; i < count; i++) add_model(document, list, sorted[i]);
    size_t size;
    _cleanup_free_ char *json = json_write(document, &size);
    exchange_respond(exchange, 200, "application/json", json, size);
    return HTTP_BODY_WHOLE;
}
