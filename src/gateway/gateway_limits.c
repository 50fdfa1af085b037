/* What a token that is limited to some deployments and collections may use.
 *
 * It is judged by what a request names: in its path, and for the routes of the table below in its body. A deployment is
 * judged by what it is, not by what it is called: a token may use whatever answers to one of its names, under any of
 * that deployment's names or its id. A collection's name is its own. What is outside is answered 403 whether it is
 * there or not. A route about which nothing can be told here - a task's id, a list of everything - is refused, and so
 * is each new one until it names what it is about or has a row here. */
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

enum judged {
    JUDGED_NOT, /* the end of the fields */
    JUDGED_DEPLOYMENT, /* one that is there */
    JUDGED_NEW, /* a deployment's name that is to be */
    JUDGED_COLLECTION,
    JUDGED_SURELY, /* a collection, which must be named */
    JUDGED_FALSE, /* must be given as false */
};

#define FIELDS_MAXIMUM 4

/* Routes whose body names something; a field by its dotted path. One that is absent or of another type is left for the
 * controller to refuse. */
static const struct rule {
    const char *route;
    struct {
        const char *path;
        enum judged as;
    } fields[FIELDS_MAXIMUM];
} rules[] = {
    {"deployment_create", {{"deployment_name", JUDGED_NEW}}},
    {"deployment_update", {{"deployment_name", JUDGED_DEPLOYMENT}}},
    {"collection_create", {{"name", JUDGED_COLLECTION}, {"deployment", JUDGED_DEPLOYMENT}}},
    {"collection_reindex",
     {{"destination", JUDGED_DEPLOYMENT},
      {"destination.deployment_name", JUDGED_DEPLOYMENT},
      {"delete_source", JUDGED_FALSE}}},
    {"collection_switch", {{"delete_source", JUDGED_FALSE}}},
    {"model_deploy", {{"embedding_model_id", JUDGED_NEW}, {"model_id", JUDGED_NEW}}},
    {"model_delete", {{"embedding_model_id", JUDGED_DEPLOYMENT}, {"model_id", JUDGED_DEPLOYMENT}}},
    {"reindex_task_run",
     {{"collection", JUDGED_SURELY},
      {"source.embedding_model_id", JUDGED_DEPLOYMENT},
      {"dest.embedding_model_id", JUDGED_DEPLOYMENT}}},
};

static const struct rule *find_rule(const struct gateway_endpoint *endpoint) {
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
        if (text_equal(rules[i].route, endpoint->name)) return &rules[i];
    return NULL;
}

/* What the first {…} of a pattern is, as far as it can be judged. */
static enum judged judged_by_path(const char *pattern) {
    const char *parameter = strchr(pattern, '{');
    if (!parameter) return JUDGED_NOT;
    if (text_starts_with(parameter, "{deployment}") || text_starts_with(parameter, "{model}")) return JUDGED_DEPLOYMENT;
    return text_starts_with(parameter, "{collection}") ? JUDGED_COLLECTION : JUDGED_NOT;
}

/* ---- may it? ------------------------------------------------------------------ */

static bool allows_route(const struct gateway_token *token, const struct gateway_snapshot *snapshot,
                         const struct gateway_route *route) {
    for (size_t i = 0; i < token->deployments.count; i++) {
        const char *name = token->deployments.names[i];
        if (gateway_snapshot_find(snapshot, name, strlen(name)) == route) return true;
    }
    return false;
}

bool gateway_limits_allow(const struct gateway_token *token, const struct gateway_snapshot *snapshot,
                          const char *name) {
    if (!token || !token->is_limited || gateway_limit_names_have(&token->deployments, name)) return true;
    const struct gateway_route *route = gateway_snapshot_find(snapshot, name, strlen(name));
    return route && allows_route(token, snapshot, route);
}

void gateway_limits_refuse(struct exchange *exchange, const char *kind, const char *name) {
    exchange_fail_with(exchange, ERROR_UNAUTHORIZED, 403, "the token %s is limited, and not to the %s %.128s",
                       exchange->token->name, kind, name);
}

static bool refuse_whole(struct exchange *exchange) {
    exchange_fail_with(exchange, ERROR_UNAUTHORIZED, 403,
                       "the token %s is limited to some deployments or collections, and what this is about cannot be "
                       "told from the request: ask for one of them by its name",
                       exchange->token->name);
    return false;
}

/* ---- by the head ----------------------------------------------------------------- */

/* The first parameter; what cannot be a name names nothing that a token could be limited to. */
static bool judge_path(struct exchange *exchange, enum judged as) {
    const struct gateway_slice *segment = &exchange->match.parameters[0];
    const struct gateway_token *token = exchange->token;
    bool is_collection = as == JUDGED_COLLECTION;
    char name[GATEWAY_NAME_MAXIMUM + 1] = "";
    if (!gateway_read_name(segment, name))
        gateway_limits_refuse(exchange, is_collection ? "collection" : "deployment", "of that name");
    else if (is_collection && !gateway_limit_names_have(&token->collections, name))
        gateway_limits_refuse(exchange, "collection", name);
    else if (!is_collection && exchange->match.endpoint->kind != GATEWAY_CONTROL &&
             !gateway_limits_allow(token, exchange->gateway->routes.current, name))
        gateway_limits_refuse(exchange, "deployment", name);
    else
        return true;
    return false;
}

bool gateway_limits_judge_head(struct exchange *exchange) {
    const struct gateway_endpoint *endpoint = exchange->match.endpoint;
    if (!endpoint) return true; /* 404 or 405 */
    enum judged as = judged_by_path(endpoint->pattern);
    if (as != JUDGED_NOT) return judge_path(exchange, as);
    /* What every token may tells of nobody; a data route without a parameter names its deployment in its body and looks
     * for it there. */
    bool is_open = endpoint->role == ROLE_MEMBER || endpoint->kind == GATEWAY_DATA || find_rule(endpoint);
    return is_open || refuse_whole(exchange);
}

/* ---- by the body ------------------------------------------------------------------- */

/* The value at a dotted path, or NULL. */
static yyjson_val *value_at(yyjson_val *object, const char *path) {
    for (;;) {
        size_t size = strcspn(path, ".");
        object = yyjson_obj_getn(object, path, size);
        if (!path[size]) return object;
        path += size + 1;
    }
}

/* False: answered. */
static bool judge_field(struct exchange *exchange, yyjson_val *root, const char *path, enum judged as) {
    const struct gateway_token *token = exchange->token;
    yyjson_val *value = value_at(root, path);
    const char *name = yyjson_get_str(value);
    if (as == JUDGED_FALSE) {
        if (yyjson_is_false(value)) return true;
        exchange_fail_with(exchange, ERROR_UNAUTHORIZED, 403,
                           "the token %s is limited: it may do this only with %s false, which deletes no deployment",
                           token->name, path);
        return false;
    }
    if (as == JUDGED_SURELY && !name) {
        exchange_fail_with(exchange, ERROR_UNAUTHORIZED, 403, "the token %s is limited: say which, as %s", token->name,
                           path);
        return false;
    }
    if (!name) return true;
    bool is_collection = as == JUDGED_COLLECTION || as == JUDGED_SURELY;
    bool may = is_collection      ? gateway_limit_names_have(&token->collections, name)
               : as == JUDGED_NEW ? gateway_limit_names_have(&token->deployments, name)
                                  : gateway_limits_allow(token, exchange->gateway->routes.current, name);
    if (!may) gateway_limits_refuse(exchange, is_collection ? "collection" : "deployment", name);
    return may;
}

/* By the same parser as the controller's, so that both see the same fields. */
static bool judge_body(struct exchange *exchange, const struct rule *rule) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    struct error *error = NULL;
    const struct http_request *request = exchange->request;
    if (json_parse_object(request->body, request->body_size, &document, &root, &error) < 0) {
        exchange_fail(exchange, error);
        return false;
    }
    for (size_t i = 0; i < FIELDS_MAXIMUM && rule->fields[i].as; i++)
        if (!judge_field(exchange, root, rule->fields[i].path, rule->fields[i].as)) return false;
    return true;
}

void gateway_limits_judge_control(struct exchange *exchange, void (*go_on)(struct exchange *exchange)) {
    const struct gateway_endpoint *endpoint = exchange->match.endpoint;
    const struct rule *rule = find_rule(endpoint);
    if (rule && !judge_body(exchange, rule)) return;
    exchange->when_judged = go_on;
    if (judged_by_path(endpoint->pattern) != JUDGED_DEPLOYMENT) {
        go_on(exchange);
        return;
    }
    gateway_read_name(&exchange->match.parameters[0], exchange->model); /* the head was judged */
    if (gateway_limit_names_have(&exchange->token->deployments, exchange->model)) {
        go_on(exchange);
        return;
    }
    /* It may be another name or the id of one that it may use, whether that serves or not. */
    exchange_set_step(exchange, EXCHANGE_LOOKUP);
    gateway_reader_find_names(exchange->gateway->reader, exchange);
}

void gateway_limits_names_found(struct exchange *exchange, const struct buffer *names, const struct error *error) {
    if (error) {
        _cleanup_free_ char *cause = error_text(error);
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "what %s stands for could not be read: %s",
                           exchange->model, cause);
        return;
    }
    for (size_t at = 0; at < names->size; at += strlen(names->bytes + at) + 1) {
        if (!gateway_limit_names_have(&exchange->token->deployments, names->bytes + at)) continue;
        exchange->when_judged(exchange);
        return;
    }
    gateway_limits_refuse(exchange, "deployment", exchange->model);
}
