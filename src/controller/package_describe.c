/* The image of a package: what its row says, and the digest of its layer, which is made once and kept in the row. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/engine-internal.h"
#include "controller/packages.h"

struct package_desk {
    pthread_mutex_t mutex;
    bool is_taken;
    atomic_bool is_stopping;
};

struct package_desk *package_desk_new(void) {
    struct package_desk *desk = mem_new(struct package_desk);
    pthread_mutex_init(&desk->mutex, NULL);
    return desk;
}

void package_desk_free(struct package_desk *desk) {
    if (!desk) return;
    pthread_mutex_destroy(&desk->mutex);
    free(desk);
}

void package_desk_stop(struct package_desk *desk) {
    atomic_store(&desk->is_stopping, true);
}

static bool take(struct package_desk *desk) {
    pthread_mutex_lock(&desk->mutex);
    bool was_taken = desk->is_taken;
    desk->is_taken = true;
    pthread_mutex_unlock(&desk->mutex);
    return !was_taken;
}

static void give(struct package_desk *desk) {
    pthread_mutex_lock(&desk->mutex);
    desk->is_taken = false;
    pthread_mutex_unlock(&desk->mutex);
}

/* ---- holding it ---- */

static int record_hold(struct controller *controller, const char *digest, const char *holder,
                       struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_package_row_ struct package_row row = {0};
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = package_row_load(tx, digest, &row, ret_error)) < 0 ||
        (result = pin_package(tx, digest, holder, NULL, ret_error)) < 0)
        return result;
    return store_commit(TAKE(tx), ret_error);
}

int package_hold(struct controller *controller, const char *digest, char **ret_folder, char **ret_holder,
                 struct error **ret_error) {
    char uuid[37];
    text_new_uuid(uuid);
    _cleanup_free_ char *holder = text_format("call:%s", uuid), *folder = NULL;
    package_gate_lock(controller->engine);
    int result = controller->packages->locate(controller->package_store, digest, &folder, ret_error);
    if (result >= 0) result = record_hold(controller, digest, holder, ret_error);
    package_gate_unlock(controller->engine);
    if (result < 0) return result;
    *ret_folder = TAKE(folder);
    *ret_holder = TAKE(holder);
    return 0;
}

static int release(struct controller *controller, const char *digest, const char *holder, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = pin_release(tx, holder, ret_error)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE packages SET used_at = ? WHERE digest = ?", "it",
                            clock_wall_ms(), digest)) < 0)
        return result;
    return store_commit(TAKE(tx), ret_error);
}

int package_let_go(struct controller *controller, const char *digest, const char *holder, struct error **ret_error) {
    int result = release(controller, digest, holder, ret_error);
    return result < 0 ? result : pins_trim(controller, ret_error);
}

/* ---- describing it ---- */

static int load(struct controller *controller, const char *digest, struct package_row *ret_row,
                struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    return result < 0 ? result : package_row_load(tx, digest, ret_row, ret_error);
}

static void describe(const struct package_row *row, struct package_image *ret_image) {
    const struct package_origin origin = {
        .source_uri = row->source_uri,
        .resolved_uri = row->resolved_uri,
        .recipe_json = row->recipe_json,
        .facts_json = row->facts_json,
    };
    package_image_describe(row->digest, row->layer_digest, (uint64_t)row->layer_size_bytes, &origin, ret_image);
}

static int record_layer(struct controller *controller, const char *digest, const char *layer, uint64_t size_bytes,
                        struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = store_run(tx, NULL, ret_error,
                                          "UPDATE packages SET layer_digest = ?, layer_size_bytes = ? WHERE digest = ?",
                                          "tit", layer, (int64_t)size_bytes, digest)) < 0)
        return result;
    return store_commit(TAKE(tx), ret_error);
}

static int digest_layer(struct controller *controller, const char *digest, struct error **ret_error) {
    char layer[DIGEST_HEX_SIZE], tree[DIGEST_HEX_SIZE];
    uint64_t size_bytes = 0;
    _cleanup_free_ char *folder = NULL, *holder = NULL;
    int result = package_hold(controller, digest, &folder, &holder, ret_error);
    if (result < 0) return result;
    result = package_layer_digest(folder, &api_package_desk(controller->api)->is_stopping, layer, &size_bytes, tree,
                                  ret_error);
    if (result >= 0 && !text_equal(tree, digest))
        result =
            error_set(ret_error, ERROR_DEPLOYMENT,
                      "package sha256:%s is damaged on the disk: its files have the digest %s; remove it and fetch "
                      "it again",
                      digest, tree);
    if (result >= 0) result = record_layer(controller, digest, layer, size_bytes, ret_error);
    struct error *error = NULL;
    int released = package_let_go(controller, digest, holder, &error);
    if (result < 0 || released >= 0 || !ret_error) {
        error_free(error);
        return result;
    }
    *ret_error = error;
    return released;
}

/* In its row; NULL when it is another one now. */
static int record_manifest(struct controller *controller, struct package_row *row, const struct package_image *image,
                           struct error **ret_error) {
    if (text_equal(row->manifest_digest, image->manifest_digest)) return 0;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE packages SET manifest_digest = ? WHERE digest = ?", "tt",
                            image->manifest_digest, row->digest)) < 0 ||
        (result = store_commit(TAKE(tx), ret_error)) < 0)
        return result;
    free(row->manifest_digest);
    row->manifest_digest = text_copy(image->manifest_digest);
    return 0;
}

int package_describe(struct controller *controller, const char *digest, struct package_row *ret_row,
                     struct package_image *ret_image, struct error **ret_error) {
    struct package_desk *desk = api_package_desk(controller->api);
    _cleanup_package_row_ struct package_row row = {0};
    int result = load(controller, digest, &row, ret_error);
    if (result < 0) return result;
    if (!row.layer_digest) {
        if (!take(desk)) return API_WAIT;
        result = digest_layer(controller, digest, ret_error);
        give(desk);
        api_changed(controller->api);
        package_row_clear(&row);
        if (result < 0 || (result = load(controller, digest, &row, ret_error)) < 0) return result;
    }
    _cleanup_image_ struct package_image image = {0};
    describe(&row, &image);
    if ((result = record_manifest(controller, &row, &image, ret_error)) < 0) return result;
    *ret_row = row;
    *ret_image = image;
    row = (struct package_row){0};
    image = (struct package_image){0};
    return 0;
}
