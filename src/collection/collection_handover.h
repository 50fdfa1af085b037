/* Whether this program could work with the collections that another one uses now (RULES U1, U3). */
#pragma once
#include "base/error.h"

/* Every database in the folder of collections; a folder that is not there is fine. Errors of store_check_handover().
 * Blocking. */
int collections_check_handover(const char *folder, struct error **ret_error);
