/* The bodies of the collection routes: from JSON to checked values. What can be known from the request alone is checked
 * here, so that a bad one is a 400 and changes nothing. */
#pragma once
#include "controller/collections.h"

/* POST /v1/collections. Strings are borrowed from the body. */
int request_parse_collection(yyjson_val *root, struct collection_request *ret_request, struct error **ret_error);

/* POST …/reindex, …/switch and …/rollback: what they have in common. ids are borrowed from the body. */
struct reindex_request {
    struct reindex_work work; /* what was asked for */
    struct deployment_request destination; /* of work.request_json */
    struct switch_given given;
    const char *task_id, *parent_id;
};
void reindex_request_clear(struct reindex_request *request);
#define _cleanup_reindex_request_ __attribute__((cleanup(reindex_request_clear)))
int request_parse_reindex(yyjson_val *root, const struct controller *controller, struct reindex_request *ret_request,
                          struct error **ret_error);
/* index_id is required by switch and not allowed for a rollback. */
int request_parse_switch(yyjson_val *root, bool is_rollback, struct reindex_request *ret_request,
                         struct error **ret_error);

/* POST …/reindex-tasks/run. Borrowed from the body. */
struct reindex_run_request {
    const char *id, *source, *destination, *collection;
    bool deploy_as_blue, wait_on_conflict;
};
int request_parse_reindex_run(yyjson_val *root, struct reindex_run_request *ret_request, struct error **ret_error);
