/* Whether this program could work with a database that another one uses now (RULES U1, U3). */
#pragma once
#include "store/store.h"

/* Looks, and changes nothing; a file that is not there is fine. CONFIGURATION: a newer version whose steps took away
 * what this program needs; or one from which this program's steps would leave what the other cannot read any more, so
 * that there were no way back. Errors of store_open_as() besides. Blocking. */
int store_check_handover(const char *path, const struct store_schema *schema, struct error **ret_error);
