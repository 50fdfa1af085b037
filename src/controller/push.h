/* Images that are pushed to a container registry: packages as they are (tasks of kind `push`, step_push.c), and serving
 * images with a deployment's model on top (step_image.c). push_place.c says where they go, push_blobs.c sends what
 * they are made of, push_task.c is the life of a push's task.
 *
 * What is pushed is the same each time (package_image.h, oci_image.h), and what a registry has is not sent again: so a
 * step that runs again after a kill comes to the same image. A registry that cannot be reached is EXTERNAL_SERVICE and
 * transient; nothing that serves is touched before an image is there. Task threads only, but for push_place_*.
 */
#pragma once
#include "controller/packages.h"
#include "controller/registries.h"
#include "controller/steps.h"
#include "oci/oci.h"
#include "oci/oci_gzip.h"

/* ---- where (push_place.c) ---- */

/* "registry/repository[:tag]", or without a registry below the setting container_registry. Its access is configured: an
 * [oci] section, or it is the container registry's. CONFIGURATION otherwise. */
int push_place_parse(const struct controller *controller, const char *text, struct oci_reference *ret_reference,
                     struct error **ret_error);
/* <container_registry>/<deployment name>:r<revision>; CONFIGURATION when the setting is none. A name's upper-case
 * letters become lower-case, and what a repository's name may not have a '-'. */
int push_place_of_revision(const struct controller *controller, const char *deployment_name, int64_t revision,
                           struct oci_reference *ret_reference, struct error **ret_error);
/* Whether there is a container registry, and the target config has a serving_image: NULL, or a copy of its name. */
char *push_serving_image(const struct controller *controller, const char *target_json);
/* The target config as a target sees it: without the serving image where that is made into one. NULL gives NULL;
 * caller frees. */
char *push_without_image(const struct controller *controller, const char *target_json);
/* Whether the task's revision is to be made into an image. */
bool push_image_is_wanted(struct step_run *run);
/* Opens the registry; errors are EXTERNAL_SERVICE. `run` must outlive it: its cancel and deadline count. */
int push_open(struct step_run *run, const char *registry, struct oci **ret_oci, struct error **ret_error);

/* ---- what (push_blobs.c) ---- */

struct push_progress {
    struct step_run *run;
    uint64_t began_ms, written_ms, total_bytes;
};
/* A package as it is pushed: its image, and its layer in a gzip frame that does not compress, since there are tools
 * that take no other layers. */
struct push_model {
    struct package_image image;
    struct package_tar *tar;
    struct oci_gzip gzip;
    char layer_digest[72], diff_id[72]; /* "sha256:…" of the frame, and of the tar in it */
    struct push_progress progress;
};
/* Reads the whole package once, and for its first image ever twice; waits for whoever digests another layer. The object
 * stays where it is until push_model_close(). */
int push_model_open(struct step_run *run, const char *package_digest, struct push_model *model,
                    struct error **ret_error);
void push_model_close(struct push_model *model);
/* Its layer; progress is written into the task. */
int push_layer(struct push_model *model, struct oci *oci, const char *repository, struct error **ret_error);
/* Bytes in memory; digest: "sha256:…". */
int push_bytes(struct oci *oci, const char *repository, const char *digest, const char *bytes, size_t size,
               struct error **ret_error);

/* ---- tasks of kind `push` (push_task.c) ---- */

/* Pins the package and makes the task. Its metadata: {"package_uri", "image_reference"}, and when it is done
 * "image_digest". In the caller's transaction, behind the package gate. NOT_FOUND when there is no such package. */
int operation_push(struct controller *controller, struct store_transaction *tx, const char *package_digest,
                   const struct oci_reference *reference, struct task *ret_task, struct error **ret_error);
bool push_task_is(const struct task *task);
int push_task_load(const struct task *task, char **ret_package_digest, struct oci_reference *ret_reference,
                   struct error **ret_error);
/* The image is there: told by the task, whose pin goes. In the caller's transaction. */
int push_task_record(struct step_run *run, struct store_transaction *tx, const char *image_digest,
                     struct error **ret_error);
/* What came of it, for its detail; caller frees. */
char *push_task_detail(const struct task *task);
/* In the caller's transaction. CONFLICT when the package has gone. */
int push_task_restart(struct store_transaction *tx, const struct task *task, struct error **ret_error);
