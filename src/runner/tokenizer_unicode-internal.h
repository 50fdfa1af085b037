/* Unicode as the reference tokenizer sees it: what each code point is, its lower case and its normal forms.
 *
 * The reference mixes the Unicode versions of several libraries, so this is neither utf8proc's view nor Python's; the
 * tables (tokenizer_tables.inc) are made by asking the reference. Pure functions over constant tables.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a code point is; the same constants stand in tools/generate_unicode_tables.py. */
enum unicode_flag {
    UNICODE_REMOVED = 1 << 0, /* clean_text drops it: NUL, U+FFFD, controls, formats, private use */
    UNICODE_WHITESPACE = 1 << 1, /* splits words; clean_text makes U+0020 of it unless it drops it */
    UNICODE_PUNCTUATION = 1 << 2, /* a word of its own to BertPreTokenizer */
    UNICODE_NONSPACING = 1 << 3, /* category Mn: what strip_accents drops after NFD */
    UNICODE_MARK = 1 << 4, /* category M: what StripAccents drops */
    UNICODE_WORD = 1 << 5, /* \w: what makes the neighbour of a single_word token part of a word */
    UNICODE_CHINESE = 1 << 6, /* handle_chinese_chars puts spaces around it */
    UNICODE_MAPPED = 1 << 7, /* has a lower case, a decomposition in the tables, or a combining class */
};

#define UNICODE_REPLACEMENT 0xfffd
#define UNICODE_DECOMPOSITION_MAXIMUM 18 /* code points that one becomes, U+FDFA in NFKD */
#define UNICODE_UTF8_MAXIMUM 4 /* bytes of one code point */

uint8_t unicode_flags(uint32_t code);
/* The canonical combining class; 0 for starters. */
uint8_t unicode_combining_class(uint32_t code);
/* The lower case; U+0130 becomes two code points, of which this is the first and U+0307 the second. */
uint32_t unicode_lower(uint32_t code);
/* The full decomposition (NFD, or NFKD when `compatible`) into ret_codes[0..UNICODE_DECOMPOSITION_MAXIMUM), not yet in
 * canonical order; returns how many. */
size_t unicode_decompose(uint32_t code, bool compatible, uint32_t *ret_codes);
/* What NFC makes of the pair, or 0. */
uint32_t unicode_compose(uint32_t first, uint32_t second);

/* Reads one code point of UTF-8 at text[0..size), size > 0; returns the bytes it took. What is not UTF-8 (RFC 3629)
 * gives U+FFFD for each longest part that could have begun a code point (Unicode 16 §3.9, "substitution of maximal
 * subparts"), as Python's errors="replace" does, and sets *ret_broken. */
size_t unicode_read(const char *text, size_t size, uint32_t *ret_code, bool *ret_broken);
/* The code point that ends before text + size, size > 0, in text that is valid. */
size_t unicode_read_back(const char *text, size_t size, uint32_t *ret_code);
/* Writes one code point as UTF-8, at most UNICODE_UTF8_MAXIMUM bytes; returns how many. */
size_t unicode_write(uint32_t code, char *ret_bytes);
/* Whether all bytes are below 0x80. */
bool unicode_is_ascii(const char *text, size_t size);
