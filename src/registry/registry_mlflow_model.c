/* The file MLmodel: YAML with the flavours that a model can be loaded by, and its signature
 * (https://mlflow.org/docs/latest/ml/model/). It comes from outside: libyaml reads it into nodes, of which only named
 * ones are looked at, so that aliases multiply nothing. */
#include <string.h>
#include <yaml.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_mlflow-internal.h"

#define FLAVORS_LISTED 20
#define TEXT_MAXIMUM 1024 /* bytes of what is taken over as it is */

struct reader {
    yaml_document_t document;
    yyjson_mut_doc *facts;
    yyjson_mut_val *root;
};

/* ---- nodes ---- */

static const char *text_of(const yaml_node_t *node) {
    if (!node || node->type != YAML_SCALAR_NODE) return NULL;
    const char *text = (const char *)node->data.scalar.value;
    return strlen(text) == node->data.scalar.length ? text : NULL;
}

static yaml_node_t *field_of(struct reader *reader, yaml_node_t *map, const char *field) {
    if (!map || map->type != YAML_MAPPING_NODE) return NULL;
    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top; pair++)
        if (text_equal(text_of(yaml_document_get_node(&reader->document, pair->key)), field))
            return yaml_document_get_node(&reader->document, pair->value);
    return NULL;
}

/* Not null, not a list or a map, and of a length that can be shown. */
static const char *short_text(struct reader *reader, yaml_node_t *map, const char *field) {
    const yaml_node_t *node = field_of(reader, map, field);
    const char *text = text_of(node);
    if (!text || !*text || strlen(text) > TEXT_MAXIMUM || !registry_path_is_plain(text)) return NULL;
    bool is_plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return is_plain && (!strcmp(text, "null") || !strcmp(text, "~")) ? NULL : text;
}

static int fail(const char *why, struct error **ret_error) {
    return error_set(ret_error, ERROR_MODEL_REGISTRY, "the file MLmodel %s", why);
}

/* ---- facts ---- */

static void copy_fact(struct reader *reader, yaml_node_t *map, const char *field) {
    json_add_text(reader->facts, reader->root, field, short_text(reader, map, field));
}

/* The names of the flavours, as a list in the facts and as a text for an error. Caller frees. */
static char *list_flavors(struct reader *reader, yaml_node_t *flavors) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(reader->facts, reader->root, "flavors");
    char *all = text_copy("");
    if (!flavors || flavors->type != YAML_MAPPING_NODE) return all;
    size_t count = 0;
    for (yaml_node_pair_t *pair = flavors->data.mapping.pairs.start;
         pair < flavors->data.mapping.pairs.top && count < FLAVORS_LISTED; pair++) {
        const char *name = text_of(yaml_document_get_node(&reader->document, pair->key));
        if (!name || strlen(name) > 100 || !registry_path_is_plain(name)) continue;
        yyjson_mut_arr_add_strcpy(reader->facts, list, name);
        char *longer = text_format("%s%s%s", all, count++ ? ", " : "", name);
        free(all);
        all = longer;
    }
    return all;
}

/* inputs, outputs and params are JSON in a YAML text; what is none is left out. */
static void copy_signature(struct reader *reader) {
    static const char *const parts[] = {"inputs", "outputs", "params"};
    yaml_node_t *signature = field_of(reader, yaml_document_get_root_node(&reader->document), "signature");
    if (!signature || signature->type != YAML_MAPPING_NODE) return;
    yyjson_mut_val *copy = yyjson_mut_obj(reader->facts);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        const char *text = text_of(field_of(reader, signature, parts[i]));
        _cleanup_json_ yyjson_doc *parsed = NULL;
        if (!text || json_parse(text, strlen(text), &parsed, NULL) < 0 || !yyjson_is_arr(yyjson_doc_get_root(parsed)))
            continue;
        yyjson_mut_val *value = yyjson_val_mut_copy(reader->facts, yyjson_doc_get_root(parsed));
        yyjson_mut_obj_add_val(reader->facts, copy, parts[i], value);
    }
    if (yyjson_mut_obj_size(copy)) yyjson_mut_obj_add_val(reader->facts, reader->root, "signature", copy);
}

/* ---- the whole ---- */

static int read_flavors(struct reader *reader, char **ret_onnx_path, struct error **ret_error) {
    yaml_node_t *flavors = field_of(reader, yaml_document_get_root_node(&reader->document), "flavors");
    _cleanup_free_ char *names = list_flavors(reader, flavors);
    yaml_node_t *onnx = field_of(reader, flavors, "onnx");
    if (!onnx)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the model has no flavor onnx, and only that one is served; it has %s. Log it with "
                         "mlflow.onnx.log_model",
                         *names ? names : "none");
    const char *data = short_text(reader, onnx, "data");
    if (!data) return fail("does not say which file the flavor onnx is in (flavors.onnx.data)", ret_error);
    if (!*data || !mlflow_path_is_safe(data))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the file MLmodel names %.200s as the flavor onnx's file, which is no path inside the model",
                         data);
    json_add_text(reader->facts, reader->root, "onnx_file", data);
    *ret_onnx_path = text_copy(data);
    return 0;
}

static int read_document(struct reader *reader, char **ret_onnx_path, struct error **ret_error) {
    yaml_node_t *root = yaml_document_get_root_node(&reader->document);
    if (!root || root->type != YAML_MAPPING_NODE) return fail("is not a YAML map", ret_error);
    json_add_text(reader->facts, reader->root, "format", "mlflow");
    int result = read_flavors(reader, ret_onnx_path, ret_error);
    if (result < 0) return result;
    copy_fact(reader, root, "mlflow_version");
    copy_fact(reader, root, "model_id");
    copy_fact(reader, root, "run_id");
    copy_fact(reader, root, "utc_time_created");
    copy_signature(reader);
    return 0;
}

static int load(struct reader *reader, const char *bytes, size_t size, struct error **ret_error) {
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) return fail("cannot be read: memory is gone", ret_error);
    yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, size);
    bool is_good = yaml_parser_load(&parser, &reader->document);
    size_t line = parser.problem_mark.line + 1;
    _cleanup_free_ char *problem = text_copy(parser.problem ? parser.problem : "unknown");
    yaml_parser_delete(&parser);
    if (is_good) return 0;
    return error_set(ret_error, ERROR_MODEL_REGISTRY, "the file MLmodel is not YAML: line %zu: %s", line, problem);
}

int mlflow_model_read(const char *bytes, size_t size, char **ret_onnx_path, char **ret_facts_json,
                      struct error **ret_error) {
    if (size > MLMODEL_MAXIMUM) return fail("is larger than 1 MiB", ret_error);
    struct reader reader = {0};
    int result = load(&reader, bytes, size, ret_error);
    if (result < 0) return result;
    _cleanup_json_mutable_ yyjson_mut_doc *facts = yyjson_mut_doc_new(NULL);
    reader.facts = facts;
    reader.root = yyjson_mut_obj(facts);
    yyjson_mut_doc_set_root(facts, reader.root);
    _cleanup_free_ char *onnx_path = NULL;
    result = read_document(&reader, &onnx_path, ret_error);
    yaml_document_delete(&reader.document);
    if (result < 0) return result;
    size_t written;
    *ret_facts_json = json_write(facts, &written);
    *ret_onnx_path = TAKE(onnx_path);
    return 0;
}
