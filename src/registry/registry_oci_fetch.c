/* The oci registry: fetch. Layers come a few at a time, since the token that they are asked for with may live no longer
 * than some minutes, and tars are unpacked and removed as they come, in their order. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_oci-internal.h"

#define GROUP_FILES 256 /* layers that are asked for at once */
#define GROUP_BYTES (256u << 20) /* a group that has so much is not made larger */
#define LIFTED ".slipway-lifted" /* the folder that is the model, while what it holds is moved up */

struct fetch {
    const struct registry_context *context;
    const struct registry_resolution *resolution;
    const char *folder;
    struct oci *oci;
    struct registry_oci_uri place;
    struct registry_oci_tree tree;
    uint64_t done_bytes; /* of the groups before */
    bool has_files; /* layers that are files */
    bool is_image;
};

static void on_progress(uint64_t done, uint64_t total, void *context) {
    const struct fetch *fetch = context;
    (void)total;
    if (fetch->context->on_progress)
        fetch->context->on_progress(fetch->done_bytes + done, fetch->resolution->size_bytes,
                                    fetch->context->progress_context);
}

/* ---- one group ---- */

static int describe(struct fetch *fetch, size_t first, size_t count, struct transfer_file *files, char **urls,
                    struct error **ret_error) {
    for (size_t i = 0; i < count; i++) {
        const struct registry_file *file = &fetch->resolution->files[first + i];
        int result = oci_describe_blob(fetch->oci, fetch->place.reference.repository, file->source + 1,
                                       file->size_bytes, &files[i], &urls[i], ret_error);
        if (result < 0) return result;
        files[i].path = file->path;
    }
    return 0;
}

static int download(struct fetch *fetch, size_t first, size_t count, struct transfer_file *files,
                    struct error **ret_error) {
    _cleanup_close_ int folder = open(fetch->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open %s", fetch->folder);
    struct transfer_download all = {
        .folder = folder, .files = files, .count = count, .on_progress = on_progress, .progress_context = fetch};
    int result = transfer_download(oci_transfer(fetch->oci), &all, ret_error);
    if (result >= 0)
        for (size_t i = 0; i < count; i++) fetch->done_bytes += fetch->resolution->files[first + i].size_bytes;
    /* A token that ran out in the middle is another one the next time. */
    else if (ret_error && *ret_error && oci_token_has_expired(fetch->oci, fetch->place.reference.repository))
        error_mark_transient(ret_error);
    return result;
}

static int apply(struct fetch *fetch, size_t first, size_t count, struct error **ret_error) {
    for (size_t i = first; i < first + count; i++) {
        const struct registry_file *file = &fetch->resolution->files[i];
        if (*file->source == OCI_ROLE_FILE) continue;
        _cleanup_free_ char *archive = fs_join(fetch->folder, file->path);
        int result = registry_oci_apply(&fetch->tree, archive, *file->source == OCI_ROLE_LAYER, ret_error);
        if (result < 0) return error_wrap(ret_error, "the layer %s", file->source + 1);
        if (unlink(archive) < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "remove %s", archive);
    }
    return 0;
}

static int fetch_group(struct fetch *fetch, size_t first, size_t count, struct error **ret_error) {
    struct transfer_file *files = mem_new_array(count, struct transfer_file);
    char **urls = mem_new_array(count, char *);
    int result = registry_check_canceled(fetch->context, ret_error);
    if (result >= 0) result = describe(fetch, first, count, files, urls, ret_error);
    if (result >= 0) result = download(fetch, first, count, files, ret_error);
    if (result >= 0) result = apply(fetch, first, count, ret_error);
    for (size_t i = 0; i < count; i++) free(urls[i]);
    free(urls);
    free(files);
    return result;
}

/* ---- when all is there ---- */

/* The only entry of the folder, when that is a folder; NULL otherwise. */
static char *find_only_folder(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return NULL;
    char *name = NULL;
    bool is_one = true;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (name) is_one = false;
        free(name);
        name = text_copy(entry->d_name);
    }
    struct stat status;
    if (name &&
        (!is_one || fstatat(dirfd(folder), name, &status, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(status.st_mode))) {
        free(name);
        name = NULL;
    }
    closedir(folder);
    return name;
}

static int move_up(const char *folder, const char *inner, struct error **ret_error) {
    DIR *from = opendir(inner);
    if (!from) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open %s", inner);
    int result = 0;
    for (struct dirent *entry; result >= 0 && (entry = readdir(from));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        _cleanup_free_ char *old = fs_join(inner, entry->d_name), *new = fs_join(folder, entry->d_name);
        if (rename(old, new) < 0) result = error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "move %s", old);
    }
    closedir(from);
    return result;
}

/* An artifact of tars whose files all lie in one folder: that folder is the model, as with other archives. */
static int lift(struct fetch *fetch, struct error **ret_error) {
    if (fetch->has_files || fetch->is_image || fetch->place.path) return 0;
    _cleanup_free_ char *only = find_only_folder(fetch->folder);
    if (!only) return 0;
    _cleanup_free_ char *from = fs_join(fetch->folder, only), *inner = fs_join(fetch->folder, LIFTED);
    if (rename(from, inner) < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "move %s", from);
    int result = move_up(fetch->folder, inner, ret_error);
    if (result >= 0 && rmdir(inner) < 0)
        result = error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "remove %s", inner);
    return result;
}

/* Adds every file below folder/relative to what is checked. */
static int list_files(const struct fetch *fetch, const char *relative, struct registry_resolution *list,
                      struct error **ret_error) {
    _cleanup_free_ char *path = *relative ? fs_join(fetch->folder, relative) : text_copy(fetch->folder);
    DIR *folder = opendir(path);
    if (!folder) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open %s", path);
    int result = 0;
    for (struct dirent *entry; result >= 0 && (entry = readdir(folder));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        _cleanup_free_ char *name = *relative ? fs_join(relative, entry->d_name) : text_copy(entry->d_name);
        struct stat status;
        if (fstatat(dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0)
            result = error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "look at %s", name);
        else if (S_ISDIR(status.st_mode))
            result = list_files(fetch, name, list, ret_error);
        else
            result = registry_resolution_add(fetch->context, list, name, (uint64_t)status.st_size, NULL, NULL, NULL,
                                             ret_error);
    }
    closedir(folder);
    return result;
}

/* What the tars held must be what any registry's model must be. */
static int check_tree(const struct fetch *fetch, struct error **ret_error) {
    __attribute__((cleanup(registry_resolution_clear))) struct registry_resolution list = {0};
    int result = list_files(fetch, "", &list, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *what = fetch->place.path
                                    ? text_format("/%s of %s", fetch->place.path, fetch->resolution->location)
                                    : text_copy(fetch->resolution->location);
    return registry_resolution_finish(&list, what, ret_error);
}

/* As many as can come at once, and then as many more as are small. */
static size_t group_size(const struct fetch *fetch, size_t first) {
    size_t parallel = fetch->context->parallel ? fetch->context->parallel : 4;
    size_t left = fetch->resolution->file_count - first, count = 0;
    uint64_t bytes = 0;
    while (count < left && count < GROUP_FILES && (count < parallel || bytes < GROUP_BYTES))
        bytes += fetch->resolution->files[first + count++].size_bytes;
    return count;
}

static int fetch_all(struct fetch *fetch, struct error **ret_error) {
    const struct registry_resolution *resolution = fetch->resolution;
    bool has_tars = false;
    for (size_t i = 0; i < resolution->file_count; i++) {
        char role = *resolution->files[i].source;
        if (role == OCI_ROLE_FILE) fetch->has_files = true;
        if (role != OCI_ROLE_FILE) has_tars = true;
        if (role == OCI_ROLE_LAYER) fetch->is_image = true;
    }
    for (size_t first = 0, count; first < resolution->file_count; first += count) {
        count = group_size(fetch, first);
        int result = fetch_group(fetch, first, count, ret_error);
        if (result < 0) return result;
    }
    if (!has_tars) return 0;
    _cleanup_free_ char *layers = fs_join(fetch->folder, OCI_LAYER_FOLDER);
    if (rmdir(layers) < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "remove %s", layers);
    int result = lift(fetch, ret_error);
    return result < 0 ? result : check_tree(fetch, ret_error);
}

int registry_oci_fetch(const struct registry_context *context, const struct registry_resolution *resolution,
                       const char *folder, struct error **ret_error) {
    struct fetch fetch = {.context = context, .resolution = resolution, .folder = folder};
    int result = registry_oci_parse(resolution->location, &fetch.place, ret_error);
    if (result >= 0)
        result =
            registry_oci_open(context, fetch.place.reference.registry, ERROR_MODEL_REGISTRY, &fetch.oci, ret_error);
    fetch.tree = (struct registry_oci_tree){
        .context = context, .folder = folder, .path = fetch.place.path ? fetch.place.path : ""};
    if (result >= 0) result = fetch_all(&fetch, ret_error);
    oci_close(fetch.oci);
    registry_oci_uri_clear(&fetch.place);
    return result;
}
