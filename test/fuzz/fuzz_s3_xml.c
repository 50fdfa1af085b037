/* The answers of an S3 server: every element that is told has a path of bounded depth and text that is UTF-8, and what
 * is escaped and read again is the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "s3/s3_xml.h"

static void require(bool holds) {
    if (!holds) abort();
}

static int compare(void *context, const char *path, const char *text, struct error **ret_error) {
    (void)ret_error;
    require(!strcmp(path, "a") && !strcmp(text, context));
    return 0;
}

static int check(void *context, const char *path, const char *text, struct error **ret_error) {
    size_t *count = context;
    if (++*count == 1000) return error_set(ret_error, ERROR_CONFIGURATION, "enough");
    size_t depth = 1;
    for (const char *at = path; *at; at++) depth += *at == '/';
    require(*path && strlen(path) < S3_XML_PATH_MAXIMUM && depth <= S3_XML_DEPTH_MAXIMUM);
    require(text_is_utf8(text, strlen(text)));
    _cleanup_free_ char *escaped = s3_xml_escape(text), *again = text_format("<a>%s</a>", escaped);
    require(!s3_xml_read(again, strlen(again), compare, (void *)text, NULL));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    size_t count = 0;
    _cleanup_error_ struct error *error = NULL;
    int result = s3_xml_read((const char *)bytes, size, check, &count, &error);
    require(result ? error && strlen(error->message) < 200 : count > 0);
    return 0;
}
