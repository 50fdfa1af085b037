/* Inference requests and answers as bytes: JSON and the binary tensor extension. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/number.h"
#include "runner/runner_v2-internal.h"

static struct v2_request parse_well(const char *body) {
    struct v2_request request;
    _cleanup_error_ struct error *error = NULL;
    if (v2_parse(body, strlen(body), -1, &request, &error) < 0) {
        _cleanup_free_ char *text = error_text(error);
        fail_msg("%s", text);
    }
    return request;
}

static void refuses_bytes(const char *body, size_t size, int64_t head_size, const char *because) {
    struct v2_request request;
    _cleanup_error_ struct error *error = NULL;
    assert_true(v2_parse(body, size, head_size, &request, &error) < 0);
    assert_int_equal(error->http_status, 400);
    _cleanup_free_ char *text = error_text(error);
    if (!strstr(text, because)) fail_msg("\"%s\" does not say \"%s\"", text, because);
}

static void refuses(const char *body, const char *because) {
    refuses_bytes(body, strlen(body), -1, because);
}

#define INPUT(type, shape, data)                                                                                       \
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"" type "\",\"shape\":" shape ",\"data\":" data "}]}"

static void flat_and_nested_data_give_the_same_tensor(void **state) {
    (void)state;
    static const char *const bodies[] = {INPUT("FP32", "[2,1,2]", "[1,2.5,-3,4e2]"),
                                         INPUT("FP32", "[2,1,2]", "[[[1,2.5]],[[-3,4e2]]]")};
    for (size_t i = 0; i < 2; i++) {
        struct v2_request request = parse_well(bodies[i]);
        const float expected[] = {1, 2.5f, -3, 400};
        assert_int_equal(request.input_count, 1);
        assert_int_equal(request.inputs[0].element_count, 4);
        assert_int_equal(request.inputs[0].data_size, sizeof expected);
        assert_memory_equal(request.inputs[0].data, expected, sizeof expected);
        v2_request_clear(&request);
    }
}

static void data_that_does_not_fill_its_shape_is_refused(void **state) {
    (void)state;
    refuses(INPUT("FP32", "[2,2]", "[1,2,3]"), "needs 4");
    refuses(INPUT("FP32", "[2,2]", "[[1,2,3],[4]]"), "does not match");
    refuses(INPUT("FP32", "[2,2]", "[[1,2],3,4]"), "does not match");
    refuses(INPUT("FP32", "[4]", "[[1,2],[3,4]]"), "does not match");
    refuses(INPUT("FP32", "[1,2,2]", "[[1,2],[3,4]]"), "does not match");
    refuses(INPUT("FP32", "[0]", "[1]"), "needs 0");
    refuses(INPUT("FP32", "[1]", "7"), "list");
    struct v2_request request = parse_well(INPUT("FP32", "[0,4]", "[]"));
    assert_int_equal(request.inputs[0].data_size, 0);
    v2_request_clear(&request);
    request = parse_well(INPUT("INT64", "[]", "[7]"));
    assert_int_equal(request.inputs[0].element_count, 1);
    v2_request_clear(&request);
}

static void shapes_that_overflow_are_refused_before_anything_is_allocated(void **state) {
    (void)state;
    refuses(INPUT("FP32", "[4294967296,4294967296]", "[1]"), "larger than any tensor");
    refuses(INPUT("FP64", "[9223372036854775807,2]", "[1]"), "larger than any tensor");
    refuses(INPUT("FP64", "[0,9223372036854775807,4]", "[]"), "larger than any tensor");
    refuses(INPUT("INT8", "[1000000000000]", "[1]"), "needs 1000000000000");
    refuses(INPUT("FP32", "[18446744073709551616]", "[1]"), "whole numbers");
    refuses(INPUT("FP32", "[-1]", "[1]"), "whole numbers");
    refuses(INPUT("FP32", "[1.0]", "[1]"), "whole numbers");
    refuses(INPUT("FP32", "[\"1\"]", "[1]"), "whole numbers");
    refuses(INPUT("FP32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[1]"), "at most 16");
    refuses(INPUT("FP32", "{}", "[1]"), "shape");
}

static void every_type_takes_what_fits_and_nothing_else(void **state) {
    (void)state;
    static const struct {
        const char *type, *fits, *does_not;
    } cases[] = {
        {"BOOL", "[true,false,1,0]", "[true,false,1,2]"},
        {"UINT8", "[0,255,1,2]", "[0,256,1,2]"},
        {"UINT16", "[0,65535,1,2]", "[0,-1,1,2]"},
        {"UINT32", "[0,4294967295,1,2]", "[0,4294967296,1,2]"},
        {"UINT64", "[0,18446744073709551615,1,2]", "[0,18446744073709551616,1,2]"},
        {"INT8", "[-128,127,1,2]", "[-129,127,1,2]"},
        {"INT16", "[-32768,32767,1,2]", "[-32768,32768,1,2]"},
        {"INT32", "[-2147483648,2147483647,1,2]", "[-2147483649,1,1,2]"},
        {"INT64", "[-9223372036854775808,9223372036854775807,1,2]", "[9223372036854775808,1,1,2]"},
        {"FP16", "[65504,-65504,0.5,1e-7]", "[65520,1,1,1]"},
        {"BF16", "[3e38,-3e38,0.5,1]", "[1e39,1,1,1]"},
        {"FP32", "[3e38,-3e38,0.5,1]", "[1e39,1,1,1]"},
        {"FP64", "[1e308,-1e308,0.5,1]", "[\"1\",1,1,1]"},
        {"BYTES", "[\"\",\"a\",\"\\u0000\",\"é\"]", "[1,\"a\",\"b\",\"c\"]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[512];
        snprintf(body, sizeof body, INPUT("%s", "[4]", "%s"), cases[i].type, cases[i].fits);
        struct v2_request request = parse_well(body);
        assert_string_equal(tensor_types[request.inputs[0].type].name, cases[i].type);
        v2_request_clear(&request);
        snprintf(body, sizeof body, INPUT("%s", "[4]", "%s"), cases[i].type, cases[i].does_not);
        refuses(body, "input x holds a value");
    }
    refuses(INPUT("INT32", "[1]", "[1.5]"), "whole number");
    refuses(INPUT("FP32", "[1]", "[NaN]"), "malformed");
    refuses(INPUT("FP32", "[1]", "[null]"), "number");
    refuses(INPUT("COMPLEX64", "[1]", "[1]"), "COMPLEX64");
}

static void parts_of_a_wrong_kind_are_refused_by_name(void **state) {
    (void)state;
    refuses("", "malformed");
    refuses("[]", "object");
    refuses("{}", "inputs");
    refuses("{\"inputs\":{}}", "inputs");
    refuses("{\"inputs\":[1]}", "object");
    refuses("{\"inputs\":[{\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1]}]}", "name");
    refuses("{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"data\":[1]}]}", "datatype");
    refuses("{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"data\":[1]}]}", "shape");
    refuses("{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1]}]}", "data");
    refuses("{\"inputs\":[],\"outputs\":{}}", "outputs");
    refuses("{\"inputs\":[],\"outputs\":[{}]}", "name");
    refuses("{\"inputs\":[],\"id\":7}", "id");
    refuses("{\"inputs\":[],\"inputs\":[]}", "twice");
    refuses("{\"inputs\":[],\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":3}}]}", "classification");
    char deep[4096] = INPUT("FP32", "[1]", "");
    size_t size = strlen(deep) - 3;
    memset(deep + size, '[', 100);
    memset(deep + size + 100, ']', 100);
    strcpy(deep + size + 200, "}]}");
    refuses(deep, "deeper");
}

static void unknown_fields_are_passed_over(void **state) {
    (void)state;
    struct v2_request request =
        parse_well("{\"id\":\"7\",\"model\":\"m\",\"parameters\":{\"sequence_id\":1,\"binary_data_output\":true},"
                   "\"inputs\":[],\"outputs\":[{\"name\":\"y\",\"more\":1},{\"name\":\"z\",\"parameters\":"
                   "{\"binary_data\":false}}]}");
    assert_string_equal(request.id, "7");
    assert_true(request.binary_outputs);
    assert_true(request.outputs[0].binary);
    assert_false(request.outputs[1].binary);
    v2_request_clear(&request);
}

/* ---- binary ------------------------------------------------------------------------------------------------------ */

#define BINARY_INPUT(type, shape, size)                                                                                \
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"" type "\",\"shape\":" shape                                          \
    ",\"parameters\":{\"binary_data_size\":" size "}}]}"

/* Head and binary part one behind the other. */
static size_t join(char *body, const char *head, const void *bytes, size_t size) {
    memcpy(body, head, strlen(head));
    memcpy(body + strlen(head), bytes, size);
    return strlen(head) + size;
}

static void binary_data_is_taken_where_it_lies(void **state) {
    (void)state;
    static const char head[] = BINARY_INPUT("INT64", "[2]", "16");
    const int64_t values[] = {-5, INT64_MAX};
    char body[256];
    for (size_t shift = 0; shift < 8; shift++) { /* however it is aligned */
        char *at = body + shift;
        size_t size = join(at, head, values, sizeof values);
        struct v2_request request;
        assert_int_equal(v2_parse(at, size, (int64_t)strlen(head), &request, NULL), 0);
        assert_int_equal((uintptr_t)request.inputs[0].data % 8, 0);
        assert_memory_equal(request.inputs[0].data, values, sizeof values);
        v2_request_clear(&request);
    }
}

static void binary_lengths_that_lie_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *head;
        size_t size; /* of the binary part */
        const char *because;
    } cases[] = {
        {BINARY_INPUT("FP32", "[2]", "8"), 4, "4 are left"},
        {BINARY_INPUT("FP32", "[2]", "8"), 12, "behind its last"},
        {BINARY_INPUT("FP32", "[2]", "4"), 4, "has 4 bytes of binary data"},
        {BINARY_INPUT("FP32", "[2]", "12"), 12, "has 12 bytes of binary data"},
        {BINARY_INPUT("FP32", "[2]", "-1"), 8, "binary_data_size"},
        {BINARY_INPUT("FP32", "[2]", "9223372036854775807"), 8, "8 are left"},
        {BINARY_INPUT("FP32", "[2]", "18446744073709551615"), 8, "binary_data_size"},
        {BINARY_INPUT("FP32", "[2]", "\"8\""), 8, "binary_data_size"},
        {BINARY_INPUT("FP32", "[2305843009213693952]", "0"), 0, "larger than any tensor"},
    };
    const char zeros[16] = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[512];
        size_t size = join(body, cases[i].head, zeros, cases[i].size);
        refuses_bytes(body, size, (int64_t)strlen(cases[i].head), cases[i].because);
    }
}

static void a_head_length_that_lies_is_refused(void **state) {
    (void)state;
    static const char body[] = INPUT("FP32", "[1]", "[1]");
    refuses_bytes(body, sizeof body - 1, (int64_t)sizeof body, "only");
    refuses_bytes(body, sizeof body - 1, 0, "malformed");
    refuses_bytes(body, sizeof body - 1, (int64_t)sizeof body - 3, "malformed");
    refuses_bytes(body, sizeof body - 1, INT64_MAX, "only");
}

static void data_and_binary_data_exclude_each_other(void **state) {
    (void)state;
    refuses(
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1],\"parameters\":{\"binary_data_size\":4}}]}",
        "either");
}

static void texts_carry_their_lengths_exactly(void **state) {
    (void)state;
    static const char head[] = BINARY_INPUT("BYTES", "[2]", "10"), longer[] = BINARY_INPUT("BYTES", "[2]", "9");
    char body[256];
    struct v2_request request;
    size_t size = join(body, head, "\2\0\0\0ab\0\0\0\0", 10);
    assert_int_equal(v2_parse(body, size, sizeof head - 1, &request, NULL), 0);
    size_t position = 0;
    uint32_t length;
    assert_memory_equal(tensor_next_bytes(&request.inputs[0], &position, &length), "ab", 2);
    assert_int_equal(length, 2);
    v2_request_clear(&request);
    size = join(body, head, "\3\0\0\0ab\0\0\0\0", 10);
    refuses_bytes(body, size, sizeof head - 1, "has no length");
    size = join(body, head, "\7\0\0\0ab\0\0\0\0", 10);
    refuses_bytes(body, size, sizeof head - 1, "but 6 are left");
    size = join(body, head,
                "\xff\xff\xff\xff"
                "ab\0\0\0\0",
                10);
    refuses_bytes(body, size, sizeof head - 1, "4294967295");
    size = join(body, longer, "\1\0\0\0a\0\0\0\0", 9);
    assert_int_equal(v2_parse(body, size, sizeof longer - 1, &request, NULL), 0);
    v2_request_clear(&request);
}

static void a_binary_truth_is_0_or_1(void **state) {
    (void)state;
    static const char head[] = BINARY_INPUT("BOOL", "[2]", "2");
    char body[256];
    refuses_bytes(body, join(body, head, "\1\2", 2), sizeof head - 1, "neither 0 nor 1");
}

/* ---- answers ------------------------------------------------------------------------------------------------------
 */

static char *write_json(const struct tensor *output, const char *id, int *ret_result) {
    struct buffer body = {0};
    int64_t head_size;
    const bool binary = false;
    const struct v2_answer answer = {
        .model_name = "m\"", .model_version = "3", .id = id, .outputs = output, .binary = &binary, .output_count = 1};
    *ret_result = v2_write(&answer, &body, &head_size, NULL);
    assert_true(*ret_result < 0 || head_size == -1);
    return buffer_take(&body, NULL);
}

static void json_answers_echo_the_id_and_escape_names(void **state) {
    (void)state;
    const int16_t values[] = {-32768, 7};
    const struct tensor output = {.name = "y",
                                  .type = TENSOR_INT16,
                                  .rank = 2,
                                  .shape = {1, 2},
                                  .element_count = 2,
                                  .data = values,
                                  .data_size = 4};
    int result;
    _cleanup_free_ char *json = write_json(&output, "one", &result);
    assert_string_equal(json,
                        "{\"model_name\":\"m\\\"\",\"model_version\":\"3\",\"id\":\"one\",\"outputs\":[{\"name\":\"y\","
                        "\"datatype\":\"INT16\",\"shape\":[1,2],\"data\":[-32768,7]}]}");
}

static void json_cannot_show_what_is_not_finite_but_binary_can(void **state) {
    (void)state;
    const float values[] = {1, NAN};
    const struct tensor output = {
        .name = "y", .type = TENSOR_FP32, .rank = 1, .shape = {2}, .element_count = 2, .data = values, .data_size = 8};
    int result;
    _cleanup_free_ char *json = write_json(&output, NULL, &result);
    assert_int_equal(result, -ERROR_DEPLOYMENT);
    assert_non_null(json);
    _cleanup_buffer_ struct buffer body = {0};
    int64_t head_size;
    const bool binary = true;
    const struct v2_answer answer = {
        .model_name = "m", .model_version = "1", .outputs = &output, .binary = &binary, .output_count = 1};
    assert_int_equal(v2_write(&answer, &body, &head_size, NULL), 0);
    assert_int_equal(body.size, (size_t)head_size + 8);
    assert_memory_equal(body.bytes + head_size, values, 8);
}

static void bytes_that_are_not_utf8_do_not_stand_in_json(void **state) {
    (void)state;
    const struct tensor output = {.name = "y",
                                  .type = TENSOR_BYTES,
                                  .rank = 1,
                                  .shape = {1},
                                  .element_count = 1,
                                  .data = "\1\0\0\0\xff",
                                  .data_size = 5};
    int result;
    _cleanup_free_ char *json = write_json(&output, NULL, &result);
    assert_int_equal(result, -ERROR_DEPLOYMENT);
    assert_non_null(json);
}

static void floats_read_back_as_themselves(void **state) {
    (void)state;
    static const float special[] = {0,           -0.0f,   1,          -1,       0.1f,          1e-5f,
                                    9.99999e-6f, 9999999, 1e7f,       16777216, 3.4028235e38f, 1.17549435e-38f,
                                    1e-45f,      0.3f,    123456.789f};
    uint32_t seed = 1;
    for (size_t i = 0; i < 300000; i++) {
        seed = seed * 1664525u + 1013904223u;
        float value;
        memcpy(&value, &seed, sizeof value);
        if (i % 2) value = (float)((double)seed / 4294967296.0 - 0.5); /* what embeddings look like */
        if (i < sizeof special / sizeof *special) value = special[i];
        if (!isfinite(value)) continue;
        char text[NUMBER_TEXT_MAXIMUM + 1];
        text[number_write_float(value, text)] = 0;
        if ((float)strtod(text, NULL) != value) fail_msg("%a was written as %s", (double)value, text);
    }
    char text[NUMBER_TEXT_MAXIMUM + 1];
    text[number_write_float(0.1f, text)] = 0;
    assert_string_equal(text, "0.1");
    text[number_write_signed(INT64_MIN, text)] = 0;
    assert_string_equal(text, "-9223372036854775808");
    text[number_write_unsigned(UINT64_MAX, text)] = 0;
    assert_string_equal(text, "18446744073709551615");
    text[number_write_double(0.1, text)] = 0;
    assert_string_equal(text, "0.1");
}

static void halves_round_to_nearest_even(void **state) {
    (void)state;
    for (unsigned i = 0; i < 65536; i++) { /* every half is its own nearest */
        float value = tensor_half_to_float((uint16_t)i);
        if (!isnan(value)) assert_int_equal(tensor_float_to_half(value), i);
        float brain = tensor_brain_to_float((uint16_t)i);
        if (!isnan(brain)) assert_int_equal(tensor_float_to_brain(brain), i);
    }
    assert_int_equal(tensor_float_to_half(1.00048828125f), 0x3c00); /* between 1 and the next: to the even one */
    assert_int_equal(tensor_float_to_half(1.00146484375f), 0x3c02);
    assert_int_equal(tensor_float_to_half(65519.0f), 0x7bff);
    assert_int_equal(tensor_float_to_half(65520.0f), 0x7c00);
    assert_true(isnan(tensor_half_to_float(tensor_float_to_half(NAN))));
    assert_true(isnan(tensor_brain_to_float(tensor_float_to_brain(NAN))));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flat_and_nested_data_give_the_same_tensor),
        cmocka_unit_test(data_that_does_not_fill_its_shape_is_refused),
        cmocka_unit_test(shapes_that_overflow_are_refused_before_anything_is_allocated),
        cmocka_unit_test(every_type_takes_what_fits_and_nothing_else),
        cmocka_unit_test(parts_of_a_wrong_kind_are_refused_by_name),
        cmocka_unit_test(unknown_fields_are_passed_over),
        cmocka_unit_test(binary_data_is_taken_where_it_lies),
        cmocka_unit_test(binary_lengths_that_lie_are_refused),
        cmocka_unit_test(a_head_length_that_lies_is_refused),
        cmocka_unit_test(data_and_binary_data_exclude_each_other),
        cmocka_unit_test(texts_carry_their_lengths_exactly),
        cmocka_unit_test(a_binary_truth_is_0_or_1),
        cmocka_unit_test(json_answers_echo_the_id_and_escape_names),
        cmocka_unit_test(json_cannot_show_what_is_not_finite_but_binary_can),
        cmocka_unit_test(bytes_that_are_not_utf8_do_not_stand_in_json),
        cmocka_unit_test(floats_read_back_as_themselves),
        cmocka_unit_test(halves_round_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
