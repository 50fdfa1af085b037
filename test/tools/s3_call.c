/* s3_call REGISTRIES COMMAND URI [ARGUMENT...]: S3 by itself, with the server and keys that the registries file says.
 *
 * list URI; head URI; read URI OFFSET SIZE (to standard output); write URI FILE; write-broken URI SIZE (zeros whose
 * source fails at the middle); remove URI. Prints one JSON object for each thing that was found, or {"error","message",
 * "transient"} and exit status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_s3.h"
#include "registry/registry_servers.h"

#define LIST_MAXIMUM 100000

static void print_object(const struct s3_object *object) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "key", object->key);
    json_add_text(document, root, "etag", object->etag);
    json_add_text(document, root, "version_id", object->version_id);
    json_add_text(document, root, "sha256", object->sha256);
    yyjson_mut_obj_add_uint(document, root, "size", object->size_bytes);
    _cleanup_free_ char *text = json_write(document, NULL);
    printf("%s\n", text);
}

static void print_error(const struct error *error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    _cleanup_free_ char *message = error_text(error);
    json_add_text(document, root, "error", error_class_name(error->class));
    json_add_text(document, root, "message", message);
    yyjson_mut_obj_add_bool(document, root, "transient", error->transient);
    _cleanup_free_ char *text = json_write(document, NULL);
    printf("%s\n", text);
}

static int list(struct s3 *s3, const struct registry_s3_uri *uri, char **arguments, struct error **ret_error) {
    (void)arguments;
    struct s3_objects objects = {0};
    int result = s3_list(s3, uri->bucket, uri->key, LIST_MAXIMUM, &objects, ret_error);
    for (size_t i = 0; i < objects.count; i++) print_object(&objects.list[i]);
    s3_objects_clear(&objects);
    return result;
}

static int head(struct s3 *s3, const struct registry_s3_uri *uri, char **arguments, struct error **ret_error) {
    (void)arguments;
    struct s3_object object = {0};
    int result = s3_head(s3, uri->bucket, uri->key, uri->version_id, &object, ret_error);
    if (result >= 0) print_object(&object);
    s3_object_clear(&object);
    return result;
}

static int read_part(struct s3 *s3, const struct registry_s3_uri *uri, char **arguments, struct error **ret_error) {
    struct s3_object object = {0};
    size_t size = strtoul(arguments[1], NULL, 10), got = 0;
    _cleanup_free_ char *bytes = malloc(size + 1);
    int result = s3_head(s3, uri->bucket, uri->key, uri->version_id, &object, ret_error);
    if (result >= 0)
        result = s3_read(s3, uri->bucket, &object, strtoul(arguments[0], NULL, 10), bytes, size, &got, ret_error);
    if (result >= 0) fwrite(bytes, 1, got, stdout);
    s3_object_clear(&object);
    return result;
}

static int read_file(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                     struct error **ret_error) {
    ssize_t got = pread(*(int *)context, bytes, size, (off_t)offset);
    if (got <= 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, got ? errno : EIO, "read the file");
    *ret_size = (size_t)got;
    return 0;
}

static int write_file(struct s3 *s3, const struct registry_s3_uri *uri, char **arguments, struct error **ret_error) {
    _cleanup_close_ int file = open(arguments[0], O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) < 0)
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open %s", arguments[0]);
    return s3_write(s3, uri->bucket, uri->key, read_file, &file, (uint64_t)status.st_size, ret_error);
}

/* Zeros that are there when they are read to the end for the first time, to be hashed, and then not any more. */
struct breaking {
    uint64_t size;
    bool is_hashed;
};

static int read_zeros(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                      struct error **ret_error) {
    struct breaking *breaking = context;
    if (breaking->is_hashed && offset + size > breaking->size / 2)
        return error_set(ret_error, ERROR_DEPLOYMENT, "the source is broken");
    breaking->is_hashed = breaking->is_hashed || offset + size >= breaking->size;
    memset(bytes, 0, size);
    *ret_size = size;
    return 0;
}

static int write_broken(struct s3 *s3, const struct registry_s3_uri *uri, char **arguments, struct error **ret_error) {
    struct breaking breaking = {.size = strtoul(arguments[0], NULL, 10)};
    return s3_write(s3, uri->bucket, uri->key, read_zeros, &breaking, breaking.size, ret_error);
}

static int remove_object(struct s3 *s3, const struct registry_s3_uri *uri, char **arguments, struct error **ret_error) {
    (void)arguments;
    return s3_remove(s3, uri->bucket, uri->key, ret_error);
}

static const struct {
    const char *name;
    int arguments;
    int (*run)(struct s3 *s3, const struct registry_s3_uri *uri, char **arguments, struct error **ret_error);
} commands[] = {
    {"list", 0, list},
    {"head", 0, head},
    {"read", 2, read_part},
    {"write", 1, write_file},
    {"remove", 0, remove_object},
    {"write-broken", 1, write_broken},
};

static int run(const struct registry_context *context, char **argv, int count, struct error **ret_error) {
    _cleanup_s3_uri_ struct registry_s3_uri uri = {0};
    struct s3 *s3 = NULL;
    int result = registry_s3_parse(argv[1], &uri, ret_error);
    if (result >= 0) result = registry_s3_open(context, uri.bucket, &s3, ret_error);
    if (result < 0) return result;
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(commands[i].name, argv[0])) continue;
        if (commands[i].arguments != count - 2) exit(2);
        result = commands[i].run(s3, &uri, argv + 2, ret_error);
        s3_close(s3);
        return result;
    }
    exit(2);
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    _cleanup_error_ struct error *error = NULL;
    _cleanup_free_ char *text = NULL;
    size_t size;
    struct registry_servers *servers = NULL;
    int result = fs_read_file(argv[1], 1u << 20, &text, &size, &error);
    if (result >= 0) result = registry_servers_new(text, size, argv[1], environ, &servers, &error);
    const struct registry_context context = {.servers = servers, .attempts = 3};
    if (result >= 0) result = run(&context, argv + 2, argc - 2, &error);
    registry_servers_free(servers);
    if (result < 0) print_error(error);
    return result < 0;
}
