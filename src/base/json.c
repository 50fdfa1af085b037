#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"

static int compare_keys(const void *a, const void *b) {
    yyjson_val *const *left = a, *const *right = b;
    size_t left_size = yyjson_get_len(*left), right_size = yyjson_get_len(*right);
    int order = memcmp(yyjson_get_str(*left), yyjson_get_str(*right), left_size < right_size ? left_size : right_size);
    return order ? order : (left_size > right_size) - (left_size < right_size);
}

/* The keys of an object in byte order; caller frees. */
static yyjson_val **sorted_keys(yyjson_val *object, size_t *ret_count) {
    size_t count = yyjson_obj_size(object), index, maximum;
    yyjson_val **keys = mem_new_array(count, yyjson_val *);
    yyjson_val *key, *value;
    yyjson_obj_foreach(object, index, maximum, key, value) keys[index] = key;
    if (count > 1) qsort(keys, count, sizeof *keys, compare_keys);
    *ret_count = count;
    return keys;
}

static int check_shape(yyjson_val *value, int depth, struct error **ret_error) {
    if (depth > JSON_MAXIMUM_DEPTH)
        return error_set(ret_error, ERROR_CONFIGURATION, "the JSON is nested deeper than %d levels",
                         JSON_MAXIMUM_DEPTH);
    size_t index, maximum;
    yyjson_val *key, *item;
    if (yyjson_is_arr(value)) {
        yyjson_arr_foreach(value, index, maximum, item) {
            if (!yyjson_is_ctn(item)) continue;
            int result = check_shape(item, depth + 1, ret_error);
            if (result < 0) return result;
        }
    } else if (yyjson_is_obj(value)) {
        size_t count;
        _cleanup_free_ yyjson_val **keys = sorted_keys(value, &count);
        for (size_t i = 1; i < count; i++)
            if (!compare_keys(&keys[i - 1], &keys[i]))
                return error_set(ret_error, ERROR_CONFIGURATION, "the field %s stands twice in one object",
                                 yyjson_get_str(keys[i]));
        yyjson_obj_foreach(value, index, maximum, key, item) {
            if (!yyjson_is_ctn(item)) continue;
            int result = check_shape(item, depth + 1, ret_error);
            if (result < 0) return result;
        }
    }
    return 0;
}

int json_parse(const char *bytes, size_t size, yyjson_doc **ret_document, struct error **ret_error) {
    yyjson_read_err failure;
    _cleanup_json_ yyjson_doc *document = yyjson_read_opts((char *)bytes, size, YYJSON_READ_NOFLAG, NULL, &failure);
    if (!document)
        return error_set(ret_error, ERROR_CONFIGURATION, "the JSON is malformed at byte %zu: %s", failure.pos,
                         failure.msg);
    int result = check_shape(yyjson_doc_get_root(document), 1, ret_error);
    if (result < 0) return result;
    *ret_document = TAKE(document);
    return 0;
}

int json_parse_object(const char *bytes, size_t size, yyjson_doc **ret_document, yyjson_val **ret_root,
                      struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    int result = json_parse(bytes, size, &document, ret_error);
    if (result < 0) return result;
    yyjson_val *root = yyjson_doc_get_root(document);
    if (!yyjson_is_obj(root)) return error_set(ret_error, ERROR_CONFIGURATION, "a JSON object is expected");
    *ret_root = root;
    *ret_document = TAKE(document);
    return 0;
}

static const char *dot(const char *where) {
    return *where ? "." : "";
}

int json_check_fields(yyjson_val *object, const char *where, const char *const *known, size_t count,
                      struct error **ret_error) {
    size_t index, maximum;
    yyjson_val *key, *value;
    if (!object) return 0; /* yyjson's loops step off a NULL */
    yyjson_obj_foreach(object, index, maximum, key, value) {
        bool found = false;
        for (size_t i = 0; i < count && !found; i++) found = yyjson_equals_str(key, known[i]);
        if (found) continue;
        const char *nearest = text_nearest(yyjson_get_str(key), known, count);
        return error_set(ret_error, ERROR_CONFIGURATION, "unknown field %s%s%.128s%s%s%s", where, dot(where),
                         yyjson_get_str(key), nearest ? " (did you mean " : "", nearest ? nearest : "",
                         nearest ? "?)" : "");
    }
    return 0;
}

/* The field's value, or NULL when it is absent or null; *ret_result < 0 when it is required and missing. */
static yyjson_val *find(yyjson_val *object, const char *where, const char *field, bool required, int *ret_result,
                        struct error **ret_error) {
    yyjson_val *value = yyjson_obj_get(object, field);
    *ret_result = 0;
    if (value && !yyjson_is_null(value)) return value;
    if (required)
        *ret_result =
            error_set(ret_error, ERROR_CONFIGURATION, "the field %s%s%s is missing", where, dot(where), field);
    return NULL;
}

static int wrong_type(const char *where, const char *field, const char *wanted, struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFIGURATION, "the field %s%s%s must be %s", where, dot(where), field, wanted);
}

int json_get_text(yyjson_val *object, const char *where, const char *field, bool required, const char **ret_text,
                  struct error **ret_error) {
    int result;
    yyjson_val *value = find(object, where, field, required, &result, ret_error);
    if (!value) return result;
    if (!yyjson_is_str(value)) return wrong_type(where, field, "a string", ret_error);
    if (strlen(yyjson_get_str(value)) != yyjson_get_len(value))
        return wrong_type(where, field, "a string without NUL", ret_error);
    *ret_text = yyjson_get_str(value);
    return 0;
}

int json_get_number(yyjson_val *object, const char *where, const char *field, bool required, int64_t minimum,
                    int64_t maximum, int64_t *ret_number, struct error **ret_error) {
    int result;
    yyjson_val *value = find(object, where, field, required, &result, ret_error);
    if (!value) return result;
    bool whole = yyjson_is_int(value) && !(yyjson_is_uint(value) && yyjson_get_uint(value) > INT64_MAX);
    int64_t number = whole ? yyjson_get_sint(value) : 0;
    if (!whole || number < minimum || number > maximum)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the field %s%s%s must be a whole number from %" PRId64 " to %" PRId64, where, dot(where),
                         field, minimum, maximum);
    *ret_number = number;
    return 0;
}

int json_get_real(yyjson_val *object, const char *where, const char *field, bool required, double minimum,
                  double maximum, double *ret_real, struct error **ret_error) {
    int result;
    yyjson_val *value = find(object, where, field, required, &result, ret_error);
    if (!value) return result;
    double real = yyjson_get_num(value);
    if (!yyjson_is_num(value) || !isfinite(real) || real < minimum || real > maximum)
        return error_set(ret_error, ERROR_CONFIGURATION, "the field %s%s%s must be a number from %g to %g", where,
                         dot(where), field, minimum, maximum);
    *ret_real = real;
    return 0;
}

int json_get_boolean(yyjson_val *object, const char *where, const char *field, bool *ret_boolean,
                     struct error **ret_error) {
    int result;
    yyjson_val *value = find(object, where, field, false, &result, ret_error);
    if (!value) return result;
    if (!yyjson_is_bool(value)) return wrong_type(where, field, "true or false", ret_error);
    *ret_boolean = yyjson_get_bool(value);
    return 0;
}

int json_get_object(yyjson_val *object, const char *where, const char *field, bool required, yyjson_val **ret_object,
                    struct error **ret_error) {
    int result;
    yyjson_val *value = find(object, where, field, required, &result, ret_error);
    if (!value) return result;
    if (!yyjson_is_obj(value)) return wrong_type(where, field, "an object", ret_error);
    *ret_object = value;
    return 0;
}

char *json_write(const yyjson_mut_doc *document, size_t *ret_size) {
    char *text = yyjson_mut_write(document, 0, ret_size);
    return text ? text : mem_copy("null", 5);
}

char *json_write_value(const yyjson_val *value, size_t *ret_size) {
    char *text = yyjson_val_write(value, 0, ret_size);
    return text ? text : mem_copy("null", 5);
}

static void write_canonical(struct buffer *out, yyjson_val *value) {
    size_t index, maximum;
    yyjson_val *item;
    if (yyjson_is_arr(value)) {
        buffer_append_text(out, "[");
        yyjson_arr_foreach(value, index, maximum, item) {
            if (index) buffer_append_text(out, ",");
            write_canonical(out, item);
        }
        buffer_append_text(out, "]");
    } else if (yyjson_is_obj(value)) {
        size_t count;
        _cleanup_free_ yyjson_val **keys = sorted_keys(value, &count);
        buffer_append_text(out, "{");
        for (size_t i = 0; i < count; i++) {
            if (i) buffer_append_text(out, ",");
            write_canonical(out, keys[i]);
            buffer_append_text(out, ":");
            write_canonical(out, yyjson_obj_iter_get_val(keys[i]));
        }
        buffer_append_text(out, "}");
    } else {
        _cleanup_free_ char *text = json_write_value(value, NULL);
        buffer_append_text(out, text);
    }
}

char *json_write_canonical(const yyjson_val *value) {
    struct buffer out = {0};
    write_canonical(&out, (yyjson_val *)value);
    return buffer_take(&out, NULL);
}

void json_add_text(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, const char *text) {
    if (text) yyjson_mut_obj_add_strcpy(document, object, key, text);
}

void json_add_time(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, int64_t wall_ms) {
    char text[25];
    if (!wall_ms) return;
    clock_format(wall_ms, text);
    yyjson_mut_obj_add_strcpy(document, object, key, text);
}

void json_add_json(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, const char *json) {
    _cleanup_json_ yyjson_doc *parsed = json ? yyjson_read(json, strlen(json), 0) : NULL;
    if (parsed)
        yyjson_mut_obj_add_val(document, object, key, yyjson_val_mut_copy(document, yyjson_doc_get_root(parsed)));
}

void json_add_error(yyjson_mut_doc *document, yyjson_mut_val *object, const struct error *error) {
    _cleanup_free_ char *message = error_text(error);
    json_add_text(document, object, "error", error_class_name(error->class));
    json_add_text(document, object, "message", message);
    yyjson_mut_val *causes = yyjson_mut_obj_add_arr(document, object, "causes");
    for (const struct error *cause = error; cause; cause = cause->cause)
        yyjson_mut_arr_add_strcpy(document, causes, cause->message);
}

char *json_from_error(const struct error *error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_error(document, root, error);
    return json_write(document, NULL);
}

struct error *json_to_error(const char *json) {
    _cleanup_json_ yyjson_doc *document = json ? yyjson_read(json, strlen(json), 0) : NULL;
    yyjson_val *root = yyjson_doc_get_root(document);
    yyjson_val *causes = yyjson_obj_get(root, "causes");
    enum error_class class = error_class_parse(yyjson_get_str(yyjson_obj_get(root, "error")));
    if (!class) return NULL;
    struct error *error = NULL;
    for (size_t i = yyjson_arr_size(causes); i-- > 0;) {
        const char *message = yyjson_get_str(yyjson_arr_get(causes, i));
        if (!error)
            error_set(&error, class, "%s", message ? message : "unknown");
        else
            error_wrap(&error, "%s", message ? message : "unknown");
    }
    if (!error) error_set(&error, class, "%s", yyjson_get_str(yyjson_obj_get(root, "message")) ?: "unknown");
    return error;
}
