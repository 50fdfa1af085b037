#include "base/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

bool buffer_reserve(struct buffer *buffer, size_t size) {
    if (size > SIZE_MAX - 1 - buffer->size) return false;
    size_t needed = buffer->size + size;
    if (buffer->maximum && needed > buffer->maximum) return false;
    if (needed + 1 <= buffer->capacity) return true;
    size_t capacity = buffer->capacity ? buffer->capacity : 64;
    while (capacity < needed + 1) capacity = capacity > SIZE_MAX / 2 ? needed + 1 : capacity * 2;
    char *bytes = realloc(buffer->bytes, capacity);
    if (!bytes) return false;
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    buffer->bytes[buffer->size] = 0;
    return true;
}

bool buffer_append(struct buffer *buffer, const void *bytes, size_t size) {
    if (!buffer_reserve(buffer, size)) return false;
    if (size) memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
    buffer->bytes[buffer->size] = 0;
    return true;
}

bool buffer_append_text(struct buffer *buffer, const char *text) {
    return buffer_append(buffer, text, strlen(text));
}

bool buffer_append_format(struct buffer *buffer, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    bool fits = size >= 0 && buffer_reserve(buffer, (size_t)size);
    if (fits) buffer->size += (size_t)vsnprintf(buffer->bytes + buffer->size, (size_t)size + 1, format, again);
    va_end(again);
    va_end(arguments);
    return fits;
}

void buffer_consume(struct buffer *buffer, size_t size) {
    if (size >= buffer->size) {
        buffer->size = 0;
    } else {
        memmove(buffer->bytes, buffer->bytes + size, buffer->size - size);
        buffer->size -= size;
    }
    if (buffer->bytes) buffer->bytes[buffer->size] = 0;
}

char *buffer_take(struct buffer *buffer, size_t *ret_size) {
    if (ret_size) *ret_size = buffer->size;
    char *bytes = buffer->bytes ? buffer->bytes : mem_copy("", 1);
    *buffer = (struct buffer){.maximum = buffer->maximum};
    return bytes;
}

void buffer_clear(struct buffer *buffer) {
    free(buffer->bytes);
    *buffer = (struct buffer){.maximum = buffer->maximum};
}
