/* Words that carry their own check, and CRC-32C. */
#include <string.h>

#include "vector/vector-internal.h"

/* Odd, so that no two numbers give the same product. Chosen so that a flip of any one bit of a number changes the upper
 * 16 bits of its product (unit test vector_word). */
#define FACTOR UINT64_C(0x9e3779b97f4a7c15)

static uint64_t check_of(uint64_t number) {
    const uint64_t living = (VECTOR_NUMBER_MAXIMUM * FACTOR) >> 48; /* so that VECTOR_LIVING is all ones */
    return ((number * FACTOR) >> 48) ^ living ^ 0xffff;
}

uint64_t vector_word_of(uint64_t number) {
    return check_of(number) << 48 | number;
}

bool vector_word_is_sound(uint64_t word) {
    return word == VECTOR_LIVING || vector_word_of(vector_word_number(word)) == word;
}

/* ---- CRC-32C ---- */

#define POLYNOMIAL 0x82f63b78u /* reflected */

static uint32_t table[256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void make_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? POLYNOMIAL : 0);
        table[byte] = value;
    }
}

uint32_t vector_checksum_plain(uint32_t checksum, const void *bytes, size_t size) {
    const unsigned char *at = bytes;
    pthread_once(&table_once, make_table);
    checksum = ~checksum;
    for (size_t i = 0; i < size; i++) checksum = checksum >> 8 ^ table[(checksum ^ at[i]) & 0xff];
    return ~checksum;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t checksum_sse42(uint32_t checksum, const unsigned char *bytes,
                                                                 size_t size) {
    uint64_t value = checksum;
    for (; size >= 8; bytes += 8, size -= 8) {
        uint64_t eight;
        memcpy(&eight, bytes, 8);
        value = __builtin_ia32_crc32di(value, eight);
    }
    checksum = (uint32_t)value;
    for (; size; bytes++, size--) checksum = __builtin_ia32_crc32qi(checksum, *bytes);
    return checksum;
}
#endif

uint32_t vector_checksum(uint32_t checksum, const void *bytes, size_t size) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2")) return ~checksum_sse42(~checksum, bytes, size);
#endif
    return vector_checksum_plain(checksum, bytes, size);
}
