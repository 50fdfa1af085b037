#include "base/number.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t number_write_unsigned(uint64_t value, char *ret_text) {
    char reversed[NUMBER_TEXT_MAXIMUM];
    size_t size = 0;
    do reversed[size++] = (char)('0' + value % 10);
    while (value /= 10);
    for (size_t i = 0; i < size; i++) ret_text[i] = reversed[size - 1 - i];
    return size;
}

size_t number_write_signed(int64_t value, char *ret_text) {
    if (value >= 0) return number_write_unsigned((uint64_t)value, ret_text);
    *ret_text = '-';
    return 1 + number_write_unsigned(0 - (uint64_t)value, ret_text + 1);
}

/* "-0" would be read as a whole number, which has no sign. */
static size_t write_zero(bool negative, char *ret_text) {
    memcpy(ret_text, "-0.0", 4);
    if (!negative) memcpy(ret_text, "0.0", 3);
    return negative ? 4 : 3;
}

size_t number_write_double(double value, char *ret_text) {
    int size = 0;
    if (value == 0) return write_zero(signbit(value), ret_text);
    for (int digits = 15; digits <= 17; digits++) {
        size = snprintf(ret_text, NUMBER_TEXT_MAXIMUM, "%.*g", digits, value);
        if (strtod(ret_text, NULL) == value) break;
    }
    return (size_t)size;
}

static size_t write_slowly(float value, char *ret_text) {
    int size = 0;
    for (int digits = 7; digits <= 9; digits++) {
        size = snprintf(ret_text, NUMBER_TEXT_MAXIMUM, "%.*g", digits, (double)value);
        if ((float)strtod(ret_text, NULL) == value) break;
    }
    return (size_t)size;
}

static const double powers[] = {1e0, 1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7, 1e8,
                                1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16};

/* decimal / 10^places without an exponent. */
static size_t write_places(uint64_t decimal, int places, char *text) {
    while (places > 0 && decimal % 10 == 0) decimal /= 10, places--;
    char digits[NUMBER_TEXT_MAXIMUM];
    size_t size = number_write_unsigned(decimal, digits), at = 0;
    if (places == 0) {
        memcpy(text, digits, size);
        return size;
    }
    if (size <= (size_t)places) { /* 0.00…digits */
        size_t zeros = (size_t)places - size;
        memcpy(text, "0.0000000", 2 + zeros);
        memcpy(text + 2 + zeros, digits, size);
        return 2 + zeros + size;
    }
    at = size - (size_t)places;
    memcpy(text, digits, at);
    text[at] = '.';
    memcpy(text + at + 1, digits + at, (size_t)places);
    return size + 1;
}

/* Between 1e-5 and 1e7 a float scaled by a power of ten below 10^15 is good to far more than the nine digits it takes
 * to tell it from its neighbours, and decimal / 10^places rounds as a reader's would, since both are exact. */
size_t number_write_float(float value, char *ret_text) {
    double magnitude = fabs((double)value);
    if (magnitude == 0) return write_zero(signbit(value), ret_text);
    if (magnitude < 1e-5 || magnitude >= 1e7) return write_slowly(value, ret_text);
    int point = 0; /* digits before the decimal point; negative: zeros behind it */
    if (magnitude >= 1)
        while (magnitude >= powers[point]) point++;
    else
        while (magnitude * powers[1 - point] < 1) point--;
    size_t sign = value < 0;
    if (sign) *ret_text = '-';
    for (int digits = 7; digits <= 9; digits++) {
        int places = digits - point;
        uint64_t decimal = (uint64_t)(magnitude * powers[places] + 0.5);
        if (digits < 9 && (float)((double)decimal / powers[places]) != (float)magnitude) continue;
        return sign + write_places(decimal, places, ret_text + sign);
    }
    return 0; /* not reached: nine digits always do */
}
