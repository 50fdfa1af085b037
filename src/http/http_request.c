/* What a handler asks a request: headers, segments of its path, parameters. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "http/http_server-internal.h"

char *http_request_memory(struct http_connection *connection, size_t size) {
    if (size <= sizeof connection->memory - connection->memory_used) {
        char *memory = connection->memory + connection->memory_used;
        connection->memory_used += size;
        return memory;
    }
    struct http_request_block *block = mem_alloc(sizeof *block + size);
    block->next = connection->blocks;
    connection->blocks = block;
    return block->bytes;
}

void http_request_memory_free(struct http_connection *connection) {
    connection->memory_used = 0;
    while (connection->blocks) {
        struct http_request_block *block = connection->blocks;
        connection->blocks = block->next;
        free(block);
    }
}

const char *http_request_header(const struct http_request *request, const char *name) {
    return http_find_header(request->headers, request->header_count, name);
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Decodes bytes[0..size) to `at` (at most as long), NUL-terminated. False: a broken escape, a NUL, no UTF-8. */
static bool decode(const char *bytes, size_t size, bool plus_is_blank, char *at) {
    char *begin = at;
    for (size_t i = 0; i < size; i++) {
        char c = bytes[i];
        if (c == '%') {
            int high = size - i >= 3 ? hex_value(bytes[i + 1]) : -1, low = high >= 0 ? hex_value(bytes[i + 2]) : -1;
            if (low < 0) return false;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        *at++ = c;
    }
    *at = 0;
    return text_is_utf8(begin, (size_t)(at - begin));
}

int http_request_segments(struct http_request *request, const char **ret_segments, int maximum) {
    if (request->path[0] != '/') return -1;
    /* Each segment with its NUL takes at most the place of itself with its slash. */
    char *memory = http_request_memory(http_connection_of(request), strlen(request->path) + 1);
    int count = 0;
    for (const char *at = request->path + 1; *at;) {
        size_t size = strcspn(at, "/");
        if (!size || count == maximum || !decode(at, size, false, memory)) return -1;
        ret_segments[count++] = memory;
        memory += size + 1;
        at += size;
        if (*at) at++;
    }
    return count;
}

struct parameter {
    const char *name, *value;
    size_t name_size, value_size;
};

/* The next non-empty "name=value" of a query; false at its end. */
static bool next_parameter(const char **at, struct parameter *ret_parameter) {
    while (**at == '&') (*at)++;
    if (!**at) return false;
    size_t size = strcspn(*at, "&");
    const char *equal = memchr(*at, '=', size);
    size_t name_size = equal ? (size_t)(equal - *at) : size;
    *ret_parameter = (struct parameter){*at, equal ? equal + 1 : "", name_size, equal ? size - name_size - 1 : 0};
    *at += size;
    return true;
}

static char *decode_to_memory(struct http_request *request, const char *bytes, size_t size) {
    char *memory = http_request_memory(http_connection_of(request), size + 1);
    return decode(bytes, size, true, memory) ? memory : NULL;
}

const char *http_request_parameter(struct http_request *request, const char *name) {
    struct parameter parameter;
    for (const char *at = request->query; next_parameter(&at, &parameter);) {
        char *decoded = decode_to_memory(request, parameter.name, parameter.name_size);
        if (decoded && !strcmp(decoded, name)) return decode_to_memory(request, parameter.value, parameter.value_size);
    }
    return NULL;
}

static size_t find_name(const char *const *known, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (!strcmp(known[i], name)) return i;
    return count;
}

int http_check_parameters(struct http_request *request, const char *const *known, size_t count,
                          struct error **ret_error) {
    _cleanup_free_ bool *was_seen = mem_new_array(count, bool);
    struct parameter parameter;
    for (const char *at = request->query; next_parameter(&at, &parameter);) {
        const char *name = decode_to_memory(request, parameter.name, parameter.name_size);
        if (!name)
            return error_set(ret_error, ERROR_CONFIGURATION, "a query parameter's name is not percent-encoded UTF-8");
        size_t found = find_name(known, count, name);
        if (found == count) {
            const char *meant = text_nearest(name, known, count);
            return error_set(ret_error, ERROR_CONFIGURATION, "the query parameter %.128s is not known here%s%s%s", name,
                             meant ? "; did you mean " : "", meant ? meant : "", meant ? "?" : "");
        }
        if (was_seen[found])
            return error_set(ret_error, ERROR_CONFIGURATION, "the query parameter %s stands twice", name);
        was_seen[found] = true;
        if (!decode_to_memory(request, parameter.value, parameter.value_size))
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "the value of the query parameter %s is not percent-encoded UTF-8", name);
    }
    return 0;
}
