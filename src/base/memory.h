/* Memory: allocation that cannot fail for small, bounded sizes, and cleanup attributes.
 *
 * mem_*() end the process when memory is gone: they are for sizes that we chose ourselves. What the outside chooses the
 * size of is checked against a ceiling first and, above 1 MiB, taken with plain malloc() and an error return.
 * All results are freed with free().
 */
#pragma once
#include <stddef.h>
#include <stdlib.h>

void *mem_alloc(size_t size); /* uninitialised; size 0 gives a unique pointer */
void *mem_zeroed(size_t count, size_t size); /* zero-filled; ends the process on overflow */
void *mem_resize(void *memory, size_t count, size_t size);
void *mem_copy(const void *bytes, size_t size);

#define mem_new(type) ((type *)mem_zeroed(1, sizeof(type)))
#define mem_new_array(count, type) ((type *)mem_zeroed((count), sizeof(type)))

/* Gives a scope-owned pointer away: `*ret_x = TAKE(x);` leaves x NULL, so that its cleanup does nothing. */
#define TAKE(pointer)                                                                                                  \
    ({                                                                                                                 \
        __typeof__(pointer) taken_ = (pointer);                                                                        \
        (pointer) = NULL;                                                                                              \
        taken_;                                                                                                        \
    })

static inline void mem_free_pointer(void *pointer) {
    free(*(void **)pointer);
}
#define _cleanup_free_ __attribute__((cleanup(mem_free_pointer)))

void mem_close_descriptor(int *descriptor); /* closes *descriptor unless negative; keeps errno */
#define _cleanup_close_ __attribute__((cleanup(mem_close_descriptor)))

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
