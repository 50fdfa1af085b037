/* The header traceparent: which trace a request belongs to, and under which span (W3C Trace Context, level 1, section
 * 3.2). Pure functions. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define GATEWAY_TRACEPARENT_SIZE 56 /* "00-" 32 digits "-" 16 digits "-" 2 digits, and NUL */

struct gateway_traceparent {
    uint64_t trace_high, trace_low; /* the trace's id, never 0 together */
    uint64_t span; /* the parent's id, never 0 */
    bool is_sampled; /* the caller records, and asks us to */
};

/* False, with nothing set, for what is not well-formed: wrong lengths, upper-case digits, ids of zeros, version ff, or
 * version 00 with more behind it. Of higher versions, what version 00 knows is taken, as the recommendation asks. */
bool gateway_traceparent_parse(const char *text, struct gateway_traceparent *ret_parent);
/* Version 00. */
void gateway_traceparent_write(const struct gateway_traceparent *parent, char ret_text[GATEWAY_TRACEPARENT_SIZE]);
/* Sixteen lower-case digits at `at`; no NUL. */
void gateway_trace_write_id(uint64_t id, char *at);
