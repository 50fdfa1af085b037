#include "runner/runner_tensor-internal.h"

#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/memory.h"

const struct tensor_type_info tensor_types[TENSOR_TYPE_COUNT] = {
#define TENSOR_TYPE(constant, name, onnx, size, form) {name, onnx, size, TENSOR_FORM_##form},
#include "runner/tensor_types.def"
#undef TENSOR_TYPE
};

bool tensor_type_parse(const char *name, enum tensor_type *ret_type) {
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
        if (strcmp(tensor_types[i].name, name)) continue;
        *ret_type = (enum tensor_type)i;
        return true;
    }
    return false;
}

bool tensor_type_from_onnx(int onnx, enum tensor_type *ret_type) {
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
        if (tensor_types[i].onnx != onnx) continue;
        *ret_type = (enum tensor_type)i;
        return true;
    }
    return false;
}

bool tensor_count_elements(const int64_t *shape, size_t rank, size_t *ret_count) {
    size_t count = 1;
    bool empty = false;
    for (size_t i = 0; i < rank; i++) {
        if (shape[i] < 0) return false;
        if (shape[i] == 0)
            empty = true; /* but the other dimensions are still checked */
        else if (__builtin_mul_overflow(count, (size_t)shape[i], &count))
            return false;
    }
    if (count > SIZE_MAX / 16) return false;
    *ret_count = empty ? 0 : count;
    return true;
}

int tensor_check_bytes(const void *bytes, size_t size, size_t count, struct error **ret_error) {
    size_t position = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t length;
        if (size - position < sizeof length)
            return error_set(ret_error, ERROR_REQUEST, "element %zu of %zu has no length: the data ends at byte %zu", i,
                             count, size);
        memcpy(&length, (const char *)bytes + position, sizeof length);
        position += sizeof length;
        if (size - position < length)
            return error_set(ret_error, ERROR_REQUEST, "element %zu says it has %u bytes, but %zu are left", i, length,
                             size - position);
        position += length;
    }
    if (position != size)
        return error_set(ret_error, ERROR_REQUEST, "%zu bytes are left after the last of %zu elements", size - position,
                         count);
    return 0;
}

char *tensor_shape_text(const int64_t *shape, size_t rank) {
    struct buffer text = {0};
    buffer_append_text(&text, "[");
    for (size_t i = 0; i < rank; i++) buffer_append_format(&text, i ? ",%lld" : "%lld", (long long)shape[i]);
    buffer_append_text(&text, "]");
    return buffer_take(&text, NULL);
}

void tensor_clear(struct tensor *tensor) {
    free(tensor->owned);
    *tensor = (struct tensor){0};
}

void tensor_clear_all(struct tensor *tensors, size_t count) {
    for (size_t i = 0; tensors && i < count; i++) tensor_clear(&tensors[i]);
    free(tensors);
}

float tensor_half_to_float(uint16_t half) {
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    float magnitude;
    if (exponent == 31)
        magnitude = mantissa ? NAN : INFINITY;
    else if (exponent == 0)
        magnitude = ldexpf((float)mantissa, -24);
    else
        magnitude = ldexpf((float)(mantissa + 1024), exponent - 25);
    return half & 0x8000 ? -magnitude : magnitude;
}

uint16_t tensor_float_to_half(float value) {
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    float magnitude = fabsf(value);
    if (isnan(value)) return sign | 0x7e00;
    if (magnitude >= 65520.0f) return sign | 0x7c00;
    if (magnitude < 0x1p-14f) return sign | (uint16_t)nearbyintf(ldexpf(magnitude, 24)); /* 1024 is the first normal */
    int exponent;
    float fraction = frexpf(magnitude, &exponent); /* in [0.5, 1) */
    unsigned mantissa = (unsigned)nearbyintf(fraction * 2048.0f); /* in [1024, 2048]; 2048 carries into the exponent */
    return sign | (uint16_t)(((unsigned)(exponent + 14) << 10) + (mantissa - 1024));
}

float tensor_brain_to_float(uint16_t brain) {
    uint32_t bits = (uint32_t)brain << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t tensor_float_to_brain(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value)) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

double tensor_real_at(const struct tensor *tensor, size_t index) {
    const char *at = (const char *)tensor->data + index * tensor_types[tensor->type].size;
    uint16_t narrow;
    float single;
    double wide;
    switch (tensor->type) {
    case TENSOR_FP16: memcpy(&narrow, at, sizeof narrow); return tensor_half_to_float(narrow);
    case TENSOR_BF16: memcpy(&narrow, at, sizeof narrow); return tensor_brain_to_float(narrow);
    case TENSOR_FP32: memcpy(&single, at, sizeof single); return single;
    default: memcpy(&wide, at, sizeof wide); return wide;
    }
}

bool tensor_is_finite(const struct tensor *tensor) {
    if (tensor_types[tensor->type].form != TENSOR_FORM_REAL) return true;
    for (size_t i = 0; i < tensor->element_count; i++)
        if (!isfinite(tensor_real_at(tensor, i))) return false;
    return true;
}
