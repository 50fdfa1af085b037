#include "package/package_import.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "base/text.h"
#include "package/package-internal.h"
#include "package/package_image.h"
#include "package/package_import-internal.h"

#define BLOB_MAXIMUM (1u << 20) /* of what an image describes itself in */
#define BLOBS_MAXIMUM (16u << 20)

void package_import_clear(struct package_import *import) {
    free(import->source_uri);
    free(import->resolved_uri);
    free(import->recipe_json);
    free(import->facts_json);
    *import = (struct package_import){0};
}

static void survey_clear(struct package_survey *survey) {
    for (size_t i = 0; i < survey->blob_count; i++) {
        free(survey->blobs[i].path);
        free(survey->blobs[i].bytes);
    }
    free(survey->blobs);
    free(survey->top);
}
#define _cleanup_survey_ __attribute__((cleanup(survey_clear)))

static uint64_t growth_of(uint64_t archive_bytes) {
    uint64_t grown = 0;
    if (__builtin_mul_overflow(archive_bytes, (uint64_t)PACKAGE_GROWTH_TIMES, &grown) ||
        __builtin_add_overflow(grown, (uint64_t)PACKAGE_GROWTH_BYTES, &grown))
        return UINT64_MAX;
    return grown;
}

static struct package_unpacking begin_unpacking(const struct package_import_limits *limits, uint64_t archive_bytes,
                                                const char *folder) {
    uint64_t growth = growth_of(archive_bytes);
    return (struct package_unpacking){.limits = limits,
                                      .folder = folder,
                                      .prefix = "",
                                      .size_maximum = limits->size_maximum < growth ? limits->size_maximum : growth};
}

/* ---- looking ---- */

static bool may_describe(const char *path) {
    return text_starts_with(path, "blobs/sha256/") ||
           (!strchr(path, '/') &&
            (text_ends_with(path, ".json") || text_starts_with(path, "sha256:") || text_equal(path, "oci-layout")));
}

static int keep_blob(struct archive *archive, struct archive_entry *entry, const char *path,
                     struct package_survey *survey, struct error **ret_error) {
    int64_t size = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : BLOB_MAXIMUM;
    if (!may_describe(path) || size > BLOB_MAXIMUM || survey->blob_bytes + (size_t)size > BLOBS_MAXIMUM) return 0;
    _cleanup_free_ char *bytes = mem_alloc((size_t)size + 1);
    size_t got = 0;
    while (got < (size_t)size) {
        la_ssize_t more = archive_read_data(archive, bytes + got, (size_t)size - got);
        if (more < 0) return package_archive_fail(archive, ret_error);
        if (!more) break;
        got += (size_t)more;
    }
    survey->blobs = mem_resize(survey->blobs, survey->blob_count + 1, sizeof *survey->blobs);
    survey->blobs[survey->blob_count++] = (struct package_blob){text_copy(path), TAKE(bytes), got};
    survey->blob_bytes += got;
    return 0;
}

static void note_path(struct package_survey *survey, const char *path, bool is_folder) {
    if (text_equal(path, "oci-layout")) survey->has_layout = true;
    if (text_equal(path, "index.json")) survey->has_index = true;
    if (text_equal(path, "manifest.json")) survey->has_docker_manifest = true;
    if (!*path) return;
    size_t size = strcspn(path, "/");
    bool is_inside = path[size] == '/' || is_folder;
    if (!survey->top && is_inside)
        survey->top = text_copy_bytes(path, size);
    else if (!is_inside || strlen(survey->top) != size || strncmp(survey->top, path, size))
        survey->has_several_tops = true;
    if (!is_inside) survey->has_several_tops = true;
}

static bool is_plain(struct archive_entry *entry) {
    return !archive_entry_hardlink(entry) && !archive_entry_hardlink_utf8(entry) &&
           (archive_entry_filetype(entry) == AE_IFREG || archive_entry_filetype(entry) == AE_IFDIR);
}

/* Links are no part of a model, but `docker save` has some beside its layers: the first is remembered. */
static int look_at(struct archive *archive, struct archive_entry *entry, struct package_unpacking *unpacking,
                   struct package_survey *survey, struct error **first_link, struct error **ret_error) {
    _cleanup_free_ char *path = NULL;
    int result = package_entry_path(entry, &path, ret_error);
    if (result < 0) return result;
    bool is_link = !is_plain(entry);
    if (is_link && *first_link) return 0;
    result = package_unpack_check(entry, path, unpacking, is_link ? first_link : ret_error);
    if (is_link) return 0;
    if (result < 0) return result;
    int64_t size = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : 0;
    unpacking->size_bytes += (uint64_t)size;
    bool is_folder = archive_entry_filetype(entry) == AE_IFDIR;
    note_path(survey, path, is_folder);
    return is_folder ? 0 : keep_blob(archive, entry, path, survey, ret_error);
}

static bool is_image(const struct package_survey *survey) {
    if (survey->has_layout && survey->has_index) return true;
    if (!survey->has_docker_manifest) return false;
    for (size_t i = 0; i < survey->blob_count; i++)
        if (text_equal(survey->blobs[i].path, "manifest.json"))
            return survey->blobs[i].size && survey->blobs[i].bytes[strspn(survey->blobs[i].bytes, " \n\t")] == '[';
    return false;
}

static int look(int descriptor, uint64_t size_bytes, struct package_unpacking unpacking, struct package_survey *survey,
                struct error **ret_error) {
    struct package_source source;
    package_source_of_file(&source, descriptor, size_bytes);
    _cleanup_error_ struct error *first_link = NULL;
    _cleanup_archive_ struct archive *archive = NULL;
    int result = package_archive_open(&source, false, &archive, ret_error);
    struct archive_entry *entry;
    while (result >= 0 && (result = package_archive_next(archive, &entry, ret_error)) > 0)
        result = look_at(archive, entry, &unpacking, survey, &first_link, ret_error);
    bool has_end = result >= 0 && package_archive_has_end(archive);
    error_free(source.error);
    if (result < 0 || is_image(survey)) return result; /* all of an image is digested: nothing of it can lack unseen */
    if (!has_end) return error_set(ret_error, ERROR_CONFIGURATION, "the archive is broken off: its end is missing");
    if (!unpacking.file_count && !first_link)
        return error_set(ret_error, ERROR_CONFIGURATION, "the archive has no file in it");
    if (!first_link) return 0;
    if (ret_error) *ret_error = TAKE(first_link);
    return -(int)ERROR_CONFIGURATION;
}

/* ---- taking ---- */

static int take_plain(int descriptor, uint64_t size_bytes, struct package_unpacking *unpacking,
                      const struct package_survey *survey, struct error **ret_error) {
    struct package_source source;
    package_source_of_file(&source, descriptor, size_bytes);
    _cleanup_archive_ struct archive *archive = NULL;
    if (survey->top && !survey->has_several_tops) unpacking->prefix = survey->top;
    unpacking->others_are_refused = true;
    int result = package_archive_open(&source, false, &archive, ret_error);
    if (result >= 0) result = package_unpack(archive, unpacking, ret_error);
    error_free(source.error);
    return result;
}

/* The tar that the layer unpacks to; digested as it passes. */
static int take_tar(struct package_source *tar, struct package_unpacking *unpacking, struct error **ret_error) {
    _cleanup_archive_ struct archive *archive = NULL;
    int result = package_archive_open(tar, false, &archive, ret_error);
    if (result >= 0) result = package_unpack(archive, unpacking, ret_error);
    return result < 0 ? result : package_source_drain(tar, ret_error);
}

static int take_blob(struct package_source *blob, struct package_unpacking *unpacking,
                     char ret_diff_id[DIGEST_HEX_SIZE], struct error **ret_error) {
    _cleanup_archive_ struct archive *raw = NULL;
    struct archive_entry *entry;
    int result = package_archive_open(blob, true, &raw, ret_error);
    if (result < 0 || (result = package_archive_next(raw, &entry, ret_error)) < 0) return result;
    if (!result) return error_set(ret_error, ERROR_CONFIGURATION, "the image's layer is empty");
    struct package_source tar;
    package_source_of_entry(&tar, raw);
    tar.digest = digest_new();
    result = take_tar(&tar, unpacking, ret_error);
    digest_finish(tar.digest, ret_diff_id);
    error_free(tar.error);
    return result < 0 ? result : package_source_drain(blob, ret_error);
}

static int compare(const struct package_layer_reference *reference, const char *digest, const char *diff_id,
                   uint64_t size_bytes, struct error **ret_error) {
    if (reference->size_bytes >= 0 && (uint64_t)reference->size_bytes != size_bytes)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the image's layer is damaged: it has %llu bytes, its manifest says %lld",
                         (unsigned long long)size_bytes, (long long)reference->size_bytes);
    if (*reference->digest && !text_equal(reference->digest, digest))
        return error_set(ret_error, ERROR_CONFIGURATION, "the image's layer is damaged: it has the digest %s, not %s",
                         digest, reference->digest);
    if (!text_equal(reference->diff_id, diff_id))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the image's layer is damaged: it unpacks to what has the digest %s, its config says %s",
                         diff_id, reference->diff_id);
    return 0;
}

static int take_entry(struct archive *outer, struct package_unpacking *unpacking,
                      const struct package_layer_reference *reference, struct error **ret_error) {
    char digest[DIGEST_HEX_SIZE], diff_id[DIGEST_HEX_SIZE] = "";
    struct package_source blob;
    package_source_of_entry(&blob, outer);
    blob.digest = digest_new();
    int result = take_blob(&blob, unpacking, diff_id, ret_error);
    digest_finish(blob.digest, digest);
    error_free(blob.error);
    return result < 0 ? result : compare(reference, digest, diff_id, blob.taken, ret_error);
}

static int take_layer(int descriptor, uint64_t size_bytes, struct package_unpacking *unpacking,
                      const struct package_layer_reference *reference, struct error **ret_error) {
    struct package_source source;
    package_source_of_file(&source, descriptor, size_bytes);
    _cleanup_archive_ struct archive *outer = NULL;
    struct archive_entry *entry;
    unpacking->prefix = PACKAGE_MODEL_FOLDER;
    int result = package_archive_open(&source, false, &outer, ret_error);
    while (result >= 0 && (result = package_archive_next(outer, &entry, ret_error)) > 0) {
        _cleanup_free_ char *path = NULL;
        if ((result = package_entry_path(entry, &path, ret_error)) < 0) break;
        if (text_equal(path, reference->path) && is_plain(entry)) {
            result = take_entry(outer, unpacking, reference, ret_error);
            break;
        }
        result = 1;
    }
    error_free(source.error);
    if (result < 0) return result;
    if (!unpacking->file_count)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the image has no file below " PACKAGE_MODEL_FOLDER
                         "/ in its last layer: it holds no package");
    return 0;
}

static int take_image(int descriptor, uint64_t size_bytes, struct package_unpacking *unpacking,
                      const struct package_survey *survey, struct package_import *import, struct error **ret_error) {
    struct package_layer_reference reference;
    int result = package_image_understand(survey, &reference, import, ret_error);
    if (result >= 0) result = take_layer(descriptor, size_bytes, unpacking, &reference, ret_error);
    free(reference.path);
    return result;
}

/* ---- what came of it ---- */

static int by_name_without_case(const void *a, const void *b) {
    return strcasecmp(*(char *const *)a, *(char *const *)b);
}

/* They are one file to some file systems, and one model must be the same everywhere. */
static int check_clashes(const char *folder, struct error **ret_error) {
    _cleanup_tree_ struct package_tree tree = {0};
    int result = package_tree_read(folder, &tree, ret_error);
    if (result < 0) return result;
    size_t count = tree.file_count + tree.folder_count;
    _cleanup_free_ const char **names = mem_new_array(count, const char *);
    for (size_t i = 0; i < tree.file_count; i++) names[i] = tree.files[i].path;
    for (size_t i = 0; i < tree.folder_count; i++) names[tree.file_count + i] = tree.folders[i];
    qsort(names, count, sizeof *names, by_name_without_case);
    for (size_t i = 1; i < count; i++)
        if (!strcasecmp(names[i - 1], names[i]))
            return error_set(ret_error, ERROR_CONFIGURATION, "%s and %s in the archive differ only in case",
                             names[i - 1], names[i]);
    return 0;
}

static int import_archive(int descriptor, const char *folder, const struct package_import_limits *limits,
                          struct package_import *import, struct error **ret_error) {
    struct stat status;
    if (fstat(descriptor, &status) < 0) return package_fail_errno(ret_error, errno, "look at", "the archive");
    uint64_t size = (uint64_t)status.st_size;
    struct package_unpacking unpacking = begin_unpacking(limits, size, folder);
    _cleanup_survey_ struct package_survey survey = {0};
    int result = look(descriptor, size, unpacking, &survey, ret_error);
    if (result < 0) return result;
    if (is_image(&survey))
        result = take_image(descriptor, size, &unpacking, &survey, import, ret_error);
    else
        result = take_plain(descriptor, size, &unpacking, &survey, ret_error);
    return result < 0 ? result : check_clashes(folder, ret_error);
}

int package_import_read(int descriptor, const char *folder, const struct package_import_limits *limits,
                        struct package_import *ret_import, struct error **ret_error) {
    /* libarchive gives names in the thread's own letters, which are ASCII unless somebody says otherwise. */
    locale_t letters = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0), before = (locale_t)0;
    if (letters) before = uselocale(letters);
    _cleanup_import_ struct package_import import = {0};
    int result = import_archive(descriptor, folder, limits, &import, ret_error);
    if (letters) {
        uselocale(before);
        freelocale(letters);
    }
    if (result < 0) return result;
    *ret_import = import;
    import = (struct package_import){0};
    return 0;
}
