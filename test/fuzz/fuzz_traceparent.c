/* The header traceparent and a runner's X-Slipway-Timing: what is taken is written back as it was. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway_trace-internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    _cleanup_free_ char *text = text_copy_bytes((const char *)data, size);
    struct gateway_traceparent parent;
    struct gateway_trace_timing timing;
    char again[GATEWAY_TRACEPARENT_SIZE];
    if (gateway_traceparent_parse(text, &parent)) {
        gateway_traceparent_write(&parent, again);
        assert((parent.trace_high | parent.trace_low) && parent.span);
        assert(!memcmp(text + 2, again + 2, 51)); /* all but the version and the flags that are not known */
        assert(gateway_traceparent_parse(again, &parent));
    }
    if (gateway_trace_parse_timing(text, &timing)) assert(timing.is_known);
    return 0;
}
