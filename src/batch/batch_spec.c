/* What a request for a batch job says. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "batch/batch-internal.h"

#define BATCH_SIZE_DEFAULT 256
#define PART_ROWS_DEFAULT 100000
#define PART_ROWS_MAXIMUM 100000000
#define FIELD_MAXIMUM 256 /* bytes of a field's name */
#define URI_MAXIMUM 4096

const char *const batch_fields[] = {"input_uri", "output_uri", "format",   "batch_size",  "part_rows",
                                    "on_error",  "priority",   "id_field", "input_field", "output_field",
                                    "inputs",    "outputs",    NULL};

static void clear_names(struct batch_names *names) {
    for (size_t i = 0; i < names->count; i++) {
        free(names->list[i].tensor);
        free(names->list[i].field);
    }
    free(names->list);
}

void batch_spec_clear(struct batch_spec *spec) {
    free(spec->input_uri);
    free(spec->output_uri);
    free(spec->input_field);
    free(spec->output_field);
    free(spec->id_field);
    clear_names(&spec->inputs);
    clear_names(&spec->outputs);
    *spec = (struct batch_spec){0};
}

/* A text of bounded length; *ret_text stays NULL, or what it was, when the field is not there. */
static int get_text(yyjson_val *target, const char *where, const char *field, bool required, size_t maximum,
                    char **ret_text, struct error **ret_error) {
    const char *text = NULL;
    int result = json_get_text(target, where, field, required, &text, ret_error);
    if (result < 0 || !text) return result;
    if (!*text || strlen(text) > maximum)
        return error_set(ret_error, ERROR_CONFIGURATION, "the field %s.%s must have 1 to %zu bytes", where, field,
                         maximum);
    free(*ret_text);
    *ret_text = text_copy(text);
    return 0;
}

/* One of two words; *ret_second stays as it was when the field is not there. */
static int get_choice(yyjson_val *target, const char *where, const char *field, const char *first, const char *second,
                      bool *ret_second, struct error **ret_error) {
    const char *text = NULL;
    int result = json_get_text(target, where, field, false, &text, ret_error);
    if (result < 0 || !text) return result;
    *ret_second = text_equal(text, second);
    if (*ret_second || text_equal(text, first)) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION, "the field %s.%s must be %s or %s, not \"%.64s\"", where, field,
                     first, second, text);
}

/* {"tensor": "field", …} */
static int get_names(yyjson_val *target, const char *where, const char *field, struct batch_names *names,
                     struct error **ret_error) {
    yyjson_val *object = NULL, *key, *value;
    size_t index, count;
    int result = json_get_object(target, where, field, false, &object, ret_error);
    if (result < 0 || !object) return result;
    if (!yyjson_obj_size(object) || yyjson_obj_size(object) > BATCH_NAMES_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "the field %s.%s must name 1 to %d tensors", where, field,
                         BATCH_NAMES_MAXIMUM);
    names->list = mem_new_array(yyjson_obj_size(object), struct batch_name);
    yyjson_obj_foreach(object, index, count, key, value) {
        const char *text = yyjson_get_str(value);
        if (!text || !*text || strlen(text) > FIELD_MAXIMUM)
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "the field %s.%s.%.64s must be the name of a field of the rows, of 1 to %d bytes", where,
                             field, yyjson_get_str(key), FIELD_MAXIMUM);
        names->list[names->count++] =
            (struct batch_name){.tensor = text_copy(yyjson_get_str(key)), .field = text_copy(text)};
    }
    return 0;
}

/* Every column of the output has a name of its own. */
static int check_columns(const struct batch_spec *spec, const char *where, struct error **ret_error) {
    const char *id = spec->id_field ? spec->id_field : "line";
    const char *twice = text_equal(id, spec->output_field) ? id : NULL;
    for (size_t i = 0; i < spec->outputs.count; i++) {
        if (text_equal(id, spec->outputs.list[i].field)) twice = id;
        for (size_t other = 0; other < i; other++)
            if (text_equal(spec->outputs.list[i].field, spec->outputs.list[other].field))
                twice = spec->outputs.list[i].field;
    }
    if (!twice) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "%s: the output would have the field \"%.64s\" twice: name another output_field or id_field",
                     where, twice);
}

static int parse(yyjson_val *target, const char *where, struct batch_spec *spec, struct error **ret_error) {
    bool is_csv = false, skips = false, is_normal = false;
    int64_t batch_size = BATCH_SIZE_DEFAULT, part_rows = PART_ROWS_DEFAULT;
    int result;
    if ((result = get_text(target, where, "input_uri", true, URI_MAXIMUM, &spec->input_uri, ret_error)) < 0 ||
        (result = get_text(target, where, "output_uri", true, URI_MAXIMUM, &spec->output_uri, ret_error)) < 0 ||
        (result = get_choice(target, where, "format", "ndjson", "csv", &is_csv, ret_error)) < 0 ||
        (result = get_choice(target, where, "on_error", "fail", "skip", &skips, ret_error)) < 0 ||
        (result = get_choice(target, where, "priority", "idle", "normal", &is_normal, ret_error)) < 0 ||
        (result = json_get_number(target, where, "batch_size", false, 1, BATCH_SIZE_MAXIMUM, &batch_size, ret_error)) <
            0 ||
        (result = json_get_number(target, where, "part_rows", false, 1, PART_ROWS_MAXIMUM, &part_rows, ret_error)) <
            0 ||
        (result = get_text(target, where, "id_field", false, FIELD_MAXIMUM, &spec->id_field, ret_error)) < 0 ||
        (result = get_text(target, where, "input_field", false, FIELD_MAXIMUM, &spec->input_field, ret_error)) < 0 ||
        (result = get_text(target, where, "output_field", false, FIELD_MAXIMUM, &spec->output_field, ret_error)) < 0 ||
        (result = get_names(target, where, "inputs", &spec->inputs, ret_error)) < 0 ||
        (result = get_names(target, where, "outputs", &spec->outputs, ret_error)) < 0)
        return result;
    spec->format = is_csv ? BATCH_CSV : BATCH_NDJSON;
    spec->skips_errors = skips;
    spec->is_idle = !is_normal;
    spec->batch_size = (size_t)batch_size;
    spec->part_rows = (size_t)part_rows;
    if (!spec->input_field) spec->input_field = text_copy("text");
    if (!spec->output_field) spec->output_field = text_copy("embedding");
    return check_columns(spec, where, ret_error);
}

int batch_spec_parse(yyjson_val *target, const char *where, struct batch_spec *ret_spec, struct error **ret_error) {
    _cleanup_batch_spec_ struct batch_spec spec = {0};
    int result = parse(target, where, &spec, ret_error);
    if (result < 0) return result;
    *ret_spec = spec;
    spec = (struct batch_spec){0};
    return 0;
}

bool batch_is_job(const char *target_json) {
    if (!target_json || !strstr(target_json, "batch_inference_job")) return false;
    _cleanup_json_ yyjson_doc *document = yyjson_read(target_json, strlen(target_json), 0);
    return yyjson_equals_str(yyjson_obj_get(yyjson_doc_get_root(document), "type"), "batch_inference_job");
}
