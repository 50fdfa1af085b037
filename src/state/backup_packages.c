/* The packages in a backup. Which ones: those with a record, and those that a task has pinned before they are there
 * (S6). Immutable, so a copy of one stays right however often the moment is taken anew. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "state/state-internal.h"

void backup_packages_clear(struct backup_packages *packages) {
    free(packages->items);
    *packages = (struct backup_packages){0};
}

/* ---- which ones ---- */

static struct backup_package *find(struct backup_packages *packages, const char *digest) {
    for (size_t i = 0; i < packages->count; i++)
        if (!strcmp(packages->items[i].package.digest, digest)) return &packages->items[i];
    return NULL;
}

static int take_row(void *context, struct store_rows *rows, struct error **ret_error) {
    struct backup_packages *packages = context;
    const char *digest = store_text(rows, 0);
    if (!digest || strlen(digest) != 64)
        return error_set(ret_error, ERROR_DEPLOYMENT, "the state names a package \"%.80s\"", digest ? digest : "");
    struct backup_package *item = find(packages, digest);
    if (!item) {
        packages->items = mem_resize(packages->items, packages->count + 1, sizeof *packages->items);
        item = &packages->items[packages->count++];
        *item = (struct backup_package){0};
        memcpy(item->package.digest, digest, sizeof item->package.digest);
    }
    item->is_needed = true;
    item->may_be_absent = store_number(rows, 1) != 0;
    return 0;
}

int backup_packages_list(struct state_cut *cut, struct backup_packages *packages, struct error **ret_error) {
    for (size_t i = 0; i < packages->count; i++) packages->items[i].is_needed = false;
    return state_each_row(cut->tx,
                          "SELECT digest, 0 FROM packages UNION ALL SELECT DISTINCT substr(subject, 9), 1 FROM pins "
                          "WHERE substr(subject, 1, 8) = 'package:' AND NOT EXISTS (SELECT 1 FROM packages p WHERE "
                          "p.digest = substr(pins.subject, 9))",
                          take_row, packages, ret_error);
}

size_t backup_packages_lacking(const struct backup_packages *packages) {
    size_t count = 0;
    for (size_t i = 0; i < packages->count; i++)
        count += packages->items[i].is_needed && !packages->items[i].is_copied && !packages->items[i].may_be_absent;
    return count;
}

/* ---- copying ---- */

struct listening {
    struct manifest *manifest;
    const char *digest;
    struct state_counter counter;
};

static void took(void *context, const char *path, uint64_t size_bytes, const char *sha256) {
    struct listening *listening = context;
    _cleanup_free_ char *relative = text_format(STATE_PACKAGES "/%s/%s", listening->digest, path);
    manifest_add_file(listening->manifest, relative, size_bytes, sha256);
    state_count(&listening->counter, size_bytes);
}

static int forget(const char *to, struct backup_package *item, struct manifest *manifest, struct error **ret_error) {
    _cleanup_free_ char *prefix = text_format(STATE_PACKAGES "/%s/", item->package.digest);
    manifest_drop_files(manifest, prefix);
    item->is_copied = false;
    return package_remove_folder(to, ret_error);
}

static int check_digest(const struct backup_package *item, const struct package_info *info, const char *from,
                        struct error **ret_error) {
    if (!strcmp(info->digest, item->package.digest)) return 0;
    return error_set(ret_error, ERROR_DEPLOYMENT,
                     "the package %s is damaged: its files have the digest %s; deploy its model anew, or back up with "
                     "--without-packages (`slipway check` says more)",
                     from, info->digest);
}

/* 1: it has gone meanwhile. */
static int copy_one(struct listening *listening, const char *from, const char *to, struct backup_package *item,
                    struct error **ret_error) {
    struct package_listener listener = {took, listening};
    struct package_info info = {0};
    struct error *error = NULL;
    int result = package_copy_folder(from, to, &listener, &info, &error);
    if (!result) result = check_digest(item, &info, from, &error);
    if (!result) {
        item->package.size_bytes = info.size_bytes;
        item->package.file_count = info.file_count;
        item->is_copied = true;
        return 0;
    }
    forget(to, item, listening->manifest, NULL);
    if (!fs_exists(from)) { /* in the trash by now, or deleted */
        error_free(error);
        return 1;
    }
    if (ret_error)
        *ret_error = error;
    else
        error_free(error);
    return result;
}

int backup_packages_copy(const struct state_backup *backup, const struct state_part *part,
                         struct backup_packages *packages, struct manifest *manifest, size_t *ret_gone,
                         struct error **ret_error) {
    struct listening listening = {.manifest = manifest, .counter = {.progress = backup->progress, .what = "packages"}};
    _cleanup_free_ char *source = fs_join(backup->state, STATE_PACKAGES), *target = fs_join(part->path, STATE_PACKAGES);
    int result = fs_make_folders(target, ret_error);
    *ret_gone = 0;
    for (size_t i = 0; i < packages->count && result >= 0; i++) {
        struct backup_package *item = &packages->items[i];
        if (!item->is_needed || item->is_copied) continue;
        _cleanup_free_ char *from = fs_join(source, item->package.digest), *to = fs_join(target, item->package.digest);
        listening.digest = item->package.digest;
        if (item->may_be_absent && !fs_exists(from)) continue;
        result = copy_one(&listening, from, to, item, ret_error);
        if (result == 1) *ret_gone += !item->may_be_absent;
    }
    return result < 0 ? result : 0;
}

/* ---- the end ---- */

int backup_packages_drop(const struct state_part *part, struct backup_packages *packages, struct manifest *manifest,
                         struct error **ret_error) {
    _cleanup_free_ char *target = fs_join(part->path, STATE_PACKAGES);
    int result = 0;
    for (size_t i = 0; i < packages->count && !result; i++) {
        struct backup_package *item = &packages->items[i];
        _cleanup_free_ char *to = fs_join(target, item->package.digest);
        if (item->is_copied && !item->is_needed)
            result = forget(to, item, manifest, ret_error);
        else if (item->is_needed && (item->is_copied || !item->may_be_absent))
            manifest_add_package(manifest, item->package.digest, item->package.size_bytes, item->package.file_count);
    }
    return result;
}
