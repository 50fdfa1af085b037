/* The look into ONNX files before ONNX Runtime sees them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "runner/runner_onnx-internal.h"
#include "support/scratch.h"

/* ---- writing protobuf by hand ---------------------------------------------------------------------------------------
 */

static void put_varint(struct buffer *buffer, uint64_t value) {
    for (; value > 127; value >>= 7) buffer_append(buffer, &(char){(char)(value | 128)}, 1);
    buffer_append(buffer, &(char){(char)value}, 1);
}

/* Wraps what `inner` holds as a length-delimited field and empties it. */
static struct buffer field(unsigned number, struct buffer inner) {
    struct buffer outer = {0};
    put_varint(&outer, number << 3 | 2);
    put_varint(&outer, inner.size);
    buffer_append(&outer, inner.bytes, inner.size);
    buffer_clear(&inner);
    return outer;
}

static struct buffer text(const char *bytes) {
    struct buffer buffer = {0};
    buffer_append_text(&buffer, bytes);
    return buffer;
}

static struct buffer both(struct buffer a, struct buffer b) {
    buffer_append(&a, b.bytes, b.size);
    buffer_clear(&b);
    return a;
}

static struct buffer location(const char *value) {
    return field(13, both(field(1, text("location")), field(2, text(value)))); /* TensorProto.external_data */
}

/* GraphProto.initializer with an external location, as ModelProto.graph. */
static struct buffer model_with(const char *value) {
    return field(7, field(5, location(value)));
}

/* ---- walking
 * --------------------------------------------------------------------------------------------------------- */

static int collect(const char *bytes, size_t size, void *context, struct error **ret_error) {
    (void)ret_error;
    struct buffer *all = context;
    buffer_append(all, bytes, size);
    buffer_append_text(all, ";");
    return 0;
}

static void finds(struct buffer model, const char *expected) {
    _cleanup_buffer_ struct buffer found = {0};
    _cleanup_error_ struct error *error = NULL;
    buffer_append_text(&found, "");
    char *exact = malloc(model.size); /* so that reading past the end is seen */
    memcpy(exact, model.bytes, model.size);
    int result = runner_onnx_walk(exact, model.size, collect, &found, &error);
    free(exact);
    buffer_clear(&model);
    assert_int_equal(result, 0);
    assert_string_equal(found.bytes ? found.bytes : "", expected);
}

static void locations_are_found_wherever_a_tensor_can_be(void **state) {
    (void)state;
    finds(model_with("a"), "a;");
    finds(field(7, field(15, field(1, location("values")))), "values;"); /* sparse initializer */
    finds(field(7, field(15, field(2, location("indices")))), "indices;");
    finds(field(7, field(1, field(5, field(5, location("attribute"))))), "attribute;"); /* node, attribute, t */
    finds(field(7, field(1, field(5, field(10, location("list"))))), "list;"); /* tensors */
    finds(field(7, field(1, field(5, field(6, field(5, location("subgraph")))))), "subgraph;"); /* g, initializer */
    finds(field(7, field(1, field(5, field(11, field(5, location("graphs")))))), "graphs;");
    finds(field(7, field(1, field(5, field(22, field(1, location("sparse")))))), "sparse;");
    finds(field(7, field(1, field(5, field(23, field(2, location("sparses")))))), "sparses;");
    finds(both(field(7, text("")), field(25, field(7, field(5, field(5, location("function")))))), "function;");
    finds(both(field(7, text("")), field(20, field(2, field(5, location("training"))))), "training;");
    finds(both(model_with("first"), model_with("second")), "first;second;"); /* a message may come in pieces */
}

static void repeated_keys_and_values_hide_nothing(void **state) {
    (void)state;
    struct buffer entry = both(field(2, text("early")), both(field(1, text("location")),
                                                             both(field(2, text("late")), field(1, text("offset")))));
    finds(field(7, field(5, field(13, entry))), "early;late;");
    finds(field(7, field(5, field(13, both(field(1, text("offset")), field(2, text("12")))))), "");
}

static void refuses_walk(const void *bytes, size_t size) {
    _cleanup_buffer_ struct buffer found = {0};
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(runner_onnx_walk(bytes, size, collect, &found, &error), -ERROR_CONFIGURATION);
}

static void what_is_cut_off_or_garbage_is_refused(void **state) {
    (void)state;
    struct buffer model = model_with("weights.bin");
    for (size_t size = 0; size < model.size; size++) {
        char *exact = malloc(size ? size : 1);
        memcpy(exact, model.bytes, size);
        refuses_walk(exact, size);
        free(exact);
    }
    buffer_clear(&model);
    refuses_walk("This is a letter", 16);
    refuses_walk("\x08\x08", 2); /* a number, but no graph */
    refuses_walk("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11); /* a length of 2^64 - 1 */
    refuses_walk("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12); /* a number without end */
    refuses_walk("\x3b\x3c", 2); /* groups */
    refuses_walk("\x38\x01\x3a\x00", 4); /* a graph that is a number */
    refuses_walk("\x02\x00", 2); /* field 0 */
}

static void nesting_without_end_is_refused(void **state) {
    (void)state;
    struct buffer graph = {0};
    buffer_append_text(&graph, "");
    for (int i = 0; i < 200; i++) graph = field(1, field(5, field(6, graph)));
    struct buffer model = field(7, graph);
    refuses_walk(model.bytes, model.size);
    buffer_clear(&model);
}

/* ---- locations
 * -------------------------------------------------------------------------------------------------------- */

static void check_location(const char *value, bool allowed) {
    char *folder = scratch_new();
    struct buffer model = model_with(value);
    scratch_write(folder, "onnx/model.onnx", model.bytes, model.size);
    scratch_write_text(folder, "onnx/weights.bin", "1234");
    scratch_write_text(folder, "onnx/more/weights.bin", "1234");
    scratch_write_text(folder, "outside.bin", "1234");
    scratch_write_text(folder, "onnx/*/_ORT_MEM_ADDR_/*", "1234");
    _cleanup_free_ char *link = scratch_path(folder, "onnx/link.bin"), *folder_link = scratch_path(folder, "onnx/link");
    assert_int_equal(symlink("weights.bin", link), 0);
    assert_int_equal(symlink("more", folder_link), 0);
    _cleanup_error_ struct error *error = NULL;
    int result = runner_onnx_check(folder, "onnx/model.onnx", &error);
    if (allowed != (result == 0)) fail_msg("%s: %s", value, result ? "refused" : "allowed");
    if (!allowed) assert_int_equal(error->class, ERROR_CONFIGURATION);
    buffer_clear(&model);
    scratch_free(folder);
}

static void external_data_lies_in_regular_files_of_the_folder(void **state) {
    (void)state;
    check_location("weights.bin", true);
    check_location("more/weights.bin", true);
    check_location("./weights.bin", true);
    static const char *const refused[] = {
        "../outside.bin",
        "more/../../outside.bin",
        "more/../weights.bin",
        "/etc/passwd",
        "link.bin",
        "link/weights.bin",
        "more",
        "missing.bin",
        "weights.bin/x",
        "",
        "..",
        "*/_ORT_MEM_ADDR_/*",
        "//etc/passwd",
    };
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) check_location(refused[i], false);
}

static void a_file_that_is_no_model_is_refused(void **state) {
    (void)state;
    char *folder = scratch_new();
    scratch_write(folder, "empty.onnx", "", 0);
    scratch_write_text(folder, "letter.onnx", "This is a letter.");
    scratch_make_folder(folder, "folder.onnx");
    static const char *const files[] = {"empty.onnx", "letter.onnx", "folder.onnx", "missing.onnx"};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(runner_onnx_check(folder, files[i], &error), -ERROR_CONFIGURATION);
    }
    scratch_free(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(locations_are_found_wherever_a_tensor_can_be),
        cmocka_unit_test(repeated_keys_and_values_hide_nothing),
        cmocka_unit_test(what_is_cut_off_or_garbage_is_refused),
        cmocka_unit_test(nesting_without_end_is_refused),
        cmocka_unit_test(external_data_lies_in_regular_files_of_the_folder),
        cmocka_unit_test(a_file_that_is_no_model_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
