/* A look into an ONNX file before ONNX Runtime sees it: is it whole, and where does its external data lie?
 *
 * ONNX Runtime opens what a model's external_data entries name, and takes one special name as a memory address. So the
 * file's protobuf (onnx.proto3) is walked first, over a table of the few messages that can lead to a tensor; nothing is
 * allocated from what the file says. Source: protobuf.dev/programming-guides/encoding, onnx/onnx.proto3.
 */
#pragma once
#include <stddef.h>

#include "base/error.h"

/* Called for each external location, as it stands in the file (not NUL-terminated). A negative result ends the walk. */
typedef int runner_onnx_visit(const char *location, size_t size, void *context, struct error **ret_error);

/* Walks a serialised ModelProto. CONFIGURATION error for what is malformed, cut off or nested too deep. */
int runner_onnx_walk(const void *bytes, size_t size, runner_onnx_visit *visit, void *context, struct error **ret_error);

/* Checks the model file <folder>/<file>: that it is an ONNX model, and that all its external data are regular files
 * inside `folder`, reached without "..", absolute paths or links. Blocking. */
int runner_onnx_check(const char *folder, const char *file, struct error **ret_error);
