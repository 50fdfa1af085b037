/* openapi_operations.def, with the routes, as OpenAPI's operations. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"
#define OPENAPI_TYPES
#include "gateway/gateway_openapi-internal.h"

/* ---- the tables ------------------------------------------------------------------- */

enum row_kind {
    ROW_PARAMETER,
    ROW_STATUS,
    ROW_TAG,
    ROW_OPERATION,
    ROW_QUERY,
    ROW_HEADER,
    ROW_BODY,
    ROW_ANSWER,
    ROW_ANSWER_HEADER,
    ROW_FAILS,
};
enum content_form { CONTENT_ONE, CONTENT_LIST, CONTENT_PAGE, CONTENT_LINES }; /* a page: with X-Total-Count */

struct row {
    enum row_kind kind;
    enum content_form form;
    bool is_required;
    int status;
    const char *name, *schema, *initial, *description; /* name: of a body or an answer the media type */
    struct openapi_type type;
};

static const struct row rows[] = {
#define PARAMETER(its_name, its_type, words)                                                                           \
    {.kind = ROW_PARAMETER, .name = its_name, .type = its_type, .description = words},
#define STATUS(number, words) {.kind = ROW_STATUS, .status = number, .description = words},
#define TAG(its_name) {.kind = ROW_TAG, .name = its_name},
#define OPERATION(its_name) {.kind = ROW_OPERATION, .name = its_name},
#define QUERY(its_name, its_type, its_initial, words)                                                                  \
    {.kind = ROW_QUERY, .name = its_name, .type = its_type, .initial = its_initial, .description = words},
#define NEEDED_QUERY(its_name, its_type, words)                                                                        \
    {.kind = ROW_QUERY, .is_required = true, .name = its_name, .type = its_type, .description = words},
#define HEADER(its_name, its_type, words)                                                                              \
    {.kind = ROW_HEADER, .name = its_name, .type = its_type, .description = words},
#define BODY(media_type, its_schema, presence)                                                                         \
    {.kind = ROW_BODY, .name = media_type, .schema = its_schema, .is_required = presence},
#define LINES(its_schema)                                                                                              \
    {.kind = ROW_BODY,                                                                                                 \
     .form = CONTENT_LINES,                                                                                            \
     .name = "application/x-ndjson",                                                                                   \
     .schema = its_schema,                                                                                             \
     .is_required = true},
#define ANSWER(number, media_type, its_schema, words)                                                                  \
    {.kind = ROW_ANSWER, .status = number, .name = media_type, .schema = its_schema, .description = words},
#define ANSWER_HEADER(number, its_name, its_type, words)                                                               \
    {.kind = ROW_ANSWER_HEADER, .status = number, .name = its_name, .type = its_type, .description = words},
#define LIST_ANSWER(number, its_schema, words)                                                                         \
    {.kind = ROW_ANSWER,                                                                                               \
     .form = CONTENT_PAGE,                                                                                             \
     .status = number,                                                                                                 \
     .name = "application/json",                                                                                       \
     .schema = its_schema,                                                                                             \
     .description = words},
#define ENDLESS_LIST_ANSWER(number, its_schema, words)                                                                 \
    {.kind = ROW_ANSWER,                                                                                               \
     .form = CONTENT_LIST,                                                                                             \
     .status = number,                                                                                                 \
     .name = "application/json",                                                                                       \
     .schema = its_schema,                                                                                             \
     .description = words},
#define LINES_ANSWER(number, its_schema, words)                                                                        \
    {.kind = ROW_ANSWER,                                                                                               \
     .form = CONTENT_LINES,                                                                                            \
     .status = number,                                                                                                 \
     .name = "application/x-ndjson",                                                                                   \
     .schema = its_schema,                                                                                             \
     .description = words},
#define FAILS(number) {.kind = ROW_FAILS, .status = number},
#include "gateway/openapi_operations.def"
};
#define ROWS_END (rows + ARRAY_SIZE(rows))

/* What any route of a kind may be answered with, beside 404 where its path has a parameter. */
static const short family_statuses[GATEWAY_KINDS][12] = {
    [GATEWAY_HEALTH] = {400, 408, 413, 431, 503},
    [GATEWAY_OWN] = {400, 401, 403, 408, 413, 429, 431, 503},
    [GATEWAY_DATA] = {400, 401, 403, 408, 413, 415, 429, 431, 500, 503, 504},
    [GATEWAY_DOCUMENT] = {400, 401, 403, 408, 413, 429, 431, 503, 504},
    [GATEWAY_CONTROL] = {400, 401, 403, 408, 413, 429, 431, 500, 503, 504},
};

static const char *const families[] = {"Problem", "InferenceError", "OpenAIError"};

/* ---- looking up -------------------------------------------------------------------- */

static const struct row *find_operation(const char *name, const char **ret_tag) {
    *ret_tag = NULL;
    for (const struct row *row = rows; row < ROWS_END; row++) {
        if (row->kind == ROW_TAG) *ret_tag = row->name;
        if (row->kind == ROW_OPERATION && !strcmp(row->name, name)) return row;
    }
    return NULL;
}

bool openapi_has_operation(const char *name) {
    const char *tag;
    return find_operation(name, &tag);
}

static const struct row *find_parameter(const char *name, size_t size) {
    for (const struct row *row = rows; row < ROWS_END; row++)
        if (row->kind == ROW_PARAMETER && strlen(row->name) == size && !memcmp(row->name, name, size)) return row;
    return NULL;
}

/* The next row of the operation that is of that kind, or NULL. */
static const struct row *next_row(const struct row *row, enum row_kind kind) {
    for (row++; row < ROWS_END && row->kind != ROW_OPERATION && row->kind != ROW_TAG; row++)
        if (row->kind == kind) return row;
    return NULL;
}

/* ---- parameters -------------------------------------------------------------------- */

static void add_parameter(yyjson_mut_doc *document, yyjson_mut_val *list, const char *where, const struct row *row) {
    yyjson_mut_val *parameter = yyjson_mut_arr_add_obj(document, list);
    yyjson_mut_obj_add_str(document, parameter, "name", row->name);
    yyjson_mut_obj_add_str(document, parameter, "in", where);
    if (row->is_required || row->kind == ROW_PARAMETER) yyjson_mut_obj_add_bool(document, parameter, "required", true);
    yyjson_mut_obj_add_str(document, parameter, "description", row->description);
    yyjson_mut_obj_add_val(document, parameter, "schema", openapi_type(document, &row->type, row->initial, NULL));
}

static void add_parameters(yyjson_mut_doc *document, yyjson_mut_val *operation, const struct row *first,
                           const char *pattern) {
    yyjson_mut_val *list = yyjson_mut_arr(document);
    while ((pattern = strchr(pattern, '{'))) {
        size_t size = strcspn(++pattern, "}");
        const struct row *row = find_parameter(pattern, size);
        if (row) add_parameter(document, list, "path", row);
    }
    for (const struct row *row = first; row && (row = next_row(row, ROW_QUERY));)
        add_parameter(document, list, "query", row);
    for (const struct row *row = first; row && (row = next_row(row, ROW_HEADER));)
        add_parameter(document, list, "header", row);
    if (yyjson_mut_arr_size(list)) yyjson_mut_obj_add_val(document, operation, "parameters", list);
}

/* ---- bodies and answers ---------------------------------------------------------------- */

/* NDJSON has no schema of its own; what a line holds stands beside it. */
static void add_content(yyjson_mut_doc *document, yyjson_mut_val *content, const struct row *row) {
    yyjson_mut_val *media = yyjson_mut_obj_add_obj(document, content, row->name);
    if (row->form == CONTENT_LINES) {
        yyjson_mut_val *lines = yyjson_mut_obj_add_obj(document, media, "schema");
        yyjson_mut_obj_add_str(document, lines, "type", "string");
        yyjson_mut_obj_add_str(document, lines, "description", "a JSON object a line");
        yyjson_mut_obj_add_val(document, media, "x-line-schema", openapi_reference(document, "schemas", row->schema));
        return;
    }
    const struct openapi_type type = {.kind = !*row->schema              ? OPENAPI_STRING
                                              : row->form == CONTENT_ONE ? OPENAPI_REF
                                                                         : OPENAPI_LIST,
                                      .least = NAN,
                                      .most = NAN,
                                      .text = row->schema};
    yyjson_mut_obj_add_val(document, media, "schema", openapi_type(document, &type, NULL, NULL));
}

static void add_body(yyjson_mut_doc *document, yyjson_mut_val *operation, const struct row *first) {
    const struct row *row = next_row(first, ROW_BODY);
    if (!row) return;
    yyjson_mut_val *body = yyjson_mut_obj_add_obj(document, operation, "requestBody");
    yyjson_mut_obj_add_bool(document, body, "required", row->is_required);
    yyjson_mut_val *content = yyjson_mut_obj_add_obj(document, body, "content");
    for (; row; row = next_row(row, ROW_BODY)) add_content(document, content, row);
}

static void add_header(yyjson_mut_doc *document, yyjson_mut_val *answer, const char *name) {
    yyjson_mut_val *headers = yyjson_mut_obj_get(answer, "headers");
    if (!headers) headers = yyjson_mut_obj_add_obj(document, answer, "headers");
    yyjson_mut_obj_add_val(document, headers, name, openapi_reference(document, "headers", name));
}

static yyjson_mut_val *find_answer(yyjson_mut_doc *document, yyjson_mut_val *answers, int status) {
    char key[8];
    snprintf(key, sizeof key, "%d", status);
    yyjson_mut_val *answer = yyjson_mut_obj_get(answers, key);
    if (answer) return answer;
    answer = yyjson_mut_obj(document);
    yyjson_mut_obj_add(answers, yyjson_mut_strcpy(document, key), answer);
    return answer;
}

static void add_answer(yyjson_mut_doc *document, yyjson_mut_val *answers, const struct row *row) {
    yyjson_mut_val *answer = find_answer(document, answers, row->status);
    if (!yyjson_mut_obj_get(answer, "description")) {
        yyjson_mut_obj_add_str(document, answer, "description", row->description);
        add_header(document, answer, "X-Request-Id");
    }
    if (row->form == CONTENT_PAGE) add_header(document, answer, "X-Total-Count");
    if (!*row->name) return;
    yyjson_mut_val *content = yyjson_mut_obj_get(answer, "content");
    if (!content) content = yyjson_mut_obj_add_obj(document, answer, "content");
    add_content(document, content, row);
}

static void add_answer_header(yyjson_mut_doc *document, yyjson_mut_val *answers, const struct row *row) {
    yyjson_mut_val *answer = find_answer(document, answers, row->status);
    yyjson_mut_val *header = yyjson_mut_obj(document);
    yyjson_mut_obj_add_str(document, header, "description", row->description);
    yyjson_mut_obj_add_val(document, header, "schema", openapi_type(document, &row->type, NULL, NULL));
    yyjson_mut_obj_add_val(document, yyjson_mut_obj_get(answer, "headers"), row->name, header);
}

static void add_error(yyjson_mut_doc *document, yyjson_mut_val *answers, const char *family, int status) {
    char key[8];
    snprintf(key, sizeof key, "%d", status);
    if (yyjson_mut_obj_get(answers, key)) return;
    _cleanup_free_ char *name = text_format("%s%d", family, status);
    yyjson_mut_obj_add(answers, yyjson_mut_strcpy(document, key), openapi_reference(document, "responses", name));
}

static void add_errors(yyjson_mut_doc *document, yyjson_mut_val *answers, const struct row *first,
                       const struct gateway_endpoint *endpoint) {
    const char *family = gateway_error_schema(endpoint->pattern);
    const short *statuses = family_statuses[endpoint->kind];
    for (size_t i = 0; statuses[i]; i++) add_error(document, answers, family, statuses[i]);
    if (strchr(endpoint->pattern, '{')) add_error(document, answers, family, 404);
    for (const struct row *row = first; row && (row = next_row(row, ROW_FAILS));)
        add_error(document, answers, family, row->status);
}

static void add_answers(yyjson_mut_doc *document, yyjson_mut_val *operation, const struct row *first,
                        const struct gateway_endpoint *endpoint) {
    yyjson_mut_val *answers = yyjson_mut_obj_add_obj(document, operation, "responses");
    for (const struct row *row = first; row && (row = next_row(row, ROW_ANSWER));) add_answer(document, answers, row);
    for (const struct row *row = first; row && (row = next_row(row, ROW_ANSWER_HEADER));)
        add_answer_header(document, answers, row);
    add_errors(document, answers, first, endpoint);
}

/* ---- operations -------------------------------------------------------------------- */

/* OpenAPI 3.1 takes roles beside a scheme of HTTP's. */
static void add_security(yyjson_mut_doc *document, yyjson_mut_val *operation, enum gateway_role role) {
    static const char *const roles[] = {
        [ROLE_READ] = "read", [ROLE_INFER] = "infer", [ROLE_DEPLOY] = "deploy", [ROLE_ADMIN] = "admin"};
    yyjson_mut_val *security = yyjson_mut_obj_add_arr(document, operation, "security");
    if (role == ROLE_ANYONE) return;
    yyjson_mut_val *needed = yyjson_mut_obj_add_arr(document, yyjson_mut_arr_add_obj(document, security), "token");
    if (role < ARRAY_SIZE(roles) && roles[role]) yyjson_mut_arr_add_str(document, needed, roles[role]);
}

yyjson_mut_val *openapi_operation(yyjson_mut_doc *document, const struct gateway_endpoint *endpoint, const char *id) {
    const char *tag;
    const struct row *first = find_operation(endpoint->name, &tag);
    yyjson_mut_val *operation = yyjson_mut_obj(document);
    yyjson_mut_obj_add_strcpy(document, operation, "operationId", id);
    yyjson_mut_obj_add_str(document, operation, "summary", endpoint->summary);
    if (first) yyjson_mut_arr_add_str(document, yyjson_mut_obj_add_arr(document, operation, "tags"), tag);
    add_security(document, operation, endpoint->role);
    add_parameters(document, operation, first, endpoint->pattern);
    if (first) add_body(document, operation, first);
    add_answers(document, operation, first, endpoint);
    return operation;
}

/* ---- what they refer to ---------------------------------------------------------------- */

static yyjson_mut_val *error_answer(yyjson_mut_doc *document, const char *family, const struct row *row) {
    yyjson_mut_val *answer = yyjson_mut_obj(document);
    yyjson_mut_obj_add_str(document, answer, "description", row->description);
    if (row->status == 429 || row->status == 503) add_header(document, answer, "Retry-After");
    if (row->status == 401) add_header(document, answer, "WWW-Authenticate");
    yyjson_mut_val *content = yyjson_mut_obj_add_obj(document, answer, "content");
    const char *type = text_equal(family, "Problem") ? "application/problem+json" : "application/json";
    yyjson_mut_val *media = yyjson_mut_obj_add_obj(document, content, type);
    yyjson_mut_obj_add_val(document, media, "schema", openapi_reference(document, "schemas", family));
    return answer;
}

yyjson_mut_val *openapi_error_answers(yyjson_mut_doc *document) {
    yyjson_mut_val *answers = yyjson_mut_obj(document);
    for (size_t i = 0; i < ARRAY_SIZE(families); i++)
        for (const struct row *row = rows; row < ROWS_END; row++) {
            if (row->kind != ROW_STATUS) continue;
            _cleanup_free_ char *name = text_format("%s%d", families[i], row->status);
            yyjson_mut_obj_add(answers, yyjson_mut_strcpy(document, name), error_answer(document, families[i], row));
        }
    return answers;
}

yyjson_mut_val *openapi_headers(yyjson_mut_doc *document) {
    static const struct {
        const char *name, *description;
        bool is_required;
        struct openapi_type type;
    } headers[] = {
        {"X-Request-Id", "the request's id in logs: the client's own, or a new one", true, TEXT(1, 128)},
        {"X-Total-Count", "how many there are, without limit and offset", true, INTEGER(0, NO_LIMIT)},
        {"Retry-After", "seconds", false, INTEGER(0, NO_LIMIT)},
        {"WWW-Authenticate", "that a token is needed", false, TEXT(1, NO_LIMIT)},
    };
    yyjson_mut_val *object = yyjson_mut_obj(document);
    for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
        yyjson_mut_val *header = yyjson_mut_obj_add_obj(document, object, headers[i].name);
        yyjson_mut_obj_add_str(document, header, "description", headers[i].description);
        yyjson_mut_obj_add_bool(document, header, "required", headers[i].is_required);
        yyjson_mut_obj_add_val(document, header, "schema", openapi_type(document, &headers[i].type, NULL, NULL));
    }
    return object;
}
