/* JSON on yyjson: strict reading of objects from outside, with errors that name the field; writing with yyjson's own
 * mutable documents, of which json_write() makes text.
 *
 * Fields are read from an object that the document owns; strings are borrowed from it. Paths in messages are what the
 * caller passes as `where` ("deployment_target_config") joined with the field's name by a dot; "" means the top.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "base/error.h"

static inline void json_free_document(yyjson_doc **document) {
    yyjson_doc_free(*document);
}
static inline void json_free_mutable(yyjson_mut_doc **document) {
    yyjson_mut_doc_free(*document);
}
#define _cleanup_json_ __attribute__((cleanup(json_free_document)))
#define _cleanup_json_mutable_ __attribute__((cleanup(json_free_mutable)))

#define JSON_MAXIMUM_DEPTH 64

/* Parses RFC 8259 JSON, at most JSON_MAXIMUM_DEPTH deep, strings valid UTF-8, no key twice in one object.
 * CONFIGURATION error with the byte position otherwise. Free *ret_document with yyjson_doc_free (_cleanup_json_). */
int json_parse(const char *bytes, size_t size, yyjson_doc **ret_document, struct error **ret_error);
/* The same, and the root must be an object, given as *ret_root. */
int json_parse_object(const char *bytes, size_t size, yyjson_doc **ret_document, yyjson_val **ret_root,
                      struct error **ret_error);

/* CONFIGURATION error naming the first field of `object` that is not in known[0..count). */
int json_check_fields(yyjson_val *object, const char *where, const char *const *known, size_t count,
                      struct error **ret_error);

/* Each reads one field: *ret_… is left as it was (its default) when the field is absent or null, and a CONFIGURATION
 * error is returned when it is of another type, out of bounds, or (`required`) missing. */
int json_get_text(yyjson_val *object, const char *where, const char *field, bool required, const char **ret_text,
                  struct error **ret_error);
int json_get_number(yyjson_val *object, const char *where, const char *field, bool required, int64_t minimum,
                    int64_t maximum, int64_t *ret_number, struct error **ret_error);
int json_get_real(yyjson_val *object, const char *where, const char *field, bool required, double minimum,
                  double maximum, double *ret_real, struct error **ret_error);
int json_get_boolean(yyjson_val *object, const char *where, const char *field, bool *ret_boolean,
                     struct error **ret_error);
int json_get_object(yyjson_val *object, const char *where, const char *field, bool required, yyjson_val **ret_object,
                    struct error **ret_error);

/* As text; caller frees. Never NULL for documents that we built. */
char *json_write(const yyjson_mut_doc *document, size_t *ret_size);
char *json_write_value(const yyjson_val *value, size_t *ret_size);
/* A digest-friendly form: keys sorted at every level, no spaces, shortest numbers. Caller frees. */
char *json_write_canonical(const yyjson_val *value);

/* Adds text under key (copied) unless it is NULL: nulls are left out of our answers. */
void json_add_text(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, const char *text);
/* Adds a wall-clock time as RFC 3339 (base/clock.h) unless it is 0. */
void json_add_time(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, int64_t wall_ms);
/* Parses `json` and adds a copy of its root under key; does nothing when json is NULL or broken. */
void json_add_json(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, const char *json);
/* Adds "error" (class name), "message" (outermost sentence with its causes joined) and "causes" (outermost to root). */
void json_add_error(yyjson_mut_doc *document, yyjson_mut_val *object, const struct error *error);
/* An error as a JSON object {"error","message","causes"} for the store, and back; caller frees. */
char *json_from_error(const struct error *error);
struct error *json_to_error(const char *json);
