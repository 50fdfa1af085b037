#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

static int exit_of_class(enum slipway_error_class error_class) {
    switch (error_class) {
    case SLIPWAY_NOT_FOUND: return EXIT_NOT_FOUND;
    case SLIPWAY_CONFLICT:
    case SLIPWAY_REFUSED: return EXIT_CONFLICT;
    case SLIPWAY_CONFIGURATION:
    case SLIPWAY_REQUEST: return EXIT_REQUEST;
    case SLIPWAY_UNAUTHORIZED: return EXIT_UNAUTHORIZED;
    case SLIPWAY_UNAVAILABLE:
    case SLIPWAY_PROTOCOL: return EXIT_UNAVAILABLE;
    default: return EXIT_FAILED;
    }
}

int cli_fail(const struct cli *cli, struct slipway_error *error) {
    int status = exit_of_class(error->error_class);
    if (cli->json) {
        _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(document);
        yyjson_mut_doc_set_root(document, root);
        json_add_text(document, root, "error", error->name);
        json_add_text(document, root, "message", error->message);
        if (error->http_status) yyjson_mut_obj_add_int(document, root, "status", error->http_status);
        _cleanup_free_ char *json = json_write(document, NULL);
        fprintf(stderr, "%s\n", json);
    } else {
        fprintf(stderr, "slipway %s: %s: %s\n", cli->command->name, error->name, error->message);
    }
    slipway_error_free(error);
    return status;
}

void cli_print_json(const char *json) {
    printf("%s\n", json);
}

static void print_field(const char *title, const char *value) {
    if (value && *value) printf("%-18s %s\n", title, value);
}

/* Writes "3 (serving 2)" or "3" into text. */
static void write_revisions(const struct slipway_deployment *deployment, char *text, size_t size) {
    if (deployment->serving_revision && deployment->serving_revision != deployment->revision)
        snprintf(text, size, "%lld (serving %lld)", (long long)deployment->revision,
                 (long long)deployment->serving_revision);
    else
        snprintf(text, size, "%lld%s", (long long)deployment->revision,
                 deployment->serving_revision ? "" : " (not serving)");
}

int cli_print_deployment(const struct cli *cli, const struct slipway_deployment *deployment) {
    if (cli->json) {
        cli_print_json(deployment->json);
        return EXIT_OK;
    }
    char revisions[64], replicas[24];
    write_revisions(deployment, revisions, sizeof revisions);
    snprintf(replicas, sizeof replicas, "%lld", (long long)deployment->replicas);
    print_field("name", deployment->deployment_name);
    print_field("id", deployment->deployment_id);
    print_field("status", deployment->status);
    print_field("message", deployment->message);
    print_field("endpoint", deployment->endpoint_url);
    print_field("model", deployment->model_uri);
    print_field("deployed version", deployment->deployed_model_version);
    print_field("revision", revisions);
    print_field("replicas", replicas);
    print_field("tags", text_equal(deployment->tags_json, "{}") ? NULL : deployment->tags_json);
    print_field("updated", deployment->updated_at);
    return EXIT_OK;
}

/* ---- tables ---- */

/* The value at a dotted path as text, "-" when there is none; caller frees. */
static char *cell(yyjson_val *object, const char *path) {
    for (const char *at = path; object; at += 1) {
        size_t length = strcspn(at, ".");
        object = yyjson_obj_getn(object, at, length);
        at += length;
        if (!*at) break;
    }
    if (!object || yyjson_is_null(object)) return text_copy("-");
    if (text_ends_with(path, "_bytes")) return text_size(yyjson_get_uint(object));
    return yyjson_is_str(object) ? text_copy(yyjson_get_str(object)) : json_write_value(object, NULL);
}

int cli_text_width(const char *text) {
    int columns = 0;
    for (; *text; text++) columns += (*text & 0xc0) != 0x80;
    return columns;
}

static void print_row(char *const *cells, const int *widths, size_t count) {
    for (size_t i = 0; i < count; i++) {
        printf("%s", cells[i]);
        if (i + 1 < count) printf("%*s", widths[i] - cli_text_width(cells[i]) + 2, "");
    }
    printf("\n");
}

int cli_print_table(const struct cli *cli, const char *json, const struct cli_column *columns, size_t count) {
    if (cli->json) {
        cli_print_json(json);
        return EXIT_OK;
    }
    _cleanup_json_ yyjson_doc *document = yyjson_read(json, strlen(json), 0);
    yyjson_val *array = yyjson_doc_get_root(document), *item;
    size_t rows = yyjson_arr_size(array) + 1, index, maximum;
    char **cells = mem_new_array(rows * count, char *);
    int *widths = mem_new_array(count, int);
    for (size_t i = 0; i < count; i++) cells[i] = text_copy(columns[i].title);
    yyjson_arr_foreach(array, index, maximum, item) {
        for (size_t i = 0; i < count; i++) cells[(index + 1) * count + i] = cell(item, columns[i].field);
    }
    for (size_t at = 0; at < rows * count; at++)
        if (cli_text_width(cells[at]) > widths[at % count]) widths[at % count] = cli_text_width(cells[at]);
    for (size_t row = 0; row < rows; row++) print_row(cells + row * count, widths, count);
    for (size_t at = 0; at < rows * count; at++) free(cells[at]);
    free(cells);
    free(widths);
    return EXIT_OK;
}
