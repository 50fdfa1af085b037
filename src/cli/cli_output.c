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

int cli_print_task(const struct cli *cli, const struct slipway_task *task) {
    if (cli->json) {
        cli_print_json(task->json);
        return EXIT_OK;
    }
    printf("%s  %s  %s%s%s%s%s\n", task->task_id, task->kind ? task->kind : "task", task->status,
           task->step ? ", " : "", task->step ? task->step : "", task->detail ? ": " : "",
           task->detail ? task->detail : "");
    if (task->error) printf("%s: %s\n", task->error->name, task->error->message);
    return EXIT_OK;
}

/* "minilm, revision 1, 384 dimensions"; caller frees. */
static char *describe_index(const struct slipway_index *index) {
    if (!index) return NULL;
    return text_format("%s, revision %lld, %lld dimensions", index->deployment ? index->deployment : "?",
                       (long long)index->revision, (long long)index->dimension);
}

int cli_print_collection(const struct cli *cli, const struct slipway_collection *collection) {
    if (cli->json) {
        cli_print_json(collection->json);
        return EXIT_OK;
    }
    const struct slipway_index *blue = collection->blue;
    _cleanup_free_ char *encoder = describe_index(blue), *rollback = describe_index(collection->rollback);
    _cleanup_free_ char *documents = text_format("%llu", (unsigned long long)collection->documents);
    _cleanup_free_ char *indexed =
        blue ? text_format("up to %llu of %llu%s", (unsigned long long)blue->applied_seq,
                           (unsigned long long)blue->head_seq, blue->applied_seq < blue->head_seq ? " (behind)" : "")
             : NULL;
    _cleanup_free_ char *failed = blue && blue->failed ? text_format("%llu", (unsigned long long)blue->failed) : NULL;
    print_field("name", collection->name);
    print_field("documents", documents);
    print_field("encoder", encoder ? encoder : collection->deployment);
    print_field("indexed", indexed);
    print_field("refused by model", failed);
    print_field("can go back to", rollback);
    print_field("metric", collection->metric);
    print_field("keeps queries", collection->keep_queries ? "yes" : NULL);
    print_field("quantized", collection->quantized ? "yes" : NULL);
    return EXIT_OK;
}

/* ---- tables ---- */

/* Scores with what tells them apart, rates without what changes each time. */
static char *write_real(double real) {
    return real > -10 && real < 10 ? text_format("%.4f", real) : text_format("%.1f", real);
}

static bool is_of_texts(yyjson_val *array) {
    size_t index, maximum;
    yyjson_val *item;
    yyjson_arr_foreach(array, index, maximum, item)
        if (!yyjson_is_str(item)) return false;
    return true;
}

/* "a,b", or "none"; caller frees. */
static char *join_texts(yyjson_val *array) {
    size_t index, maximum;
    yyjson_val *item;
    char *joined = text_copy(yyjson_arr_size(array) ? "" : "none");
    yyjson_arr_foreach(array, index, maximum, item) {
        char *longer = text_format("%s%s%s", joined, index ? "," : "", yyjson_get_str(item));
        free(joined);
        joined = longer;
    }
    return joined;
}

/* The value at a dotted path as text, "-" when there is none; caller frees. */
static char *cell(yyjson_val *object, const char *path) {
    for (const char *at = path; object; at += 1) {
        size_t length = strcspn(at, ".");
        object = yyjson_obj_getn(object, at, length);
        at += length;
        if (!*at) break;
    }
    if (!object || yyjson_is_null(object)) return text_copy("-");
    if (yyjson_is_real(object) || (yyjson_is_num(object) && text_equal(path, "score")))
        return write_real(yyjson_get_num(object));
    if (text_ends_with(path, "_bytes")) return text_size(yyjson_get_uint(object));
    if (yyjson_is_arr(object) && is_of_texts(object)) return join_texts(object);
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

int cli_show_list(struct cli *cli, const char *path, const struct cli_column *columns, size_t count) {
    char *json = NULL;
    uint64_t total = 0;
    struct slipway_error *error = NULL;
    if (slipway_get_json(cli->service, path, &json, &total, &error) < 0) return cli_fail(cli, error);
    int status = cli_print_table(cli, json, columns, count);
    uint64_t offset = 0, limit = 100;
    cli_number(cli, FLAG_OFFSET, INT64_MAX, &offset);
    cli_number(cli, FLAG_LIMIT, 1000, &limit);
    if (!cli->json && total > offset + limit)
        fprintf(stderr, "%llu more: --offset %llu shows them\n", (unsigned long long)(total - offset - limit),
                (unsigned long long)(offset + limit));
    slipway_text_free(json);
    return status;
}
