/* A growing byte buffer with a ceiling. Zero-initialise it (maximum 0: no ceiling), free it with buffer_clear(). */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct buffer {
    char *bytes; /* NUL-terminated behind `size` once anything was appended; NULL before */
    size_t size;
    size_t capacity;
    size_t maximum; /* bytes; 0: none */
};

/* False, with nothing changed, when the ceiling would be passed or memory is gone. */
bool buffer_append(struct buffer *buffer, const void *bytes, size_t size);
bool buffer_append_text(struct buffer *buffer, const char *text);
bool buffer_append_format(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Room for `size` more bytes at bytes + size; the caller then adds to `size` itself. */
bool buffer_reserve(struct buffer *buffer, size_t size);
/* Removes the first `size` bytes. */
void buffer_consume(struct buffer *buffer, size_t size);
/* Gives the bytes away (caller frees) and leaves the buffer empty. An empty buffer gives "". */
char *buffer_take(struct buffer *buffer, size_t *ret_size);
void buffer_clear(struct buffer *buffer);
#define _cleanup_buffer_ __attribute__((cleanup(buffer_clear)))
