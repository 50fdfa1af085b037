/* A tar archive that is never written: its bytes are made where they are asked for, at any offset, from entries that
 * are a folder, bytes in memory, a file on the disk, or another such archive. The same entries make the same bytes on
 * every machine: POSIX ustar (IEEE 1003.1), times 0, owner 0 without a name, files 0644 and folders 0755; a pax
 * extended header only before a name that ustar has no room or no letters for, or a file of 8 GiB and more.
 *
 * One thread at a time on one archive. Paths and bytes are copied; an inner archive is borrowed. May use: base.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define PACKAGE_TAR_END_BYTES 1024 /* what ends an archive */

struct package_tar;
struct package_tar *package_tar_new(void);
void package_tar_free(struct package_tar *tar);
static inline void package_tar_free_pointer(struct package_tar **tar) {
    package_tar_free(*tar);
}
#define _cleanup_tar_ __attribute__((cleanup(package_tar_free_pointer)))

/* In the order in which they are to stand. `name` is relative, without "." and "..". */
void package_tar_add_folder(struct package_tar *tar, const char *name);
void package_tar_add_bytes(struct package_tar *tar, const char *name, const void *bytes, size_t size);
/* Of the file at `path`, which must have that size when it is read. */
void package_tar_add_file(struct package_tar *tar, const char *name, const char *path, uint64_t size_bytes);
void package_tar_add_tar(struct package_tar *tar, const char *name, struct package_tar *inner);

/* Bytes of the whole archive, its end of two empty blocks with it. */
uint64_t package_tar_size(const struct package_tar *tar);
/* Fills bytes[0..size) from `offset`, fewer only at the archive's end: *ret_size says how many, 0 at the end or behind
 * it. DEPLOYMENT when a file cannot be read or has another size by now. */
int package_tar_read(struct package_tar *tar, uint64_t offset, void *bytes, size_t size, size_t *ret_size,
                     struct error **ret_error);
