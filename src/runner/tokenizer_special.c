#include "runner/tokenizer_special-internal.h"

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"

struct reading {
    yyjson_val *json; /* of the post-processor */
    int64_t highest_id;
    struct special_tokens special;
};

static int add_id(struct reading *reading, struct special_ids *ids, yyjson_val *value, const char *name,
                  struct error **ret_error) {
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) > INT64_MAX ||
        (int64_t)yyjson_get_uint(value) > reading->highest_id)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "post_processor: the id of %.64s must be one of the vocabulary", name);
    if (ids->count == SPECIAL_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "post_processor: more than %d special tokens",
                         SPECIAL_MAXIMUM);
    ids->ids[ids->count++] = (int64_t)yyjson_get_uint(value);
    return 0;
}

/* A pair ["[CLS]", 101]. */
static int add_pair(struct reading *reading, const char *field, struct special_ids *ids, struct error **ret_error) {
    yyjson_val *pair = yyjson_obj_get(reading->json, field);
    if (!yyjson_is_arr(pair) || yyjson_arr_size(pair) != 2)
        return error_set(ret_error, ERROR_CONFIGURATION, "post_processor.%s must be a token with its id", field);
    return add_id(reading, ids, yyjson_arr_get(pair, 1), field, ret_error);
}

static int read_bert(struct reading *reading, struct error **ret_error) {
    int result = add_pair(reading, "cls", &reading->special.before, ret_error);
    return result < 0 ? result : add_pair(reading, "sep", &reading->special.behind, ret_error);
}

/* {"SpecialToken": {"id": name, ...}}: the ids of special_tokens[name]. */
static int add_template_token(struct reading *reading, yyjson_val *piece, struct special_ids *ids,
                              struct error **ret_error) {
    const char *name = NULL;
    int result = json_get_text(piece, "post_processor.single.SpecialToken", "id", true, &name, ret_error);
    if (result < 0) return result;
    yyjson_val *token = yyjson_obj_get(yyjson_obj_get(reading->json, "special_tokens"), name), *id;
    if (!yyjson_is_arr(yyjson_obj_get(token, "ids")))
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "post_processor.single names the special token %.64s, but post_processor.special_tokens has no ids "
            "for it",
            name);
    size_t index, maximum;
    yyjson_arr_foreach(yyjson_obj_get(token, "ids"), index, maximum, id) {
        result = add_id(reading, ids, id, name, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

static int read_template(struct reading *reading, struct error **ret_error) {
    yyjson_val *single = yyjson_obj_get(reading->json, "single"), *piece;
    size_t index, maximum, texts = 0;
    yyjson_arr_foreach(single, index, maximum, piece) {
        yyjson_val *text = yyjson_obj_get(piece, "Sequence"), *token = yyjson_obj_get(piece, "SpecialToken");
        int64_t type_id = 0;
        int result =
            json_get_number(text ? text : token, "post_processor.single", "type_id", true, 0, 0, &type_id, ret_error);
        if (result == 0 && text && !yyjson_equals_str(yyjson_obj_get(text, "id"), "A"))
            result =
                error_set(ret_error, ERROR_CONFIGURATION, "post_processor.single must have the text A and no other");
        if (result == 0 && !text)
            result = add_template_token(reading, token, texts ? &reading->special.behind : &reading->special.before,
                                        ret_error);
        if (result < 0) return result;
        texts += text != NULL;
    }
    if (texts == 1) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "post_processor.single must have the text A once; it has it %zu times", texts);
}

static const struct kind {
    const char *name;
    int (*read)(struct reading *reading, struct error **ret_error);
} kinds[] = {
    {"TemplateProcessing", read_template},
    {"BertProcessing", read_bert},
    {"RobertaProcessing", read_bert}, /* differs for pairs of texts and for offsets only */
};

int special_open(yyjson_val *json, int64_t highest_id, struct special_tokens *ret_special, struct error **ret_error) {
    struct reading reading = {.json = json, .highest_id = highest_id};
    const char *type = yyjson_get_str(yyjson_obj_get(json, "type"));
    *ret_special = reading.special;
    if (!json || yyjson_is_null(json)) return 0;
    for (size_t i = 0; type && i < ARRAY_SIZE(kinds); i++) {
        if (!text_equal(type, kinds[i].name)) continue;
        int result = kinds[i].read(&reading, ret_error);
        if (result == 0) *ret_special = reading.special;
        return result;
    }
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "the post_processor %.64s is not known; known are TemplateProcessing, BertProcessing and "
                     "RobertaProcessing",
                     type ? type : "without a type");
}
