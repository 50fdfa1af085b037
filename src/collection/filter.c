/* Filters on payloads: a tree of conditions, parsed once into its own memory and asked for many rows.
 *
 *     {"and":[F,…]}  {"or":[F,…]}  {"not":F}  {"field":"a.b", "eq": v, "gt": v, "gte": v, "lt": v, "lte": v,
 *                                                             "in": [v,…], "exists": true}
 *
 * A field's path goes through objects by its parts and through arrays by any of their members. Several comparisons in
 * one object hold of one value together: {"gte":2020,"lt":2025} of a list asks for a member between the two. A value
 * compares with its own kind only: numbers with numbers, texts with texts (by their bytes), true and false with theirs
 * (eq, in). "exists" asks whether there is a value other than null. {} by itself accepts everything. */
#include <string.h>

#include "base/json.h"
#include "collection/collection-internal.h"

#define DEPTH_MAXIMUM 16
#define CONDITIONS_MAXIMUM 256
#define MEMBERS_MAXIMUM 1024 /* of one "in" */
#define PATH_BYTES_MAXIMUM 1024

enum value_kind { VALUE_NUMBER, VALUE_TEXT, VALUE_BOOLEAN };

struct value {
    enum value_kind kind;
    long double number; /* holds every 64-bit integer and every double as it is */
    char *text;
    size_t size;
};

enum operation { OP_EQ, OP_GT, OP_GTE, OP_LT, OP_LTE, OP_IN, OP_EXISTS };
static const char *const operations[] = {
    [OP_EQ] = "eq",   [OP_GT] = "gt", [OP_GTE] = "gte",       [OP_LT] = "lt",
    [OP_LTE] = "lte", [OP_IN] = "in", [OP_EXISTS] = "exists",
};

struct comparison {
    enum operation operation;
    struct value *values; /* one, or those of "in" */
    size_t count;
    bool exists;
};

enum node_kind { NODE_ALL, NODE_ANY, NODE_NOT, NODE_FIELD };

struct collection_filter {
    enum node_kind kind;
    struct collection_filter **children;
    size_t child_count;
    char *path; /* its parts one behind the other, each with a NUL */
    size_t part_count;
    struct comparison comparisons[ARRAY_SIZE(operations)];
    size_t comparison_count;
};

static void free_values(struct value *values, size_t count) {
    for (size_t i = 0; i < count; i++) free(values[i].text);
    free(values);
}

void collection_filter_free(struct collection_filter *filter) {
    if (!filter) return;
    for (size_t i = 0; i < filter->child_count; i++) collection_filter_free(filter->children[i]);
    for (size_t i = 0; i < filter->comparison_count; i++)
        free_values(filter->comparisons[i].values, filter->comparisons[i].count);
    free(filter->children);
    free(filter->path);
    free(filter);
}

static void free_filter_pointer(struct collection_filter **filter) {
    collection_filter_free(*filter);
}

/* ---- parsing ---- */

struct parser {
    size_t conditions;
};

/* Where in the filter: a chain on the stack, which becomes text when there is an error. */
struct place {
    const struct place *parent;
    const char *field; /* or NULL: a member */
    size_t member;
    int depth;
};

static char *name_place(const struct place *place) {
    if (!place) return text_copy("filter");
    _cleanup_free_ char *parent = name_place(place->parent);
    return place->field ? text_format("%s.%s", parent, place->field) : text_format("%s[%zu]", parent, place->member);
}

static int refuse(const struct place *place, struct error **ret_error, const char *what) {
    _cleanup_free_ char *name = name_place(place);
    return error_set(ret_error, ERROR_REQUEST, "%s %s", name, what);
}

static int parse_node(struct parser *parser, yyjson_val *value, const struct place *place,
                      struct collection_filter **ret_filter, struct error **ret_error);

static int parse_children(struct parser *parser, yyjson_val *list, const struct place *place,
                          struct collection_filter *filter, struct error **ret_error) {
    if (!yyjson_is_arr(list) || !yyjson_arr_size(list))
        return refuse(place, ret_error, "must be a list of at least one condition");
    if (yyjson_arr_size(list) > CONDITIONS_MAXIMUM) return refuse(place, ret_error, "has more than 256 conditions");
    filter->children = mem_new_array(yyjson_arr_size(list), struct collection_filter *);
    size_t index, maximum;
    yyjson_val *item;
    yyjson_arr_foreach(list, index, maximum, item) {
        const struct place member = {.parent = place, .member = index, .depth = place->depth};
        int result = parse_node(parser, item, &member, &filter->children[index], ret_error);
        if (result < 0) return result;
        filter->child_count = index + 1;
    }
    return 0;
}

static int parse_not(struct parser *parser, yyjson_val *value, const struct place *place,
                     struct collection_filter *filter, struct error **ret_error) {
    filter->children = mem_new_array(1, struct collection_filter *);
    int result = parse_node(parser, value, place, &filter->children[0], ret_error);
    filter->child_count = !result;
    return result;
}

static int parse_path(yyjson_val *value, const struct place *place, struct collection_filter *filter,
                      struct error **ret_error) {
    const char *path = yyjson_get_str(value);
    size_t size = yyjson_get_len(value);
    if (!path || !size || size > PATH_BYTES_MAXIMUM || strlen(path) != size || path[0] == '.' ||
        path[size - 1] == '.' || strstr(path, ".."))
        return refuse(place, ret_error, "must be the name of a field, with dots between its parts");
    filter->path = text_copy(path);
    filter->part_count = 1;
    for (char *dot = filter->path; (dot = strchr(dot, '.')); *dot++ = '\0') filter->part_count++;
    return 0;
}

static int parse_value(yyjson_val *value, const struct place *place, struct value *ret_value,
                       struct error **ret_error) {
    if (yyjson_is_str(value)) {
        size_t size = yyjson_get_len(value);
        *ret_value = (struct value){VALUE_TEXT, 0, text_copy_bytes(yyjson_get_str(value), size), size};
    } else if (yyjson_is_bool(value)) {
        *ret_value = (struct value){.kind = VALUE_BOOLEAN, .number = yyjson_get_bool(value)};
    } else if (yyjson_is_uint(value)) {
        *ret_value = (struct value){.kind = VALUE_NUMBER, .number = yyjson_get_uint(value)};
    } else if (yyjson_is_sint(value)) {
        *ret_value = (struct value){.kind = VALUE_NUMBER, .number = yyjson_get_sint(value)};
    } else if (yyjson_is_real(value)) {
        *ret_value = (struct value){.kind = VALUE_NUMBER, .number = yyjson_get_real(value)};
    } else {
        return refuse(place, ret_error, "must be a string, a number, true or false");
    }
    return 0;
}

static int parse_members(yyjson_val *list, const struct place *place, struct comparison *comparison,
                         struct error **ret_error) {
    if (!yyjson_is_arr(list)) return refuse(place, ret_error, "must be a list");
    if (yyjson_arr_size(list) > MEMBERS_MAXIMUM) return refuse(place, ret_error, "has more than 1024 members");
    comparison->values = mem_new_array(yyjson_arr_size(list), struct value);
    size_t index, maximum;
    yyjson_val *item;
    yyjson_arr_foreach(list, index, maximum, item) {
        const struct place member = {.parent = place, .member = index};
        int result = parse_value(item, &member, &comparison->values[index], ret_error);
        if (result < 0) return result;
        comparison->count = index + 1;
    }
    return 0;
}

static int parse_operand(yyjson_val *value, const struct place *place, struct comparison *comparison,
                         struct error **ret_error) {
    if (comparison->operation == OP_IN) return parse_members(value, place, comparison, ret_error);
    if (comparison->operation == OP_EXISTS) {
        if (!yyjson_is_bool(value)) return refuse(place, ret_error, "must be true or false");
        comparison->exists = yyjson_get_bool(value);
        return 0;
    }
    if (comparison->operation != OP_EQ && yyjson_is_bool(value))
        return refuse(place, ret_error, "must be a string or a number: true and false have no order");
    comparison->values = mem_new(struct value);
    int result = parse_value(value, place, comparison->values, ret_error);
    comparison->count = !result;
    return result;
}

static int find_operation(const char *name, enum operation *ret_operation) {
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
        if (!strcmp(operations[i], name)) {
            *ret_operation = (enum operation)i;
            return 1;
        }
    return 0;
}

static int parse_field(struct parser *parser, yyjson_val *object, const struct place *place,
                       struct collection_filter *filter, struct error **ret_error) {
    size_t index, maximum;
    yyjson_val *key, *value;
    yyjson_obj_foreach(object, index, maximum, key, value) {
        const char *name = yyjson_get_str(key);
        const struct place inner = {.parent = place, .field = name};
        if (!strcmp(name, "field")) {
            int result = parse_path(value, &inner, filter, ret_error);
            if (result < 0) return result;
            continue;
        }
        enum operation operation;
        if (!find_operation(name, &operation))
            return refuse(&inner, ret_error, "is unknown: with field go eq, gt, gte, lt, lte, in and exists");
        if (++parser->conditions > CONDITIONS_MAXIMUM)
            return refuse(&inner, ret_error, "is one condition too many: 256 are allowed");
        /* A key does not stand twice (json_parse), so there is room. Should it, the last place is refused below. */
        if (filter->comparison_count == ARRAY_SIZE(operations)) return refuse(&inner, ret_error, "stands twice");
        struct comparison *comparison = &filter->comparisons[filter->comparison_count++];
        comparison->operation = operation;
        int result = parse_operand(value, &inner, comparison, ret_error);
        if (result < 0) return result;
    }
    if (!filter->comparison_count) return refuse(place, ret_error, "compares field with nothing: add eq, in, …");
    return 0;
}

static int parse_group(struct parser *parser, yyjson_val *object, const struct place *place,
                       struct collection_filter *filter, struct error **ret_error) {
    static const char *const groups[] = {[NODE_ALL] = "and", [NODE_ANY] = "or", [NODE_NOT] = "not"};
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        yyjson_val *value = yyjson_obj_get(object, groups[i]);
        if (!value) continue;
        if (yyjson_obj_size(object) != 1) return refuse(place, ret_error, "has other fields beside and, or, not");
        filter->kind = (enum node_kind)i;
        const struct place inner = {.parent = place, .field = groups[i], .depth = (place ? place->depth : 0) + 1};
        if (inner.depth >= DEPTH_MAXIMUM) return refuse(&inner, ret_error, "is nested deeper than 16 levels");
        return (filter->kind == NODE_NOT ? parse_not : parse_children)(parser, value, &inner, filter, ret_error);
    }
    return refuse(place, ret_error, "must have one of and, or, not, field");
}

static int parse_node(struct parser *parser, yyjson_val *value, const struct place *place,
                      struct collection_filter **ret_filter, struct error **ret_error) {
    if (!yyjson_is_obj(value)) return refuse(place, ret_error, "must be an object");
    __attribute__((cleanup(free_filter_pointer))) struct collection_filter *filter = mem_new(struct collection_filter);
    filter->kind = NODE_FIELD;
    bool is_field = yyjson_obj_get(value, "field");
    int result = (is_field ? parse_field : parse_group)(parser, value, place, filter, ret_error);
    if (!result) *ret_filter = TAKE(filter);
    return result;
}

int collection_filter_parse(yyjson_val *value, struct collection_filter **ret_filter, struct error **ret_error) {
    if (yyjson_is_obj(value) && !yyjson_obj_size(value)) {
        *ret_filter = mem_new(struct collection_filter); /* all of nothing holds */
        return 0;
    }
    struct parser parser = {0};
    return parse_node(&parser, value, NULL, ret_filter, ret_error);
}

/* ---- asking ---- */

/* Sets *ret_order (below, at, above 0: `found` against `wanted`); false when they are of different kinds. */
static bool compare(yyjson_val *found, const struct value *wanted, int *ret_order) {
    if (wanted->kind == VALUE_TEXT) {
        if (!yyjson_is_str(found)) return false;
        size_t size = yyjson_get_len(found), common = size < wanted->size ? size : wanted->size;
        int order = memcmp(yyjson_get_str(found), wanted->text, common);
        *ret_order = order ? order : (size > wanted->size) - (size < wanted->size);
        return true;
    }
    long double number;
    if (wanted->kind == VALUE_BOOLEAN ? !yyjson_is_bool(found) : !yyjson_is_num(found)) return false;
    if (yyjson_is_bool(found))
        number = yyjson_get_bool(found);
    else if (yyjson_is_uint(found))
        number = yyjson_get_uint(found);
    else if (yyjson_is_sint(found))
        number = yyjson_get_sint(found);
    else
        number = yyjson_get_real(found);
    *ret_order = (number > wanted->number) - (number < wanted->number);
    return true;
}

static bool comparison_holds(const struct comparison *comparison, yyjson_val *found) {
    for (size_t i = 0; i < comparison->count; i++) {
        int order;
        if (!compare(found, &comparison->values[i], &order)) continue;
        switch (comparison->operation) {
        case OP_EQ:
        case OP_IN:
            if (!order) return true;
            break;
        case OP_GT: return order > 0;
        case OP_GTE: return order >= 0;
        case OP_LT: return order < 0;
        case OP_LTE: return order <= 0;
        case OP_EXISTS: break;
        }
    }
    return false;
}

struct look {
    const struct collection_filter *filter;
    bool exists; /* a value other than null was found */
    bool holds; /* one value was found of which all comparisons hold */
};

static void look_at_value(struct look *look, yyjson_val *value) {
    if (yyjson_is_null(value)) return;
    look->exists = true;
    const struct collection_filter *filter = look->filter;
    for (size_t i = 0; i < filter->comparison_count; i++)
        if (filter->comparisons[i].operation != OP_EXISTS && !comparison_holds(&filter->comparisons[i], value)) return;
    look->holds = true;
}

/* Follows `parts` more parts of the path. Arrays in arrays are gone through, too: as deep as a payload may be. */
static void follow(struct look *look, yyjson_val *value, const char *path, size_t parts) {
    if (yyjson_is_arr(value)) {
        size_t index, maximum;
        yyjson_val *item;
        if (!parts) look->exists = true; /* an empty list is a value, too */
        yyjson_arr_foreach(value, index, maximum, item) {
            follow(look, item, path, parts);
            if (look->holds) return;
        }
    } else if (!parts) {
        look_at_value(look, value);
    } else if (yyjson_is_obj(value)) {
        yyjson_val *inner = yyjson_obj_get(value, path);
        if (inner) follow(look, inner, path + strlen(path) + 1, parts - 1);
    }
}

static bool field_holds(const struct collection_filter *filter, yyjson_val *payload) {
    struct look look = {.filter = filter};
    follow(&look, payload, filter->path, filter->part_count);
    bool compares = false;
    for (size_t i = 0; i < filter->comparison_count; i++) {
        const struct comparison *comparison = &filter->comparisons[i];
        if (comparison->operation != OP_EXISTS)
            compares = true;
        else if (comparison->exists != look.exists)
            return false;
    }
    return !compares || look.holds;
}

static bool holds(const struct collection_filter *filter, yyjson_val *payload) {
    if (filter->kind == NODE_FIELD) return field_holds(filter, payload);
    for (size_t i = 0; i < filter->child_count; i++) {
        bool child = holds(filter->children[i], payload);
        if (filter->kind == NODE_NOT) return !child;
        if (child == (filter->kind == NODE_ANY)) return child;
    }
    return filter->kind == NODE_ALL;
}

bool collection_filter_accepts(const struct collection_filter *filter, const char *payload_json) {
    _cleanup_json_ yyjson_doc *payload = yyjson_read(payload_json, strlen(payload_json), 0);
    return payload && holds(filter, yyjson_doc_get_root(payload));
}
