/* push: a package as an image to a registry: config, layer, manifest, each only where it is not there yet; then one
 * transaction records the digest and lets the package go. A kill anywhere before that begins again with what the
 * registry has by then. */
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/push.h"
#include "oci/oci_image.h"

static int send_image(struct step_run *run, struct oci *oci, const struct oci_reference *place,
                      struct push_model *model, char ret_digest[72], struct error **ret_error) {
    const struct package_image *image = &model->image;
    const struct oci_layer layer = {
        .digest = model->layer_digest, .diff_id = model->diff_id, .size_bytes = oci_gzip_size(&model->gzip)};
    _cleanup_free_ char *config_digest = text_format("sha256:%s", image->config_digest), *manifest = NULL;
    size_t size = 0;
    int result = push_bytes(oci, place->repository, config_digest, image->config, image->config_size, ret_error);
    if (result < 0 || (result = push_layer(model, oci, place->repository, ret_error)) < 0 ||
        (result = step_check(run, ret_error)) < 0 ||
        (result = oci_image_set_layer(image->manifest, image->manifest_size, &layer, &manifest, &size, ret_error)) < 0)
        return result;
    return oci_push_manifest(oci, place->repository, place->tag, manifest, size, PACKAGE_MEDIA_MANIFEST, ret_digest,
                             ret_error);
}

static int record(struct step_run *run, const struct oci_reference *place, const char *digest,
                  struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_free_ char *name = oci_reference_text(place);
    _cleanup_free_ char *words = text_format("pushed to %s, %s", name, digest);
    step_state_read(&run->task, &state);
    free(state.note);
    state.note = text_copy(words);
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = push_task_record(run, tx, digest, ret_error)) < 0 ||
        (result = step_state_write(tx, run, &state, ret_error)) < 0 ||
        (result = event_add(tx, "push", NULL, run->task.id, words, NULL, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int step_push(struct step_run *run, struct error **ret_error) {
    _cleanup_free_ char *package_digest = NULL;
    _cleanup_reference_ struct oci_reference place = {0};
    struct push_model model = {0};
    struct oci *oci = NULL;
    char digest[72];
    int result = push_task_load(&run->task, &package_digest, &place, ret_error);
    if (result < 0) return result;
    result = push_model_open(run, package_digest, &model, ret_error);
    if (result >= 0) result = push_open(run, place.registry, &oci, ret_error);
    if (result >= 0) result = send_image(run, oci, &place, &model, digest, ret_error);
    oci_close(oci);
    push_model_close(&model);
    if (result < 0) return error_wrap(ret_error, "push package sha256:%s", package_digest);
    return record(run, &place, digest, ret_error);
}
