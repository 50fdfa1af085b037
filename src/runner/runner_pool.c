#include "runner/runner_pool-internal.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static void pool_mean(const float *restrict hidden, size_t tokens, size_t dimension, float *restrict sum) {
    memcpy(sum, hidden, dimension * sizeof *sum);
    for (size_t token = 1; token < tokens; token++) {
        const float *restrict row = hidden + token * dimension;
        for (size_t i = 0; i < dimension; i++) sum[i] += row[i];
    }
    float share = 1.0f / (float)tokens;
    for (size_t i = 0; i < dimension; i++) sum[i] *= share;
}

static void pool_max(const float *restrict hidden, size_t tokens, size_t dimension, float *restrict largest) {
    memcpy(largest, hidden, dimension * sizeof *largest);
    for (size_t token = 1; token < tokens; token++) {
        const float *restrict row = hidden + token * dimension;
        for (size_t i = 0; i < dimension; i++) largest[i] = largest[i] < row[i] ? row[i] : largest[i];
    }
}

void runner_pool(enum recipe_pooling pooling, const float *hidden, size_t tokens, size_t dimension, float *ret_vector) {
    if (pooling == RECIPE_MEAN)
        pool_mean(hidden, tokens, dimension, ret_vector);
    else if (pooling == RECIPE_MAX)
        pool_max(hidden, tokens, dimension, ret_vector);
    else
        memcpy(ret_vector, hidden, dimension * sizeof *ret_vector);
}

void runner_normalize(float *vector, size_t dimension) {
    double square = 0;
    for (size_t i = 0; i < dimension; i++) square += (double)vector[i] * vector[i];
    double length = sqrt(square);
    float factor = (float)(1.0 / (length > 1e-12 ? length : 1e-12));
    for (size_t i = 0; i < dimension; i++) vector[i] *= factor;
}

bool runner_is_finite(const float *vector, size_t dimension) {
    uint32_t found = 0; /* all exponent bits set: infinite or not a number */
    for (size_t i = 0; i < dimension; i++) {
        uint32_t bits;
        memcpy(&bits, &vector[i], sizeof bits);
        found |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !found;
}
