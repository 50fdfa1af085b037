/* openapi_schemas.def as JSON Schema (2020-12), which OpenAPI 3.1 takes as it is. */
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#define OPENAPI_TYPES
#include "gateway/gateway_openapi-internal.h"

/* ---- the table ------------------------------------------------------------------ */

enum form { FORM_REQUEST, FORM_OPEN_REQUEST, FORM_ANSWER, FORM_SHAPE };
enum row_kind { ROW_SCHEMA, ROW_FIELD, ROW_RULE };

struct row {
    enum row_kind kind;
    enum form form;
    bool is_required;
    const char *name, *initial, *description; /* a rule and a shape: JSON as description */
    struct openapi_type type;
};

static const struct row rows[] = {
#define SCHEMA(schema, its_form, words)                                                                                \
    {.kind = ROW_SCHEMA, .form = FORM_##its_form, .name = schema, .description = words},
#define SHAPE(schema, json) {.kind = ROW_SCHEMA, .form = FORM_SHAPE, .name = schema, .description = json},
#define FIELD(field, presence, its_type, its_initial, words)                                                           \
    {.kind = ROW_FIELD,                                                                                                \
     .is_required = presence,                                                                                          \
     .name = field,                                                                                                    \
     .type = its_type,                                                                                                 \
     .initial = its_initial,                                                                                           \
     .description = words},
#define RULE(json) {.kind = ROW_RULE, .description = json},
#include "gateway/openapi_schemas.def"
#undef SCHEMA
#undef SHAPE
#undef FIELD
#undef RULE
};

/* ---- types ------------------------------------------------------------------------ */

static void add_limit(yyjson_mut_doc *document, yyjson_mut_val *schema, const char *key, double limit) {
    if (isnan(limit)) return;
    if (limit == floor(limit) && fabs(limit) < 1e15)
        yyjson_mut_obj_add_sint(document, schema, key, (int64_t)limit);
    else
        yyjson_mut_obj_add_real(document, schema, key, limit);
}

static void add_names(yyjson_mut_doc *document, yyjson_mut_val *schema, const char *names) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(document, schema, "enum");
    for (size_t size; *names; names += size + (names[size] == ' ')) {
        size = strcspn(names, " ");
        yyjson_mut_arr_add_strn(document, list, names, size);
    }
}

/* Tables hold valid JSON: a row that does not is found by the first test that makes the description. */
static yyjson_mut_val *from_json(yyjson_mut_doc *document, const char *json) {
    _cleanup_json_ yyjson_doc *parsed = yyjson_read(json, strlen(json), 0);
    return yyjson_val_mut_copy(document, yyjson_doc_get_root(parsed));
}

yyjson_mut_val *openapi_reference(yyjson_mut_doc *document, const char *part, const char *name) {
    _cleanup_free_ char *pointer = text_format("#/components/%s/%s", part, name);
    yyjson_mut_val *reference = yyjson_mut_obj(document);
    yyjson_mut_obj_add_strcpy(document, reference, "$ref", pointer);
    return reference;
}

static void add_items(yyjson_mut_doc *document, yyjson_mut_val *schema, const struct openapi_type *type) {
    yyjson_mut_val *items = type->kind == OPENAPI_LIST ? openapi_reference(document, "schemas", type->text)
                                                       : yyjson_mut_obj_add_obj(document, schema, "items");
    if (type->kind == OPENAPI_LIST)
        yyjson_mut_obj_add_val(document, schema, "items", items);
    else
        yyjson_mut_obj_add_str(document, items, "type", "string");
}

static yyjson_mut_val *plain_type(yyjson_mut_doc *document, const struct openapi_type *type) {
    static const char *const names[] = {
        [OPENAPI_STRING] = "string",   [OPENAPI_ONE_OF] = "string",   [OPENAPI_UUID] = "string",
        [OPENAPI_TIME] = "string",     [OPENAPI_INTEGER] = "integer", [OPENAPI_NUMBER] = "number",
        [OPENAPI_BOOLEAN] = "boolean", [OPENAPI_OBJECT] = "object",   [OPENAPI_ANYTHING] = NULL,
        [OPENAPI_LIST] = "array",      [OPENAPI_TEXTS] = "array",
    };
    if (type->kind == OPENAPI_REF) return openapi_reference(document, "schemas", type->text);
    if (type->kind == OPENAPI_JSON) return from_json(document, type->text);
    yyjson_mut_val *schema = yyjson_mut_obj(document);
    if (names[type->kind]) yyjson_mut_obj_add_str(document, schema, "type", names[type->kind]);
    switch (type->kind) {
    case OPENAPI_STRING:
        if (type->least > 0) add_limit(document, schema, "minLength", type->least);
        add_limit(document, schema, "maxLength", type->most);
        break;
    case OPENAPI_INTEGER:
    case OPENAPI_NUMBER:
        add_limit(document, schema, "minimum", type->least);
        add_limit(document, schema, "maximum", type->most);
        break;
    case OPENAPI_ONE_OF: add_names(document, schema, type->text); break;
    case OPENAPI_UUID: yyjson_mut_obj_add_str(document, schema, "format", "uuid"); break;
    case OPENAPI_TIME: yyjson_mut_obj_add_str(document, schema, "format", "date-time"); break;
    case OPENAPI_LIST:
    case OPENAPI_TEXTS: add_items(document, schema, type); break;
    default: break;
    }
    return schema;
}

static void add_words(yyjson_mut_doc *document, yyjson_mut_val *schema, const char *initial, const char *description) {
    if (initial && *initial) yyjson_mut_obj_add_val(document, schema, "default", from_json(document, initial));
    if (description) yyjson_mut_obj_add_str(document, schema, "description", description);
}

yyjson_mut_val *openapi_type(yyjson_mut_doc *document, const struct openapi_type *type, const char *initial,
                             const char *description) {
    yyjson_mut_val *schema = plain_type(document, type);
    add_words(document, schema, initial, description);
    return schema;
}

/* The type or null. */
static yyjson_mut_val *or_null(yyjson_mut_doc *document, const struct openapi_type *type) {
    yyjson_mut_val *schema = plain_type(document, type), *name = yyjson_mut_obj_get(schema, "type");
    if (type->kind == OPENAPI_ANYTHING) return schema;
    if (!name) {
        yyjson_mut_val *either = yyjson_mut_obj(document);
        yyjson_mut_val *list = yyjson_mut_obj_add_arr(document, either, "anyOf");
        yyjson_mut_arr_append(list, schema);
        yyjson_mut_obj_add_str(document, yyjson_mut_arr_add_obj(document, list), "type", "null");
        return either;
    }
    yyjson_mut_val *types = yyjson_mut_arr(document);
    yyjson_mut_arr_add_strcpy(document, types, yyjson_mut_get_str(name));
    yyjson_mut_arr_add_str(document, types, "null");
    yyjson_mut_obj_replace(schema, yyjson_mut_str(document, "type"), types);
    yyjson_mut_val *values = yyjson_mut_obj_get(schema, "enum");
    if (values) yyjson_mut_arr_add_null(document, values);
    return schema;
}

/* ---- schemas ------------------------------------------------------------------------ */

static void add_rule(yyjson_mut_doc *document, yyjson_mut_val *schema, const char *json) {
    yyjson_mut_val *rule = from_json(document, json), *key, *value;
    size_t index, count;
    yyjson_mut_obj_foreach(rule, index, count, key, value)
        yyjson_mut_obj_add_val(document, schema, yyjson_mut_get_str(key), yyjson_mut_val_mut_copy(document, value));
}

/* The row of a schema and those of its fields up to `end`. */
static yyjson_mut_val *object_schema(yyjson_mut_doc *document, const struct row *row, const struct row *end) {
    enum form form = row->form;
    yyjson_mut_val *schema = yyjson_mut_obj(document), *required = yyjson_mut_arr(document);
    yyjson_mut_obj_add_str(document, schema, "type", "object");
    yyjson_mut_obj_add_str(document, schema, "description", row->description);
    yyjson_mut_val *properties = yyjson_mut_obj_add_obj(document, schema, "properties");
    for (row++; row < end; row++) {
        if (row->kind == ROW_RULE) {
            add_rule(document, schema, row->description);
            continue;
        }
        bool may_be_null = form != FORM_ANSWER && !row->is_required;
        yyjson_mut_val *field = may_be_null ? or_null(document, &row->type) : plain_type(document, &row->type);
        add_words(document, field, row->initial, row->description);
        yyjson_mut_obj_add_val(document, properties, row->name, field);
        if (row->is_required) yyjson_mut_arr_add_str(document, required, row->name);
    }
    if (yyjson_mut_arr_size(required)) yyjson_mut_obj_add_val(document, schema, "required", required);
    if (form == FORM_REQUEST) yyjson_mut_obj_add_bool(document, schema, "additionalProperties", false);
    return schema;
}

yyjson_mut_val *openapi_schemas(yyjson_mut_doc *document) {
    yyjson_mut_val *schemas = yyjson_mut_obj(document);
    const struct row *end = rows + ARRAY_SIZE(rows);
    for (const struct row *row = rows, *next; row < end; row = next) {
        for (next = row + 1; next < end && next->kind != ROW_SCHEMA;) next++;
        yyjson_mut_val *schema =
            row->form == FORM_SHAPE ? from_json(document, row->description) : object_schema(document, row, next);
        yyjson_mut_obj_add_val(document, schemas, row->name, schema);
    }
    return schemas;
}

bool openapi_has_schema(const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].kind == ROW_SCHEMA && !strcmp(rows[i].name, name)) return true;
    return false;
}
