/* The handlers of /v1/collections. */
#include "controller/api.h"

#define UNSERVED(name)                                                                                                 \
    int api_##name(struct api_call *call, struct error **ret_error) {                                                  \
        (void)call;                                                                                                    \
        return error_set(ret_error, ERROR_UNAVAILABLE, "collections are not served by this build");                    \
    }
UNSERVED(collection_create)
UNSERVED(collection_list)
UNSERVED(collection_get)
UNSERVED(collection_delete)
UNSERVED(collection_reindex)
UNSERVED(collection_switch)
UNSERVED(collection_rollback)
UNSERVED(collection_indexes)
UNSERVED(task_failed_items)
UNSERVED(reindex_task_run)
UNSERVED(reindex_task_info)
UNSERVED(reindex_task_list)
UNSERVED(reindex_task_restart)
UNSERVED(reindex_task_cancel)
