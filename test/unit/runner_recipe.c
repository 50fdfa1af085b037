/* The recipe: what is read from which file, and what is refused rather than guessed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "runner/runner_folder-internal.h"
#include "runner/runner_recipe-internal.h"
#include "support/scratch.h"

static const char modules[] =
    "[{\"idx\":0,\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
    "{\"idx\":1,\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"},"
    "{\"idx\":2,\"path\":\"2_Normalize\",\"type\":\"sentence_transformers.models.Normalize\"}]";

static int make_folder(void **state) {
    char *folder = scratch_new();
    scratch_write_text(folder, "model.onnx", "x");
    scratch_write_text(folder, "tokenizer.json", "{\"model\":{\"type\":\"WordPiece\"}}");
    scratch_write_text(folder, "config.json", "{\"architectures\":[\"BertModel\"],\"max_position_embeddings\":512}");
    scratch_write_text(folder, "modules.json", modules);
    scratch_write_text(folder, "1_Pooling/config.json",
                       "{\"pooling_mode_mean_tokens\":true,\"pooling_mode_cls_token\":false}");
    scratch_write_text(folder, "sentence_bert_config.json", "{\"max_seq_length\":256,\"do_lower_case\":false}");
    *state = folder;
    return 0;
}

static int remove_folder(void **state) {
    scratch_free(*state);
    return 0;
}

static struct recipe *read_well(const char *folder, const char *overrides) {
    struct recipe *recipe = NULL;
    _cleanup_error_ struct error *error = NULL;
    if (recipe_read(folder, overrides, &recipe, &error) < 0) {
        _cleanup_free_ char *text = error_text(error);
        fail_msg("%s", text);
    }
    return recipe;
}

static void refuses(const char *folder, const char *overrides, const char *because) {
    struct recipe *recipe = NULL;
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(recipe_read(folder, overrides, &recipe, &error), -ERROR_CONFIGURATION);
    assert_null(recipe);
    assert_false(error->transient);
    _cleanup_free_ char *text = error_text(error);
    if (!strstr(text, because)) fail_msg("\"%s\" does not say \"%s\"", text, because);
}

static const char *told(const struct recipe *recipe, const char *path) {
    return yyjson_mut_get_str(yyjson_mut_doc_ptr_get(recipe->report, path));
}

static void a_sentence_transformers_folder_is_read_with_its_sources(void **state) {
    struct recipe *recipe = read_well(*state, NULL);
    assert_int_equal(recipe->kind, RECIPE_EMBEDDING);
    assert_string_equal(recipe->model_file, "model.onnx");
    assert_int_equal(recipe->maximum_length, 256);
    assert_int_equal(recipe->pooling, RECIPE_MEAN);
    assert_true(recipe->normalize);
    assert_string_equal(recipe->prompt, "");
    assert_string_equal(told(recipe, "/tokenizer/value"), "WordPiece");
    assert_string_equal(told(recipe, "/tokenizer/from"), "tokenizer.json");
    assert_string_equal(told(recipe, "/pooling/from"), "1_Pooling/config.json");
    assert_string_equal(told(recipe, "/normalize/from"), "modules.json");
    assert_string_equal(told(recipe, "/maximum_length/from"), "sentence_bert_config.json");
    recipe_free(recipe);
}

static void overrides_win_and_are_named_as_the_source(void **state) {
    struct recipe *recipe = read_well(*state, "{\"pooling\":\"cls\",\"normalize\":false,\"maximum_length\":64,"
                                              "\"prompts\":{\"default\":\"query: \",\"other\":\"o: \"}}");
    assert_int_equal(recipe->pooling, RECIPE_CLS);
    assert_false(recipe->normalize);
    assert_int_equal(recipe->maximum_length, 64);
    assert_string_equal(recipe->prompt, "query: ");
    assert_string_equal(told(recipe, "/pooling/from"), "recipe");
    assert_string_equal(told(recipe, "/normalize/from"), "recipe");
    recipe_free(recipe);
}

static void wrong_overrides_are_refused_by_name(void **state) {
    refuses(*state, "{\"poling\":\"cls\"}", "poling");
    refuses(*state, "{\"pooling\":\"median\"}", "median");
    refuses(*state, "{\"kind\":\"picture\"}", "picture");
    refuses(*state, "{\"maximum_length\":513}", "512 positions");
    refuses(*state, "{\"maximum_length\":\"64\"}", "maximum_length");
    refuses(*state, "{\"model_file\":\"../model.onnx\"}", "inside the model folder");
    refuses(*state, "{\"model_file\":\"/etc/passwd\"}", "inside the model folder");
    refuses(*state, "{\"model_file\":\"tokenizer.json\"}", ".onnx");
    refuses(*state, "{\"model_file\":\"other.onnx\"}", "does not have");
    refuses(*state, "{\"tokenizer\":\"../x.json\"}", "inside the model folder");
    refuses(*state, "{\"prompts\":{\"default\":1}}", "prompt");
    refuses(*state, "[1]", "object");
    refuses(*state, "{", "malformed");
}

static void several_model_files_are_listed_until_one_is_named(void **state) {
    const char *folder = *state;
    scratch_write_text(folder, "onnx/model.onnx", "x");
    refuses(folder, NULL, "onnx/model.onnx");
    refuses(folder, NULL, "recipe.model_file");
    struct recipe *recipe = read_well(folder, "{\"model_file\":\"onnx/model.onnx\"}");
    assert_string_equal(recipe->model_file, "onnx/model.onnx");
    recipe_free(recipe);
}

static void a_folder_without_a_model_is_refused(void **state) {
    const char *folder = *state;
    _cleanup_free_ char *path = scratch_path(folder, "model.onnx");
    assert_int_equal(remove(path), 0);
    refuses(folder, NULL, "no ONNX file");
}

static void a_bare_model_is_a_tensor_model(void **state) {
    (void)state;
    char *folder = scratch_new();
    scratch_write_text(folder, "anything.onnx", "x");
    struct recipe *recipe = read_well(folder, "");
    assert_int_equal(recipe->kind, RECIPE_TENSOR);
    assert_string_equal(recipe->model_file, "anything.onnx");
    recipe_free(recipe);
    scratch_free(folder);
}

static void a_plain_transformer_does_not_get_a_pooling_by_guess(void **state) {
    const char *folder = *state;
    _cleanup_free_ char *path = scratch_path(folder, "modules.json");
    _cleanup_free_ char *pooling = scratch_path(folder, "1_Pooling/config.json");
    assert_int_equal(remove(path), 0);
    assert_int_equal(remove(pooling), 0);
    struct recipe *recipe = read_well(folder, NULL);
    assert_int_equal(recipe->kind, RECIPE_EMBEDDING);
    assert_int_equal(recipe->pooling, RECIPE_POOLING_UNKNOWN);
    assert_false(recipe->normalize);
    recipe_free(recipe);
}

static void a_classifier_is_not_taken_for_an_embedding_model(void **state) {
    const char *folder = *state;
    _cleanup_free_ char *path = scratch_path(folder, "modules.json");
    assert_int_equal(remove(path), 0);
    scratch_write_text(folder, "config.json",
                       "{\"architectures\":[\"BertForSequenceClassification\"],\"max_position_embeddings\":512}");
    refuses(folder, NULL, "BertForSequenceClassification");
    struct recipe *recipe = read_well(folder, "{\"kind\":\"tensor\"}");
    assert_int_equal(recipe->kind, RECIPE_TENSOR);
    recipe_free(recipe);
}

static void modules_and_poolings_that_are_not_served_are_refused(void **state) {
    const char *folder = *state;
    scratch_write_text(folder, "1_Pooling/config.json",
                       "{\"pooling_mode_mean_tokens\":true,\"pooling_mode_cls_token\":true}");
    refuses(folder, NULL, "2 ways of pooling");
    scratch_write_text(folder, "1_Pooling/config.json", "{\"pooling_mode_lasttoken\":true}");
    refuses(folder, NULL, "pooling_mode_lasttoken");
    scratch_write_text(folder, "modules.json",
                       "[{\"type\":\"sentence_transformers.models.Dense\",\"path\":\"2_Dense\"}]");
    refuses(folder, NULL, "Dense");
    scratch_write_text(folder, "modules.json",
                       "[{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"../outside\"}]");
    refuses(folder, NULL, "../outside");
    scratch_write_text(folder, "modules.json", "{}");
    refuses(folder, NULL, "list");
}

static void the_smaller_of_two_lengths_counts(void **state) {
    const char *folder = *state;
    scratch_write_text(folder, "config.json", "{\"max_position_embeddings\":128}");
    struct recipe *recipe = read_well(folder, NULL);
    assert_int_equal(recipe->maximum_length, 128);
    assert_string_equal(told(recipe, "/maximum_length/from"), "config.json");
    recipe_free(recipe);
    scratch_write_text(folder, "config.json", "{}");
    scratch_write_text(folder, "sentence_bert_config.json", "{}");
    refuses(folder, NULL, "recipe.maximum_length");
    scratch_write_text(folder, "tokenizer_config.json", "{\"model_max_length\":1000000000000000019884624838656}");
    refuses(folder, NULL, "recipe.maximum_length"); /* how that file says: no limit */
    scratch_write_text(folder, "tokenizer_config.json", "{\"model_max_length\":77}");
    recipe = read_well(folder, NULL);
    assert_int_equal(recipe->maximum_length, 77);
    recipe_free(recipe);
}

static void the_default_prompt_of_the_files_is_used(void **state) {
    const char *folder = *state;
    scratch_write_text(
        folder, "config_sentence_transformers.json",
        "{\"prompts\":{\"query\":\"query: \",\"passage\":\"passage: \"},\"default_prompt_name\":\"passage\"}");
    struct recipe *recipe = read_well(folder, NULL);
    assert_string_equal(recipe->prompt, "passage: ");
    recipe_free(recipe);
    scratch_write_text(folder, "config_sentence_transformers.json",
                       "{\"prompts\":{},\"default_prompt_name\":\"gone\"}");
    refuses(folder, NULL, "gone");
}

static void the_encoder_digest_follows_values_not_sources(void **state) {
    char first[DIGEST_HEX_SIZE], second[DIGEST_HEX_SIZE];
    struct recipe *from_files = read_well(*state, NULL), *overridden = read_well(*state, "{\"pooling\":\"mean\"}");
    recipe_encoder_digest(from_files, "abc", first);
    recipe_encoder_digest(overridden, "abc", second);
    assert_string_equal(first, second);
    recipe_encoder_digest(from_files, "abd", second);
    assert_string_not_equal(first, second);
    recipe_free(overridden);
    overridden = read_well(*state, "{\"pooling\":\"max\"}");
    recipe_encoder_digest(overridden, "abc", second);
    assert_string_not_equal(first, second);
    recipe_free(overridden);
    recipe_free(from_files);
}

static void the_digest_of_a_folder_is_that_of_its_lines_by_path(void **state) {
    (void)state;
    char *folder = scratch_new();
    scratch_write_text(folder, "b", "2");
    scratch_write_text(folder, "a/z", "1");
    char digest[DIGEST_HEX_SIZE], expected[DIGEST_HEX_SIZE];
    assert_int_equal(runner_folder_measure(folder, digest, NULL), 0);
    static const char lines[] = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b 1 a/z\n"
                                "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35 1 b\n";
    digest_bytes(lines, sizeof lines - 1, expected);
    assert_string_equal(digest, expected);
    scratch_free(folder);
}

int main(void) {
#define RECIPE_TEST(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        RECIPE_TEST(a_sentence_transformers_folder_is_read_with_its_sources),
        RECIPE_TEST(overrides_win_and_are_named_as_the_source),
        RECIPE_TEST(wrong_overrides_are_refused_by_name),
        RECIPE_TEST(several_model_files_are_listed_until_one_is_named),
        RECIPE_TEST(a_folder_without_a_model_is_refused),
        cmocka_unit_test(a_bare_model_is_a_tensor_model),
        RECIPE_TEST(a_plain_transformer_does_not_get_a_pooling_by_guess),
        RECIPE_TEST(a_classifier_is_not_taken_for_an_embedding_model),
        RECIPE_TEST(modules_and_poolings_that_are_not_served_are_refused),
        RECIPE_TEST(the_smaller_of_two_lengths_counts),
        RECIPE_TEST(the_default_prompt_of_the_files_is_used),
        RECIPE_TEST(the_encoder_digest_follows_values_not_sources),
        cmocka_unit_test(the_digest_of_a_folder_is_that_of_its_lines_by_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
