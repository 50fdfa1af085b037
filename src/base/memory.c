#include "base/memory.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

static void *end_when_gone(void *memory) {
    static const char words[] = "slipway: out of memory\n";
    if (memory) return memory;
    if (write(STDERR_FILENO, words, sizeof words - 1) < 0) abort();
    abort();
}

void *mem_alloc(size_t size) {
    return end_when_gone(malloc(size ? size : 1));
}

void *mem_zeroed(size_t count, size_t size) {
    return end_when_gone(calloc(count ? count : 1, size ? size : 1));
}

void *mem_resize(void *memory, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) end_when_gone(NULL);
    size_t bytes = count * size;
    return end_when_gone(realloc(memory, bytes ? bytes : 1));
}

void *mem_copy(const void *bytes, size_t size) {
    void *copy = mem_alloc(size);
    if (size) memcpy(copy, bytes, size);
    return copy;
}

void mem_close_descriptor(int *descriptor) {
    int saved = errno;
    if (*descriptor >= 0) close(*descriptor);
    errno = saved;
}
