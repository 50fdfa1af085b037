#include "gateway/gateway_traceparent-internal.h"

#include <string.h>

#define VERSION_UNKNOWN 0xff
#define FLAG_SAMPLED 1u
/* where the parts stand */
#define TRACE_AT 3
#define SPAN_AT 36
#define FLAGS_AT 53

static bool read_hex(const char *at, size_t digits, uint64_t *ret_number) {
    uint64_t number = 0;
    for (size_t i = 0; i < digits; i++) {
        unsigned digit;
        if (at[i] >= '0' && at[i] <= '9')
            digit = (unsigned)(at[i] - '0');
        else if (at[i] >= 'a' && at[i] <= 'f')
            digit = (unsigned)(at[i] - 'a') + 10;
        else
            return false;
        number = number << 4 | digit;
    }
    *ret_number = number;
    return true;
}

bool gateway_traceparent_parse(const char *text, struct gateway_traceparent *ret_parent) {
    uint64_t version, high, low, span, flags;
    size_t size = strnlen(text, GATEWAY_TRACEPARENT_SIZE);
    if (size < GATEWAY_TRACEPARENT_SIZE - 1) return false;
    if (text[TRACE_AT - 1] != '-' || text[SPAN_AT - 1] != '-' || text[FLAGS_AT - 1] != '-') return false;
    if (!read_hex(text, 2, &version) || version == VERSION_UNKNOWN) return false;
    if (size > GATEWAY_TRACEPARENT_SIZE - 1 && (!version || text[GATEWAY_TRACEPARENT_SIZE - 1] != '-')) return false;
    if (!read_hex(text + TRACE_AT, 16, &high) || !read_hex(text + TRACE_AT + 16, 16, &low)) return false;
    if (!read_hex(text + SPAN_AT, 16, &span) || !read_hex(text + FLAGS_AT, 2, &flags)) return false;
    if (!(high | low) || !span) return false;
    *ret_parent = (struct gateway_traceparent){high, low, span, flags & FLAG_SAMPLED};
    return true;
}

void gateway_trace_write_id(uint64_t id, char *at) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 15; i >= 0; i--, id >>= 4) at[i] = digits[id & 15];
}

void gateway_traceparent_write(const struct gateway_traceparent *parent, char ret_text[GATEWAY_TRACEPARENT_SIZE]) {
    memcpy(ret_text, "00-", 3);
    gateway_trace_write_id(parent->trace_high, ret_text + TRACE_AT);
    gateway_trace_write_id(parent->trace_low, ret_text + TRACE_AT + 16);
    ret_text[SPAN_AT - 1] = ret_text[FLAGS_AT - 1] = '-';
    gateway_trace_write_id(parent->span, ret_text + SPAN_AT);
    memcpy(ret_text + FLAGS_AT, parent->is_sampled ? "01" : "00", 3);
}
