/* A strict reader of Prometheus text (exposition format 0.0.4), so that tests know that what we write can be read:
 * each family has one HELP, then one TYPE, then its samples, all together; names, labels and values are well-formed; no
 * sample stands twice; a histogram's buckets do not fall, end with +Inf, and agree with its count. */
#pragma once
#include <stddef.h>

/* NULL when the text is valid; else a sentence about the first fault (static storage, until the next call). */
const char *exposition_fault(const char *text, size_t size);
/* The value of a sample as it stands in the text ("name{label=\"x\"}"), or -1 when there is none. */
double exposition_value(const char *text, const char *sample);
