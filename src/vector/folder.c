/* The embedded folder: vector indexes in mapped files.
 *
 * The tour: vector-internal.h says what lies in the folder. vector_word.c, vector_header.c and vector_manifest.c are
 * what is written in it and how it is checked; vector_file.c how files are made, mapped and synced; vector_segment.c
 * how rows lie in them; vector_generation.c what a manifest makes of them. Upon these stand the two sides:
 * folder_writer.c with folder_recover.c (opening) and folder_compact.c, and folder_reader.c with search.c, which uses
 * the kernels_*.c for the arithmetic, best.c for the best k, and pool.c for threads. This file makes indexes and
 * removes them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "vector/vector-internal.h"

static char *parent_of(const char *folder) {
    const char *slash = strrchr(folder, '/');
    if (!slash) return text_copy(".");
    return slash == folder ? text_copy("/") : text_copy_bytes(folder, (size_t)(slash - folder));
}

/* ---- making ---------------------------------------------------------------------------------------------------------
 */

static int write_header(const char *folder, struct error **ret_error) {
    _cleanup_free_ char *page = mem_zeroed(1, VECTOR_HEADER_SIZE);
    struct vector_boot boot;
    bool in_doubt;
    int result = vector_boot_read(&boot, ret_error);
    if (result < 0) return result;
    vector_header_begin((struct vector_header *)page, &boot);
    vector_store(&((struct vector_header *)page)->words[HEADER_GENERATION], 1);
    return vector_file_replace(folder, "header", page, VECTOR_HEADER_SIZE, &in_doubt, ret_error);
}

static int write_manifest(const char *folder, const struct vector_spec *spec, struct error **ret_error) {
    struct vector_manifest manifest = {.index_id = (char *)spec->index_id,
                                       .log_id = (char *)spec->log_id,
                                       .encoder_digest = (char *)spec->encoder_digest,
                                       .dimension = spec->dimension,
                                       .quantized = spec->quantized,
                                       .generation = 1,
                                       .next_number = 1};
    size_t size;
    bool in_doubt;
    _cleanup_free_ char *text = vector_manifest_write(&manifest, &size);
    return vector_file_replace(folder, "manifest", text, size, &in_doubt, ret_error);
}

/* In a folder beside it, which is renamed when it is whole. */
static int fill_and_rename(const char *aside, const char *folder, const char *parent, const struct vector_spec *spec,
                           struct error **ret_error) {
    int result = write_header(aside, ret_error);
    if (!result) result = write_manifest(aside, spec, ret_error);
    if (result < 0) return result;
    if (rename(aside, folder) < 0) return vector_file_error(ret_error, errno, "rename %s to %s", aside, folder);
    result = fs_sync_folder(parent, ret_error);
    if (result < 0) fs_remove_tree(folder, NULL);
    return result;
}

static int folder_create(const char *folder, const struct vector_spec *spec, struct error **ret_error) {
    _cleanup_free_ char *aside = text_format("%s.making", folder), *parent = parent_of(folder);
    if (!spec->dimension || spec->dimension > VECTOR_DIMENSION_MAXIMUM)
        return error_set(ret_error, ERROR_REQUEST, "make a vector index of dimension %u: it is 1 to %u",
                         (unsigned)spec->dimension, (unsigned)VECTOR_DIMENSION_MAXIMUM);
    int result = vector_file_check_place(parent, ret_error);
    if (!result && fs_exists(folder))
        result = error_set(ret_error, ERROR_CONFLICT, "make the vector index %s: it is there already", folder);
    if (!result) result = fs_remove_tree(aside, ret_error); /* of an attempt that was killed */
    if (result < 0) return result;
    if (mkdir(aside, 0700) < 0) return vector_file_error(ret_error, errno, "make the folder %s", aside);
    result = fill_and_rename(aside, folder, parent, spec, ret_error);
    if (result < 0) fs_remove_tree(aside, NULL);
    return result;
}

/* ---- removing
 * -------------------------------------------------------------------------------------------------------- */

static int folder_remove(const char *folder, struct error **ret_error) {
    _cleanup_free_ char *parent = parent_of(folder);
    struct vector_header_map *map;
    if (!vector_header_map(folder, true, &map, NULL)) {
        vector_store(&map->header->words[HEADER_MOVED], 1);
        vector_header_map_release(map);
    }
    int result = fs_remove_tree(folder, ret_error);
    return result < 0 || !fs_exists(parent) ? result : fs_sync_folder(parent, ret_error);
}

const struct vector_ops folder_vectors = {
    .name = "folder",
    .create = folder_create,
    .open_writer = folder_open_writer,
    .close_writer = folder_close_writer,
    .append = folder_append,
    .kill = folder_kill,
    .publish = folder_publish,
    .hold = folder_hold,
    .set_rate = folder_set_rate,
    .sync = folder_sync,
    .compact = folder_compact,
    .remove = folder_remove,
    .verify = folder_verify,
    .open_reader = folder_open_reader,
    .close_reader = folder_close_reader,
    .info = folder_info,
    .look = folder_look,
    .seq = folder_seq,
    .search = folder_search,
    .fetch = folder_fetch,
    .list = folder_list,
    .release = folder_release,
};
