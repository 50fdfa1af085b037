/* slipway infer, slipway embed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

#define VALUES_SHOWN 8

int cli_infer(struct cli *cli) {
    _cleanup_free_ char *request = cli_read_json(cli, cli->arguments[1]);
    if (!request) return EXIT_USAGE;
    char *answer = NULL;
    struct slipway_error *error = NULL;
    if (slipway_infer(cli->service, cli->arguments[0], request, &answer, &error) < 0) return cli_fail(cli, error);
    cli_print_json(answer);
    slipway_text_free(answer);
    return EXIT_OK;
}

static void print_vectors_as_json(const struct slipway_embeddings *embeddings) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *rows = yyjson_mut_arr(document);
    yyjson_mut_doc_set_root(document, rows);
    for (size_t i = 0; i < embeddings->count; i++)
        yyjson_mut_arr_append(rows, yyjson_mut_arr_with_float(document, embeddings->values + i * embeddings->dimension,
                                                              embeddings->dimension));
    _cleanup_free_ char *json = json_write(document, NULL);
    cli_print_json(json);
}

static void print_vectors(const struct slipway_embeddings *embeddings) {
    for (size_t i = 0; i < embeddings->count; i++) {
        const float *row = embeddings->values + i * embeddings->dimension;
        printf("[");
        for (size_t j = 0; j < embeddings->dimension && j < VALUES_SHOWN; j++)
            printf("%s%.6f", j ? ", " : "", (double)row[j]);
        printf("%s]  %zu dimensions\n", embeddings->dimension > VALUES_SHOWN ? ", …" : "", embeddings->dimension);
    }
}

int cli_embed(struct cli *cli) {
    struct slipway_embeddings *embeddings = NULL;
    struct slipway_error *error = NULL;
    if (slipway_embed(cli->service, cli->arguments[0], cli->arguments + 1, NULL, cli->argument_count - 1, &embeddings,
                      &error) < 0)
        return cli_fail(cli, error);
    if (cli->json)
        print_vectors_as_json(embeddings);
    else
        print_vectors(embeddings);
    if (embeddings->truncated_texts)
        fprintf(stderr, "slipway embed: %llu texts were longer than the model's window and were cut\n",
                (unsigned long long)embeddings->truncated_texts);
    slipway_embeddings_free(embeddings);
    return EXIT_OK;
}
