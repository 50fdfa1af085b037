/* What a model must show before it is called ready: one real inference, right in shape and finite; and whether running
 * requests together changes their results, which dynamically quantised models do. */
#pragma once
#include "runner/runner_model-internal.h"

#define PROBE_TOLERANCE 1e-4 /* largest difference of one value, alone against together, that counts as none */

/* Warms up and sets together_reason where a batch changes a vector. DEPLOYMENT or CONFIGURATION error when the model
 * does not embed. */
int runner_probe_embedding(struct model *model, struct error **ret_error);
/* Runs ones (and zeros, should the model refuse those) of the declared shape, free dimensions 1. A model that refuses
 * both is served all the same: probe_reason says so. CONFIGURATION error when all it gives is not finite. */
int runner_probe_tensors(struct model *model, struct error **ret_error);
