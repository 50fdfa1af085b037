/* What a backup, a restore and a check (state/) need of a collection beside reading it. May use: base, store. */
#pragma once
#include "collection/collection.h"
#include "store/store.h"

/* "documents.db", "queries.db": the file in the collection's folder. */
const char *collection_file_name(enum collection_set set);
/* Whether it keeps queries: whether there is a second log. */
bool collection_keeps_queries(struct collection *collection);

/* The version of the schema of that set's database. */
int collection_version(struct collection_read *read, int64_t *ret_version, struct error **ret_error);
/* The newest version of that schema, which this build speaks. */
int64_t collection_schema_version(void);
/* Writes that set's database, as the read sees it, into the new file `path`, synced (store_copy). */
int collection_copy(struct collection_read *read, const char *path, const struct store_progress *progress,
                    struct error **ret_error);
/* Verifies the database (store_verify), and what its rows say about each other: head and living documents against the
 * log, the pair against the list of indexes. */
int collection_verify(struct collection_read *read, void (*tell)(void *context, const char *fault), void *context,
                      struct error **ret_error);

/* After the folder was copied from a backup, and before anybody uses it: each log gets a new log_id (S9), every index
 * that follows a log begins at 0 again with its state kept (one that was `ready` is filling), and a switch that was
 * under way is as if it had not begun. `why` is in the event. Everything is in the files, synced, when it returns 0. */
int collection_renew(const char *folder, const char *why, struct error **ret_error);
