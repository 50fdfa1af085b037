/* A backup's manifest: what is written is read, and what cannot be is refused, so that nothing in it leads out of the
 * backup or leaves something out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "state/manifest.h"

#define ID "01234567-89ab-4cde-8f01-23456789abcd"
#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define FILE_OF(path, size) "{\"path\":\"" path "\",\"size_bytes\":" size ",\"sha256\":\"" DIGEST "\"}"
#define CONTROL FILE_OF("control.db", "4096")
#define DOCUMENTS FILE_OF("collections/" ID "/documents.db", "8192")
#define PACKAGE(files) "{\"digest\":\"" DIGEST "\",\"size_bytes\":5,\"file_count\":" files "}"
#define PACKAGE_FILE FILE_OF("packages/sha256/" DIGEST "/a/model.onnx", "5")
#define COLLECTION(queries)                                                                                            \
    "{\"id\":\"" ID "\",\"name\":\"notes\",\"head\":7,\"live\":5,\"keep_queries\":" queries ",\"query_head\":0}"
#define MANIFEST(with, collections, packages, files)                                                                   \
    "{\"format\":1,\"slipway\":\"0.1.0\",\"created_at\":\"2026-01-01T00:00:00.000Z\",\"control_schema\":3,"            \
    "\"collection_schema\":1,\"with_packages\":" with ",\"collections\":[" collections "],\"packages\":[" packages     \
    "],\"files\":[" files "]}"

static int parse(const char *json, struct manifest *ret_manifest, struct error **ret_error) {
    return manifest_parse(json, strlen(json), ret_manifest, ret_error);
}

static void what_is_written_is_read(void **state) {
    (void)state;
    _cleanup_manifest_ struct manifest manifest = {0}, got = {0};
    manifest.slipway = text_copy("0.1.0");
    manifest.created_at = text_copy("2026-01-01T00:00:00.000Z");
    manifest.control_version = 3;
    manifest.collection_version = 1;
    manifest.with_packages = true;
    manifest_add_file(&manifest, "control.db", 4096, DIGEST);
    manifest_add_file(&manifest, "collections/" ID "/documents.db", 8192, DIGEST);
    manifest_add_file(&manifest, "collections/" ID "/queries.db", 8192, DIGEST);
    manifest_add_file(&manifest, "packages/sha256/" DIGEST "/model.onnx", 5, DIGEST);
    manifest_add_file(&manifest, "packages/sha256/" DIGEST "/deep/er/x y.json", 6, DIGEST);
    manifest_add_package(&manifest, DIGEST, 11, 2);
    struct manifest_collection *collection = manifest_add_collection(&manifest, ID, "notes \"of\" mine");
    collection->head = 77;
    collection->live = 50;
    collection->keep_queries = true;
    collection->query_head = 8;
    size_t size;
    _cleanup_free_ char *json = manifest_write(&manifest, &size);
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(manifest_parse(json, size, &got, &error), 0);
    assert_int_equal(got.file_count, 5);
    assert_int_equal(got.package_count, 1);
    assert_int_equal(got.packages[0].file_count, 2);
    assert_int_equal(got.collection_count, 1);
    assert_string_equal(got.collections[0].name, "notes \"of\" mine");
    assert_int_equal(got.collections[0].head, 77);
    assert_int_equal(got.collections[0].query_head, 8);
    assert_true(got.with_packages);
    assert_string_equal(got.created_at, manifest.created_at);
}

static void files_that_are_dropped_are_not_written(void **state) {
    (void)state;
    _cleanup_manifest_ struct manifest manifest = {0};
    for (int i = 0; i < 100; i++) {
        _cleanup_free_ char *path = text_format("packages/sha256/" DIGEST "/%d", i);
        manifest_add_file(&manifest, i % 2 ? path : "control.db", 1, DIGEST);
    }
    manifest_drop_files(&manifest, "packages/sha256/" DIGEST "/");
    assert_int_equal(manifest.file_count, 50);
    for (size_t i = 0; i < manifest.file_count; i++) assert_string_equal(manifest.files[i].path, "control.db");
    manifest_add_file(&manifest, "control.db", 1, DIGEST);
    assert_int_equal(manifest.file_count, 51);
}

static void what_is_whole_is_taken(void **state) {
    (void)state;
    static const char *const taken[] = {
        MANIFEST("true", "", "", CONTROL),
        MANIFEST("false", "", PACKAGE("0"), CONTROL), /* without packages they are named, but not there */
        MANIFEST("true", COLLECTION("false"), PACKAGE("1"), CONTROL "," DOCUMENTS "," PACKAGE_FILE),
    };
    for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
        _cleanup_manifest_ struct manifest manifest = {0};
        assert_int_equal(parse(taken[i], &manifest, NULL), 0);
    }
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    static const char *const refused[][2] = {
        {"", ""},
        {"[]", ""},
        {"{}", "format"},
        {MANIFEST("true", "", "", ""), "control.db"},
        {MANIFEST("true", "", "", CONTROL "," CONTROL), "twice"},
        {MANIFEST("true", "", "", CONTROL "," FILE_OF("../control.db", "1")), "path"},
        {MANIFEST("true", "", "", CONTROL "," FILE_OF("/etc/passwd", "1")), "path"},
        {MANIFEST("true", "", "", CONTROL "," FILE_OF("supervisor.lock", "1")), "path"},
        {MANIFEST("true", "", "", CONTROL "," FILE_OF("packages/sha256/" DIGEST "/../../../x", "1")), "path"},
        {MANIFEST("true", "", "", CONTROL "," FILE_OF("packages/sha256/" DIGEST "/a//b", "1")), "path"},
        {MANIFEST("true", "", "", CONTROL "," FILE_OF("packages/sha256/" DIGEST "/", "1")), "path"},
        {MANIFEST("true", "", "", CONTROL "," FILE_OF("packages/sha256/" DIGEST, "1")), "path"},
        {MANIFEST("true", "", "", CONTROL "," FILE_OF("packages/sha256/" DIGEST "/a\\nb", "1")), "path"},
        {MANIFEST("true", "", "", CONTROL "," FILE_OF("collections/" ID "/indexes/x", "1")), "path"},
        {MANIFEST("true", "", "", CONTROL "," FILE_OF("collections/nobody/documents.db", "1")), "path"},
        {MANIFEST("true", "", "", CONTROL "," DOCUMENTS), "collections"},
        {MANIFEST("true", COLLECTION("false"), "", CONTROL), "lacks"},
        {MANIFEST("true", COLLECTION("true"), "", CONTROL "," DOCUMENTS), "queries.db"},
        {MANIFEST("true", COLLECTION("false") "," COLLECTION("false"), "", CONTROL "," DOCUMENTS), "collections"},
        {MANIFEST("true", "", PACKAGE("1"), CONTROL), "package"},
        {MANIFEST("true", "", PACKAGE("2"), CONTROL "," PACKAGE_FILE), "package"},
        {MANIFEST("true", "", "", CONTROL "," PACKAGE_FILE), "packages"},
        {MANIFEST("false", "", PACKAGE("1"), CONTROL "," PACKAGE_FILE), "packages"},
        {MANIFEST("true", "", "", FILE_OF("control.db", "-1")), "size_bytes"},
        {MANIFEST("true", "", "", "7"), "objects"},
        {MANIFEST("1", "", "", CONTROL), "with_packages"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        struct manifest manifest = {0};
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(parse(refused[i][0], &manifest, &error), -(int)ERROR_CONFIGURATION);
        _cleanup_free_ char *text = error_text(error);
        if (!strstr(text, refused[i][1])) fail_msg("%zu: \"%s\" does not name %s", i, text, refused[i][1]);
    }
}

static void one_from_a_newer_slipway_says_which(void **state) {
    (void)state;
    struct manifest manifest = {0};
    _cleanup_error_ struct error *error = NULL;
    assert_true(parse("{\"format\":2,\"slipway\":\"9.8.7\",\"what\":\"ever\"}", &manifest, &error) < 0);
    _cleanup_free_ char *text = error_text(error);
    assert_non_null(strstr(text, "9.8.7"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(files_that_are_dropped_are_not_written),
        cmocka_unit_test(what_is_whole_is_taken),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(one_from_a_newer_slipway_says_which),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
