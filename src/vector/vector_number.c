/* Arithmetic of single vectors: length, and int8 codes with what they leave out. */
#include <math.h>
#include <string.h>

#include "vector/vector-internal.h"

#define CODE_MAXIMUM 127.0f
#define QUERY_MAXIMUM 2047.0f

bool vector_normalise(const float *vector, size_t dimension, float *ret_vector, size_t stride) {
    double square = 0; /* cannot overflow: the squares of floats are far inside a double */
    for (size_t i = 0; i < dimension; i++) square += (double)vector[i] * (double)vector[i];
    if (!isfinite(square) || square <= 0) return false;
    double length = sqrt(square);
    for (size_t i = 0; i < dimension; i++) ret_vector[i] = (float)((double)vector[i] / length);
    memset(ret_vector + dimension, 0, (stride - dimension) * sizeof *ret_vector);
    return true;
}

static float largest(const float *vector, size_t dimension) {
    float maximum = 0;
    for (size_t i = 0; i < dimension; i++)
        if (maximum < fabsf(vector[i])) maximum = fabsf(vector[i]);
    return maximum;
}

/* The length of what the code leaves out, rounded up. */
static float rest_of(double square) {
    return (float)(sqrt(square) * (1 + 1e-6)) + 1e-7f;
}

void vector_quantise(const float *vector, size_t dimension, int8_t *ret_code, size_t code_stride,
                     struct vector_code_scale *ret_scale) {
    float scale = largest(vector, dimension) / CODE_MAXIMUM;
    double square = 0;
    for (size_t i = 0; i < code_stride; i++) {
        float value = i < dimension ? vector[i] : 0, code = rintf(value / scale);
        if (fabsf(code) > CODE_MAXIMUM) code = copysignf(CODE_MAXIMUM, code);
        double rest = (double)value - (double)scale * (double)code;
        square += rest * rest;
        ret_code[i] = (int8_t)code;
    }
    *ret_scale = (struct vector_code_scale){.scale = scale, .error = rest_of(square)};
}

void vector_quantise_query(const float *vector, size_t dimension, size_t code_stride, struct vector_query_code *code) {
    code->scale = largest(vector, dimension) / QUERY_MAXIMUM;
    double square = 0;
    for (size_t i = 0; i < code_stride; i++) {
        float value = i < dimension ? vector[i] : 0, number = rintf(value / code->scale);
        if (fabsf(number) > QUERY_MAXIMUM) number = copysignf(QUERY_MAXIMUM, number);
        double rest = (double)value - (double)code->scale * (double)number;
        square += rest * rest;
        code->code[i] = (int16_t)number;
    }
    code->error = rest_of(square);
}

/* Each of 16 sums takes dimension / 16 products, then they are added up: Higham, Accuracy and Stability of Numerical
 * Algorithms, 2nd edition, section 3.1: n u / (1 - n u) times the sum of the products' sizes, which is at most 1. */
float vector_rounding(size_t dimension) {
    size_t steps = dimension / 16 + 8;
    return 1.1f * (float)steps * 0x1p-24f;
}
