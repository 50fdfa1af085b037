/* What is refused of a tokenizer.json, and that the refusal says what was found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "runner/tokenizer.h"

#define MODEL(vocabulary)                                                                                              \
    "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","                            \
    "\"max_input_chars_per_word\":100,\"vocab\":" vocabulary "}"
#define GOOD_MODEL "\"model\":" MODEL("{\"[UNK]\":0,\"a\":1}")
#define ADDED(content, normalized)                                                                                     \
    "{\"id\":0,\"content\":\"" content                                                                                 \
    "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":" normalized "}"
#define LOWERCASE "\"normalizer\":{\"type\":\"Lowercase\"},"

/* The file is refused, and the message has these words. */
static void assert_refused(const char *json, const char *words) {
    struct tokenizer *tokenizer = NULL;
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(tokenizer_open(json, strlen(json), &tokenizer, &error), -ERROR_CONFIGURATION);
    assert_null(tokenizer);
    _cleanup_free_ char *text = error_text(error);
    if (!strstr(text, words)) fail_msg("\"%s\" does not say \"%s\"", text, words);
}

static void assert_opens(const char *json) {
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(tokenizer_open(json, strlen(json), &tokenizer, NULL), 0);
    tokenizer_free(tokenizer);
}

struct refusal {
    const char *json, *words;
};

static void assert_all_refused(const struct refusal *refusals, size_t count) {
    for (size_t i = 0; i < count; i++) assert_refused(refusals[i].json, refusals[i].words);
}

static void the_least_that_opens(void **state) {
    (void)state;
    assert_opens("{" GOOD_MODEL "}");
    assert_opens("{\"truncation\":7,\"decoder\":{\"type\":\"Mystery\"}," GOOD_MODEL "}"); /* not read */
}

static void unknown_kinds_are_named(void **state) {
    (void)state;
    static const struct refusal refusals[] = {
        {"{\"model\":{\"type\":\"BPE\"}}", "BPE"},
        {"{\"model\":{\"type\":\"Unigram\"}}", "known is WordPiece"},
        {"{\"model\":{\"vocab\":{}}}", "model.type is missing"},
        {"{\"model\":[]}", "model must be an object"},
        {"{}", "model is missing"},
        {"[]", "object"},
        {"{\"version\":\"2.0\"," GOOD_MODEL "}", "2.0"},
        {"{\"normalizer\":{\"type\":\"Precompiled\"}," GOOD_MODEL "}", "the normalizer Precompiled is not known"},
        {"{\"normalizer\":{}," GOOD_MODEL "}", "without a type"},
        {"{\"normalizer\":{\"type\":\"Sequence\"}," GOOD_MODEL "}", "normalizers"},
        {"{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Strip\"}]}," GOOD_MODEL "}", "Strip"},
        {"{\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":1}," GOOD_MODEL "}", "clean_text"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"}," GOOD_MODEL "}", "the pre_tokenizer ByteLevel is not known"},
        {"{\"post_processor\":{\"type\":\"ByteLevel\"}," GOOD_MODEL "}", "the post_processor ByteLevel is not known"},
    };
    assert_all_refused(refusals, ARRAY_SIZE(refusals));
}

static void a_broken_vocabulary_is_refused(void **state) {
    (void)state;
    static const struct refusal refusals[] = {
        {"{\"model\":" MODEL("{\"a\":0}") "}", "unknown token \"[UNK]\""},
        {"{\"model\":" MODEL("{\"[UNK]\":0,\"a\":0}") "}", "stands for two tokens"},
        {"{\"model\":" MODEL("{\"[UNK]\":0,\"a\":-1}") "}", "the id of \"a\""},
        {"{\"model\":" MODEL("{\"[UNK]\":0,\"a\":8388608}") "}", "the id of \"a\""},
        {"{\"model\":" MODEL("{\"[UNK]\":0,\"a\":18446744073709551615}") "}", "the id of \"a\""},
        {"{\"model\":" MODEL("{\"[UNK]\":0,\"a\":1.5}") "}", "the id of \"a\""},
        {"{\"model\":" MODEL("{\"[UNK]\":0,\"a\":\"1\"}") "}", "the id of \"a\""},
        {"{\"model\":" MODEL("{\"[UNK]\":0,\"[UNK]\":1}") "}", "twice"},
        {"{\"model\":" MODEL("[]") "}", "vocab must be an object"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0}}}", "unk_token is missing"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"u\":0},\"unk_token\":\"u\",\"continuing_subword_prefix\":\"\","
         "\"max_input_chars_per_word\":-1}}",
         "max_input_chars_per_word"},
    };
    assert_all_refused(refusals, ARRAY_SIZE(refusals));
    assert_opens("{\"model\":" MODEL("{\"[UNK]\":8388607,\"\":3}") "}");
}

static void a_token_has_a_ceiling(void **state) {
    (void)state;
    char token[TOKENIZER_MAXIMUM_TOKEN + 2];
    memset(token, 'a', sizeof token - 1);
    token[sizeof token - 1] = 0;
    const char *head = "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"continuing_subword_prefix\":\"\","
                       "\"max_input_chars_per_word\":9,\"vocab\":{\"u\":0,\"";
    _cleanup_free_ char *json = text_format("%s%s\":1}}}", head, token);
    assert_refused(json, "1025 bytes long");
    token[sizeof token - 2] = 0;
    _cleanup_free_ char *allowed = text_format("%s%s\":1}}}", head, token);
    assert_opens(allowed);
}

static void broken_added_tokens_are_refused(void **state) {
    (void)state;
    static const struct refusal refusals[] = {
        {"{\"added_tokens\":{}," GOOD_MODEL "}", "must be a list"},
        {"{\"added_tokens\":[1]," GOOD_MODEL "}", "list of objects"},
        {"{\"added_tokens\":[{\"id\":1}]," GOOD_MODEL "}", "content is missing"},
        {"{\"added_tokens\":[{\"id\":1,\"content\":\"x\"}]," GOOD_MODEL "}", "single_word"},
        {"{" LOWERCASE "\"added_tokens\":[" ADDED("Foo", "true") "," ADDED("foo", "true") "]," GOOD_MODEL "}", "twice"},
        {"{\"normalizer\":{\"type\":\"StripAccents\"},\"added_tokens\":[" ADDED("\u0301", "true") "]," GOOD_MODEL "}",
         "leaves nothing"},
        {"{\"added_tokens\":[" ADDED("x", "false") "],\"model\":" MODEL("{\"[UNK]\":0,\"a\":2}") "}", "gaps"},
    };
    assert_all_refused(refusals, ARRAY_SIZE(refusals));
    assert_opens("{" LOWERCASE "\"added_tokens\":[" ADDED("Foo", "true") "," ADDED("foo", "false") "]," GOOD_MODEL "}");
    assert_opens("{\"added_tokens\":[" ADDED("", "true") "," ADDED("x", "false") "," ADDED("x", "true") "]," GOOD_MODEL
                                                                                                        "}");
}

#define PIECE_A "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define TEMPLATE(pieces, tokens)                                                                                       \
    "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" pieces "],\"special_tokens\":{" tokens         \
    "}}," GOOD_MODEL "}"
#define PIECE_X "{\"SpecialToken\":{\"id\":\"X\",\"type_id\":0}}"

static void broken_post_processors_are_refused(void **state) {
    (void)state;
    static const struct refusal refusals[] = {
        {TEMPLATE("", ""), "0 times"},
        {TEMPLATE(PIECE_A "," PIECE_A, ""), "2 times"},
        {TEMPLATE("{\"Sequence\":{\"id\":\"B\",\"type_id\":0}}", ""), "the text A"},
        {TEMPLATE("{\"Sequence\":{\"id\":\"A\",\"type_id\":1}}", ""), "type_id"},
        {TEMPLATE("7", ""), "type_id"},
        {TEMPLATE(PIECE_X "," PIECE_A, ""), "no ids"},
        {TEMPLATE(PIECE_X "," PIECE_A, "\"X\":{\"ids\":[2]}"), "one of the vocabulary"},
        {TEMPLATE(PIECE_X "," PIECE_A, "\"X\":{\"ids\":[-1]}"), "one of the vocabulary"},
        {"{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"c\",1]}," GOOD_MODEL "}", "sep"},
        {"{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"c\",\"1\"],\"sep\":[\"s\",1]}," GOOD_MODEL "}",
         "cls"},
        {"{\"padding\":{\"pad_id\":2}," GOOD_MODEL "}", "pad_id"},
    };
    assert_all_refused(refusals, ARRAY_SIZE(refusals));
    assert_opens(TEMPLATE(PIECE_X "," PIECE_A "," PIECE_X, "\"X\":{\"ids\":[0,1]}"));
}

static void special_tokens_have_a_ceiling(void **state) {
    (void)state;
    char pieces[8192] = PIECE_A;
    for (int i = 0; i < 65; i++) strcat(pieces, "," PIECE_X);
    _cleanup_free_ char *json = text_format("{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[%s],"
                                            "\"special_tokens\":{\"X\":{\"ids\":[0]}}}," GOOD_MODEL "}",
                                            pieces);
    assert_refused(json, "more than 64");
}

static void normalizers_have_a_ceiling(void **state) {
    (void)state;
    char parts[4096] = "{\"type\":\"NFC\"}";
    for (int i = 0; i < 32; i++) strcat(parts, ",{\"type\":\"NFC\"}");
    _cleanup_free_ char *json =
        text_format("{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s]}," GOOD_MODEL "}", parts);
    assert_refused(json, "more than 64 steps");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_that_opens),
        cmocka_unit_test(unknown_kinds_are_named),
        cmocka_unit_test(a_broken_vocabulary_is_refused),
        cmocka_unit_test(a_token_has_a_ceiling),
        cmocka_unit_test(broken_added_tokens_are_refused),
        cmocka_unit_test(broken_post_processors_are_refused),
        cmocka_unit_test(special_tokens_have_a_ceiling),
        cmocka_unit_test(normalizers_have_a_ceiling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
