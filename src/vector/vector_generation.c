/* Generations: what one manifest lists, mapped. Who uses a generation keeps it alive, and it its segments, whatever
 * becomes of their names (L8). */
#include <string.h>
#include <sys/mman.h>

#include "base/fs.h"
#include "base/memory.h"
#include "vector/vector-internal.h"

/* ---- the header ---- */

int vector_header_map(const char *folder, bool writable, struct vector_header_map **ret_map, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(folder, "header");
    struct vector_file_identity identity;
    void *memory;
    int result = vector_file_map(path, VECTOR_HEADER_SIZE, writable, &memory, &identity, ret_error);
    if (result < 0) return result;
    struct vector_header_map *map = mem_new(struct vector_header_map);
    *map = (struct vector_header_map){.references = 1, .header = memory, .identity = identity};
    *ret_map = map;
    return 0;
}

bool vector_header_has_moved(const struct vector_header_map *map, const char *folder) {
    return vector_load(&map->header->words[HEADER_MOVED]) || !vector_file_has_name(&map->identity, folder, "header");
}

struct vector_header_map *vector_header_map_reference(struct vector_header_map *map) {
    atomic_fetch_add(&map->references, 1);
    return map;
}

void vector_header_map_release(struct vector_header_map *map) {
    if (!map || atomic_fetch_sub(&map->references, 1) > 1) return;
    munmap(map->header, VECTOR_HEADER_SIZE);
    free(map);
}

/* ---- the manifest with its segments ---- */

int vector_manifest_load(const char *folder, const struct vector_spec *spec, struct vector_manifest *ret_manifest,
                         struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(folder, "manifest"), *bytes = NULL;
    struct vector_manifest manifest = {0};
    size_t size;
    if (!fs_exists(path)) return error_set(ret_error, ERROR_CONFLICT, "%s is not there", path);
    int result = fs_read_file(path, VECTOR_MANIFEST_MAXIMUM, &bytes, &size, ret_error);
    if (!result) result = vector_manifest_parse(bytes, size, &manifest, ret_error);
    if (result < 0) return result;
    const char *field = vector_manifest_differs(&manifest, spec);
    if (!field) {
        *ret_manifest = manifest;
        return 0;
    }
    vector_manifest_clear(&manifest);
    return error_set(ret_error, ERROR_CONFLICT, "it is another index: its %s differs", field);
}

static struct vector_segment *find_mapped(const struct vector_generation *generation, uint64_t number) {
    for (size_t i = 0; generation && i < generation->manifest.count; i++)
        if (generation->segments[i]->number == number) return generation->segments[i];
    return NULL;
}

int vector_generation_load(const char *folder, const struct vector_spec *spec, struct vector_header_map *header,
                           const struct vector_generation *before, struct vector_generation **ret_generation,
                           struct error **ret_error) {
    struct vector_manifest manifest = {0};
    int result = vector_manifest_load(folder, spec, &manifest, ret_error);
    if (result < 0) return result;
    struct vector_generation *generation = mem_new(struct vector_generation);
    *generation = (struct vector_generation){.references = 1,
                                             .header = vector_header_map_reference(header),
                                             .manifest = manifest,
                                             .segments = mem_new_array(manifest.count, struct vector_segment *)};
    for (size_t i = 0; i < manifest.count && !result; i++) {
        struct vector_segment *shared = find_mapped(before, manifest.segments[i].number);
        if (shared)
            generation->segments[i] = vector_segment_reference(shared);
        else
            result = vector_segment_map(folder, &manifest, &manifest.segments[i], false, &generation->segments[i],
                                        ret_error);
    }
    if (result < 0)
        vector_generation_release(generation);
    else
        *ret_generation = generation;
    return result;
}

void vector_generation_release(struct vector_generation *generation) {
    if (!generation || atomic_fetch_sub(&generation->references, 1) > 1) return;
    for (size_t i = 0; i < generation->manifest.count; i++) vector_segment_release(generation->segments[i]);
    free(generation->segments);
    vector_manifest_clear(&generation->manifest);
    vector_header_map_release(generation->header);
    free(generation);
}
