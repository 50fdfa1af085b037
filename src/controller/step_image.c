/* image: where there is a container registry and a serving image was asked for, an image of that with the model on top.
 *
 * The serving image's manifest and config are read; its layers are mounted from its repository, or copied where it lies
 * in another registry or where the registry will not mount; the model's layer, the new config and manifest follow. One
 * transaction records what came of it in the revision. Nothing runs by then, so a registry that is away ends (or, tried
 * again, delays) the task and touches nothing that serves. A kill begins again with what the registry has.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "controller/push.h"
#include "oci/oci_image.h"
#include "registry/registry_oci.h"

#define CONFIG_MAXIMUM (8u << 20)
#define COPY_NAME "layer"
#define LABEL_PATH "io.slipway.model.path"
#define LABEL_PACKAGE "io.slipway.package.digest"
#define LABEL_RESOLVED "io.slipway.package.resolved"
#define LABEL_DEPLOYMENT "io.slipway.deployment"
#define LABEL_REVISION "io.slipway.revision"

struct making {
    struct step_run *run;
    struct deployment deployment;
    struct revision revision;
    struct oci_reference base, place;
    struct oci *from, *to; /* one and the same for one registry */
    struct oci_manifest manifest; /* of the base */
    struct push_model model;
    struct oci_image image;
};

static void making_clear(struct making *making) {
    if (making->from != making->to) oci_close(making->from);
    oci_close(making->to);
    oci_reference_clear(&making->base);
    oci_reference_clear(&making->place);
    oci_manifest_clear(&making->manifest);
    push_model_close(&making->model);
    oci_image_clear(&making->image);
    deployment_clear(&making->deployment);
    revision_clear(&making->revision);
}

static int load(struct making *making, char **ret_name, struct error **ret_error) {
    struct step_run *run = making->run;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = step_load(run, tx, &making->deployment, &making->revision, ret_error)) < 0)
        return result;
    *ret_name = push_serving_image(run->controller, making->revision.target_json);
    return 0;
}

static int open_both(struct making *making, const char *name, struct error **ret_error) {
    struct controller *controller = making->run->controller;
    int result = push_place_parse(controller, name, &making->base, ret_error);
    if (result < 0 ||
        (result = push_place_of_revision(controller, making->deployment.name, making->revision.number, &making->place,
                                         ret_error)) < 0 ||
        (result = push_open(making->run, making->place.registry, &making->to, ret_error)) < 0)
        return result;
    making->from = making->to;
    if (text_equal(making->base.registry, making->place.registry)) return 0;
    making->from = NULL;
    return push_open(making->run, making->base.registry, &making->from, ret_error);
}

/* ---- the new image ---- */

static int extend(struct making *making, const char *config, size_t config_size, struct error **ret_error) {
    const struct revision *revision = &making->revision;
    _cleanup_free_ char *package = text_format("sha256:%s", revision->package_digest);
    _cleanup_free_ char *number = text_format("%lld", (long long)revision->number);
    const struct oci_label labels[] = {{LABEL_PATH, "/" PACKAGE_MODEL_FOLDER},
                                       {LABEL_PACKAGE, package},
                                       {LABEL_RESOLVED, revision->resolved_uri},
                                       {LABEL_DEPLOYMENT, making->deployment.name},
                                       {LABEL_REVISION, number}};
    const struct oci_layer layer = {.digest = making->model.layer_digest,
                                    .diff_id = making->model.diff_id,
                                    .size_bytes = oci_gzip_size(&making->model.gzip),
                                    .created_by = "slipway: the model"};
    return oci_image_extend(&making->manifest, config, config_size, &layer, labels, ARRAY_SIZE(labels), &making->image,
                            ret_error);
}

static int read_base(struct making *making, struct error **ret_error) {
    const char *repository = making->base.repository;
    struct oci_blob blob;
    _cleanup_free_ char *config = NULL;
    size_t size = 0;
    int result = oci_get_manifest(making->from, &making->base, &making->manifest, ret_error);
    if (result < 0 || (result = registry_oci_choose(making->from, repository, &making->manifest, ret_error)) < 0 ||
        (result = oci_image_config(&making->manifest, &blob, ret_error)) < 0 ||
        (result = oci_get_blob(making->from, repository, blob.digest, CONFIG_MAXIMUM, &config, &size, ret_error)) < 0)
        return result;
    return extend(making, config, size, ret_error);
}

/* ---- the layers below ---- */

static int read_file(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                     struct error **ret_error) {
    const int *file = context;
    ssize_t count = pread(*file, bytes, size, (off_t)offset);
    if (count <= 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, count ? errno : EIO, "read the copied layer");
    *ret_size = (size_t)count;
    return 0;
}

static int download(struct making *making, const struct oci_blob *blob, const char *folder, struct error **ret_error) {
    struct transfer_file wanted = {0};
    _cleanup_free_ char *url = NULL;
    int result = oci_describe_blob(making->from, making->base.repository, blob->digest, blob->size_bytes, &wanted, &url,
                                   ret_error);
    if (result < 0) return result;
    wanted.path = COPY_NAME;
    _cleanup_close_ int place = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open %s", folder);
    const struct transfer_download all = {.folder = place, .files = &wanted, .count = 1};
    return transfer_download(oci_transfer(making->from), &all, ret_error);
}

/* Through the task's private folder, which is empty again afterwards. */
static int copy_layer(struct making *making, const struct oci_blob *blob, struct error **ret_error) {
    struct controller *controller = making->run->controller;
    _cleanup_free_ char *folder = NULL;
    int result = controller->packages->begin(controller->package_store, making->run->task.id, &folder, ret_error);
    if (result >= 0) result = download(making, blob, folder, ret_error);
    if (result >= 0) {
        _cleanup_free_ char *path = fs_join(folder, COPY_NAME);
        _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC);
        result = file < 0 ? error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open %s", path)
                          : oci_push_blob(making->to, making->place.repository, blob->digest, blob->size_bytes,
                                          read_file, &file, ret_error);
    }
    controller->packages->abandon(controller->package_store, making->run->task.id);
    return result;
}

static int bring_layer(struct making *making, const struct oci_blob *blob, struct error **ret_error) {
    const char *repository = making->place.repository;
    int result = oci_has_blob(making->to, repository, blob->digest, ret_error);
    if (result) return result;
    if (making->from == making->to)
        result = oci_mount_blob(making->to, repository, making->base.repository, blob->digest, ret_error);
    if (result) return result;
    return copy_layer(making, blob, ret_error);
}

/* ---- all of it ---- */

static int send_image(struct making *making, char ret_digest[72], struct error **ret_error) {
    const struct oci_image *image = &making->image;
    const char *repository = making->place.repository;
    int result = 0;
    for (size_t i = 0; i < image->base_count && result >= 0; i++)
        if ((result = step_check(making->run, ret_error)) >= 0)
            result = bring_layer(making, &image->base_layers[i], ret_error);
    if (result < 0 || (result = push_layer(&making->model, making->to, repository, ret_error)) < 0 ||
        (result = push_bytes(making->to, repository, image->config_digest, image->config, image->config_size,
                             ret_error)) < 0 ||
        (result = step_check(making->run, ret_error)) < 0)
        return result;
    return oci_push_manifest(making->to, repository, making->place.tag, image->manifest, image->manifest_size,
                             image->media_type, ret_digest, ret_error);
}

static int record(struct making *making, const char *digest, struct error **ret_error) {
    struct step_run *run = making->run;
    _cleanup_state_ struct step_state state = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_free_ char *name = oci_reference_text(&making->place);
    _cleanup_free_ char *words = text_format("the image with the model is %s, %s", name, digest);
    step_state_read(&run->task, &state);
    step_state_note(&state, words);
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 ||
        (result = store_run(tx, NULL, ret_error,
                            "UPDATE revisions SET image_reference = ?, image_digest = ? WHERE deployment_id = ? AND "
                            "number = ?",
                            "ttti", name, digest, run->task.deployment_id, making->revision.number)) < 0 ||
        (result = step_state_write(tx, run, &state, ret_error)) < 0 ||
        (result = event_add(tx, "image", run->task.deployment_id, run->task.id, words, NULL, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

static int make(struct making *making, const char *name, struct error **ret_error) {
    char digest[72];
    int result = open_both(making, name, ret_error);
    if (result < 0 ||
        (result = push_model_open(making->run, making->revision.package_digest, &making->model, ret_error)) < 0 ||
        (result = read_base(making, ret_error)) < 0 || (result = send_image(making, digest, ret_error)) < 0)
        return result;
    pause_point("image-pushed");
    return record(making, digest, ret_error);
}

int step_image(struct step_run *run, struct error **ret_error) {
    __attribute__((cleanup(making_clear))) struct making making = {.run = run};
    _cleanup_free_ char *name = NULL;
    int result = load(&making, &name, ret_error);
    if (result < 0 || !name) return result;
    result = make(&making, name, ret_error);
    return result < 0 ? error_wrap(ret_error, "put the model on top of the serving image %s", name) : 0;
}
