#include "state/manifest.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"

void manifest_clear(struct manifest *manifest) {
    for (size_t i = 0; i < manifest->file_count; i++) free(manifest->files[i].path);
    for (size_t i = 0; i < manifest->collection_count; i++) free(manifest->collections[i].name);
    free(manifest->files);
    free(manifest->packages);
    free(manifest->collections);
    free(manifest->slipway);
    free(manifest->created_at);
    *manifest = (struct manifest){0};
}

/* ---- filling ---- */

/* Room for one more: 1, 3, 7, … */
#define GROW(array, count)                                                                                             \
    if (!((count) & ((count) + 1))) (array) = mem_resize((array), 2 * (count) + 1, sizeof *(array))

void manifest_add_file(struct manifest *manifest, const char *path, uint64_t size_bytes, const char *sha256) {
    GROW(manifest->files, manifest->file_count);
    struct manifest_file *file = &manifest->files[manifest->file_count++];
    *file = (struct manifest_file){.path = text_copy(path), .size_bytes = size_bytes};
    memcpy(file->sha256, sha256, DIGEST_HEX_SIZE);
}

void manifest_add_package(struct manifest *manifest, const char *digest, uint64_t size_bytes, uint64_t file_count) {
    GROW(manifest->packages, manifest->package_count);
    struct manifest_package *package = &manifest->packages[manifest->package_count++];
    *package = (struct manifest_package){.size_bytes = size_bytes, .file_count = file_count};
    memcpy(package->digest, digest, DIGEST_HEX_SIZE);
}

struct manifest_collection *manifest_add_collection(struct manifest *manifest, const char *id, const char *name) {
    GROW(manifest->collections, manifest->collection_count);
    struct manifest_collection *collection = &manifest->collections[manifest->collection_count++];
    *collection = (struct manifest_collection){.name = text_copy(name)};
    memcpy(collection->id, id, sizeof collection->id);
    return collection;
}

void manifest_drop_files(struct manifest *manifest, const char *prefix) {
    struct manifest_file *kept = NULL;
    size_t count = 0;
    for (size_t i = 0; i < manifest->file_count; i++) {
        if (text_starts_with(manifest->files[i].path, prefix)) {
            free(manifest->files[i].path);
            continue;
        }
        GROW(kept, count);
        kept[count++] = manifest->files[i];
    }
    free(manifest->files);
    manifest->files = kept;
    manifest->file_count = count;
}

/* ---- writing ---- */

static void write_files(const struct manifest *manifest, yyjson_mut_doc *document, yyjson_mut_val *root) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(document, root, "files");
    for (size_t i = 0; i < manifest->file_count; i++) {
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, list);
        yyjson_mut_obj_add_str(document, object, "path", manifest->files[i].path);
        yyjson_mut_obj_add_uint(document, object, "size_bytes", manifest->files[i].size_bytes);
        yyjson_mut_obj_add_str(document, object, "sha256", manifest->files[i].sha256);
    }
}

static void write_packages(const struct manifest *manifest, yyjson_mut_doc *document, yyjson_mut_val *root) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(document, root, "packages");
    for (size_t i = 0; i < manifest->package_count; i++) {
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, list);
        yyjson_mut_obj_add_str(document, object, "digest", manifest->packages[i].digest);
        yyjson_mut_obj_add_uint(document, object, "size_bytes", manifest->packages[i].size_bytes);
        yyjson_mut_obj_add_uint(document, object, "file_count", manifest->packages[i].file_count);
    }
}

static void write_collections(const struct manifest *manifest, yyjson_mut_doc *document, yyjson_mut_val *root) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(document, root, "collections");
    for (size_t i = 0; i < manifest->collection_count; i++) {
        const struct manifest_collection *collection = &manifest->collections[i];
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, list);
        yyjson_mut_obj_add_str(document, object, "id", collection->id);
        yyjson_mut_obj_add_str(document, object, "name", collection->name);
        yyjson_mut_obj_add_uint(document, object, "head", collection->head);
        yyjson_mut_obj_add_uint(document, object, "live", collection->live);
        yyjson_mut_obj_add_bool(document, object, "keep_queries", collection->keep_queries);
        yyjson_mut_obj_add_uint(document, object, "query_head", collection->query_head);
    }
}

char *manifest_write(const struct manifest *manifest, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_sint(document, root, "format", MANIFEST_FORMAT);
    yyjson_mut_obj_add_str(document, root, "slipway", manifest->slipway);
    yyjson_mut_obj_add_str(document, root, "created_at", manifest->created_at);
    yyjson_mut_obj_add_sint(document, root, "control_schema", manifest->control_version);
    yyjson_mut_obj_add_sint(document, root, "collection_schema", manifest->collection_version);
    yyjson_mut_obj_add_bool(document, root, "with_packages", manifest->with_packages);
    write_collections(manifest, document, root);
    write_packages(manifest, document, root);
    write_files(manifest, document, root);
    return json_write(document, ret_size);
}

/* ---- reading ---- */

static int refuse(struct error **ret_error, const char *what, const char *which) {
    return error_set(ret_error, ERROR_CONFIGURATION, "%s: %.200s", what, which);
}

static bool is_digest(const char *text) {
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

/* Names between single slashes, none of them "." or "..", nothing unprintable. */
static bool is_plain_path(const char *path) {
    size_t size = strlen(path);
    if (!size || size > MANIFEST_PATH_MAXIMUM || path[size - 1] == '/' || !text_is_utf8(path, size)) return false;
    for (const char *name = path; name; name = strchr(name, '/')) {
        if (name != path) name++;
        size_t length = strcspn(name, "/");
        if (!length || (length == 1 && *name == '.') || (length == 2 && !memcmp(name, "..", 2))) return false;
    }
    for (const char *at = path; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f) return false;
    return true;
}

#define PACKAGES "packages/sha256/"
#define COLLECTIONS "collections/"

static bool is_known_path(const char *path) {
    if (!strcmp(path, "control.db")) return true;
    if (text_starts_with(path, PACKAGES)) {
        _cleanup_free_ char *digest = text_copy_bytes(path + strlen(PACKAGES), strnlen(path + strlen(PACKAGES), 64));
        return is_digest(digest) && path[strlen(PACKAGES) + 64] == '/';
    }
    if (!text_starts_with(path, COLLECTIONS) || strlen(path) < strlen(COLLECTIONS) + 37) return false;
    _cleanup_free_ char *id = text_copy_bytes(path + strlen(COLLECTIONS), 36);
    const char *rest = path + strlen(COLLECTIONS) + 36;
    return text_is_uuid(id) && (!strcmp(rest, "/documents.db") || !strcmp(rest, "/queries.db"));
}

static int get_size(yyjson_val *object, const char *where, const char *field, uint64_t *ret_size,
                    struct error **ret_error) {
    int64_t number = 0;
    int result = json_get_number(object, where, field, true, 0, INT64_MAX, &number, ret_error);
    *ret_size = (uint64_t)number;
    return result;
}

static int parse_file(yyjson_val *object, struct manifest *manifest, struct error **ret_error) {
    static const char *const known[] = {"path", "size_bytes", "sha256"};
    const char *path = "", *sha256 = "";
    uint64_t size_bytes = 0;
    int result = json_check_fields(object, "files", known, ARRAY_SIZE(known), ret_error);
    if (!result) result = json_get_text(object, "files", "path", true, &path, ret_error);
    if (!result) result = json_get_text(object, "files", "sha256", true, &sha256, ret_error);
    if (!result) result = get_size(object, "files", "size_bytes", &size_bytes, ret_error);
    if (result < 0) return result;
    if (!is_plain_path(path) || !is_known_path(path)) return refuse(ret_error, "files has a path of no backup", path);
    if (!is_digest(sha256)) return refuse(ret_error, "files has a sha256 that is none", sha256);
    manifest_add_file(manifest, path, size_bytes, sha256);
    return 0;
}

static int parse_package(yyjson_val *object, struct manifest *manifest, struct error **ret_error) {
    static const char *const known[] = {"digest", "size_bytes", "file_count"};
    const char *digest = "";
    uint64_t size_bytes = 0, file_count = 0;
    int result = json_check_fields(object, "packages", known, ARRAY_SIZE(known), ret_error);
    if (!result) result = json_get_text(object, "packages", "digest", true, &digest, ret_error);
    if (!result) result = get_size(object, "packages", "size_bytes", &size_bytes, ret_error);
    if (!result) result = get_size(object, "packages", "file_count", &file_count, ret_error);
    if (result < 0) return result;
    if (!is_digest(digest)) return refuse(ret_error, "packages has a digest that is none", digest);
    manifest_add_package(manifest, digest, size_bytes, file_count);
    return 0;
}

static int parse_collection(yyjson_val *object, struct manifest *manifest, struct error **ret_error) {
    static const char *const known[] = {"id", "name", "head", "live", "keep_queries", "query_head"};
    const char *id = "", *name = "";
    int result = json_check_fields(object, "collections", known, ARRAY_SIZE(known), ret_error);
    if (!result) result = json_get_text(object, "collections", "id", true, &id, ret_error);
    if (!result) result = json_get_text(object, "collections", "name", true, &name, ret_error);
    if (result < 0) return result;
    if (!text_is_uuid(id)) return refuse(ret_error, "collections has an id that is none", id);
    struct manifest_collection *collection = manifest_add_collection(manifest, id, name);
    result = get_size(object, "collections", "head", &collection->head, ret_error);
    if (!result) result = get_size(object, "collections", "live", &collection->live, ret_error);
    if (!result) result = get_size(object, "collections", "query_head", &collection->query_head, ret_error);
    if (!result) result = json_get_boolean(object, "collections", "keep_queries", &collection->keep_queries, ret_error);
    return result;
}

static int parse_list(yyjson_val *root, const char *field,
                      int (*parse)(yyjson_val *object, struct manifest *manifest, struct error **ret_error),
                      struct manifest *manifest, struct error **ret_error) {
    yyjson_val *list = yyjson_obj_get(root, field), *value;
    size_t i, count;
    if (!yyjson_is_arr(list)) return refuse(ret_error, "it has no list", field);
    if (yyjson_arr_size(list) > MANIFEST_FILES_MAXIMUM) return refuse(ret_error, "it has too long a list", field);
    yyjson_arr_foreach(list, i, count, value) {
        if (!yyjson_is_obj(value)) return refuse(ret_error, "it has something else than objects in the list", field);
        int result = parse(value, manifest, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

/* ---- what must hold between them ---- */

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct manifest_file *)a)->path, ((const struct manifest_file *)b)->path);
}

static bool has_file(const struct manifest *manifest, const char *path) {
    struct manifest_file wanted = {.path = (char *)path};
    return manifest->file_count &&
           bsearch(&wanted, manifest->files, manifest->file_count, sizeof wanted, by_path) != NULL;
}

static int check_files(struct manifest *manifest, struct error **ret_error) {
    if (manifest->file_count) qsort(manifest->files, manifest->file_count, sizeof *manifest->files, by_path);
    for (size_t i = 1; i < manifest->file_count; i++)
        if (!strcmp(manifest->files[i - 1].path, manifest->files[i].path))
            return refuse(ret_error, "files has a path twice", manifest->files[i].path);
    return has_file(manifest, "control.db") ? 0 : refuse(ret_error, "files lacks", "control.db");
}

/* The files of each package, in number and size, and none of a package that is not listed. */
static int check_packages(const struct manifest *manifest, struct error **ret_error) {
    size_t listed = 0, expected = 0;
    for (size_t i = 0; i < manifest->file_count; i++) listed += text_starts_with(manifest->files[i].path, PACKAGES);
    for (size_t i = 0; i < manifest->package_count && manifest->with_packages; i++) {
        const struct manifest_package *package = &manifest->packages[i];
        _cleanup_free_ char *prefix = text_format(PACKAGES "%s/", package->digest);
        struct manifest_file first = {.path = prefix};
        size_t low = 0, high = manifest->file_count, files = 0;
        uint64_t size_bytes = 0;
        while (low < high) { /* the files are sorted: a package's stand together */
            size_t middle = low + (high - low) / 2;
            if (by_path(&manifest->files[middle], &first) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        for (; low < manifest->file_count && text_starts_with(manifest->files[low].path, prefix); low++, files++)
            if (__builtin_add_overflow(size_bytes, manifest->files[low].size_bytes, &size_bytes))
                return refuse(ret_error, "packages has one that is too large", package->digest);
        if (!files || files != package->file_count || size_bytes != package->size_bytes)
            return refuse(ret_error, "files has not those of the package", package->digest);
        expected += files;
    }
    return listed == expected ? 0 : refuse(ret_error, "files has more than belongs to", "packages");
}

static int check_collections(const struct manifest *manifest, struct error **ret_error) {
    size_t listed = 0, expected = 0;
    for (size_t i = 0; i < manifest->file_count; i++) listed += text_starts_with(manifest->files[i].path, COLLECTIONS);
    for (size_t i = 0; i < manifest->collection_count; i++) {
        const struct manifest_collection *collection = &manifest->collections[i];
        _cleanup_free_ char *documents = text_format(COLLECTIONS "%s/documents.db", collection->id);
        _cleanup_free_ char *queries = text_format(COLLECTIONS "%s/queries.db", collection->id);
        if (!has_file(manifest, documents)) return refuse(ret_error, "files lacks", documents);
        if (collection->keep_queries && !has_file(manifest, queries)) return refuse(ret_error, "files lacks", queries);
        expected += 1 + collection->keep_queries;
    }
    return listed == expected ? 0 : refuse(ret_error, "files has more than belongs to", "collections");
}

static int parse_root(yyjson_val *root, struct manifest *manifest, struct error **ret_error) {
    static const char *const known[] = {"format",         "slipway",           "created_at",
                                        "control_schema", "collection_schema", "with_packages",
                                        "collections",    "packages",          "files"};
    const char *slipway = "", *created_at = "";
    int64_t format = 0;
    int result = json_get_number(root, "", "format", true, 1, INT32_MAX, &format, ret_error);
    if (!result) result = json_get_text(root, "", "slipway", true, &slipway, ret_error);
    if (result < 0) return result;
    if (format > MANIFEST_FORMAT)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "it was written by the newer Slipway %.40s (format %lld, and this one knows %d): restore it "
                         "with that one",
                         slipway, (long long)format, MANIFEST_FORMAT);
    manifest->slipway = text_copy(slipway);
    result = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error);
    if (!result) result = json_get_text(root, "", "created_at", true, &created_at, ret_error);
    manifest->created_at = text_copy(created_at);
    if (!result)
        result = json_get_number(root, "", "control_schema", true, 1, INT32_MAX, &manifest->control_version, ret_error);
    if (!result)
        result = json_get_number(root, "", "collection_schema", true, 0, INT32_MAX, &manifest->collection_version,
                                 ret_error);
    if (!result) result = json_get_boolean(root, "", "with_packages", &manifest->with_packages, ret_error);
    if (!result) result = parse_list(root, "files", parse_file, manifest, ret_error);
    if (!result) result = parse_list(root, "packages", parse_package, manifest, ret_error);
    if (!result) result = parse_list(root, "collections", parse_collection, manifest, ret_error);
    return result;
}

int manifest_parse(const char *bytes, size_t size, struct manifest *ret_manifest, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    _cleanup_manifest_ struct manifest manifest = {0};
    yyjson_val *root = NULL;
    if (size > MANIFEST_SIZE_MAXIMUM) return refuse(ret_error, "read the manifest", "it is too large");
    int result = json_parse_object(bytes, size, &document, &root, ret_error);
    if (!result) result = parse_root(root, &manifest, ret_error);
    if (!result) result = check_files(&manifest, ret_error);
    if (!result) result = check_packages(&manifest, ret_error);
    if (!result) result = check_collections(&manifest, ret_error);
    if (result < 0) return error_wrap(ret_error, "read the manifest");
    *ret_manifest = manifest;
    manifest = (struct manifest){0};
    return 0;
}
