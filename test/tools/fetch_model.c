/* fetch_model [FLAGS] URI FOLDER: a registry by itself, without the service, for tests.
 *
 * Flags: --registries FILE, --root DIR (of the file registry; may be repeated), --files-maximum N, --size-maximum N,
 * --attempts N, --parallel N, --stall-ms N, --deadline-ms N (from now), --resolve-only.
 *
 * Prints JSON, one object a line: {"resolved_uri","fingerprint","files":[{"path","size","sha256","identity"}],"facts"}
 * when it is resolved, {"done","total"} as the bytes come, {"tree":"<package digest>"} at the end; or {"error",
 * "message","transient"} and exit status 1.
 */
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "package/package.h"
#include "registry/registry.h"
#include "registry/registry_servers.h"

#define ROOTS_MAXIMUM 16
#define CONFIGURATION_MAXIMUM (1u << 20)

struct run {
    struct registry_context context;
    const char *roots[ROOTS_MAXIMUM];
    const char *registries;
    bool resolve_only;
};

static void print_document(yyjson_mut_doc *document) {
    _cleanup_free_ char *text = json_write(document, NULL);
    printf("%s\n", text);
    fflush(stdout);
}

static void print_error(const struct error *error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    _cleanup_free_ char *text = error_text(error);
    json_add_text(document, root, "error", error_class_name(error->class));
    json_add_text(document, root, "message", text);
    yyjson_mut_obj_add_bool(document, root, "transient", error->transient);
    print_document(document);
}

static void print_resolution(const struct registry_resolution *resolution) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "resolved_uri", resolution->resolved_uri);
    json_add_text(document, root, "fingerprint", resolution->fingerprint);
    if (!resolution->resolved_uri) yyjson_mut_obj_add_null(document, root, "resolved_uri");
    if (!resolution->fingerprint) yyjson_mut_obj_add_null(document, root, "fingerprint");
    yyjson_mut_val *files = yyjson_mut_obj_add_arr(document, root, "files");
    for (size_t i = 0; i < resolution->file_count; i++) {
        const struct registry_file *file = &resolution->files[i];
        yyjson_mut_val *one = yyjson_mut_arr_add_obj(document, files);
        json_add_text(document, one, "path", file->path);
        if (file->size_bytes == REGISTRY_SIZE_UNKNOWN)
            yyjson_mut_obj_add_null(document, one, "size");
        else
            yyjson_mut_obj_add_uint(document, one, "size", file->size_bytes);
        json_add_text(document, one, "sha256", file->sha256);
        json_add_text(document, one, "identity", file->identity);
    }
    json_add_json(document, root, "facts", resolution->facts_json);
    print_document(document);
}

static void print_progress(uint64_t done_bytes, uint64_t total_bytes, void *context) {
    (void)context;
    printf("{\"done\":%" PRIu64 ",\"total\":%" PRIu64 "}\n", done_bytes, total_bytes);
    fflush(stdout);
}

static uint64_t parse_number(const char *text) {
    uint64_t number;
    if (text_parse_number(text, INT64_MAX, &number)) return number;
    fprintf(stderr, "fetch_model: \"%s\" is no number\n", text);
    exit(2);
}

static void take_flags(struct run *run, int argc, char **argv) {
    static const struct option flags[] = {
        {"registries", required_argument, NULL, 'r'},    {"root", required_argument, NULL, 'd'},
        {"files-maximum", required_argument, NULL, 'f'}, {"size-maximum", required_argument, NULL, 's'},
        {"attempts", required_argument, NULL, 'a'},      {"parallel", required_argument, NULL, 'p'},
        {"stall-ms", required_argument, NULL, 't'},      {"deadline-ms", required_argument, NULL, 'e'},
        {"resolve-only", no_argument, NULL, 'o'},        {0}};
    struct registry_context *context = &run->context;
    context->roots = run->roots;
    context->on_progress = print_progress;
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        switch (flag) {
        case 'r': run->registries = optarg; break;
        case 'd':
            if (context->root_count == ROOTS_MAXIMUM) exit(2);
            run->roots[context->root_count++] = optarg;
            break;
        case 'f': context->file_maximum = parse_number(optarg); break;
        case 's': context->size_maximum = parse_number(optarg); break;
        case 'a': context->attempts = (unsigned)parse_number(optarg); break;
        case 'p': context->parallel = (unsigned)parse_number(optarg); break;
        case 't': context->stall_timeout_ms = parse_number(optarg); break;
        case 'e': context->deadline_ms = clock_monotonic_ms() + parse_number(optarg); break;
        case 'o': run->resolve_only = true; break;
        default: exit(2);
        }
    }
    if (argc - optind == 2) return;
    fprintf(stderr, "usage: fetch_model [FLAGS] URI FOLDER\n");
    exit(2);
}

static int read_servers(const struct run *run, struct registry_servers **ret_servers, struct error **ret_error) {
    _cleanup_free_ char *text = NULL;
    size_t size = 0;
    int result = 0;
    if (run->registries) result = fs_read_file(run->registries, CONFIGURATION_MAXIMUM, &text, &size, ret_error);
    if (result < 0) return result;
    return registry_servers_new(text, size, run->registries, environ, ret_servers, ret_error);
}

static int fetch(const struct run *run, const char *uri, const char *folder, struct error **ret_error) {
    const struct registry_ops *registry;
    struct registry_resolution resolution = {0};
    struct package_info info;
    int result = registry_find(uri, &registry, ret_error);
    if (!result) result = registry->check(&run->context, uri, ret_error);
    if (!result) result = registry->resolve(&run->context, uri, &resolution, ret_error);
    if (result < 0) return result;
    print_resolution(&resolution);
    if (!run->resolve_only) {
        result = registry->fetch(&run->context, &resolution, folder, ret_error);
        if (!result) result = package_hash_folder(folder, &info, ret_error);
        if (!result) printf("{\"tree\":\"%s\"}\n", info.digest);
    }
    registry_resolution_clear(&resolution);
    return result;
}

int main(int argc, char **argv) {
    struct run run = {0};
    take_flags(&run, argc, argv);
    _cleanup_error_ struct error *error = NULL;
    struct registry_servers *servers = NULL;
    int result = read_servers(&run, &servers, &error);
    run.context.servers = servers;
    if (!result) result = fetch(&run, argv[optind], argv[optind + 1], &error);
    registry_servers_free(servers);
    if (result < 0) print_error(error);
    return result < 0;
}
