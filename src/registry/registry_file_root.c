/* Reaching files without leaving a root. Names may change at any moment between a look and an opening, so a root is
 * held by a descriptor and walked from there one name at a time, following no link; links are resolved beforehand
 * (realpath) and what they resolve to is walked in the same way. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"

#define PATIENCE 1000000 /* entries looked at for one file's other names */

const char *registry_find_root(const struct registry_context *context, const char *path, const char **ret_relative) {
    for (size_t i = 0; i < context->root_count; i++) {
        const char *relative = registry_path_inside(context->roots[i], path);
        if (!relative) continue;
        *ret_relative = relative;
        return context->roots[i];
    }
    return NULL;
}

int registry_refuse_outside(const struct registry_context *context, const char *what, struct error **ret_error) {
    _cleanup_free_ char *roots = text_copy(context->root_count ? "" : "none");
    for (size_t i = 0; i < context->root_count; i++) {
        char *longer = text_format("%s%s%s", roots, i ? ", " : "", context->roots[i]);
        free(roots);
        roots = longer;
    }
    return error_set(
        ret_error, ERROR_CONFIGURATION,
        "%s is outside the folders that models may come from (%s); put it there, or name its folder in the "
        "setting model_roots",
        what, roots);
}

int registry_open_beneath(const char *root, const char *relative, int flags) {
    int folder = open(root, (*relative ? O_PATH | O_DIRECTORY : flags) | O_CLOEXEC);
    while (folder >= 0 && *relative) {
        size_t size = strcspn(relative, "/");
        bool is_last = !relative[size];
        _cleanup_free_ char *name = text_copy_bytes(relative, size);
        int next = openat(folder, name, (is_last ? flags : O_PATH | O_DIRECTORY) | O_NOFOLLOW | O_CLOEXEC);
        mem_close_descriptor(&folder);
        folder = next;
        relative += is_last ? size : size + 1;
    }
    return folder;
}

int registry_open_inside(const struct registry_context *context, const char *real_path, int flags) {
    const char *relative;
    const char *root = registry_find_root(context, real_path, &relative);
    if (!root) {
        errno = EXDEV;
        return -1;
    }
    return registry_open_beneath(root, relative, flags);
}

int registry_fail_source(struct error **ret_error, int errno_value, const char *path) {
    switch (errno_value) {
    case ENOENT: return error_set_errno(ret_error, ERROR_MODEL_REGISTRY, errno_value, "open %s", path);
    case ENAMETOOLONG: return error_set_errno(ret_error, ERROR_CONFIGURATION, errno_value, "open %.200s", path);
    case EACCES:
    case EPERM:
        return error_set_errno(
            ret_error, ERROR_CONFIGURATION, errno_value,
            "open %s: give user %u, whom the service runs as, the right to read it and to enter its folders", path,
            (unsigned)geteuid());
    case ELOOP:
    case ENOTDIR:
    case EXDEV: {
        int result = error_set_errno(ret_error, ERROR_MODEL_REGISTRY, errno_value,
                                     "open %s: a name on the way was changed", path);
        error_mark_transient(ret_error);
        return result;
    }
    default: {
        int result = error_set_errno(ret_error, ERROR_MODEL_REGISTRY, errno_value, "read %s", path);
        error_mark_transient(ret_error);
        return result;
    }
    }
}

int registry_check_canceled(const struct registry_context *context, struct error **ret_error) {
    if (!context->canceled || !atomic_load(context->canceled)) return 0;
    return error_set(ret_error, ERROR_UNAVAILABLE, "canceled");
}

/* ---- counting names ---- */

struct count {
    const struct registry_context *context;
    dev_t device;
    ino_t inode;
    uint64_t found, wanted;
    uint64_t patience;
};

static bool is_over(const struct count *count) {
    return count->found >= count->wanted || !count->patience ||
           (count->context->canceled && atomic_load(count->context->canceled));
}

/* Counts below an open folder, which it closes. A file's names are all on its own file system. */
static void count_below(struct count *count, int folder, int depth) {
    DIR *entries = fdopendir(folder);
    if (!entries) {
        close(folder);
        return;
    }
    struct dirent *entry;
    while (!is_over(count) && (entry = readdir(entries))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        count->patience--;
        struct stat status; /* d_ino would be cheaper, but is not always st_ino on an overlay */
        bool may_be_folder = entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN;
        if (!may_be_folder && entry->d_type != DT_REG) continue;
        if (fstatat(dirfd(entries), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0) continue;
        if (S_ISREG(status.st_mode) && status.st_ino == count->inode && status.st_dev == count->device) count->found++;
        if (!S_ISDIR(status.st_mode) || depth >= 2 * REGISTRY_DEPTH_MAXIMUM) continue;
        int inner = openat(dirfd(entries), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (inner >= 0) count_below(count, inner, depth + 1);
    }
    closedir(entries);
}

static uint64_t count_names(const struct registry_context *context, const struct stat *file, uint64_t wanted) {
    struct count count = {context, file->st_dev, file->st_ino, 0, wanted, PATIENCE};
    for (size_t i = 0; i < context->root_count; i++) {
        /* A root inside another one is counted with it, not twice. */
        bool is_counted = false;
        for (size_t other = 0; other < context->root_count; other++) {
            if (other == i || !registry_path_inside(context->roots[other], context->roots[i])) continue;
            is_counted |= other < i || strcmp(context->roots[other], context->roots[i]);
        }
        if (is_counted) continue;
        int folder = open(context->roots[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder >= 0) count_below(&count, folder, 0);
    }
    return count.found;
}

int registry_check_names(const struct registry_context *context, const char *path, const struct stat *status,
                         struct error **ret_error) {
    if (status->st_nlink <= 1) return 0;
    uint64_t names = (uint64_t)status->st_nlink;
    if (count_names(context, status, names) >= names) return 0;
    int result = registry_check_canceled(context, ret_error);
    if (result < 0) return result;
    return error_set(
        ret_error, ERROR_CONFIGURATION,
        "%s is a hard link: it has %llu names, and not all of them are inside the folders that models may come "
        "from; make it a copy (cp --reflink=auto), or name the folder of the others in the setting model_roots",
        path, (unsigned long long)names);
}
