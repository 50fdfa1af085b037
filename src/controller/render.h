/* Records as the API shows them (API.md): JSON objects with nulls left out. */
#pragma once
#include "base/json.h"
#include "controller/controller-internal.h"
#include "controller/operation.h"

/* DeploymentStatusResponse; reads the running task's progress in tx. */
int render_deployment(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                      yyjson_mut_doc *document, yyjson_mut_val **ret_object, struct error **ret_error);
/* The task shape; reads the children's ids in tx. */
int render_task(struct store_transaction *tx, const struct task *task, yyjson_mut_doc *document,
                yyjson_mut_val **ret_object, struct error **ret_error);
/* The answer of the model-level task routes. */
yyjson_mut_val *render_model_task(const struct task *task, yyjson_mut_doc *document);
/* The URL under which a deployment answers; caller frees. */
char *render_endpoint_url(const struct settings *settings, const char *name);
