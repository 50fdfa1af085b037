/* Laying a backup out as a state folder.
 *
 * First everything in it is verified; then it is copied beside its place, verified once more by what was copied, and
 * changed into what a service finds after all of its processes were killed at the backup's moment: reconciliation
 * (controller/reconcile.c) goes on from there. What a service would have had beside that, and a backup has not, is told
 * to the databases: indexes begin at 0 on logs with new ids (S9), and tasks go back to the step that makes it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "state/state-internal.h"

/* ---- reading the backup ---- */

static int damaged(struct error **ret_error, const char *path, const char *what) {
    return error_set(ret_error, ERROR_DEPLOYMENT, "the backup is damaged: %s %s; take another backup", path, what);
}

static int check_manifest(const char *folder, const char *bytes, size_t size, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(folder, "manifest.sha256"), *line = NULL;
    char sha256[DIGEST_HEX_SIZE];
    size_t line_size = 0;
    int result = fs_read_file(path, 4096, &line, &line_size, ret_error);
    if (result < 0) return result;
    digest_bytes(bytes, size, sha256);
    if (line_size >= 64 && !memcmp(line, sha256, 64)) return 0;
    return damaged(ret_error, "manifest.json", "is not what manifest.sha256 says");
}

static int read_manifest(const char *folder, struct manifest *manifest, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(folder, "manifest.json"), *bytes = NULL;
    size_t size = 0;
    if (!fs_exists(path))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is no backup: there is no manifest.json in it", folder);
    int result = fs_read_file(path, MANIFEST_SIZE_MAXIMUM, &bytes, &size, ret_error);
    if (!result) result = check_manifest(folder, bytes, size, ret_error);
    return result < 0 ? result : manifest_parse(bytes, size, manifest, ret_error);
}

static int check_versions(const struct manifest *manifest, struct error **ret_error) {
    int64_t control = (int64_t)store_control_schema()->count, collection = collection_schema_version();
    if (manifest->control_version <= control && manifest->collection_version <= collection) return 0;
    return error_set(
        ret_error, ERROR_CONFIGURATION,
        "it was written by the newer Slipway %s, whose databases this one does not know (versions %lld and "
        "%lld, and this one knows %lld and %lld): restore it with that one",
        manifest->slipway, (long long)manifest->control_version, (long long)manifest->collection_version,
        (long long)control, (long long)collection);
}

static int compare(const struct manifest_file *file, uint64_t size_bytes, const char *sha256,
                   struct error **ret_error) {
    if (size_bytes != file->size_bytes)
        return damaged(ret_error, file->path, "has another size than when it was written");
    if (strcmp(sha256, file->sha256) != 0)
        return damaged(ret_error, file->path, "has another SHA-256 than when it was written");
    return 0;
}

static int verify_files(const struct state_restore *restore, const struct manifest *manifest,
                        struct error **ret_error) {
    struct state_counter counter = {.progress = restore->progress, .what = "verifying"};
    for (size_t i = 0; i < manifest->file_count; i++) counter.total_bytes += manifest->files[i].size_bytes;
    for (size_t i = 0; i < manifest->file_count; i++) {
        const struct manifest_file *file = &manifest->files[i];
        char sha256[DIGEST_HEX_SIZE];
        uint64_t size_bytes = 0;
        int result = state_hash_file(restore->backup, file->path, &size_bytes, sha256, ret_error);
        if (result < 0) return error_wrap(ret_error, "the backup is damaged");
        if ((result = compare(file, size_bytes, sha256, ret_error)) < 0) return result;
        state_count(&counter, size_bytes);
    }
    return 0;
}

/* ---- laying it out ---- */

static int copy_databases(const struct state_restore *restore, const struct manifest *manifest,
                          const struct state_part *part, struct error **ret_error) {
    for (size_t i = 0; i < manifest->file_count; i++) {
        const struct manifest_file *file = &manifest->files[i];
        char sha256[DIGEST_HEX_SIZE];
        uint64_t size_bytes = 0;
        if (text_starts_with(file->path, STATE_PACKAGES)) continue;
        _cleanup_free_ char *target = fs_join(part->path, file->path);
        int result = state_copy_file(restore->backup, file->path, target, &size_bytes, sha256, ret_error);
        if (!result) result = compare(file, size_bytes, sha256, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

static int renew_collections(const struct manifest *manifest, const struct state_part *part, struct error **ret_error) {
    _cleanup_free_ char *root = fs_join(part->path, "collections");
    _cleanup_free_ char *why = text_format(
        "restored from the backup of %s: the log has a new id, and its indexes are built again", manifest->created_at);
    for (size_t i = 0; i < manifest->collection_count; i++) {
        _cleanup_free_ char *folder = fs_join(root, manifest->collections[i].id);
        _cleanup_free_ char *indexes = fs_join(folder, "indexes");
        int result = fs_make_folders(indexes, ret_error);
        if (!result) result = collection_renew(folder, why, ret_error);
        if (result < 0) return error_wrap(ret_error, "restore the collection %s", manifest->collections[i].name);
    }
    return 0;
}

static void summarize(const struct manifest *manifest, const char *folder, struct state_summary *summary) {
    summary->folder = text_copy(folder);
    summary->created_at = text_copy(manifest->created_at);
    summary->collections = manifest->collection_count;
    summary->packages = manifest->package_count;
    summary->files = manifest->file_count;
    summary->with_packages = manifest->with_packages;
    for (size_t i = 0; i < manifest->collection_count; i++) summary->documents += manifest->collections[i].live;
    for (size_t i = 0; i < manifest->file_count; i++) summary->size_bytes += manifest->files[i].size_bytes;
}

static int lay_out(const struct state_restore *restore, const struct manifest *manifest, struct state_part *part,
                   struct state_summary *summary, struct error **ret_error) {
    int result = copy_databases(restore, manifest, part, ret_error);
    pause_point("restore_databases_copied");
    if (!result) result = restore_packages(restore, manifest, part, summary, ret_error);
    if (!result) result = renew_collections(manifest, part, ret_error);
    if (!result) result = restore_control(part, manifest, ret_error);
    return result < 0 ? result : state_part_finish(part, ret_error);
}

int state_restore(const struct state_restore *restore, struct state_summary *ret_summary, struct error **ret_error) {
    _cleanup_part_ struct state_part part = {.lock = -1};
    _cleanup_manifest_ struct manifest manifest = {0};
    struct state_summary summary = {0};
    int result = read_manifest(restore->backup, &manifest, ret_error);
    if (!result) result = check_versions(&manifest, ret_error);
    if (!result) result = state_part_begin(restore->state, &part, ret_error);
    if (!result) result = verify_files(restore, &manifest, ret_error);
    if (!result) result = lay_out(restore, &manifest, &part, &summary, ret_error);
    if (result < 0) {
        state_summary_clear(&summary);
        return error_wrap(ret_error, "restore %s to %s", restore->backup, restore->state);
    }
    summarize(&manifest, part.destination, &summary);
    *ret_summary = summary;
    return 0;
}
