/* slipway package build|list|inspect|export|import|remove|prune. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

int cli_package_build(struct cli *cli) {
    _cleanup_free_ char *uri = cli_make_uri(cli, cli->arguments[0]);
    if (!uri) return EXIT_USAGE;
    _cleanup_free_ char *recipe = cli->flags[FLAG_RECIPE] ? cli_read_json(cli, cli->flags[FLAG_RECIPE]) : NULL;
    if (cli->flags[FLAG_RECIPE] && !recipe) return EXIT_USAGE;
    struct slipway_task *task = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_build_package(cli->service, uri, recipe, &task, &error);
    return cli_finish_task(cli, result, task, error);
}

int cli_package_list(struct cli *cli) {
    static const struct cli_column columns[] = {{"DIGEST", "digest"},       {"BYTES", "size_bytes"},
                                                {"FILES", "files"},         {"USED", "used_at"},
                                                {"PINNED BY", "pinned_by"}, {"SOURCE", "source_uri"}};
    uint64_t limit = 100, offset = 0;
    if (!cli_number(cli, FLAG_LIMIT, UINT64_MAX, &limit) || !cli_number(cli, FLAG_OFFSET, INT64_MAX, &offset))
        return EXIT_USAGE;
    _cleanup_free_ char *path =
        text_format("/v1/packages?limit=%llu&offset=%llu", (unsigned long long)limit, (unsigned long long)offset);
    return cli_show_list(cli, path, columns, ARRAY_SIZE(columns));
}

/* ---- one ---- */

static void print_field(const char *title, const char *value) {
    if (value) printf("%-14s %s\n", title, value);
}

static void print_names(const char *title, yyjson_val *array) {
    size_t at, count;
    yyjson_val *item;
    yyjson_arr_foreach(array, at, count, item) print_field(at ? "" : title, yyjson_get_str(item));
}

static void print_details(yyjson_val *root) {
    static const struct {
        const char *title, *field;
    } fields[] = {{"resolved", "resolved_uri"}, {"created", "created_at"},       {"used", "used_at"},
                  {"layer", "layer_digest"},    {"manifest", "manifest_digest"}, {"config", "config_digest"}};
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
        print_field(fields[i].title, yyjson_get_str(yyjson_obj_get(root, fields[i].field)));
    print_names("pinned by", yyjson_obj_get(root, "pinned_by"));
    yyjson_val *contents = yyjson_obj_get(root, "contents"), *file;
    size_t at, count;
    yyjson_arr_foreach(contents, at, count, file) {
        _cleanup_free_ char *size = text_size(yyjson_get_uint(yyjson_obj_get(file, "size_bytes")));
        printf("%-14s %-10s %s\n", at ? "" : "contents", size, yyjson_get_str(yyjson_obj_get(file, "path")));
    }
}

static int print_package(const struct cli *cli, const struct slipway_package *package) {
    if (cli->json) {
        cli_print_json(package->json);
        return EXIT_OK;
    }
    _cleanup_free_ char *size = text_size(package->size_bytes);
    _cleanup_free_ char *words = text_format("%s in %llu file%s", size, (unsigned long long)package->file_count,
                                             package->file_count == 1 ? "" : "s");
    print_field("package", package->package_uri);
    print_field("size", words);
    print_field("source", package->source_uri);
    _cleanup_json_ yyjson_doc *document = yyjson_read(package->json, strlen(package->json), 0);
    print_details(yyjson_doc_get_root(document));
    return EXIT_OK;
}

static int finish(struct cli *cli, int result, struct slipway_package *package, struct slipway_error *error) {
    if (result < 0) return cli_fail(cli, error);
    int status = print_package(cli, package);
    slipway_package_free(package);
    return status;
}

int cli_package_inspect(struct cli *cli) {
    struct slipway_package *package = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_get_package(cli->service, cli->arguments[0], &package, &error);
    return finish(cli, result, package, error);
}

/* ---- carrying it ---- */

static int say_errno(const struct cli *cli, const char *what, const char *name) {
    fprintf(stderr, "slipway %s: %s %s: %s\n", cli->command->name, what, name, strerror(errno));
    return EXIT_FAILED;
}

int cli_package_import(struct cli *cli) {
    const char *name = cli->arguments[0];
    bool is_stdin = text_equal(name, "-");
    FILE *file = is_stdin ? stdin : fopen(name, "re");
    if (!file) {
        say_errno(cli, "open", name);
        return EXIT_USAGE;
    }
    struct slipway_package *package = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_import_package_file(cli->service, file, &package, &error);
    if (!is_stdin) fclose(file);
    return finish(cli, result, package, error);
}

/* The file has its name only when it is whole. */
static int export_to(struct cli *cli, const char *name, const char *part, FILE *file) {
    struct slipway_error *error = NULL;
    int result = slipway_export_package_file(cli->service, cli->arguments[0], file, &error);
    bool is_whole = !ferror(file) && !fflush(file) && (!part || !fsync(fileno(file)));
    int status = EXIT_OK;
    if (!is_whole) {
        status = say_errno(cli, "write", name);
        slipway_error_free(error);
    } else if (result < 0) {
        status = cli_fail(cli, error);
    }
    if (part && fclose(file) && status == EXIT_OK) status = say_errno(cli, "write", name);
    if (part && status == EXIT_OK && rename(part, name) < 0) status = say_errno(cli, "name", name);
    if (part && status != EXIT_OK) unlink(part);
    return status;
}

int cli_package_export(struct cli *cli) {
    const char *name = cli->arguments[1];
    if (text_equal(name, "-")) return export_to(cli, "stdout", NULL, stdout);
    _cleanup_free_ char *part = text_format("%s.part", name);
    FILE *file = fopen(part, "we");
    if (!file) {
        say_errno(cli, "make", part);
        return EXIT_USAGE;
    }
    return export_to(cli, name, part, file);
}

/* ---- letting go ---- */

int cli_package_remove(struct cli *cli) {
    for (size_t i = 0; i < cli->argument_count; i++) {
        struct slipway_error *error = NULL;
        if (slipway_remove_package(cli->service, cli->arguments[i], &error) < 0) return cli_fail(cli, error);
    }
    return EXIT_OK;
}

int cli_package_prune(struct cli *cli) {
    static const struct cli_column columns[] = {{"DIGEST", "digest"}, {"BYTES", "size_bytes"}};
    char *json = NULL;
    struct slipway_error *error = NULL;
    bool dry_run = cli->flags[FLAG_DRY_RUN];
    if (slipway_prune_packages(cli->service, cli->flags[FLAG_ALL], dry_run, &json, &error) < 0)
        return cli_fail(cli, error);
    _cleanup_json_ yyjson_doc *document = yyjson_read(json, strlen(json), 0);
    yyjson_val *root = yyjson_doc_get_root(document), *removed = yyjson_obj_get(root, "removed");
    int status = EXIT_OK;
    if (cli->json) {
        cli_print_json(json);
    } else {
        _cleanup_free_ char *list = json_write_value(removed, NULL);
        _cleanup_free_ char *size = text_size(yyjson_get_uint(yyjson_obj_get(root, "size_bytes")));
        _cleanup_free_ char *packages = text_count(yyjson_arr_size(removed), "package", "packages");
        if (yyjson_arr_size(removed)) status = cli_print_table(cli, list, columns, ARRAY_SIZE(columns));
        fprintf(stderr, "%s, %s: %s\n", packages, size, dry_run ? "would be removed" : "removed");
    }
    slipway_text_free(json);
    return status;
}
