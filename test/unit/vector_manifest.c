/* The manifest: what is written is read, and nothing that cannot be is believed, whatever its checksum says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "vector/vector-internal.h"

#define HEAD                                                                                                            \
    "\"version\":1,\"index_id\":\"i\",\"log_id\":\"l\",\"encoder_digest\":\"d\",\"dimension\":384,\"quantized\":false," \
    "\"generation\":3,\"next_number\":9,\"dropped_through\":0,"

static int parse(const char *json, struct vector_manifest *ret_manifest, struct error **ret_error) {
    _cleanup_free_ char *text = text_format("%s\n%08x\n", json, vector_checksum(0, json, strlen(json)));
    return vector_manifest_parse(text, strlen(text), ret_manifest, ret_error);
}

static void what_is_written_is_read(void **state) {
    (void)state;
    struct vector_segment_facts segments[] = {{3, 700, true, 600, 5, 900, 0xdeadbeef}, {8, 2000, false, 0, 0, 0, 0}};
    struct vector_manifest manifest = {.index_id = "an \"index\"",
                                       .log_id = "log",
                                       .encoder_digest = "sha256:00",
                                       .dimension = 1024,
                                       .quantized = true,
                                       .generation = 77,
                                       .next_number = 9,
                                       .dropped_through = 4,
                                       .segments = segments,
                                       .count = 2};
    struct vector_manifest got;
    size_t size;
    _cleanup_free_ char *text = vector_manifest_write(&manifest, &size);
    assert_int_equal(vector_manifest_parse(text, size, &got, NULL), 0);
    assert_string_equal(got.index_id, manifest.index_id);
    assert_int_equal(got.dimension, 1024);
    assert_int_equal(got.generation, 77);
    assert_int_equal(got.dropped_through, 4);
    assert_int_equal(got.count, 2);
    assert_int_equal(got.segments[0].checksum, 0xdeadbeef);
    assert_int_equal(got.segments[0].last, 900);
    assert_false(got.segments[1].sealed);
    struct vector_spec spec = {got.index_id, got.log_id, got.encoder_digest, 1024, true};
    assert_null(vector_manifest_differs(&manifest, &spec));
    spec.quantized = false;
    assert_string_equal(vector_manifest_differs(&manifest, &spec), "quantized");
    vector_manifest_clear(&got);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    static const char *const refused[][2] = {
        {"{" HEAD "\"segments\":[{\"number\":9,\"capacity\":5}]}", "number"}, /* not given out yet */
        {"{" HEAD "\"segments\":[{\"number\":1,\"capacity\":0}]}", "capacity"},
        {"{" HEAD "\"segments\":[{\"number\":1,\"capacity\":9007199254740993}]}", "capacity"},
        {"{" HEAD "\"segments\":[{\"number\":1,\"capacity\":5},{\"number\":2,\"capacity\":5}]}", "open"},
        {"{" HEAD "\"segments\":[{\"number\":1,\"capacity\":5,\"rows\":6,\"first\":1,\"last\":9,\"checksum\":0}]}",
         "rows"},
        {"{" HEAD "\"segments\":[{\"number\":1,\"capacity\":5,\"rows\":5,\"first\":1,\"last\":4,\"checksum\":0}]}",
         "more rows than numbers"},
        {"{" HEAD "\"segments\":[{\"number\":1,\"capacity\":5,\"rows\":5,\"first\":9,\"last\":8,\"checksum\":0}]}",
         "last"},
        {"{" HEAD "\"segments\":[{\"number\":1,\"capacity\":5,\"rows\":5,\"first\":1,\"last\":9,\"checksum\":0},"
         "{\"number\":2,\"capacity\":5,\"rows\":5,\"first\":9,\"last\":19,\"checksum\":0}]}",
         "order"},
        {"{" HEAD "\"segments\":[{\"number\":1,\"capacity\":5,\"rows\":5,\"first\":1,\"last\":9,\"checksum\":0},"
         "{\"number\":1,\"capacity\":5}]}",
         "twice"},
        {"{" HEAD "\"segments\":[{\"number\":1,\"capacity\":5,\"first\":5}]}", "open"},
        {"{" HEAD "\"segments\":[{\"number\":1,\"capacity\":5,\"more\":5}]}", "more"},
        {"{" HEAD "\"segments\":{}}", "no list"},
        {"{" HEAD "\"segments\":[7]}", "not an object"},
        {"{" HEAD "\"x\":1,\"segments\":[]}", "x"},
        {"{\"version\":2}", "version"},
        {"{\"version\":1}", "index_id"},
        {"[]", ""},
        {"", ""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        struct vector_manifest manifest;
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(parse(refused[i][0], &manifest, &error), -(int)ERROR_CONFLICT);
        if (!strstr(error->message, refused[i][1])) fail_msg("%s: %s", refused[i][0], error->message);
    }
    struct vector_manifest manifest;
    assert_int_equal(parse("{" HEAD "\"segments\":[]}", &manifest, NULL), 0); /* and this is the one that can */
    vector_manifest_clear(&manifest);
}

static void a_manifest_without_its_checksum_is_refused(void **state) {
    (void)state;
    struct vector_manifest manifest;
    static const char json[] = "{" HEAD "\"segments\":[]}";
    assert_int_equal(vector_manifest_parse(json, strlen(json), &manifest, NULL), -(int)ERROR_CONFLICT);
    assert_int_equal(vector_manifest_parse("", 0, &manifest, NULL), -(int)ERROR_CONFLICT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_manifest_without_its_checksum_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
