/* What the parts of the controller's metrics share. */
#pragma once
#include "base/buffer.h"
#include "controller/controller-internal.h"

/* The families about collections (metrics_collections.c). Blocking, for less than a second. */
void metrics_write_collections(const struct controller *controller, struct buffer *out);
