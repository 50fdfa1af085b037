/* What the files that make /openapi.json share: gateway_openapi.c puts it together and serves it, _schema.c makes the
 * schemas of openapi_schemas.def, _operation.c the paths of openapi_operations.def.
 *
 * All of it is made once in a gateway's life, from constant tables; text is borrowed from them. */
#pragma once
#include <math.h>
#include <stdbool.h>

#include "base/json.h"
#include "gateway/gateway_dispatch-internal.h"

/* ---- types (openapi_schemas.def says what there is) --------------------------- */

enum openapi_kind {
    OPENAPI_STRING,
    OPENAPI_ONE_OF,
    OPENAPI_UUID,
    OPENAPI_TIME,
    OPENAPI_INTEGER,
    OPENAPI_NUMBER,
    OPENAPI_BOOLEAN,
    OPENAPI_OBJECT,
    OPENAPI_ANYTHING,
    OPENAPI_REF,
    OPENAPI_LIST,
    OPENAPI_TEXTS,
    OPENAPI_JSON,
};

struct openapi_type {
    enum openapi_kind kind;
    double least, most; /* of a number, or of a string's characters; NAN: no limit */
    const char *text; /* a schema's name, names separated by blanks, or JSON */
};

#ifdef OPENAPI_TYPES /* their short names, for the files that include the tables */
#define NO_LIMIT NAN
#define TEXT(least, most)                                                                                              \
    { OPENAPI_STRING, least, most, NULL }
#define ONE_OF(names)                                                                                                  \
    { OPENAPI_ONE_OF, NAN, NAN, names }
#define UUID                                                                                                           \
    { OPENAPI_UUID, NAN, NAN, NULL }
#define TIME                                                                                                           \
    { OPENAPI_TIME, NAN, NAN, NULL }
#define INTEGER(least, most)                                                                                           \
    { OPENAPI_INTEGER, least, most, NULL }
#define NUMBER(least, most)                                                                                            \
    { OPENAPI_NUMBER, least, most, NULL }
#define BOOLEAN                                                                                                        \
    { OPENAPI_BOOLEAN, NAN, NAN, NULL }
#define OBJECT                                                                                                         \
    { OPENAPI_OBJECT, NAN, NAN, NULL }
#define ANYTHING                                                                                                       \
    { OPENAPI_ANYTHING, NAN, NAN, NULL }
#define REF(schema)                                                                                                    \
    { OPENAPI_REF, NAN, NAN, schema }
#define LIST(schema)                                                                                                   \
    { OPENAPI_LIST, NAN, NAN, schema }
#define TEXTS                                                                                                          \
    { OPENAPI_TEXTS, NAN, NAN, NULL }
#define JSON(text)                                                                                                     \
    { OPENAPI_JSON, NAN, NAN, text }
#define REQUIRED true
#define OPTIONAL false
#endif

/* The JSON Schema of a type, with its default (JSON, or "") and description (or NULL). */
yyjson_mut_val *openapi_type(yyjson_mut_doc *document, const struct openapi_type *type, const char *initial,
                             const char *description);
/* {"$ref": "#/components/<part>/<name>"} */
yyjson_mut_val *openapi_reference(yyjson_mut_doc *document, const char *part, const char *name);
/* components.schemas */
yyjson_mut_val *openapi_schemas(yyjson_mut_doc *document);
/* Whether there is one of that name: for the test that no reference leads nowhere. */
bool openapi_has_schema(const char *name);

/* ---- operations ---------------------------------------------------------------- */

/* The operation of a route; `id` is its operationId. */
yyjson_mut_val *openapi_operation(yyjson_mut_doc *document, const struct gateway_endpoint *endpoint, const char *id);
/* Whether the table has rows for a route of that name. */
bool openapi_has_operation(const char *name);
/* components.responses: each error status in the shape of each family. */
yyjson_mut_val *openapi_error_answers(yyjson_mut_doc *document);
/* components.headers */
yyjson_mut_val *openapi_headers(yyjson_mut_doc *document);

/* ---- the whole ------------------------------------------------------------------- */

/* The description as JSON; caller frees. `public_url` may be "". */
char *openapi_write(const char *public_url, size_t *ret_size);
