/* The rows of packages, and what their pins say. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/engine-internal.h"
#include "controller/packages.h"

#define COLUMNS                                                                                                        \
    "digest, size_bytes, file_count, created_at, used_at, source_uri, resolved_uri, facts_json, recipe_json, "         \
    "layer_digest, layer_size_bytes, manifest_digest"

void package_row_clear(struct package_row *row) {
    free(row->source_uri);
    free(row->resolved_uri);
    free(row->facts_json);
    free(row->recipe_json);
    free(row->layer_digest);
    free(row->manifest_digest);
    *row = (struct package_row){0};
}

static struct package_row read_row(struct store_rows *rows) {
    struct package_row row = {
        .size_bytes = store_number(rows, 1),
        .file_count = store_number(rows, 2),
        .created_at = store_number(rows, 3),
        .used_at = store_number(rows, 4),
        .source_uri = store_text_copy(rows, 5),
        .resolved_uri = store_text_copy(rows, 6),
        .facts_json = store_text_copy(rows, 7),
        .recipe_json = store_text_copy(rows, 8),
        .layer_digest = store_text_copy(rows, 9),
        .layer_size_bytes = store_number(rows, 10),
        .manifest_digest = store_text_copy(rows, 11),
    };
    snprintf(row.digest, sizeof row.digest, "%s", store_text(rows, 0));
    return row;
}

int package_digest_parse(const char *text, char ret_digest[DIGEST_HEX_SIZE], struct error **ret_error) {
    unsigned char bytes[DIGEST_SIZE];
    const char *hex = text;
    if (text_starts_with(hex, "package:")) hex += strlen("package:");
    if (text_starts_with(hex, "sha256:")) hex += strlen("sha256:");
    if (strlen(hex) != DIGEST_HEX_SIZE - 1 || !digest_parse(hex, bytes) || strpbrk(hex, "ABCDEF"))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "\"%.128s\" is not the digest of a package: that is sha256: and 64 hexadecimal digits", text);
    snprintf(ret_digest, DIGEST_HEX_SIZE, "%s", hex);
    return 0;
}

int package_row_load(struct store_transaction *tx, const char *digest, struct package_row *ret_row,
                     struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error, "SELECT " COLUMNS " FROM packages WHERE digest = ?", "t", digest);
    if (result < 0 || (result = store_next(rows, ret_error)) < 0) return result;
    if (!result) return error_set(ret_error, ERROR_NOT_FOUND, "there is no package sha256:%s", digest);
    *ret_row = read_row(rows);
    return 0;
}

static int count_rows(struct store_transaction *tx, int64_t *ret_total, struct error **ret_error) {
    int result = store_ask_number(tx, ret_total, ret_error, "SELECT count(*) FROM packages", "");
    return result < 0 ? result : 0;
}

int package_row_list(struct store_transaction *tx, int64_t limit, int64_t offset, struct package_row **ret_rows,
                     size_t *ret_count, int64_t *ret_total, struct error **ret_error) {
    struct package_row *list = NULL;
    size_t count = 0;
    int64_t total = 0;
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = count_rows(tx, &total, ret_error);
    if (result < 0 ||
        (result = store_query(tx, &rows, ret_error,
                              "SELECT " COLUMNS " FROM packages ORDER BY created_at DESC, digest LIMIT ? OFFSET ?",
                              "ii", limit, offset)) < 0)
        return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        list = mem_resize(list, count + 1, sizeof *list);
        list[count++] = read_row(rows);
    }
    if (result < 0) {
        package_row_list_free(list, count);
        return result;
    }
    *ret_rows = list;
    *ret_count = count;
    *ret_total = total;
    return 0;
}

void package_row_list_free(struct package_row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) package_row_clear(&rows[i]);
    free(rows);
}

/* Where it came from is the first source that was told: other sources of the same bytes change nothing about it. When
 * there is one at last, its manifest says so and is another one. */
int package_row_record(struct store_transaction *tx, const char *digest, int64_t size_bytes, int64_t file_count,
                       const struct package_origin *origin, struct error **ret_error) {
    int64_t now = clock_wall_ms();
    _cleanup_free_ char *source = package_public_uri(origin->source_uri);
    _cleanup_free_ char *resolved = package_public_uri(origin->resolved_uri);
    int result =
        store_run(tx, NULL, ret_error,
                  "INSERT INTO packages (digest, size_bytes, file_count, created_at, used_at) VALUES (?, ?, ?, ?, ?) "
                  "ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at",
                  "tiiii", digest, size_bytes, file_count, now, now);
    if (result < 0 || !source) return result;
    return store_run(tx, NULL, ret_error,
                     "UPDATE packages SET source_uri = ?, resolved_uri = ?, facts_json = ?, recipe_json = ?, "
                     "manifest_digest = NULL WHERE digest = ? AND source_uri IS NULL",
                     "ttttt", source, resolved, origin->facts_json, origin->recipe_json, digest);
}

char *package_kept_holder(const char *digest) {
    return text_format("kept:%s", digest);
}

/* ---- what holds it ---- */

static char *holder_words(struct store_rows *rows) {
    const char *holder = store_text(rows, 0), *name = store_text(rows, 1), *slash = strrchr(holder, '/');
    if (text_starts_with(holder, "kept:")) return text_copy("kept");
    if (text_starts_with(holder, "call:")) return text_copy("export");
    if (text_starts_with(holder, "task:")) return text_format("task %s", holder + strlen("task:"));
    if (name && slash) return text_format("deployment %s revision %s", name, slash + 1);
    return text_copy(holder);
}

int package_add_pins(struct store_transaction *tx, const char *digest, yyjson_mut_doc *document, yyjson_mut_val *object,
                     struct error **ret_error) {
    _cleanup_free_ char *subject = text_format("package:%s", digest);
    _cleanup_rows_ struct store_rows *rows = NULL;
    yyjson_mut_val *array = yyjson_mut_obj_add_arr(document, object, "pinned_by");
    int result = store_query(tx, &rows, ret_error,
                             "SELECT p.holder, (SELECT d.name FROM deployments d WHERE p.holder LIKE 'revision:%' AND "
                             "d.id = substr(p.holder, 10, instr(p.holder, '/') - 10)) FROM pins p WHERE p.subject = ? "
                             "ORDER BY p.holder",
                             "t", subject);
    if (result < 0) return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        _cleanup_free_ char *words = holder_words(rows);
        yyjson_mut_arr_add_strcpy(document, array, words);
    }
    return result;
}

char *package_public_uri(const char *uri) {
    if (!uri) return NULL;
    const char *host = strstr(uri, "://");
    if (!host) return text_copy(uri);
    host += strlen("://");
    size_t authority = strcspn(host, "/?#");
    const char *at = memrchr(host, '@', authority);
    bool is_web = text_starts_with(uri, "http://") || text_starts_with(uri, "https://");
    const char *rest = at ? at + 1 : host;
    size_t size = is_web ? strcspn(rest, "?#") : strlen(rest);
    const char *fragment = is_web ? strchr(rest + size, '#') : NULL;
    return text_format("%.*s%.*s%s", (int)(host - uri), uri, (int)size, rest, fragment ? fragment : "");
}
