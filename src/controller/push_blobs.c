/* What images are made of, on its way to a registry. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/push.h"

#define PROGRESS_MS 500 /* at most two writes a second */
#define LOOK_AGAIN_MS 200 /* whether whoever digests a layer is done */

/* ---- progress ---- */

/* A courtesy: what cannot be written now is written with the next piece. */
static void write_progress(struct push_progress *progress, uint64_t done) {
    uint64_t now = clock_monotonic_ms();
    if (done < progress->total_bytes && now - progress->written_ms < PROGRESS_MS) return;
    uint64_t took = now - progress->began_ms;
    double rate = took ? (double)done * 1000 / (double)took : 0;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if (store_begin(progress->run->controller->store, &tx, NULL) < 0) return;
    if (store_run(
            tx, NULL, NULL,
            "UPDATE tasks SET progress_done = ?, progress_total = ?, progress_rate = ?, updated_at = ? WHERE id = ?",
            "iidit", (int64_t)done, (int64_t)progress->total_bytes, rate, clock_wall_ms(), progress->run->task.id) < 0)
        return;
    step_commit(progress->run, TAKE(tx), NULL);
    progress->written_ms = now;
}

/* ---- the package's own ---- */

static int describe(struct step_run *run, const char *package_digest, struct package_image *ret_image,
                    struct error **ret_error) {
    _cleanup_package_row_ struct package_row row = {0};
    for (;;) {
        int result = package_describe(run->controller, package_digest, &row, ret_image, ret_error);
        if (result != API_WAIT) return result;
        if ((result = step_check(run, ret_error)) < 0) return result;
        engine_wait_change(run, engine_version(run->controller->engine), clock_monotonic_ms() + LOOK_AGAIN_MS);
    }
}

static int read_tar(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                    struct error **ret_error) {
    struct push_model *model = context;
    int result = step_check(model->progress.run, ret_error);
    return result < 0 ? result : package_tar_read(model->tar, offset, bytes, size, ret_size, ret_error);
}

int push_model_open(struct step_run *run, const char *package_digest, struct push_model *model,
                    struct error **ret_error) {
    struct controller *controller = run->controller;
    _cleanup_free_ char *folder = NULL;
    *model = (struct push_model){.progress = {.run = run}};
    int result = describe(run, package_digest, &model->image, ret_error);
    if (result < 0 ||
        (result = controller->packages->locate(controller->package_store, package_digest, &folder, ret_error)) < 0 ||
        (result = package_layer_open(folder, &model->tar, ret_error)) < 0)
        return result;
    snprintf(model->diff_id, sizeof model->diff_id, "sha256:%s", model->image.layer_digest);
    model->gzip = (struct oci_gzip){.read = read_tar, .context = model, .plain_size = package_tar_size(model->tar)};
    return oci_gzip_measure(&model->gzip, model->layer_digest, ret_error);
}

void push_model_close(struct push_model *model) {
    package_tar_free(model->tar);
    package_image_clear(&model->image);
}

static int read_frame(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                      struct error **ret_error) {
    struct push_model *model = context;
    int result = oci_gzip_read(&model->gzip, offset, bytes, size, ret_size, ret_error);
    if (result >= 0) write_progress(&model->progress, offset + *ret_size);
    return result;
}

int push_layer(struct push_model *model, struct oci *oci, const char *repository, struct error **ret_error) {
    uint64_t size = oci_gzip_size(&model->gzip);
    model->progress =
        (struct push_progress){.run = model->progress.run, .began_ms = clock_monotonic_ms(), .total_bytes = size};
    int result = oci_push_blob(oci, repository, model->layer_digest, size, read_frame, model, ret_error);
    if (result >= 0) write_progress(&model->progress, size);
    return result;
}

/* ---- bytes ---- */

struct bytes_reader {
    const char *bytes;
    size_t size;
};

static int read_bytes(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                      struct error **ret_error) {
    const struct bytes_reader *reader = context;
    (void)ret_error;
    size_t left = offset < reader->size ? reader->size - (size_t)offset : 0;
    *ret_size = left < size ? left : size;
    memcpy(bytes, reader->bytes + (reader->size - left), *ret_size);
    return 0;
}

int push_bytes(struct oci *oci, const char *repository, const char *digest, const char *bytes, size_t size,
               struct error **ret_error) {
    struct bytes_reader reader = {bytes, size};
    return oci_push_blob(oci, repository, digest, size, read_bytes, &reader, ret_error);
}
