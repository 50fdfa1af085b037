/* What one process may send another: a packet is refused, or it is understood and then stays what it is on the way out
 * and in again. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    _cleanup_wire_message_ struct wire_message message = {0};
    if (wire_decode(bytes, size, &message, NULL) || !message.type) return 0;
    _cleanup_free_ char *first = NULL, *second = NULL;
    size_t first_size, second_size;
    if (wire_encode(&message, &first, &first_size, NULL)) return 0; /* fields that were missing can make it too large */
    _cleanup_wire_message_ struct wire_message again = {0};
    if (wire_decode(first, first_size, &again, NULL) || again.type != message.type) abort();
    if (wire_encode(&again, &second, &second_size, NULL)) abort();
    if (first_size != second_size || memcmp(first, second, first_size)) abort();
    return 0;
}
