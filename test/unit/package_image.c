/* A package as an image: the same bytes everywhere, readable from anywhere, and what its parts say of each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "package/package_image.h"
#include "support/scratch.h"

static struct error *error;

static void expect_success(int result) {
    if (result >= 0) return;
    _cleanup_free_ char *text = error_text(error);
    fail_msg("got %d: %s", result, text);
}

static const char long_name[] =
    "a-folder-with-a-name-of-some-length/and-another-one-in-it-with-a-name-that-is-as-long/and-then-a-file-in-it.onnx";

static const struct {
    const char *name, *text;
} files[] = {
    {"model.onnx", "weights"},
    {"1_Pooling/config.json", "{}"},
    {"onnx/a/b.onnx", ""},
    {"onnx-b/x", "between names"},
    {"m\xc3\xb6"
     "del/\xce\xb1.txt",
     "letters"},
    {long_name, "long"},
};

static int set_up(void **state) {
    *state = scratch_new();
    return 0;
}

static int tear_down(void **state) {
    scratch_free(*state);
    return 0;
}

/* In the table's order, or the other way round with other modes and times. */
static char *write_model(const char *scratch, const char *name, bool otherwise) {
    char *folder = scratch_path(scratch, name);
    scratch_make_folder(scratch, name);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        size_t at = otherwise ? ARRAY_SIZE(files) - 1 - i : i;
        scratch_write_text(folder, files[at].name, files[at].text);
        _cleanup_free_ char *path = scratch_path(folder, files[at].name);
        struct utimbuf times = {otherwise ? 1000 : 2000, otherwise ? 1000 : 2000};
        assert_int_equal(utime(path, &times), 0);
        assert_int_equal(chmod(path, otherwise ? 0444 : 0600), 0);
    }
    if (otherwise) scratch_make_folder(folder, "an-empty-one");
    return folder;
}

static char *read_all(struct package_tar *tar, size_t *ret_size) {
    size_t total = (size_t)package_tar_size(tar), got = 0;
    char *bytes = mem_alloc(total);
    expect_success(package_tar_read(tar, 0, bytes, total, &got, &error));
    assert_int_equal(got, total);
    *ret_size = total;
    return bytes;
}

static void one_model_has_one_layer_whatever_its_order_modes_and_times(void **state) {
    _cleanup_free_ char *one = write_model(*state, "one", false), *other = write_model(*state, "other", true);
    char layer[2][DIGEST_HEX_SIZE], tree[2][DIGEST_HEX_SIZE];
    uint64_t size[2];
    expect_success(package_layer_digest(one, NULL, layer[0], &size[0], tree[0], &error));
    expect_success(package_layer_digest(other, NULL, layer[1], &size[1], tree[1], &error));
    assert_string_equal(layer[0], layer[1]);
    assert_string_equal(tree[0], tree[1]);
    assert_int_equal(size[0], size[1]);
    struct package_info info = {0};
    expect_success(package_hash_folder(one, &info, &error));
    assert_string_equal(info.digest, tree[0]);
    /* What other machines get; a change of it makes every image that was pushed another one. */
    assert_string_equal(layer[0], "08dfb39b3b40f501b44d29e38757b28bbdd5073a81b7b269e622cf113e691174");
}

static void another_byte_makes_another_layer(void **state) {
    _cleanup_free_ char *one = write_model(*state, "one", false), *other = write_model(*state, "other", false);
    scratch_write_text(other, "model.onnx", "Weights");
    char layer[2][DIGEST_HEX_SIZE], tree[DIGEST_HEX_SIZE];
    uint64_t size;
    expect_success(package_layer_digest(one, NULL, layer[0], &size, tree, &error));
    expect_success(package_layer_digest(other, NULL, layer[1], &size, tree, &error));
    assert_string_not_equal(layer[0], layer[1]);
}

static void it_reads_the_same_from_every_offset(void **state) {
    _cleanup_free_ char *folder = write_model(*state, "one", false);
    _cleanup_tar_ struct package_tar *layer = NULL;
    expect_success(package_layer_open(folder, &layer, &error));
    size_t total = 0;
    _cleanup_free_ char *whole = read_all(layer, &total);
    char piece[700];
    for (size_t offset = 0; offset <= total + 3; offset += 37) {
        size_t got = 0, left = offset < total ? total - offset : 0, size = offset % sizeof piece + 1;
        expect_success(package_tar_read(layer, offset, piece, size, &got, &error));
        assert_int_equal(got, size < left ? size : left);
        if (got) assert_memory_equal(piece, whole + offset, got);
    }
}

static void a_file_that_became_another_is_an_error_and_no_wrong_byte(void **state) {
    _cleanup_free_ char *folder = write_model(*state, "one", false);
    _cleanup_tar_ struct package_tar *layer = NULL;
    expect_success(package_layer_open(folder, &layer, &error));
    scratch_write_text(folder, "model.onnx", "shorter?");
    size_t got = 0, total = (size_t)package_tar_size(layer);
    _cleanup_free_ char *bytes = mem_alloc(total);
    assert_int_equal(package_tar_read(layer, 0, bytes, total, &got, &error), -(int)ERROR_DEPLOYMENT);
    assert_non_null(strstr(error->message, "model.onnx"));
    error_free(error);
    error = NULL;
}

/* ---- the image ---- */

static const char *text_at(const char *json, const char *pointer) {
    static yyjson_doc *document;
    yyjson_doc_free(document);
    document = json ? yyjson_read(json, strlen(json), 0) : NULL;
    return document ? yyjson_get_str(yyjson_doc_ptr_get(document, pointer)) : NULL;
}

static void describe(const char *folder, const struct package_origin *origin, struct package_image *ret_image) {
    char layer[DIGEST_HEX_SIZE], tree[DIGEST_HEX_SIZE];
    uint64_t size;
    expect_success(package_layer_digest(folder, NULL, layer, &size, tree, &error));
    package_image_describe(tree, layer, size, origin, ret_image);
}

static void manifest_config_and_layer_name_each_other(void **state) {
    _cleanup_free_ char *folder = write_model(*state, "one", false);
    const struct package_origin origin = {.source_uri = "models:/demo@champion", .resolved_uri = "models:/demo/3"};
    _cleanup_image_ struct package_image image = {0};
    describe(folder, &origin, &image);
    char digest[DIGEST_HEX_SIZE];
    digest_bytes(image.config, image.config_size, digest);
    assert_string_equal(digest, image.config_digest);
    digest_bytes(image.manifest, image.manifest_size, digest);
    assert_string_equal(digest, image.manifest_digest);
    assert_string_equal(text_at(image.manifest, "/config/digest") + 7, image.config_digest);
    assert_string_equal(text_at(image.manifest, "/layers/0/digest") + 7, image.layer_digest);
    assert_string_equal(text_at(image.config, "/rootfs/diff_ids/0") + 7, image.layer_digest);
    assert_string_equal(text_at(image.manifest, "/annotations/io.slipway.package.source"), "models:/demo@champion");
    assert_string_equal(text_at(image.manifest, "/annotations/io.slipway.package.resolved"), "models:/demo/3");
    assert_null(text_at(image.manifest, "/annotations/io.slipway.package.recipe"));
    text_at(NULL, "");
}

static void the_config_tells_of_the_model_alone(void **state) {
    _cleanup_free_ char *folder = write_model(*state, "one", false);
    const struct package_origin origin = {.source_uri = "s3://bucket/model"};
    _cleanup_image_ struct package_image one = {0}, other = {0};
    describe(folder, NULL, &one);
    describe(folder, &origin, &other);
    assert_string_equal(one.config_digest, other.config_digest);
    assert_string_not_equal(one.manifest_digest, other.manifest_digest);
}

static void the_whole_layout_reads_the_same_from_every_offset(void **state) {
    _cleanup_free_ char *folder = write_model(*state, "one", false);
    _cleanup_image_ struct package_image image = {0};
    describe(folder, NULL, &image);
    _cleanup_tar_ struct package_tar *layer = NULL, *archive = NULL;
    expect_success(package_layer_open(folder, &layer, &error));
    archive = package_image_archive(&image, layer, NULL);
    size_t total = 0;
    _cleanup_free_ char *whole = read_all(archive, &total);
    char piece[1500];
    for (size_t offset = 0; offset < total; offset += 113) {
        size_t got = 0;
        expect_success(package_tar_read(archive, offset, piece, sizeof piece, &got, &error));
        assert_memory_equal(piece, whole + offset, got);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_model_has_one_layer_whatever_its_order_modes_and_times, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_byte_makes_another_layer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_reads_the_same_from_every_offset, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_became_another_is_an_error_and_no_wrong_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(manifest_config_and_layer_name_each_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_config_tells_of_the_model_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_whole_layout_reads_the_same_from_every_offset, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
