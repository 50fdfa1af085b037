/* Words that check themselves, and the checksum of rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vector/vector-internal.h"

static void a_word_keeps_its_number(void **state) {
    (void)state;
    static const uint64_t numbers[] = {0, 1, 2, 255, 65536, UINT64_C(1) << 47, VECTOR_NUMBER_MAXIMUM};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        uint64_t word = vector_word_of(numbers[i]);
        assert_true(vector_word_number(word) == numbers[i]);
        assert_true(vector_word_is_sound(word));
    }
    assert_true(vector_word_of(VECTOR_NUMBER_MAXIMUM) == VECTOR_LIVING);
}

static void L7_no_flipped_bit_goes_unnoticed(void **state) {
    (void)state;
    uint64_t number = 1;
    for (int i = 0; i < 20000; i++) {
        uint64_t word = vector_word_of(i < 10000 ? (uint64_t)i : number & VECTOR_NUMBER_MAXIMUM);
        for (int bit = 0; bit < 64; bit++) assert_false(vector_word_is_sound(word ^ UINT64_C(1) << bit));
        number = number * UINT64_C(6364136223846793005) + 1442695040888963407u;
    }
    for (int bit = 0; bit < 64; bit++) assert_false(vector_word_is_sound(VECTOR_LIVING ^ UINT64_C(1) << bit));
}

static void a_page_that_never_reached_the_disk_is_no_word(void **state) {
    (void)state;
    assert_false(vector_word_is_sound(0));
}

/* RFC 3720, B.4. */
static void checksums_are_those_of_the_standard(void **state) {
    (void)state;
    unsigned char bytes[32];
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(vector_checksum(0, bytes, sizeof bytes), 0x8a9136aau);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(vector_checksum(0, bytes, sizeof bytes), 0x62a8ab43u);
    for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)i;
    assert_int_equal(vector_checksum(0, bytes, sizeof bytes), 0x46dd794eu);
    assert_int_equal(vector_checksum(vector_checksum(0, bytes, 13), bytes + 13, 19), 0x46dd794eu);
    assert_int_equal(vector_checksum_plain(0, bytes, sizeof bytes), 0x46dd794eu);
    assert_int_equal(vector_checksum(0, "123456789", 9), 0xe3069283u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_keeps_its_number),
        cmocka_unit_test(L7_no_flipped_bit_goes_unnoticed),
        cmocka_unit_test(a_page_that_never_reached_the_disk_is_no_word),
        cmocka_unit_test(checksums_are_those_of_the_standard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
