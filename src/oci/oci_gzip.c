#include "oci/oci_gzip.h"

#include <string.h>

#include "base/digest.h"
#include "base/memory.h"
#include "oci/oci-internal.h"

#define HEADER_BYTES 10
#define BLOCK_HEADER_BYTES 5
#define BLOCK_BYTES 65535
#define TRAILER_BYTES 8

static const unsigned char header[HEADER_BYTES] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}; /* no name, time or system */

static uint64_t block_count(const struct oci_gzip *gzip) {
    return gzip->plain_size ? (gzip->plain_size + BLOCK_BYTES - 1) / BLOCK_BYTES : 1;
}

uint64_t oci_gzip_size(const struct oci_gzip *gzip) {
    return HEADER_BYTES + block_count(gzip) * BLOCK_HEADER_BYTES + gzip->plain_size + TRAILER_BYTES;
}

static size_t block_size(const struct oci_gzip *gzip, uint64_t block) {
    uint64_t left = gzip->plain_size - block * BLOCK_BYTES;
    return left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
}

static void write_block_header(const struct oci_gzip *gzip, uint64_t block, unsigned char bytes[BLOCK_HEADER_BYTES]) {
    size_t size = block_size(gzip, block);
    bytes[0] = block + 1 == block_count(gzip); /* the last one; type 0 */
    bytes[1] = (unsigned char)size;
    bytes[2] = (unsigned char)(size >> 8);
    bytes[3] = (unsigned char)~bytes[1];
    bytes[4] = (unsigned char)~bytes[2];
}

static void write_trailer(const struct oci_gzip *gzip, unsigned char bytes[TRAILER_BYTES]) {
    for (size_t i = 0; i < 4; i++) {
        bytes[i] = (unsigned char)(gzip->crc >> (8 * i));
        bytes[4 + i] = (unsigned char)(gzip->plain_size >> (8 * i));
    }
}

/* ---- the checksum (RFC 1952 §8), eight bytes at a time ---- */

struct crc_table {
    uint32_t entries[8][256];
};

static void make_table(struct crc_table *table) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320u ^ (value >> 1) : value >> 1;
        table->entries[0][i] = value;
    }
    for (size_t row = 1; row < 8; row++)
        for (size_t i = 0; i < 256; i++) {
            uint32_t before = table->entries[row - 1][i];
            table->entries[row][i] = table->entries[0][before & 255] ^ (before >> 8);
        }
}

static uint32_t update_crc(const struct crc_table *table, uint32_t crc, const unsigned char *bytes, size_t size) {
    for (; size >= 8; size -= 8, bytes += 8) {
        uint32_t next = 0;
        crc ^= (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
        for (size_t i = 0; i < 4; i++) next ^= table->entries[7 - i][crc >> (8 * i) & 255];
        for (size_t i = 4; i < 8; i++) next ^= table->entries[7 - i][bytes[i]];
        crc = next;
    }
    for (; size; size--, bytes++) crc = table->entries[0][(crc ^ *bytes) & 255] ^ (crc >> 8);
    return crc;
}

/* ---- reading ---- */

static int read_plain(const struct oci_gzip *gzip, uint64_t offset, char *bytes, size_t size,
                      struct error **ret_error) {
    for (size_t done = 0, got = 0; done < size; done += got) {
        int result = gzip->read(gzip->context, offset + done, bytes + done, size - done, &got, ret_error);
        if (result < 0) return result;
        if (!got) return error_set(ret_error, ERROR_DEPLOYMENT, "the layer ends before its size");
    }
    return 0;
}

int oci_gzip_measure(struct oci_gzip *gzip, char ret_digest[OCI_DIGEST_SIZE], struct error **ret_error) {
    _cleanup_free_ char *bytes = mem_alloc(BLOCK_BYTES);
    _cleanup_free_ struct crc_table *table = mem_new(struct crc_table);
    make_table(table);
    struct digest *digest = digest_new();
    uint32_t crc = UINT32_MAX;
    digest_update(digest, header, HEADER_BYTES);
    for (uint64_t block = 0; block < block_count(gzip); block++) {
        unsigned char before[BLOCK_HEADER_BYTES];
        size_t size = block_size(gzip, block);
        int result = read_plain(gzip, block * BLOCK_BYTES, bytes, size, ret_error);
        if (result < 0) {
            digest_free(digest);
            return result;
        }
        write_block_header(gzip, block, before);
        digest_update(digest, before, BLOCK_HEADER_BYTES);
        digest_update(digest, bytes, size);
        crc = update_crc(table, crc, (const unsigned char *)bytes, size);
    }
    gzip->crc = ~crc;
    unsigned char trailer[TRAILER_BYTES];
    write_trailer(gzip, trailer);
    digest_update(digest, trailer, TRAILER_BYTES);
    memcpy(ret_digest, OCI_SHA256, strlen(OCI_SHA256));
    digest_finish(digest, ret_digest + strlen(OCI_SHA256));
    return 0;
}

static size_t copy_from(const unsigned char *piece, size_t piece_size, uint64_t offset, char *bytes, size_t size) {
    size_t left = piece_size - (size_t)offset;
    size_t count = left < size ? left : size;
    memcpy(bytes, piece + offset, count);
    return count;
}

/* What stands at the offset, as far as it is of one piece; 0 bytes at the end. */
static int read_piece(const struct oci_gzip *gzip, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                      struct error **ret_error) {
    unsigned char piece[TRAILER_BYTES];
    uint64_t end = oci_gzip_size(gzip);
    *ret_size = 0;
    if (offset >= end) return 0;
    if (offset < HEADER_BYTES) {
        *ret_size = copy_from(header, HEADER_BYTES, offset, bytes, size);
        return 0;
    }
    if (offset >= end - TRAILER_BYTES) {
        write_trailer(gzip, piece);
        *ret_size = copy_from(piece, TRAILER_BYTES, offset - (end - TRAILER_BYTES), bytes, size);
        return 0;
    }
    uint64_t block = (offset - HEADER_BYTES) / (BLOCK_HEADER_BYTES + BLOCK_BYTES);
    uint64_t inside = (offset - HEADER_BYTES) % (BLOCK_HEADER_BYTES + BLOCK_BYTES);
    if (inside < BLOCK_HEADER_BYTES) {
        write_block_header(gzip, block, piece);
        *ret_size = copy_from(piece, BLOCK_HEADER_BYTES, inside, bytes, size);
        return 0;
    }
    inside -= BLOCK_HEADER_BYTES;
    size_t left = block_size(gzip, block) - (size_t)inside;
    *ret_size = left < size ? left : size;
    return read_plain(gzip, block * BLOCK_BYTES + inside, bytes, *ret_size, ret_error);
}

int oci_gzip_read(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                  struct error **ret_error) {
    const struct oci_gzip *gzip = context;
    size_t done = 0;
    for (size_t got = 1; done < size && got; done += got) {
        int result = read_piece(gzip, offset + done, bytes + done, size - done, &got, ret_error);
        if (result < 0) return result;
    }
    *ret_size = done;
    return 0;
}
