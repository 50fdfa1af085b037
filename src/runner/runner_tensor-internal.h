/* Tensors as the runner holds them: a type, a shape and row-major bytes.
 *
 * Elements are little-endian as on the wire and in memory. BYTES tensors are held in the protocol's binary form, each
 * element a u32 length and its bytes, so that requests and answers need no second representation. A tensor does not own
 * its name; it owns its data only where `owned` says so.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"

#define TENSOR_RANK_MAXIMUM 16

enum tensor_form { TENSOR_FORM_TRUTH, TENSOR_FORM_UNSIGNED, TENSOR_FORM_SIGNED, TENSOR_FORM_REAL, TENSOR_FORM_TEXT };

enum tensor_type {
#define TENSOR_TYPE(constant, name, onnx, size, form) TENSOR_##constant,
#include "runner/tensor_types.def"
#undef TENSOR_TYPE
    TENSOR_TYPE_COUNT
};

struct tensor_type_info {
    const char *name; /* the protocol's */
    int onnx; /* ONNXTensorElementDataType */
    size_t size; /* bytes of one element; 0 for BYTES */
    enum tensor_form form; /* in JSON */
};
extern const struct tensor_type_info tensor_types[TENSOR_TYPE_COUNT];

struct tensor {
    const char *name; /* borrowed */
    enum tensor_type type;
    size_t rank;
    int64_t shape[TENSOR_RANK_MAXIMUM];
    size_t element_count; /* product of the shape */
    const void *data;
    size_t data_size;
    void *owned; /* freed by tensor_clear(); NULL: data is borrowed */
};

bool tensor_type_parse(const char *name, enum tensor_type *ret_type);
bool tensor_type_from_onnx(int onnx, enum tensor_type *ret_type);

/* The product of shape[0..rank), or false when a dimension is negative or the product times 8 passes SIZE_MAX / 2. */
bool tensor_count_elements(const int64_t *shape, size_t rank, size_t *ret_count);
/* Checks that bytes[0..size) is exactly `count` elements of a BYTES tensor. REQUEST error otherwise. */
int tensor_check_bytes(const void *bytes, size_t size, size_t count, struct error **ret_error);
/* Steps through a BYTES tensor that has been checked: *position begins with 0. */
static inline const char *tensor_next_bytes(const struct tensor *tensor, size_t *position, uint32_t *ret_size) {
    const char *at = (const char *)tensor->data + *position;
    memcpy(ret_size, at, sizeof *ret_size);
    *position += sizeof *ret_size + *ret_size;
    return at + sizeof *ret_size;
}
/* "[2,-1,384]" for messages and metadata; caller frees. */
char *tensor_shape_text(const int64_t *shape, size_t rank);
void tensor_clear(struct tensor *tensor);
void tensor_clear_all(struct tensor *tensors, size_t count); /* clears each and frees the array */

/* IEEE 754 binary16 and bfloat16 to and from float, to nearest even; what is too large becomes infinite. */
float tensor_half_to_float(uint16_t half);
uint16_t tensor_float_to_half(float value);
float tensor_brain_to_float(uint16_t brain);
uint16_t tensor_float_to_brain(float value);

/* A REAL element as a double. */
double tensor_real_at(const struct tensor *tensor, size_t index);
/* Whether every element of a REAL tensor is finite (true for the other types). */
bool tensor_is_finite(const struct tensor *tensor);
