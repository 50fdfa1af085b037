/* What a tokenizer makes of texts, over small vocabularies made for the purpose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "runner/tokenizer.h"

#define MAXIMUM 64

#define BERT(strip, lower)                                                                                             \
    "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"strip_accents\":" strip          \
    ",\"lowercase\":" lower "}"
#define BERT_WORDS "{\"type\":\"BertPreTokenizer\"}"
#define TOKEN(content, flags) "{\"id\":0,\"content\":\"" content "\"," flags "}"
#define PLAIN "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false"

/* A file with these parts; the vocabulary's tokens are numbered by position, [UNK] being 0. */
struct parts {
    const char *normalizer, *pre_tokenizer, *post_processor, *added_tokens;
    const char *vocabulary; /* separated by spaces */
    const char *prefix;
    int longest;
};

static struct tokenizer *open_parts(struct parts parts) {
    char vocabulary[2048] = "\"[UNK]\":0", words[1024];
    snprintf(words, sizeof words, "%s", parts.vocabulary ?: "");
    int id = 1;
    for (char *save = NULL, *word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        size_t used = strlen(vocabulary);
        snprintf(vocabulary + used, sizeof vocabulary - used, ",\"%s\":%d", word, id++);
    }
    _cleanup_free_ char *json = text_format(
        "{\"version\":\"1.0\",\"truncation\":{\"max_length\":2},\"padding\":{\"strategy\":{\"Fixed\":128},\"pad_id\":1},"
        "\"added_tokens\":[%s],\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,\"decoder\":null,"
        "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"%s\","
        "\"max_input_chars_per_word\":%d,\"vocab\":{%s}}}",
        parts.added_tokens ?: "", parts.normalizer ?: BERT("null", "true"), parts.pre_tokenizer ?: BERT_WORDS,
        parts.post_processor ?: "null", parts.prefix ?: "##", parts.longest ? parts.longest : 100, vocabulary);
    struct tokenizer *tokenizer = NULL;
    struct error *error = NULL;
    if (tokenizer_open(json, strlen(json), &tokenizer, &error) < 0) fail_msg("%s", error_text(error));
    return tokenizer;
}

/* The ids as text: "3 0 2". */
static void assert_bytes(const struct tokenizer *tokenizer, const char *text, size_t size, const char *expected) {
    int64_t ids[MAXIMUM];
    struct tokenizer_encoding encoding;
    char found[512] = "";
    _cleanup_free_ char *copy = mem_copy(text, size); /* so that a sanitizer sees a read behind it */
    assert_int_equal(tokenizer_encode(tokenizer, copy, size, ids, MAXIMUM, &encoding, NULL), 0);
    for (size_t i = 0; i < encoding.count; i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%d", i ? " " : "", (int)ids[i]);
    assert_string_equal(found, expected);
}

static void assert_ids(const struct tokenizer *tokenizer, const char *text, const char *expected) {
    assert_bytes(tokenizer, text, strlen(text), expected);
}

static void a_word_is_its_longest_pieces(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_parts((struct parts){.vocabulary = "un unaff ##aff ##able ##a able ##ble"});
    assert_ids(tokenizer, "unaffable", "2 4");
    assert_ids(tokenizer, "unable able", "1 4 6");
    assert_ids(tokenizer, "unaab", "0"); /* no piece goes on after "una", so the word as a whole is unknown */
    assert_ids(tokenizer, "x un", "0 1");
    assert_ids(tokenizer, "", "");
    assert_ids(tokenizer, " \t\r\n", "");
    tokenizer_free(tokenizer);
}

static void a_word_with_too_many_characters_is_unknown(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_parts((struct parts){.vocabulary = "a ##a \u00f8 ##\u00f8", .longest = 3});
    assert_ids(tokenizer, "aaa aaaa", "1 2 2 0");
    assert_ids(tokenizer, "\u00f8\u00f8\u00f8 \u00f8\u00f8\u00f8\u00f8", "3 4 4 0"); /* characters, not bytes */
    assert_ids(tokenizer, "a\u0301a\u0301a\u0301", "1 2 2"); /* counted in normal form */
    tokenizer_free(tokenizer);
}

static void the_continuing_prefix_may_be_empty_or_missing(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_parts((struct parts){.vocabulary = "a b ab", .prefix = ""});
    assert_ids(tokenizer, "aab", "1 3");
    tokenizer_free(tokenizer);
    tokenizer = open_parts((struct parts){.vocabulary = "a b ab", .prefix = "@@"});
    assert_ids(tokenizer, "aab ab", "0 3");
    tokenizer_free(tokenizer);
}

static void bert_text_is_cleaned_and_lowered(void **state) {
    (void)state;
    struct tokenizer *tokenizer =
        open_parts((struct parts){.vocabulary = "ab e\u0301 \u5b57 ! i \u03c3 ##\u03c3 a b ##b"});
    assert_ids(tokenizer, "AB a\u200bb a\u00adb \u00c0B", "1 1 1 1");
    assert_bytes(tokenizer, "a\0b\x7f", 4, "1");
    assert_ids(tokenizer, "a\u00a0b\u3000a\u2028b", "8 9 8 9");
    assert_ids(tokenizer, "ab\u5b57ab!!", "1 3 1 4 4");
    assert_ids(tokenizer, "\u0130", "5"); /* i and a dot above, which is stripped as an accent */
    assert_ids(tokenizer, "\u03a3\u03a3", "6 7"); /* no final sigma */
    assert_ids(tokenizer, "\ufffd\ue000\U0010fffd", ""); /* replacement and private ones are dropped, */
    assert_ids(tokenizer, "\uffff", "0"); /* unassigned ones are not */
    tokenizer_free(tokenizer);
}

static void accents_stay_where_the_file_says_so(void **state) {
    (void)state;
    const char *vocabulary = "\u00e9 \u00c9 e E i\u0307";
    struct tokenizer *kept = open_parts((struct parts){.vocabulary = vocabulary, .normalizer = BERT("false", "true")});
    assert_ids(kept, "\u00c9 \u00e9 \u0130", "1 1 5");
    tokenizer_free(kept);
    struct tokenizer *cased = open_parts((struct parts){.vocabulary = vocabulary, .normalizer = BERT("null", "false")});
    assert_ids(cased, "\u00c9 \u00e9", "2 1");
    tokenizer_free(cased);
    struct tokenizer *bare = open_parts((struct parts){.vocabulary = vocabulary, .normalizer = BERT("true", "false")});
    assert_ids(bare, "\u00c9 \u00e9", "4 3");
    tokenizer_free(bare);
}

static void normal_forms_decompose_order_and_compose(void **state) {
    (void)state;
    struct parts parts = {.vocabulary = "\u1e69 s\u0323\u0307 \ud55c \u1112\u1161\u11ab fi \ufb01 A \u212b \u00c5",
                          .normalizer = "{\"type\":\"NFC\"}"};
    struct tokenizer *tokenizer = open_parts(parts);
    assert_ids(tokenizer, "s\u0307\u0323 \u1e69", "1 1");
    assert_ids(tokenizer, "\u1112\u1161\u11ab \ufb01 \u212b", "3 6 9");
    tokenizer_free(tokenizer);
    parts.normalizer = "{\"type\":\"NFD\"}";
    tokenizer = open_parts(parts);
    assert_ids(tokenizer, "s\u0307\u0323 \u1e69 \ud55c", "2 2 4");
    tokenizer_free(tokenizer);
    parts.normalizer = "{\"type\":\"NFKC\"}";
    tokenizer = open_parts(parts);
    assert_ids(tokenizer, "\ufb01 \uff21", "5 7");
    tokenizer_free(tokenizer);
    parts.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKD\"},{\"type\":\"StripAccents\"}]}";
    tokenizer = open_parts(parts);
    assert_ids(tokenizer, "\ufb01 \u212b", "5 7");
    tokenizer_free(tokenizer);
}

static void piled_up_marks_come_into_order(void **state) {
    (void)state;
    struct tokenizer *tokenizer =
        open_parts((struct parts){.vocabulary = "e ##\u0316 ##\u0301 ##\u0300", .normalizer = "{\"type\":\"NFD\"}"});
    assert_ids(tokenizer, "e\u0301\u0300\u0316", "1 2 3 4"); /* marks of one class keep their order */
    char text[256] = "e", expected[256] = "1";
    for (int i = 0; i < 10; i++) strcat(text, "\u0301\u0316\u0300");
    for (int i = 0; i < 10; i++) strcat(expected, " 2");
    for (int i = 0; i < 10; i++) strcat(expected, " 3 4");
    assert_ids(tokenizer, text, expected);
    tokenizer_free(tokenizer);
}

static void pre_tokenizers_cut_differently(void **state) {
    (void)state;
    struct parts parts = {.vocabulary = "ab . ##. ab.. .. _ a b ab..ab", .normalizer = "null"};
    struct tokenizer *tokenizer = open_parts(parts);
    assert_ids(tokenizer, "ab.. ab", "1 2 2 1");
    tokenizer_free(tokenizer);
    parts.pre_tokenizer = "{\"type\":\"Whitespace\"}";
    tokenizer = open_parts(parts);
    assert_ids(tokenizer, "ab..\tab", "1 5 1");
    tokenizer_free(tokenizer);
    parts.pre_tokenizer = "{\"type\":\"WhitespaceSplit\"}";
    tokenizer = open_parts(parts);
    assert_ids(tokenizer, "ab..\u00a0ab", "4 1");
    tokenizer_free(tokenizer);
    parts.pre_tokenizer = "null";
    tokenizer = open_parts(parts);
    assert_ids(tokenizer, "ab..ab", "9");
    tokenizer_free(tokenizer);
}

static void bytes_that_are_not_utf8_are_replaced(void **state) {
    (void)state;
    struct tokenizer *tokenizer =
        open_parts((struct parts){.vocabulary = "\ufffd ##\ufffd a ##a", .normalizer = "null"});
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"\xff", "1"},
        {"\xc3", "1"},
        {"\xe2\x82", "1"},
        {"a\xe2\x82"
         "a",
         "3 2 4"},
        {"\xf0\x9f\x98", "1"},
        {"\xc0\x80", "1 2"},
        {"\xed\xa0\x80", "1 2 2"},
        {"\xf4\x90\x80\x80", "1 2 2 2"},
        {"\xe2\x28\xa1", "1 0 1"},
        {"\x80\x80", "1 2"},
        {"\xf0\x80\x80", "1 2 2"},
        {"\xe0\x9f\xbf", "1 2 2"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) assert_ids(tokenizer, cases[i].text, cases[i].expected);
    tokenizer_free(tokenizer);
}

static void added_tokens_are_found_in_the_text(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_parts(
        (struct parts){.vocabulary = "a [MASK]",
                       .added_tokens = TOKEN("[MASK]", PLAIN) "," TOKEN("foo", PLAIN) "," TOKEN("foobar", PLAIN)});
    assert_ids(tokenizer, "a[MASK]a [mask]", "1 2 1 0 0 0");
    assert_ids(tokenizer, "foobarfoo Foo", "4 3 0"); /* the longest; as it stands */
    assert_int_equal(tokenizer_vocabulary_size(tokenizer), 5);
    tokenizer_free(tokenizer);
}

static void an_added_token_may_be_found_in_normal_form(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_parts((struct parts){
        .vocabulary = "a ##a",
        .added_tokens =
            TOKEN("\u00c9X", "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":true")});
    assert_ids(tokenizer, "aexa \u00e9x Ex a", "1 3 1 3 3 1");
    tokenizer_free(tokenizer);
}

static void a_single_word_is_no_part_of_another(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_parts((struct parts){
        .vocabulary = "a .",
        .added_tokens = TOKEN("foo", "\"single_word\":true,\"lstrip\":false,\"rstrip\":false,\"normalized\":false")});
    assert_ids(tokenizer, "foo foo. .foo", "3 3 2 2 3");
    assert_ids(tokenizer, "foofoo foo\u0301 _foo \u5b57foo", "0 0 0 0 0 0");
    tokenizer_free(tokenizer);
}

static void stripping_takes_whitespace_along(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_parts((struct parts){
        .vocabulary = "a \u2007",
        .normalizer = "null",
        .pre_tokenizer = "null",
        .added_tokens =
            TOKEN("<l>", "\"single_word\":false,\"lstrip\":true,\"rstrip\":false,\"normalized\":false") "," TOKEN(
                "<r>", "\"single_word\":false,\"lstrip\":false,\"rstrip\":true,\"normalized\":false")});
    assert_ids(tokenizer, "a \u2007<l>\u2007", "1 3 2");
    assert_ids(tokenizer, "\u2007<r> \u2007a", "2 4 1");
    assert_ids(tokenizer, "<r> <l>", "4 3");
    tokenizer_free(tokenizer);
}

static void cutting_keeps_the_special_tokens(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_parts(
        (struct parts){.vocabulary = "a c s ##a",
                       .post_processor = "{\"type\":\"BertProcessing\",\"sep\":[\"s\",3],\"cls\":[\"c\",2]}"});
    int64_t ids[6] = {9, 9, 9, 9, 9, 9};
    struct tokenizer_encoding encoding;
    assert_int_equal(tokenizer_encode(tokenizer, "a a aaaa", 8, ids, 4, &encoding, NULL), 0);
    assert_memory_equal(ids, ((int64_t[]){2, 1, 1, 3, 9, 9}), sizeof ids);
    assert_int_equal(encoding.count, 4);
    assert_int_equal(encoding.total, 8);
    assert_true(encoding.truncated);
    assert_int_equal(tokenizer_encode(tokenizer, "a a", 3, ids, 4, &encoding, NULL), 0);
    assert_int_equal(encoding.total, 4);
    assert_false(encoding.truncated);
    assert_int_equal(tokenizer_encode(tokenizer, "a", 1, ids, 2, &encoding, NULL), 0);
    assert_memory_equal(ids, ((int64_t[]){2, 3}), 2 * sizeof *ids);
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(tokenizer_encode(tokenizer, "a", 1, ids, 1, &encoding, &error), -ERROR_CONFIGURATION);
    assert_int_equal(tokenizer_padding_id(tokenizer), 1);
    tokenizer_free(tokenizer);
}

/* Cut inside a word that then proves unknown: the id that stands there is the unknown one. */
static void cutting_inside_an_unknown_word_gives_its_id(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_parts((struct parts){.vocabulary = "a ##a b"});
    int64_t ids[2];
    struct tokenizer_encoding encoding;
    assert_int_equal(tokenizer_encode(tokenizer, "b aaax b", 8, ids, 2, &encoding, NULL), 0);
    assert_memory_equal(ids, ((int64_t[]){3, 0}), sizeof ids);
    assert_int_equal(encoding.total, 3);
    tokenizer_free(tokenizer);
}

static void a_text_beyond_the_ceiling_is_refused(void **state) {
    (void)state;
    struct tokenizer *tokenizer = open_parts((struct parts){.vocabulary = "a"});
    size_t size = TOKENIZER_MAXIMUM_TEXT + 1;
    _cleanup_free_ char *text = calloc(size, 1);
    int64_t ids[2];
    struct tokenizer_encoding encoding;
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(tokenizer_encode(tokenizer, text, size, ids, 2, &encoding, &error), -ERROR_REQUEST);
    assert_int_equal(error->http_status, 413);
    assert_int_equal(tokenizer_encode(tokenizer, text, size - 1, ids, 2, &encoding, NULL), 0);
    assert_int_equal(encoding.total, 0);
    tokenizer_free(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_is_its_longest_pieces),
        cmocka_unit_test(a_word_with_too_many_characters_is_unknown),
        cmocka_unit_test(the_continuing_prefix_may_be_empty_or_missing),
        cmocka_unit_test(bert_text_is_cleaned_and_lowered),
        cmocka_unit_test(accents_stay_where_the_file_says_so),
        cmocka_unit_test(normal_forms_decompose_order_and_compose),
        cmocka_unit_test(piled_up_marks_come_into_order),
        cmocka_unit_test(pre_tokenizers_cut_differently),
        cmocka_unit_test(bytes_that_are_not_utf8_are_replaced),
        cmocka_unit_test(added_tokens_are_found_in_the_text),
        cmocka_unit_test(an_added_token_may_be_found_in_normal_form),
        cmocka_unit_test(a_single_word_is_no_part_of_another),
        cmocka_unit_test(stripping_takes_whitespace_along),
        cmocka_unit_test(cutting_keeps_the_special_tokens),
        cmocka_unit_test(cutting_inside_an_unknown_word_gives_its_id),
        cmocka_unit_test(a_text_beyond_the_ceiling_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
