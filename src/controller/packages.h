/* Packages as things of their own: listed, looked at, exported, uploaded, built, removed, pruned. What deployments do
 * with them is the steps' (step_fetch, step_verify, step_package) and pins.c.
 *
 * Pins (S6), besides 'revision:…' and 'task:…':
 *   kept:<digest>  it was uploaded or built for its own sake, and stays whatever package_budget is, until somebody
 *                  removes it, or prunes and it is older than an hour (so that a prune beside an upload or a build that
 *                  is about to be deployed takes nothing away), or prunes with "all"
 *   call:<uuid>    somebody is reading it (an export); gone with the controller, and dropped at its next start
 */
#pragma once
#include "controller/api.h"
#include "package/package_image.h"

#define PACKAGE_URI_PREFIX "package:sha256:"
#define PACKAGE_KEPT_MS (60 * 60 * 1000) /* how long a prune leaves alone what was uploaded or built */

struct package_row {
    char digest[DIGEST_HEX_SIZE];
    int64_t size_bytes, file_count, created_at, used_at, layer_size_bytes;
    char *source_uri, *resolved_uri, *facts_json, *recipe_json, *layer_digest, *manifest_digest;
};
void package_row_clear(struct package_row *row);
#define _cleanup_package_row_ __attribute__((cleanup(package_row_clear)))

/* "sha256:<hex>", "package:sha256:<hex>" or the hex alone; CONFIGURATION otherwise. */
int package_digest_parse(const char *text, char ret_digest[DIGEST_HEX_SIZE], struct error **ret_error);
/* NOT_FOUND when there is none. */
int package_row_load(struct store_transaction *tx, const char *digest, struct package_row *ret_row,
                     struct error **ret_error);
/* Newest first, then by digest. Free with package_row_list_free(). */
int package_row_list(struct store_transaction *tx, int64_t limit, int64_t offset, struct package_row **ret_rows,
                     size_t *ret_count, int64_t *ret_total, struct error **ret_error);
void package_row_list_free(struct package_row *rows, size_t count);
/* The package is there: its row, with where it came from unless that is known already. In the caller's transaction. */
int package_row_record(struct store_transaction *tx, const char *digest, int64_t size_bytes, int64_t file_count,
                       const struct package_origin *origin, struct error **ret_error);
/* "kept:<digest>"; caller frees. */
char *package_kept_holder(const char *digest);
/* As /v1/packages shows it (api_packages.c). */
int package_render(struct store_transaction *tx, const struct package_row *row, yyjson_mut_doc *document,
                   yyjson_mut_val **ret_object, struct error **ret_error);
/* Adds "pinned_by": what holds it, in words: "deployment <name> revision <n>", "task <id>", "kept", "export". */
int package_add_pins(struct store_transaction *tx, const char *digest, yyjson_mut_doc *document, yyjson_mut_val *object,
                     struct error **ret_error);

/* The URI without what may be a secret in it: a user and password before the host, a signed query. Caller frees; NULL
 * gives NULL. */
char *package_public_uri(const char *uri);

/* ---- the image of a package (package_describe.c) ---- */

struct package_desk; /* who is digesting a layer now: one at a time */
struct package_desk *package_desk_new(void);
void package_desk_free(struct package_desk *desk);
/* From now on long work gives up. Any thread. */
void package_desk_stop(struct package_desk *desk);
/* The API's (api.c), which has it from its start to its end. */
struct package_desk *api_package_desk(struct api *api);

/* Its config and manifest. The first time the layer is digested, which reads the whole model, compares it, and records
 * what came out. API_WAIT when somebody else is at that: to be called again after api_changed(). Blocking. */
int package_describe(struct controller *controller, const char *digest, struct package_row *ret_row,
                     struct package_image *ret_image, struct error **ret_error);

/* Holds the package for whoever reads it: *ret_holder (caller frees) is released with package_let_go(). NOT_FOUND when
 * it is not there. Takes the package gate. Blocking. */
int package_hold(struct controller *controller, const char *digest, char **ret_folder, char **ret_holder,
                 struct error **ret_error);
/* Releases the pin; what nothing holds then leaves if the budget has no room for it. Blocking. */
int package_let_go(struct controller *controller, const char *digest, const char *holder, struct error **ret_error);

/* ---- keeping and removing (package_keep.c, package_prune.c) ---- */

/* What lies measured in the store under `work_id` becomes a package that is kept: visible, then its row and pin in one
 * transaction, all behind the package gate. *ret_created: it was not there before. Blocking. */
int package_keep(struct controller *controller, const char *work_id, const struct package_info *info,
                 const struct package_origin *origin, bool *ret_created, struct error **ret_error);
/* CONFLICT, naming what holds it, when anything but 'kept' does; NOT_FOUND when there is none. Blocking. */
int package_remove(struct controller *controller, const char *digest, struct error **ret_error);

struct package_pruned {
    char digest[DIGEST_HEX_SIZE];
    int64_t size_bytes;
};
/* Removes every package that nothing holds; 'kept' holds for an hour, with `all` not at all. `dry_run`: only tells
 * which. *ret_pruned: caller frees. Two at once: each package is removed and told by one of them. Blocking. */
int package_prune(struct controller *controller, bool all, bool dry_run, struct package_pruned **ret_pruned,
                  size_t *ret_count, struct error **ret_error);

/* ---- tasks of kind `package` (package_task.c) ---- */

/* Fetches and keeps the model: no deployment. In the caller's transaction. */
int operation_build_package(struct controller *controller, struct store_transaction *tx, const char *model_uri,
                            const char *recipe_json, struct task *ret_task, struct error **ret_error);
int package_task_restart(struct store_transaction *tx, const struct task *task, struct error **ret_error);
bool package_task_is(const struct task *task);
/* What it is to make, as a revision of no deployment: model_uri and recipe_json. */
int package_task_load(const struct task *task, struct revision *ret_revision, struct error **ret_error);
/* The package is there: kept, no longer the task's, and told by it. In the caller's transaction. */
struct step_run;
int package_task_record(struct step_run *run, struct store_transaction *tx, const char *digest,
                        struct error **ret_error);
/* The bad end, also of a push: nothing of it stays, neither folder nor pin. */
int package_task_undo(struct step_run *run, enum task_status ending, const struct error *why, struct error **ret_error);
