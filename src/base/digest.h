/* SHA-256 (FIPS 180-4) by OpenSSL. */
#pragma once
#include <stddef.h>

#include "base/error.h"

#define DIGEST_HEX_SIZE 65 /* 64 lower-case hexadecimal digits and NUL */

struct digest; /* a running SHA-256 */
struct digest *digest_new(void);
void digest_update(struct digest *digest, const void *bytes, size_t size);
/* Finishes and frees it. */
void digest_finish(struct digest *digest, char ret_hex[DIGEST_HEX_SIZE]);

void digest_bytes(const void *bytes, size_t size, char ret_hex[DIGEST_HEX_SIZE]);
/* Of the rest of an open file, from its current position; blocks on the disk. */
int digest_descriptor(int descriptor, char ret_hex[DIGEST_HEX_SIZE], struct error **ret_error);
