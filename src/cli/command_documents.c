/* slipway docs put|get|delete|import|export. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

#define ERRORS_SHOWN 20

/* ---- one ---- */

static int print_write(const struct cli *cli, const char *id, const struct slipway_write *write) {
    bool waited = cli->flags[FLAG_WAIT] != NULL;
    if (cli->json) {
        _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(document);
        yyjson_mut_doc_set_root(document, root);
        json_add_text(document, root, "id", id);
        yyjson_mut_obj_add_uint(document, root, "seq", write->seq);
        if (waited) yyjson_mut_obj_add_bool(document, root, "indexed", write->indexed);
        json_add_text(document, root, "detail", write->detail);
        _cleanup_free_ char *json = json_write(document, NULL);
        cli_print_json(json);
    } else {
        printf("%s  seq %llu%s\n", id, (unsigned long long)write->seq, waited && write->indexed ? ", indexed" : "");
    }
    if (!waited || write->indexed) return EXIT_OK;
    if (!cli->json)
        fprintf(stderr, "slipway %s: %s is kept, but no search finds it: %s\n", cli->command->name, id,
                write->detail ? write->detail : "no cause was given");
    return EXIT_FAILED;
}

int cli_docs_put(struct cli *cli) {
    struct slipway_write write = {0};
    struct slipway_error *error = NULL;
    const char *given = cli->flags[FLAG_PAYLOAD];
    _cleanup_free_ char *payload = given ? cli_read_json(cli, given) : NULL;
    if (given && !payload) return EXIT_USAGE;
    if (slipway_put_document(cli->service, cli->arguments[0], cli->arguments[1], cli->arguments[2], payload,
                             cli->flags[FLAG_WAIT] != NULL, &write, &error) < 0)
        return cli_fail(cli, error);
    int status = print_write(cli, cli->arguments[1], &write);
    slipway_write_clear(&write);
    return status;
}

/* Of one that is not there it says so, and goes on with the others. */
int cli_docs_delete(struct cli *cli) {
    int status = EXIT_OK;
    for (size_t i = 1; i < cli->argument_count; i++) {
        struct slipway_write write = {0};
        struct slipway_error *error = NULL;
        int one, result = slipway_delete_document(cli->service, cli->arguments[0], cli->arguments[i],
                                                  cli->flags[FLAG_WAIT] != NULL, &write, &error);
        one = result < 0 ? cli_fail(cli, error) : print_write(cli, cli->arguments[i], &write);
        slipway_write_clear(&write);
        if (one != EXIT_OK) status = one;
        if (result < 0 && result != -SLIPWAY_NOT_FOUND) return status;
    }
    return status;
}

static void print_document_as_json(const struct slipway_document *document) {
    _cleanup_json_mutable_ yyjson_mut_doc *json = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(json);
    yyjson_mut_doc_set_root(json, root);
    json_add_text(json, root, "id", document->id);
    json_add_text(json, root, "text", document->text);
    json_add_json(json, root, "payload", document->payload_json);
    yyjson_mut_obj_add_uint(json, root, "seq", document->seq);
    json_add_text(json, root, "updated_at", document->updated_at);
    _cleanup_free_ char *text = json_write(json, NULL);
    cli_print_json(text);
}

int cli_docs_get(struct cli *cli) {
    struct slipway_document *document = NULL;
    struct slipway_error *error = NULL;
    if (slipway_get_document(cli->service, cli->arguments[0], cli->arguments[1], &document, &error) < 0)
        return cli_fail(cli, error);
    if (cli->json)
        print_document_as_json(document);
    else
        printf("id       %s\nseq      %llu\nupdated  %s\npayload  %s\n\n%s\n", document->id,
               (unsigned long long)document->seq, document->updated_at ? document->updated_at : "-",
               document->payload_json, document->text ? document->text : "");
    slipway_document_free(document);
    return EXIT_OK;
}

/* ---- import ---- */

struct import {
    FILE *file;
    int64_t size; /* of the file; 0 where it has none */
    uint64_t begin_ms;
    struct cli_progress progress;
};

static int64_t read_file(void *context, char *buffer, size_t size) {
    struct import *import = context;
    size_t count = fread(buffer, 1, size, import->file);
    return !count && ferror(import->file) ? -1 : (int64_t)count;
}

static bool show_import(void *context, const struct slipway_bulk *so_far, uint64_t bytes) {
    struct import *import = context;
    double seconds = (double)(clock_monotonic_ms() - import->begin_ms) / 1000 + 0.001;
    double bytes_rate = (double)bytes / seconds;
    _cleanup_free_ char *bar = cli_progress_bar(&import->progress, (int64_t)bytes, import->size);
    _cleanup_free_ char *line = NULL;
    if (import->progress.is_terminal) {
        double rest = import->size > (int64_t)bytes ? (double)(import->size - (int64_t)bytes) : 0;
        _cleanup_free_ char *left = import->size ? cli_duration(rest / bytes_rate) : NULL;
        line = text_format("import:%s %llu written, %.0f/s%s%s%s", bar, (unsigned long long)so_far->accepted,
                           (double)so_far->accepted / seconds, left ? ", " : "", left ? left : "", left ? " left" : "");
    } else {
        line = text_format("import:%s", *bar ? bar : " running");
    }
    cli_progress_show(&import->progress, line);
    return true;
}

static void print_bulk_as_json(const struct slipway_bulk *bulk, bool waited) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_uint(document, root, "seq", bulk->seq);
    yyjson_mut_obj_add_uint(document, root, "accepted", bulk->accepted);
    yyjson_mut_obj_add_uint(document, root, "failed", bulk->failed);
    if (waited) yyjson_mut_obj_add_bool(document, root, "indexed", bulk->indexed);
    json_add_text(document, root, "detail", bulk->detail);
    yyjson_mut_val *errors = yyjson_mut_obj_add_arr(document, root, "errors");
    for (size_t i = 0; i < bulk->error_count; i++) {
        yyjson_mut_val *error = yyjson_mut_arr_add_obj(document, errors);
        yyjson_mut_obj_add_uint(document, error, "line", bulk->errors[i].line);
        json_add_text(document, error, "id", bulk->errors[i].id);
        json_add_text(document, error, "detail", bulk->errors[i].detail);
    }
    _cleanup_free_ char *json = json_write(document, NULL);
    cli_print_json(json);
}

static int print_bulk(const struct cli *cli, const struct slipway_bulk *bulk) {
    bool waited = cli->flags[FLAG_WAIT] != NULL, refused = waited && bulk->accepted && !bulk->indexed;
    if (cli->json) {
        print_bulk_as_json(bulk, waited);
        return bulk->failed || refused ? EXIT_FAILED : EXIT_OK;
    }
    printf("%llu written, up to seq %llu\n", (unsigned long long)bulk->accepted, (unsigned long long)bulk->seq);
    for (size_t i = 0; i < bulk->error_count && i < ERRORS_SHOWN; i++)
        fprintf(stderr, "line %llu%s%s: %s\n", (unsigned long long)bulk->errors[i].line, bulk->errors[i].id ? ", " : "",
                bulk->errors[i].id ? bulk->errors[i].id : "",
                bulk->errors[i].detail ? bulk->errors[i].detail : "refused");
    if (bulk->failed > ERRORS_SHOWN)
        fprintf(stderr, "… and %llu more; --json lists them\n", (unsigned long long)(bulk->failed - ERRORS_SHOWN));
    if (refused)
        fprintf(stderr, "slipway %s: not all of them are found by searches: %s\n", cli->command->name,
                bulk->detail ? bulk->detail : "no cause was given");
    if (!bulk->failed) return refused ? EXIT_FAILED : EXIT_OK;
    fprintf(stderr, "slipway %s: %llu lines were not written; the others were\n", cli->command->name,
            (unsigned long long)bulk->failed);
    return EXIT_FAILED;
}

/* The file that an argument names, "-" the stream beside it; NULL after saying why not. */
static FILE *open_file(const struct cli *cli, const char *name, const char *mode, FILE *stream) {
    if (!name || text_equal(name, "-")) return stream;
    FILE *file = fopen(name, mode);
    if (!file) fprintf(stderr, "slipway %s: open %s: %s\n", cli->command->name, name, strerror(errno));
    return file;
}

int cli_docs_import(struct cli *cli) {
    struct import import = {.begin_ms = clock_monotonic_ms()};
    import.file = open_file(cli, cli->arguments[1], "re", stdin);
    if (!import.file) return EXIT_USAGE;
    struct stat facts;
    if (fstat(fileno(import.file), &facts) == 0 && S_ISREG(facts.st_mode)) import.size = facts.st_size;
    cli_progress_begin(cli, &import.progress);
    const struct slipway_import request = {.read = read_file,
                                           .progress = cli->json ? NULL : show_import,
                                           .context = &import,
                                           .wait_indexed = cli->flags[FLAG_WAIT] != NULL};
    struct slipway_bulk *bulk = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_import_documents(cli->service, cli->arguments[0], &request, &bulk, &error);
    cli_progress_end(&import.progress);
    if (import.file != stdin) fclose(import.file);
    if (result < 0) return cli_fail(cli, error);
    int status = print_bulk(cli, bulk);
    slipway_bulk_free(bulk);
    return status;
}

/* ---- export ---- */

int cli_docs_export(struct cli *cli) {
    const char *name = cli->argument_count > 1 ? cli->arguments[1] : NULL;
    FILE *file = open_file(cli, name, "we", stdout);
    if (!file) return EXIT_USAGE;
    struct slipway_error *error = NULL;
    int result = slipway_export_file(cli->service, cli->arguments[0], file, &error);
    bool is_whole = !ferror(file);
    if (file != stdout && fclose(file) != 0) is_whole = false;
    if (!is_whole) {
        fprintf(stderr, "slipway %s: write %s: %s\n", cli->command->name, name ? name : "stdout", strerror(errno));
        slipway_error_free(error);
        return EXIT_FAILED;
    }
    return result < 0 ? cli_fail(cli, error) : EXIT_OK;
}
