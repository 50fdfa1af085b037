/* Reading archives that came from outside, by libarchive: what package_import.c (which archive is what) and
 * package_unpack.c (its files onto the disk) share.
 *
 * Sources are read through struct package_source: the file that was uploaded, or one entry of another archive; a source
 * can digest what passes through it. */
#pragma once
#include <archive.h>
#include <archive_entry.h>
#include <stdbool.h>

#include "base/digest.h"
#include "package/package_import.h"

struct package_source {
    /* Fills `bytes`; 0 at the end; negative after an error, which is kept in `error`. */
    ssize_t (*read)(struct package_source *source, void *bytes, size_t size);
    int descriptor; /* read at `offset`; seekable */
    uint64_t offset, size_bytes;
    struct archive *outer; /* or: the current entry of this one */
    struct digest *digest; /* may be NULL: of all that was read */
    uint64_t taken; /* bytes that were read */
    struct error *error;
    char block[64 * 1024];
};
void package_source_of_file(struct package_source *source, int descriptor, uint64_t size_bytes);
void package_source_of_entry(struct package_source *source, struct archive *outer);
/* Reads what is left, so that the digest is of all. */
int package_source_drain(struct package_source *source, struct error **ret_error);

/* Opened on the source, which outlives it. `raw`: only decompressed, as one entry. */
int package_archive_open(struct package_source *source, bool raw, struct archive **ret_archive,
                         struct error **ret_error);
static inline void package_archive_close(struct archive **archive) {
    if (*archive) archive_read_free(*archive);
}
#define _cleanup_archive_ __attribute__((cleanup(package_archive_close)))
/* 1 with the next entry, 0 at the end. CONFIGURATION when the archive is broken. */
int package_archive_next(struct archive *archive, struct archive_entry **ret_entry, struct error **ret_error);
/* After its last entry: whether a tar has its end, two empty blocks. One that broke off between two files has none. */
bool package_archive_has_end(struct archive *archive);
/* The error that libarchive has, or the source's own behind it. */
int package_archive_fail(struct archive *archive, struct error **ret_error);

/* The entry's path without "./" in front and '/' at the end, borrowed from `ret_path`, which the caller frees; "" for
 * the root. CONFIGURATION when it is absolute, leads out, is no UTF-8, too long or too deep. */
int package_entry_path(struct archive_entry *entry, char **ret_path, struct error **ret_error);

/* What an unpacking is allowed, and what it has taken so far. */
struct package_unpacking {
    const struct package_import_limits *limits;
    uint64_t size_maximum; /* the limits', and what an archive of this size may grow to */
    uint64_t size_bytes;
    size_t file_count, entry_count;
    const char *folder, *prefix; /* only what lies below prefix + '/', without it; "": everything */
    bool others_are_refused; /* what lies elsewhere is an error; otherwise it is passed over */
};
/* All of the archive's files into the folder. */
int package_unpack(struct archive *archive, struct package_unpacking *unpacking, struct error **ret_error);
/* CONFIGURATION unless it is a file or a folder, and fits into what is allowed. */
int package_unpack_check(struct archive_entry *entry, const char *path, struct package_unpacking *unpacking,
                         struct error **ret_error);
