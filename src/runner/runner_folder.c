#include "runner/runner_folder-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"

#define DEPTH_MAXIMUM 32

struct file {
    char *path; /* relative */
    bool link;
};

struct listing {
    const char *root;
    struct file *files;
    size_t count, capacity;
};

static void listing_clear(struct listing *listing) {
    for (size_t i = 0; i < listing->count; i++) free(listing->files[i].path);
    free(listing->files);
}

static int add_file(struct listing *listing, char *path, bool link, struct error **ret_error) {
    if (listing->count == FOLDER_FILES_MAXIMUM) {
        free(path);
        return error_set(ret_error, ERROR_CONFIGURATION, "%s has more than %d files", listing->root,
                         FOLDER_FILES_MAXIMUM);
    }
    if (listing->count == listing->capacity) {
        listing->capacity = listing->capacity ? 2 * listing->capacity : 64;
        listing->files = mem_resize(listing->files, listing->capacity, sizeof *listing->files);
    }
    listing->files[listing->count++] = (struct file){path, link};
    return 0;
}

static int list_folder(struct listing *listing, const char *relative, int depth, struct error **ret_error);

static int list_entry(struct listing *listing, const char *relative, const char *name, int depth,
                      struct error **ret_error) {
    _cleanup_free_ char *inner = *relative ? fs_join(relative, name) : text_copy(name);
    _cleanup_free_ char *path = fs_join(listing->root, inner);
    struct stat itself, target;
    if (lstat(path, &itself) < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "look at %s", path);
    if (S_ISDIR(itself.st_mode)) return list_folder(listing, inner, depth + 1, ret_error);
    if (S_ISREG(itself.st_mode)) return add_file(listing, TAKE(inner), false, ret_error);
    if (S_ISLNK(itself.st_mode) && stat(path, &target) < 0)
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "follow the link %s", path);
    if (!S_ISLNK(itself.st_mode) || !S_ISREG(target.st_mode))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is neither a file, a folder nor a link to a file", path);
    return add_file(listing, TAKE(inner), true, ret_error);
}

static int list_folder(struct listing *listing, const char *relative, int depth, struct error **ret_error) {
    _cleanup_free_ char *path = *relative ? fs_join(listing->root, relative) : text_copy(listing->root);
    if (depth > DEPTH_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is nested deeper than %d folders", path, DEPTH_MAXIMUM);
    DIR *folder = opendir(path);
    if (!folder) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open the folder %s", path);
    int result = 0;
    struct dirent *entry;
    while (result == 0 && (entry = readdir(folder)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            result = list_entry(listing, relative, entry->d_name, depth, ret_error);
    closedir(folder);
    return result;
}

static int describe(const char *root, const struct file *file, char **ret_line, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(root, file->path);
    _cleanup_close_ int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open %s", path);
    struct stat state;
    if (fstat(descriptor, &state) < 0)
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "look at %s", path);
    char hex[DIGEST_HEX_SIZE];
    int result = digest_descriptor(descriptor, hex, ret_error);
    if (result < 0) return error_wrap(ret_error, "read %s", path);
    *ret_line = text_format("%s %" PRIu64 " %s\n", hex, (uint64_t)state.st_size, file->path);
    return 0;
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

static int digest_listing(struct listing *listing, char ret_digest[DIGEST_HEX_SIZE], struct error **ret_error) {
    struct digest *digest = digest_new();
    int result = 0;
    if (listing->count) qsort(listing->files, listing->count, sizeof *listing->files, compare_paths);
    for (size_t i = 0; result == 0 && i < listing->count; i++) {
        _cleanup_free_ char *line = NULL;
        result = describe(listing->root, &listing->files[i], &line, ret_error);
        if (result == 0) digest_update(digest, line, strlen(line));
    }
    digest_finish(digest, ret_digest);
    return result;
}

int runner_folder_measure(const char *folder, char ret_digest[DIGEST_HEX_SIZE], struct error **ret_error) {
    struct listing listing = {.root = folder};
    int result = list_folder(&listing, "", 0, ret_error);
    if (result == 0) result = digest_listing(&listing, ret_digest, ret_error);
    listing_clear(&listing);
    return result < 0 ? error_wrap(ret_error, "measure the model folder") : 0;
}

int runner_folder_find_links(const char *folder, struct folder_links *ret_links, struct error **ret_error) {
    struct listing listing = {.root = folder};
    int result = list_folder(&listing, "", 0, ret_error);
    struct folder_links links = {.targets = mem_new_array(listing.count, char *)};
    for (size_t i = 0; result == 0 && i < listing.count; i++) {
        if (!listing.files[i].link) continue;
        _cleanup_free_ char *path = fs_join(folder, listing.files[i].path);
        char *target = realpath(path, NULL);
        if (target) links.targets[links.count++] = target;
    }
    listing_clear(&listing);
    if (result < 0) {
        runner_folder_links_clear(&links);
        return error_wrap(ret_error, "read the model folder");
    }
    *ret_links = links;
    return 0;
}

void runner_folder_links_clear(struct folder_links *links) {
    for (size_t i = 0; i < links->count; i++) free(links->targets[i]);
    free(links->targets);
    *links = (struct folder_links){0};
}
