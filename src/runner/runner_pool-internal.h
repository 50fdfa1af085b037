/* Pooling: from one vector a token to one vector a text (sentence-transformers' Pooling and Normalize modules).
 *
 * The loops run over the dimension innermost, over plain float arrays, so that the compiler makes vector code of them.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "runner/runner_recipe-internal.h"

/* `hidden` is [length, dimension] of one text, its first `tokens` rows are real, the rest is padding. Writes
 * ret_vector[0..dimension). tokens ≥ 1. MEAN: the mean over real tokens; CLS: the first token; MAX: the largest of each
 * dimension over real tokens; NONE: hidden is [dimension] already. */
void runner_pool(enum recipe_pooling pooling, const float *hidden, size_t tokens, size_t dimension, float *ret_vector);
/* Divides by the Euclidean length, but by no less than 1e-12 (as torch.nn.functional.normalize does). */
void runner_normalize(float *vector, size_t dimension);
bool runner_is_finite(const float *vector, size_t dimension);
