/* Bytes in a gzip frame that does not compress (RFC 1952; stored blocks of RFC 1951 §3.2.4), made where they are read
 * and at any offset. For layers: most weights do not compress, but some tools take no layer that is not gzip. The same
 * bytes give the same frame everywhere, 5 bytes longer for each 65535. May use: base. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef int (*oci_read_function)(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                                 struct error **ret_error);

struct oci_gzip {
    oci_read_function read; /* of the bytes inside; at least one byte each time */
    void *context;
    uint64_t plain_size;
    uint32_t crc; /* of the bytes inside, set by oci_gzip_measure() */
};
uint64_t oci_gzip_size(const struct oci_gzip *gzip);
/* Reads all of it once: its checksum, and the digest ("sha256:…") of the frame. */
int oci_gzip_measure(struct oci_gzip *gzip, char ret_digest[72], struct error **ret_error);
/* An oci_read_function over a struct oci_gzip that was measured: fills bytes[0..size) from the offset, fewer only at
 * the end. */
int oci_gzip_read(void *gzip, uint64_t offset, char *bytes, size_t size, size_t *ret_size, struct error **ret_error);
