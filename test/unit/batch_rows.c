/* Records, fields and values of batch jobs: what is read, what is refused with which words, and what is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "batch/batch-internal.h"

/* ---- records ---- */

struct input {
    const char *bytes;
    size_t size, position, piece;
};

static int read_piece(void *context, char *bytes, size_t size, size_t *ret_size, struct error **ret_error) {
    struct input *input = context;
    (void)ret_error;
    size_t left = input->size - input->position, wanted = input->piece < size ? input->piece : size;
    *ret_size = left < wanted ? left : wanted;
    memcpy(bytes, input->bytes + input->position, *ret_size);
    input->position += *ret_size;
    return 0;
}

/* Every record as "line:text|", faults as "line!"; the same whatever the pieces are. Caller frees. */
static char *read_in_pieces(enum batch_format format, const char *bytes, size_t size, size_t piece) {
    struct input input = {bytes, size, 0, piece};
    struct batch_reader reader;
    struct batch_record record;
    struct buffer out = {0};
    batch_reader_open(&reader, format, 0, 0, read_piece, &input);
    while (batch_reader_next(&reader, &record, NULL) > 0) {
        buffer_append_format(&out, "%lld%s", (long long)record.line, record.fault ? "!" : ":");
        buffer_append(&out, record.bytes, record.size);
        buffer_append(&out, "|", 1);
    }
    assert_int_equal(reader.offset, size);
    batch_reader_close(&reader);
    return buffer_take(&out, NULL);
}

static void assert_records(enum batch_format format, const char *text, const char *wanted) {
    static const size_t pieces[] = {1, 2, 3, 7, 1000};
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
        char *got = read_in_pieces(format, text, strlen(text), pieces[i]);
        assert_string_equal(got, wanted);
        free(got);
    }
}

static void lines_are_records_and_blank_ones_are_none(void **state) {
    (void)state;
    assert_records(BATCH_NDJSON, "", "");
    assert_records(BATCH_NDJSON, "\n\r\n \t\n", "");
    assert_records(BATCH_NDJSON, "{}", "1:{}|");
    assert_records(BATCH_NDJSON, "a\n\nb\r\nc", "1:a|3:b|4:c|");
}

static void line_ends_in_quotes_belong_to_the_record(void **state) {
    (void)state;
    assert_records(BATCH_CSV, "a,\"b\nc\"\nd\n", "1:a,\"b\nc\"|3:d|");
    assert_records(BATCH_CSV, "\"a\"\"\r\n\"\"b\",x\r\ny\r\n", "1:\"a\"\"\r\n\"\"b\",x|3:y|");
    assert_records(BATCH_CSV, "5\" tall,x\nb\n", "1:5\" tall,x|2:b|"); /* a quote inside opens nothing */
    assert_records(BATCH_CSV, "\"open\nb\n", "1:\"open\nb|");
}

static void a_byte_order_mark_is_passed_over_at_the_beginning_alone(void **state) {
    (void)state;
    assert_records(BATCH_CSV, "\xef\xbb\xbf\"a\"\n\xef\xbb\xbf\n", "1:\"a\"|2:\xef\xbb\xbf|");
}

static void a_record_that_is_too_long_is_passed_over_in_bounded_memory(void **state) {
    (void)state;
    size_t size = 3 * BATCH_RECORD_MAXIMUM;
    char *text = mem_alloc(size + 8);
    memset(text, 'x', size);
    memcpy(text + size, "\nb\n\0", 4);
    struct input input = {text, size + 3, 0, SIZE_MAX};
    struct batch_reader reader;
    struct batch_record record;
    batch_reader_open(&reader, BATCH_NDJSON, 0, 0, read_piece, &input);
    assert_int_equal(batch_reader_next(&reader, &record, NULL), 1);
    assert_non_null(record.fault);
    assert_true(reader.window.capacity < 2 * BATCH_RECORD_MAXIMUM + (1 << 20));
    assert_int_equal(batch_reader_next(&reader, &record, NULL), 1);
    assert_int_equal(record.line, 2);
    assert_memory_equal(record.bytes, "b", 1);
    assert_int_equal(batch_reader_next(&reader, &record, NULL), 0);
    batch_reader_close(&reader);
    free(text);
}

static void reading_goes_on_from_any_record_as_it_was_read_at_first(void **state) {
    (void)state;
    static const char text[] = "h\n\"a\nb\",1\nc,2\n\nd,3";
    struct input input = {text, strlen(text), 0, 5};
    struct batch_reader first, second;
    struct batch_record record;
    batch_reader_open(&first, BATCH_CSV, 0, 0, read_piece, &input);
    assert_int_equal(batch_reader_next(&first, &record, NULL), 1);
    assert_int_equal(batch_reader_next(&first, &record, NULL), 1);
    struct input rest = {text, strlen(text), (size_t)first.offset, 5};
    batch_reader_open(&second, BATCH_CSV, first.offset, first.line, read_piece, &rest);
    assert_int_equal(batch_reader_next(&second, &record, NULL), 1);
    assert_int_equal(record.line, 4);
    assert_memory_equal(record.bytes, "c,2", 3);
    assert_int_equal(batch_reader_next(&second, &record, NULL), 1);
    assert_int_equal(record.line, 6);
    batch_reader_close(&first);
    batch_reader_close(&second);
}

/* ---- CSV ---- */

static void assert_fields(const char *record, const char *wanted) {
    struct batch_text fields[4];
    size_t count = 0;
    _cleanup_free_ char *bytes = text_copy(record);
    _cleanup_buffer_ struct buffer out = {0};
    const char *fault = batch_csv_split(bytes, strlen(bytes), fields, ARRAY_SIZE(fields), &count);
    for (size_t i = 0; !fault && i < count; i++)
        buffer_append_format(&out, "%.*s|", (int)fields[i].size, fields[i].bytes);
    assert_string_equal(fault ? fault : out.bytes, wanted);
}

static void fields_are_cut_and_unquoted(void **state) {
    (void)state;
    assert_fields("", "|");
    assert_fields("a,b", "a|b|");
    assert_fields(",,", "|||");
    assert_fields("\"a,b\",\"c\"\"d\",\"\"", "a,b|c\"d||");
    assert_fields("\"a\nb\"", "a\nb|");
    assert_fields("a b, c ", "a b| c |");
}

static void what_is_no_csv_is_said(void **state) {
    (void)state;
    assert_fields("\"a", "a quote is opened and not closed");
    assert_fields("\"a\"b", "something stands behind a closing quote");
    assert_fields("a\"b\"", "a quote stands inside a field that does not begin with one");
    assert_fields("1,2,3,4,5", "it has more fields than the header, or than is allowed");
}

static void a_field_that_is_written_reads_back(void **state) {
    (void)state;
    static const char *const texts[] = {"", "plain", "a,b", "\"", "a\"\"b", "line\nend", "\r", " x "};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct batch_text field;
        size_t count = 0;
        _cleanup_buffer_ struct buffer out = {0};
        buffer_reserve(&out, 1);
        batch_csv_write(&out, texts[i], strlen(texts[i]));
        assert_null(batch_csv_split(out.bytes, out.size, &field, 1, &count));
        assert_int_equal(field.size, strlen(texts[i]));
        assert_memory_equal(field.bytes, texts[i], field.size);
    }
}

/* ---- values ---- */

static void assert_value(enum batch_type type, const char *shape_json, const char *text, const char *wanted) {
    struct batch_tensor tensor = {.type = type};
    yyjson_doc *given = yyjson_read(shape_json, strlen(shape_json), 0);
    size_t index, count;
    yyjson_val *dimension;
    yyjson_arr_foreach(yyjson_doc_get_root(given), index, count, dimension) {
        tensor.shape[tensor.rank++] = yyjson_get_sint(dimension);
    }
    yyjson_doc_free(given);
    int64_t shape[BATCH_RANK_MAXIMUM] = {0};
    _cleanup_buffer_ struct buffer data = {0}, out = {0};
    const char *fault = NULL;
    buffer_reserve(&data, 1);
    if (!batch_value_read_text(&tensor, text, strlen(text), shape, &data, &fault)) {
        assert_non_null(fault);
        assert_string_equal(wanted, "refused");
        return;
    }
    const char *at = data.bytes;
    assert_true(batch_value_write(type, shape, tensor.rank, &at, data.bytes + data.size, &out));
    assert_ptr_equal(at, data.bytes + data.size);
    assert_string_equal(out.bytes, wanted);
}

static void values_come_back_as_they_were(void **state) {
    (void)state;
    assert_value(BATCH_FP32, "[]", "0.1", "0.1");
    assert_value(BATCH_FP32, "[-1]", "[1,2.5,-3e-7]", "[1,2.5,-3e-07]");
    assert_value(BATCH_FP64, "[2,1]", " [[0.1],[1e300]] ", "[[0.1],[1e+300]]");
    assert_value(BATCH_INT8, "[2]", "[-128,127]", "[-128,127]");
    assert_value(BATCH_UINT64, "[1]", "[18446744073709551615]", "[18446744073709551615]");
    assert_value(BATCH_INT64, "[1]", "[-9223372036854775808]", "[-9223372036854775808]");
    assert_value(BATCH_BOOL, "[2]", "[true,false]", "[true,false]");
    assert_value(BATCH_BYTES, "[2]", "[\"a\\n\",\"\"]", "[\"a\\n\",\"\"]");
    assert_value(BATCH_FP32, "[-1]", "[]", "[]");
}

static void values_of_another_type_or_shape_are_refused(void **state) {
    (void)state;
    assert_value(BATCH_FP32, "[]", "\"1\"", "refused");
    assert_value(BATCH_FP32, "[]", "1e39", "refused");
    assert_value(BATCH_FP32, "[]", "", "refused");
    assert_value(BATCH_FP32, "[]", "1 2", "refused");
    assert_value(BATCH_FP32, "[2]", "[1]", "refused");
    assert_value(BATCH_FP32, "[-1,-1]", "[[1,2],[3]]", "refused");
    assert_value(BATCH_FP32, "[1]", "1", "refused");
    assert_value(BATCH_FP32, "[]", "[1]", "refused");
    assert_value(BATCH_INT8, "[]", "128", "refused");
    assert_value(BATCH_UINT8, "[]", "-1", "refused");
    assert_value(BATCH_INT64, "[]", "9223372036854775808", "refused");
    assert_value(BATCH_INT32, "[]", "1.5", "refused");
    assert_value(BATCH_BOOL, "[]", "1", "refused");
}

/* ---- answers ---- */

static void an_answer_that_is_not_what_was_asked_for_changes_nothing(void **state) {
    (void)state;
    struct batch_spec spec = {.format = BATCH_NDJSON, .output_field = (char *)"y"};
    struct batch_tensor input = {.name = (char *)"x", .field = (char *)"x", .type = BATCH_FP32},
                        output = {
                            .name = (char *)"y", .field = (char *)"y", .type = BATCH_FP32, .rank = 1, .shape = {-1}};
    const struct batch_model model = {.inputs = &input, .outputs = &output, .input_count = 1, .output_count = 1};
    static const char *const heads[] = {
        "{\"outputs\":[{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[1,1],\"parameters\":{\"binary_data_size\":4}}]}",
        "{\"outputs\":[{\"name\":\"z\",\"datatype\":\"FP32\",\"shape\":[2,1],\"parameters\":{\"binary_data_size\":8}}]}",
        "{\"outputs\":[{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[2,2],\"parameters\":{\"binary_data_size\":8}}]}",
        "{\"outputs\":[{\"name\":\"y\",\"datatype\":\"BYTES\",\"shape\":[2,1],\"parameters\":{\"binary_data_size\":8}}]}",
        "{\"outputs\":[]}",
        "{",
    };
    static const char good[] =
        "{\"outputs\":[{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[2,1],\"parameters\":{\"binary_data_size\":8}}]}";
    struct batch_chunk *chunk = batch_chunk_new(&model, 2);
    for (size_t row = 0; row < 2; row++) {
        chunk->lines[row] = (int64_t)row + 1;
        buffer_append_format(&chunk->ids, "%zu", row + 1);
        chunk->id_ends[row] = chunk->ids.size;
    }
    chunk->count = 2;
    static const float numbers[] = {1.5f, -2};
    for (size_t i = 0; i <= ARRAY_SIZE(heads); i++) {
        const char *head = i < ARRAY_SIZE(heads) ? heads[i] : good;
        _cleanup_buffer_ struct buffer answer = {0};
        buffer_append_text(&answer, head);
        buffer_append(&answer, i < ARRAY_SIZE(heads) ? "\xff\xff\xff\xff\xff\xff\xff\xff" : (const char *)numbers, 8);
        bool taken = batch_answer_take(&spec, &model, chunk, 0, 2, answer.bytes, answer.size, strlen(head));
        assert_int_equal(taken, i == ARRAY_SIZE(heads));
        if (!taken) assert_int_equal(chunk->output.size, 0);
    }
    assert_string_equal(chunk->output.bytes, "{\"line\":1,\"y\":[1.5]}\n{\"line\":2,\"y\":[-2]}\n");
    batch_chunk_free(chunk, &model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_records_and_blank_ones_are_none),
        cmocka_unit_test(line_ends_in_quotes_belong_to_the_record),
        cmocka_unit_test(a_byte_order_mark_is_passed_over_at_the_beginning_alone),
        cmocka_unit_test(a_record_that_is_too_long_is_passed_over_in_bounded_memory),
        cmocka_unit_test(reading_goes_on_from_any_record_as_it_was_read_at_first),
        cmocka_unit_test(fields_are_cut_and_unquoted),
        cmocka_unit_test(what_is_no_csv_is_said),
        cmocka_unit_test(a_field_that_is_written_reads_back),
        cmocka_unit_test(values_come_back_as_they_were),
        cmocka_unit_test(values_of_another_type_or_shape_are_refused),
        cmocka_unit_test(an_answer_that_is_not_what_was_asked_for_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
