/* Strings: formatting, copying, splitting, checking. All results are UTF-8, NUL-terminated, and freed by the caller. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *text_format_list(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));
char *text_copy(const char *text); /* NULL gives NULL */
char *text_copy_bytes(const char *bytes, size_t size);

bool text_equal(const char *a, const char *b); /* NULLs equal only each other */
bool text_starts_with(const char *text, const char *prefix);
bool text_ends_with(const char *text, const char *suffix);

/* Whether bytes[0..size) is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms) without NUL. */
bool text_is_utf8(const char *bytes, size_t size);
/* Makes well-formed UTF-8 of any text, in place: each byte that is not part of it becomes '?'. */
void text_make_utf8(char *text);

/* A whole decimal number in 0..maximum and nothing else. */
bool text_parse_number(const char *text, uint64_t maximum, uint64_t *ret_number);
/* Bytes as a number with an optional suffix: "1048576", "512Ki", "2Gi", "1.5Gi", "3M" (1000s without the i). */
bool text_parse_size(const char *text, uint64_t *ret_bytes);
/* A duration in milliseconds: "250ms", "30s", "5m", "2h", or a bare number of seconds ("1.5"). */
bool text_parse_duration(const char *text, uint64_t *ret_ms);
/* "3.2 GiB", "812 KiB": for messages. Caller frees. */
char *text_size(uint64_t bytes);
/* "1 index", "2 indexes"; caller frees. */
char *text_count(uint64_t count, const char *one, const char *many);

/* An id or name that clients bring: [A-Za-z0-9][A-Za-z0-9._-]{0,127} (API). */
bool text_is_name(const char *text);
/* 8-4-4-4-12 hexadecimal digits, either case. */
bool text_is_uuid(const char *text);
/* A new random UUID, version 4 (RFC 9562), lower case; `ret_uuid` has room for 37 bytes. */
void text_new_uuid(char ret_uuid[37]);

/* Percent-decodes (RFC 3986) size bytes; false on a bad escape or a decoded NUL. *ret_text is NUL-terminated; caller
 * frees. */
bool text_percent_decode(const char *bytes, size_t size, char **ret_text, size_t *ret_size);
/* Percent-encodes everything but the unreserved characters. */
char *text_percent_encode(const char *bytes, size_t size);

/* The candidate with the smallest edit distance to `word`, or NULL when none is near (more than a third differs). */
const char *text_nearest(const char *word, const char *const *candidates, size_t count);

/* Compares in a time that depends on the lengths only (for tokens). */
bool text_equal_constant_time(const char *a, const char *b);
