/* DeploymentRequest: from JSON to a checked struct. Everything that can be known from the request alone is checked
 * here, so that a bad one is a 400 and changes nothing. Strings are owned by the request (request_clear). */
#pragma once
#include "base/json.h"
#include "registry/registry.h"

struct deployment_request {
    char *name; /* NULL in `config` of the model-level routes until the id fills it */
    char *model_uri; /* NULL only where the caller allows it */
    char *target_json; /* deployment_target_config as given, canonical */
    char *recipe_json; /* or NULL */
    char *tags_json; /* "{}" when not given */
    int64_t replicas, memory_bytes, gpu;
    double cpu;
    bool is_batch; /* a batch_inference_job */
};
void request_clear(struct deployment_request *request);
#define _cleanup_request_ __attribute__((cleanup(request_clear)))

enum request_form {
    REQUEST_WHOLE, /* POST, PUT: name, URI and target are required */
    REQUEST_SERVICE, /* the same, and no batch job */
    REQUEST_MODEL_CONFIG, /* `config` of /deploy: no name allowed, everything optional */
};
int request_parse(yyjson_val *object, const char *where, enum request_form form,
                  const struct registry_context *registry, struct deployment_request *ret_request,
                  struct error **ret_error);

#define REQUEST_DEFAULT_ID "{id}"
/* A model id in the default registry: the pattern (the setting default_registry) with the id for each {id}. Without one
 * (NULL, "") file://<root>/<id> for the first root that has it, else for the last root (whose lack the fetch step will
 * report). Caller frees. */
char *request_default_uri(const struct registry_context *registry, const char *pattern, const char *model_id);
/* A model URI is kept and shown: CONFIGURATION, without repeating it, when it has credentials in it, be it a user
 * before the host or a signature or token in the query. */
int request_check_public(const char *uri, struct error **ret_error);

/* PATCH: only what is given. */
struct deployment_patch {
    bool has_replicas, has_resources, has_tags;
    int64_t replicas, memory_bytes, gpu;
    double cpu;
    char *tags_json;
};
void request_clear_patch(struct deployment_patch *patch);
#define _cleanup_patch_ __attribute__((cleanup(request_clear_patch)))
int request_parse_patch(yyjson_val *object, struct deployment_patch *ret_patch, struct error **ret_error);
