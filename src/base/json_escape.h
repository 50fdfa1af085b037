/* Text inside a JSON string, written straight into a buffer: for lines and messages that are written too often, or too
 * close to the end of a process, to make a document of (base/json.h). */
#pragma once
#include <stddef.h>

#include "base/buffer.h"

/* Appends text[0..size), escaped as RFC 8259 section 7 asks, without the quotes around it. What is not well-formed
 * UTF-8 (RFC 3629) becomes U+FFFD, byte by byte, so that the whole is always valid JSON. Ends early, between two
 * characters, when the buffer's ceiling comes. */
void json_escape(struct buffer *out, const char *text, size_t size);
