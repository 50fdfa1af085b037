#include "runner/runner_recipe-internal.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"

#define CONFIG_MAXIMUM (1u << 20)
#define TOKENIZER_MAXIMUM (64u << 20)

static const char *const override_fields[] = {"model_file", "tokenizer", "maximum_length", "pooling", "normalize",
                                              "prompts",    "kind"};

/* A JSON file of the folder: `root` NULL when there is none. */
struct config {
    yyjson_doc *document;
    yyjson_val *root;
};

struct reading {
    const char *folder;
    yyjson_val *overrides; /* NULL: none */
    struct config config, modules, sentence, tokenizer, tokenizer_config;
    struct recipe *recipe;
};

static const char *const kind_names[] = {[RECIPE_TENSOR] = "tensor", [RECIPE_EMBEDDING] = "embedding"};
static const char *const pooling_names[] = {[RECIPE_POOLING_UNKNOWN] = "unknown",
                                            [RECIPE_MEAN] = "mean",
                                            [RECIPE_CLS] = "cls",
                                            [RECIPE_MAX] = "max",
                                            [RECIPE_NONE] = "none"};

const char *recipe_pooling_name(enum recipe_pooling pooling) {
    return pooling_names[pooling];
}

/* ---- noting -------------------------------------------------------------- */

static void note(struct recipe *recipe, const char *field, yyjson_mut_val *value, const char *from) {
    yyjson_mut_doc *report = recipe->report;
    yyjson_mut_val *entry = yyjson_mut_obj(report);
    yyjson_mut_obj_add_val(report, entry, "value", value);
    yyjson_mut_obj_add_strcpy(report, entry, "from", from);
    yyjson_mut_obj_put(yyjson_mut_doc_get_root(report), yyjson_mut_strcpy(report, field), entry);
}

void recipe_note_text(struct recipe *recipe, const char *field, const char *value, const char *from) {
    note(recipe, field, yyjson_mut_strcpy(recipe->report, value), from);
}

void recipe_set_pooling(struct recipe *recipe, enum recipe_pooling pooling, const char *from) {
    recipe->pooling = pooling;
    recipe_note_text(recipe, "pooling", pooling_names[pooling], from);
}

void recipe_free(struct recipe *recipe) {
    if (!recipe) return;
    free(recipe->model_file);
    free(recipe->tokenizer_file);
    free(recipe->prompt);
    yyjson_mut_doc_free(recipe->report);
    free(recipe);
}

/* ---- files --------------------------------------------------------------- */

static bool has_file(const struct reading *reading, const char *name) {
    _cleanup_free_ char *path = fs_join(reading->folder, name);
    return fs_exists(path);
}

static int read_config(const struct reading *reading, const char *name, size_t maximum, struct config *config,
                       struct error **ret_error) {
    if (config->document || !has_file(reading, name)) return 0;
    _cleanup_free_ char *path = fs_join(reading->folder, name);
    _cleanup_free_ char *bytes = NULL;
    size_t size;
    int result = fs_read_file(path, maximum, &bytes, &size, ret_error);
    if (result == 0) result = json_parse(bytes, size, &config->document, ret_error);
    if (result < 0) {
        if (ret_error && *ret_error) (*ret_error)->class = ERROR_CONFIGURATION;
        error_wrap(ret_error, "read %s", name);
        return -ERROR_CONFIGURATION;
    }
    config->root = yyjson_doc_get_root(config->document);
    return 0;
}

/* An override that names a file: relative, inside the folder, there. */
static int check_file(const struct reading *reading, const char *field, const char *name, struct error **ret_error) {
    _cleanup_free_ char *copy = text_copy(name);
    bool inside = *name && *name != '/';
    for (char *rest = copy, *part; (part = strsep(&rest, "/"));) inside = inside && strcmp(part, "..") != 0;
    if (!inside)
        return error_set(ret_error, ERROR_CONFIGURATION, "recipe.%s must be a path inside the model folder, not %.200s",
                         field, name);
    if (!has_file(reading, name))
        return error_set(ret_error, ERROR_CONFIGURATION, "recipe.%s names %.200s, which the model folder does not have",
                         field, name);
    return 0;
}

/* ---- kind and model file ------------------------------------------------- */

static int decide_kind(struct reading *reading, struct error **ret_error) {
    struct recipe *recipe = reading->recipe;
    const char *name = NULL, *from = "recipe";
    int result = json_get_text(reading->overrides, "recipe", "kind", false, &name, ret_error);
    if (result < 0) return result;
    if (name && !text_equal(name, "tensor") && !text_equal(name, "embedding"))
        return error_set(ret_error, ERROR_CONFIGURATION, "recipe.kind must be tensor or embedding, not %.100s", name);
    if (name)
        recipe->kind = text_equal(name, "embedding") ? RECIPE_EMBEDDING : RECIPE_TENSOR;
    else if (reading->modules.root) {
        recipe->kind = RECIPE_EMBEDDING;
        from = "modules.json";
    } else if (reading->config.root && has_file(reading, "tokenizer.json")) {
        recipe->kind = RECIPE_EMBEDDING;
        from = "tokenizer.json, config.json";
    } else {
        recipe->kind = RECIPE_TENSOR;
        from = "neither modules.json nor tokenizer.json with config.json";
    }
    recipe_note_text(recipe, "kind", kind_names[recipe->kind], from);
    return 0;
}

/* Adds the .onnx files right in `subfolder` to the list, as relative paths joined by ", ". */
static size_t list_models(const struct reading *reading, const char *subfolder, struct buffer *list, char **ret_last) {
    _cleanup_free_ char *path = *subfolder ? fs_join(reading->folder, subfolder) : text_copy(reading->folder);
    DIR *folder = opendir(path);
    size_t count = 0;
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        if (!text_ends_with(entry->d_name, ".onnx")) continue;
        count++;
        free(*ret_last);
        *ret_last = *subfolder ? fs_join(subfolder, entry->d_name) : text_copy(entry->d_name);
        buffer_append_format(list, "%s%s", list->size ? ", " : "", *ret_last);
    }
    if (folder) closedir(folder);
    return count;
}

static int find_model_file(struct reading *reading, char **ret_file, struct error **ret_error) {
    _cleanup_buffer_ struct buffer list = {.maximum = 4096};
    _cleanup_free_ char *last = NULL;
    size_t count = list_models(reading, "", &list, &last) + list_models(reading, "onnx", &list, &last);
    bool plain = has_file(reading, "model.onnx"), nested = has_file(reading, "onnx/model.onnx");
    if (count == 0)
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "there is no ONNX file in the model folder: neither model.onnx nor onnx/model.onnx nor another *.onnx");
    if (plain != nested)
        *ret_file = text_copy(plain ? "model.onnx" : "onnx/model.onnx");
    else if (count == 1)
        *ret_file = TAKE(last);
    else
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the model folder has several ONNX files (%s): name one with recipe.model_file", list.bytes);
    return 0;
}

static int decide_model_file(struct reading *reading, struct error **ret_error) {
    struct recipe *recipe = reading->recipe;
    const char *name = NULL;
    int result = json_get_text(reading->overrides, "recipe", "model_file", false, &name, ret_error);
    if (result < 0) return result;
    if (name) {
        result = check_file(reading, "model_file", name, ret_error);
        if (result == 0 && !text_ends_with(name, ".onnx"))
            result = error_set(ret_error, ERROR_CONFIGURATION, "recipe.model_file must name an .onnx file, not %.200s",
                               name);
        if (result == 0) recipe->model_file = text_copy(name);
    } else {
        result = find_model_file(reading, &recipe->model_file, ret_error);
    }
    if (result == 0) recipe_note_text(recipe, "model_file", recipe->model_file, name ? "recipe" : "the folder's files");
    return result;
}

/* ---- embedding ----------------------------------------------------------- */

static int decide_tokenizer(struct reading *reading, struct error **ret_error) {
    struct recipe *recipe = reading->recipe;
    const char *name = "tokenizer.json", *type = NULL;
    int result = json_get_text(reading->overrides, "recipe", "tokenizer", false, &name, ret_error);
    if (result == 0 && !has_file(reading, "tokenizer.json") && text_equal(name, "tokenizer.json"))
        result =
            error_set(ret_error, ERROR_CONFIGURATION,
                      "the model folder has no tokenizer.json; save the tokenizer in its fast form beside the model");
    if (result == 0) result = check_file(reading, "tokenizer", name, ret_error);
    if (result == 0) result = read_config(reading, name, TOKENIZER_MAXIMUM, &reading->tokenizer, ret_error);
    if (result < 0) return result;
    recipe->tokenizer_file = text_copy(name);
    yyjson_val *model = yyjson_obj_get(reading->tokenizer.root, "model");
    type = yyjson_get_str(yyjson_obj_get(model, "type"));
    recipe_note_text(recipe, "tokenizer", type ? type : "unknown", name);
    yyjson_val *normalizer = yyjson_obj_get(reading->tokenizer.root, "normalizer");
    if (yyjson_is_true(yyjson_obj_get(reading->sentence.root, "do_lower_case")) &&
        !yyjson_is_true(yyjson_obj_get(normalizer, "lowercase")))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "sentence_bert_config.json asks for lower case, but the tokenizer does not make it");
    return 0;
}

struct limit {
    int64_t value; /* 0: not said */
    const char *from;
};

static int read_limit(const struct config *config, const char *file, const char *field, struct limit *limit,
                      struct error **ret_error) {
    int64_t value = 0;
    yyjson_val *found = yyjson_obj_get(config->root, field);
    if (yyjson_is_real(found) && yyjson_get_real(found) > 1e6) return 0; /* tokenizer_config.json's "no limit", 1e30 */
    int result = json_get_number(config->root, file, field, false, 1, INT64_MAX, &value, ret_error);
    if (result < 0) return result;
    if (value == 0 || value > 1000000000) return 0; /* the same as a whole number */
    if (limit->value == 0 || value < limit->value) *limit = (struct limit){value, file};
    return 0;
}

static int decide_length(struct reading *reading, struct error **ret_error) {
    struct recipe *recipe = reading->recipe;
    struct limit given = {0}, positions = {0}, length = {0};
    int result = json_get_number(reading->overrides, "recipe", "maximum_length", false, 3, RECIPE_LENGTH_MAXIMUM,
                                 &given.value, ret_error);
    if (result == 0)
        result = read_limit(&reading->config, "config.json", "max_position_embeddings", &positions, ret_error);
    if (result == 0)
        result = read_limit(&reading->sentence, "sentence_bert_config.json", "max_seq_length", &length, ret_error);
    if (result == 0 && length.value == 0)
        result =
            read_limit(&reading->tokenizer_config, "tokenizer_config.json", "model_max_length", &length, ret_error);
    if (result < 0) return result;
    if (given.value) {
        if (positions.value && given.value > positions.value)
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "recipe.maximum_length %lld is more than the model's %lld positions",
                             (long long)given.value, (long long)positions.value);
        length = (struct limit){given.value, "recipe"};
    } else if (positions.value && (length.value == 0 || positions.value < length.value)) {
        length = positions;
    }
    if (length.value == 0)
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "no file says how long a text may be (sentence_bert_config.json max_seq_length, "
            "tokenizer_config.json model_max_length, config.json max_position_embeddings): set recipe.maximum_length");
    if (length.value < 3 || length.value > RECIPE_LENGTH_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s allows texts of %lld tokens; 3 to %d can be served",
                         length.from, (long long)length.value, RECIPE_LENGTH_MAXIMUM);
    recipe->maximum_length = (size_t)length.value;
    note(recipe, "maximum_length", yyjson_mut_sint(recipe->report, length.value), length.from);
    return 0;
}

/* The one mode that a Pooling module's config.json switches on. */
static int read_pooling_file(struct reading *reading, const char *file, struct error **ret_error) {
    static const struct {
        const char *field;
        enum recipe_pooling pooling;
    } modes[] = {{"pooling_mode_cls_token", RECIPE_CLS},
                 {"pooling_mode_mean_tokens", RECIPE_MEAN},
                 {"pooling_mode_max_tokens", RECIPE_MAX},
                 {"pooling_mode_mean_sqrt_len_tokens", RECIPE_POOLING_UNKNOWN},
                 {"pooling_mode_weightedmean_tokens", RECIPE_POOLING_UNKNOWN},
                 {"pooling_mode_lasttoken", RECIPE_POOLING_UNKNOWN}};
    struct config config = {0};
    int result = read_config(reading, file, CONFIG_MAXIMUM, &config, ret_error);
    size_t found = 0, chosen = 0;
    for (size_t i = 0; result == 0 && i < ARRAY_SIZE(modes); i++) {
        bool on = false;
        result = json_get_boolean(config.root, file, modes[i].field, &on, ret_error);
        if (on) chosen = i, found++;
    }
    yyjson_doc_free(config.document);
    if (result < 0) return result;
    if (found != 1)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s switches %zu ways of pooling on; exactly one can be served: set recipe.pooling", file,
                         found);
    if (modes[chosen].pooling == RECIPE_POOLING_UNKNOWN)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s asks for %s, which is not one of mean, cls, max", file,
                         modes[chosen].field);
    recipe_set_pooling(reading->recipe, modes[chosen].pooling, file);
    return 0;
}

static int override_pooling(struct reading *reading, const char *name, struct error **ret_error) {
    for (size_t i = RECIPE_MEAN; i < ARRAY_SIZE(pooling_names); i++) {
        if (!text_equal(name, pooling_names[i])) continue;
        recipe_set_pooling(reading->recipe, (enum recipe_pooling)i, "recipe");
        return 0;
    }
    return error_set(ret_error, ERROR_CONFIGURATION, "recipe.pooling must be mean, cls, max or none, not %.100s", name);
}

/* One entry of modules.json: {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}. */
static int read_module(struct reading *reading, yyjson_val *module, bool pooling_given, bool *normalizes,
                       struct error **ret_error) {
    const char *type = NULL, *path = "";
    int result = json_get_text(module, "modules.json", "type", true, &type, ret_error);
    if (result == 0) result = json_get_text(module, "modules.json", "path", false, &path, ret_error);
    if (result < 0) return result;
    const char *name = strrchr(type, '.') ? strrchr(type, '.') + 1 : type;
    if (text_equal(name, "Transformer")) return 0;
    if (text_equal(name, "Normalize")) {
        *normalizes = true;
        return 0;
    }
    if (!text_equal(name, "Pooling"))
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "modules.json has a module of type %.100s; only Transformer, Pooling and Normalize can be served", type);
    if (pooling_given) return 0;
    _cleanup_free_ char *file = fs_join(*path ? path : "1_Pooling", "config.json");
    if (*path == '/' || strstr(path, "..") || !has_file(reading, file))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "modules.json puts the pooling in %.200s, which the folder does not have", path);
    return read_pooling_file(reading, file, ret_error);
}

static int decide_pooling(struct reading *reading, struct error **ret_error) {
    const char *name = NULL;
    bool normalizes = false, given = false;
    int result = json_get_text(reading->overrides, "recipe", "pooling", false, &name, ret_error);
    if (result == 0 && name) result = override_pooling(reading, name, ret_error);
    if (result < 0) return result;
    if (reading->modules.root && !yyjson_is_arr(reading->modules.root))
        return error_set(ret_error, ERROR_CONFIGURATION, "modules.json must be a list");
    size_t index, count;
    yyjson_val *module;
    yyjson_arr_foreach(reading->modules.root, index, count, module) {
        result = read_module(reading, module, name != NULL, &normalizes, ret_error);
        if (result < 0) return result;
    }
    if (!reading->modules.root && !name && has_file(reading, "1_Pooling/config.json"))
        result = read_pooling_file(reading, "1_Pooling/config.json", ret_error);
    if (result < 0) return result;
    yyjson_val *override = yyjson_obj_get(reading->overrides, "normalize");
    given = override && !yyjson_is_null(override);
    result = json_get_boolean(reading->overrides, "recipe", "normalize", &normalizes, ret_error);
    reading->recipe->normalize = normalizes;
    note(reading->recipe, "normalize", yyjson_mut_bool(reading->recipe->report, normalizes),
         given                   ? "recipe"
         : reading->modules.root ? "modules.json"
                                 : "no modules.json");
    return result;
}

/* Prompts by name; the one called "default" (or named so by default_prompt_name) goes in front of every text. */
static int note_prompts(struct reading *reading, yyjson_val *prompts, const char *chosen, const char *from,
                        struct error **ret_error) {
    struct recipe *recipe = reading->recipe;
    size_t index, count;
    yyjson_val *key, *value;
    yyjson_obj_foreach(prompts, index, count, key, value) {
        if (!yyjson_is_str(value) || strlen(yyjson_get_str(value)) != yyjson_get_len(value) ||
            yyjson_get_len(value) > 65536)
            return error_set(ret_error, ERROR_CONFIGURATION, "the prompt %.100s in %s is not a text of at most 64 KiB",
                             yyjson_get_str(key), from);
    }
    yyjson_val *text = chosen ? yyjson_obj_get(prompts, chosen) : NULL;
    if (chosen && !text && !text_equal(chosen, "default"))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s makes %.100s the default prompt, but has none of that name", from, chosen);
    recipe->prompt = text_copy(text ? yyjson_get_str(text) : "");
    if (yyjson_obj_size(prompts)) note(recipe, "prompts", yyjson_val_mut_copy(recipe->report, prompts), from);
    if (*recipe->prompt) recipe_note_text(recipe, "prompt", recipe->prompt, from);
    return 0;
}

static int decide_prompts(struct reading *reading, struct error **ret_error) {
    static const char file[] = "config_sentence_transformers.json";
    yyjson_val *prompts = NULL;
    const char *chosen = "default", *from = "recipe";
    struct config config = {0};
    int result = json_get_object(reading->overrides, "recipe", "prompts", false, &prompts, ret_error);
    if (result == 0 && !prompts) {
        chosen = NULL;
        from = file;
        result = read_config(reading, file, CONFIG_MAXIMUM, &config, ret_error);
        if (result == 0) result = json_get_object(config.root, file, "prompts", false, &prompts, ret_error);
        if (result == 0) result = json_get_text(config.root, file, "default_prompt_name", false, &chosen, ret_error);
    }
    if (result == 0) result = note_prompts(reading, prompts, chosen, from, ret_error);
    yyjson_doc_free(config.document);
    return result;
}

/* A folder that would be taken for an embedding model by its files alone, but whose head answers something else. */
static int check_architecture(const struct reading *reading, struct error **ret_error) {
    yyjson_val *list = yyjson_obj_get(reading->config.root, "architectures");
    const char *name = yyjson_get_str(yyjson_arr_get_first(list));
    if (reading->modules.root || yyjson_obj_get(reading->overrides, "kind")) return 0;
    const char *task = name ? strstr(name, "For") : NULL;
    if (!task || text_equal(task, "ForMaskedLM"))
        return 0; /* its encoder is what embeds; the outputs are checked later */
    return error_set(
        ret_error, ERROR_CONFIGURATION,
        "config.json names the architecture %.100s, which is not one that embeds: set recipe.kind to tensor, or to "
        "embedding if its graph gives embeddings all the same",
        name);
}

/* ---- all ----------------------------------------------------------------- */

static int decide(struct reading *reading, struct error **ret_error) {
    static int (*const embedding_steps[])(struct reading *, struct error **) = {decide_tokenizer, decide_length,
                                                                                decide_pooling, decide_prompts};
    int result = read_config(reading, "config.json", CONFIG_MAXIMUM, &reading->config, ret_error);
    if (result == 0) result = read_config(reading, "modules.json", CONFIG_MAXIMUM, &reading->modules, ret_error);
    if (result == 0) result = decide_kind(reading, ret_error);
    if (result == 0) result = decide_model_file(reading, ret_error);
    if (result < 0 || reading->recipe->kind == RECIPE_TENSOR) return result;
    result = check_architecture(reading, ret_error);
    if (result == 0)
        result = read_config(reading, "sentence_bert_config.json", CONFIG_MAXIMUM, &reading->sentence, ret_error);
    if (result == 0)
        result = read_config(reading, "tokenizer_config.json", CONFIG_MAXIMUM, &reading->tokenizer_config, ret_error);
    for (size_t i = 0; result == 0 && i < ARRAY_SIZE(embedding_steps); i++)
        result = embedding_steps[i](reading, ret_error);
    return result;
}

int recipe_read(const char *folder, const char *overrides_json, struct recipe **ret_recipe, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *overrides = NULL;
    struct reading reading = {.folder = folder};
    if (overrides_json && *overrides_json) {
        int result =
            json_parse_object(overrides_json, strlen(overrides_json), &overrides, &reading.overrides, ret_error);
        if (result == 0)
            result =
                json_check_fields(reading.overrides, "recipe", override_fields, ARRAY_SIZE(override_fields), ret_error);
        if (result < 0) return error_wrap(ret_error, "read the recipe's overrides");
    }
    struct recipe *recipe = reading.recipe = mem_new(struct recipe);
    recipe->report = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(recipe->report, yyjson_mut_obj(recipe->report));
    int result = decide(&reading, ret_error);
    struct config *const configs[] = {&reading.config, &reading.modules, &reading.sentence, &reading.tokenizer,
                                      &reading.tokenizer_config};
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++) yyjson_doc_free(configs[i]->document);
    if (result < 0) {
        recipe_free(recipe);
        return error_wrap(ret_error, "read the recipe of %s", folder);
    }
    *ret_recipe = recipe;
    return 0;
}

void recipe_encoder_digest(const struct recipe *recipe, const char *package_digest, char ret_digest[DIGEST_HEX_SIZE]) {
    _cleanup_json_mutable_ yyjson_mut_doc *values = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(values);
    yyjson_mut_doc_set_root(values, root);
    size_t index, count;
    yyjson_mut_val *key, *entry;
    yyjson_mut_obj_foreach(yyjson_mut_doc_get_root(recipe->report), index, count, key, entry) {
        yyjson_mut_val *value = yyjson_mut_obj_get(entry, "value");
        yyjson_mut_obj_add(root, yyjson_mut_strcpy(values, yyjson_mut_get_str(key)),
                           yyjson_mut_val_mut_copy(values, value));
    }
    _cleanup_json_ yyjson_doc *frozen = yyjson_mut_doc_imut_copy(values, NULL);
    _cleanup_free_ char *text = json_write_canonical(yyjson_doc_get_root(frozen));
    struct digest *digest = digest_new();
    _cleanup_free_ char *head = text_format("%s\n%d\n", package_digest, RECIPE_VERSION);
    digest_update(digest, head, strlen(head));
    digest_update(digest, text, strlen(text));
    digest_finish(digest, ret_digest);
}
