/* SHA-256 (FIPS 180-4) by OpenSSL. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define DIGEST_SIZE 32
#define DIGEST_HEX_SIZE 65 /* 64 lower-case hexadecimal digits and NUL */

struct digest; /* a running SHA-256 */
struct digest *digest_new(void);
void digest_update(struct digest *digest, const void *bytes, size_t size);
/* Finishes and frees it. */
void digest_finish(struct digest *digest, char ret_hex[DIGEST_HEX_SIZE]);

/* For many short ones: by a digest that was given nothing since it was new, which is as new afterwards. A tenth of a
 * microsecond; but for its small inner state, which OpenSSL makes anew each time, nothing is allocated. */
void digest_again(struct digest *digest, const void *bytes, size_t size, unsigned char ret_bytes[DIGEST_SIZE]);
void digest_free(struct digest *digest); /* one that is not finished; NULL is fine */
/* The bytes that 64 hexadecimal digits stand for; false when they are none. */
bool digest_parse(const char *hex, unsigned char ret_bytes[DIGEST_SIZE]);

void digest_bytes(const void *bytes, size_t size, char ret_hex[DIGEST_HEX_SIZE]);
/* Of the rest of an open file, from its current position; blocks on the disk. */
int digest_descriptor(int descriptor, char ret_hex[DIGEST_HEX_SIZE], struct error **ret_error);
