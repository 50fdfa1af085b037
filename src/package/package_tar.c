#include "package/package_tar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "package/package-internal.h"

#define BLOCK 512u
#define NAME_ROOM 100u /* of ustar's field; its prefix field is not used: few readers split as others do */
#define SIZE_ROOM 077777777777ull /* what eleven octal digits say */
#define PAX_NAME "pax"

enum source { SOURCE_FOLDER, SOURCE_BYTES, SOURCE_FILE, SOURCE_TAR };

struct entry {
    enum source source;
    char *name, *path; /* path: of a file */
    void *bytes;
    struct package_tar *inner;
    uint64_t size_bytes; /* of what it holds */
    uint64_t offset; /* of its first header */
    uint64_t head_bytes; /* its headers together */
};

struct package_tar {
    struct entry *entries;
    size_t count, capacity;
    uint64_t end; /* behind the last entry */
    int file; /* the file that was read last stays open: reading goes on from piece to piece */
    size_t file_entry;
};

struct package_tar *package_tar_new(void) {
    struct package_tar *tar = mem_new(struct package_tar);
    tar->file = -1;
    return tar;
}

void package_tar_free(struct package_tar *tar) {
    if (!tar) return;
    for (size_t i = 0; i < tar->count; i++) {
        free(tar->entries[i].name);
        free(tar->entries[i].path);
        free(tar->entries[i].bytes);
    }
    free(tar->entries);
    mem_close_descriptor(&tar->file);
    free(tar);
}

static uint64_t padded(uint64_t size) {
    return (size + BLOCK - 1) / BLOCK * BLOCK;
}

/* ---- headers ---- */

struct header {
    char name[NAME_ROOM], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6],
        version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is a block");

static void write_header(struct header *header, const char *name, size_t name_size, unsigned mode, uint64_t size,
                         char type) {
    memset(header, 0, sizeof *header);
    memcpy(header->name, name, name_size < NAME_ROOM ? name_size : NAME_ROOM);
    snprintf(header->mode, sizeof header->mode, "%07o", mode);
    snprintf(header->uid, sizeof header->uid, "%07o", 0u);
    snprintf(header->gid, sizeof header->gid, "%07o", 0u);
    snprintf(header->size, sizeof header->size, "%011llo", (unsigned long long)(size > SIZE_ROOM ? SIZE_ROOM : size));
    snprintf(header->mtime, sizeof header->mtime, "%011o", 0u);
    memset(header->checksum, ' ', sizeof header->checksum);
    header->type = type;
    memcpy(header->magic, "ustar", 6);
    memcpy(header->version, "00", 2);
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof *header; i++) sum += ((const unsigned char *)header)[i];
    snprintf(header->checksum, sizeof header->checksum, "%06o", sum); /* six digits, NUL, and the blank stays */
}

static bool is_ascii(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text >= 0x80) return false;
    return true;
}

/* "<length> <key>=<value>\n", where the length counts its own digits. */
static char *pax_record(const char *key, const char *value) {
    size_t rest = strlen(key) + strlen(value) + 3; /* blank, '=', newline */
    size_t length = rest + 1;
    for (;;) {
        char digits[24];
        size_t exact = rest + (size_t)snprintf(digits, sizeof digits, "%zu", length);
        if (exact == length) return text_format("%zu %s=%s\n", length, key, value);
        length = exact;
    }
}

/* What ustar cannot say of the entry, or NULL. */
static char *pax_records(const struct entry *entry, const char *name) {
    bool long_name = strlen(name) > NAME_ROOM || !is_ascii(name), large = entry->size_bytes > SIZE_ROOM;
    if (!long_name && !large) return NULL;
    _cleanup_free_ char *size = text_format("%llu", (unsigned long long)entry->size_bytes);
    _cleanup_free_ char *path_record = long_name ? pax_record("path", name) : text_copy("");
    _cleanup_free_ char *size_record = large ? pax_record("size", size) : text_copy("");
    return text_format("%s%s", path_record, size_record);
}

/* As it stands in the header: a folder's ends in '/'. */
static char *full_name(const struct entry *entry) {
    return text_format("%s%s", entry->name, entry->source == SOURCE_FOLDER ? "/" : "");
}

/* Where a name that ustar has no letters for is cut for readers that know no pax: behind a whole letter. */
static size_t cut_name(const char *name) {
    size_t size = strlen(name);
    if (size <= NAME_ROOM) return size;
    for (size = NAME_ROOM; size && ((unsigned char)name[size] & 0xc0) == 0x80; size--) {
    }
    return size;
}

/* All of an entry's headers; caller frees. */
static char *make_head(const struct entry *entry, size_t *ret_size) {
    _cleanup_free_ char *name = full_name(entry), *records = pax_records(entry, name);
    size_t records_size = records ? strlen(records) : 0;
    size_t before = records ? BLOCK + (size_t)padded(records_size) : 0;
    char *head = mem_zeroed(1, before + BLOCK);
    if (records) {
        write_header((struct header *)(void *)head, PAX_NAME, strlen(PAX_NAME), 0644, records_size, 'x');
        memcpy(head + BLOCK, records, records_size);
    }
    bool is_folder = entry->source == SOURCE_FOLDER;
    write_header((struct header *)(void *)(head + before), name, cut_name(name), is_folder ? 0755 : 0644,
                 entry->size_bytes, is_folder ? '5' : '0');
    *ret_size = before + BLOCK;
    return head;
}

/* ---- entries ---- */

static void add(struct package_tar *tar, struct entry entry) {
    size_t head_size = 0;
    free(make_head(&entry, &head_size));
    entry.offset = tar->end;
    entry.head_bytes = head_size;
    tar->end += head_size + padded(entry.size_bytes);
    if (tar->count == tar->capacity) {
        tar->capacity = tar->capacity ? 2 * tar->capacity : 16;
        tar->entries = mem_resize(tar->entries, tar->capacity, sizeof *tar->entries);
    }
    tar->entries[tar->count++] = entry;
}

void package_tar_add_folder(struct package_tar *tar, const char *name) {
    add(tar, (struct entry){.source = SOURCE_FOLDER, .name = text_copy(name)});
}

void package_tar_add_bytes(struct package_tar *tar, const char *name, const void *bytes, size_t size) {
    add(tar, (struct entry){
                 .source = SOURCE_BYTES, .name = text_copy(name), .bytes = mem_copy(bytes, size), .size_bytes = size});
}

void package_tar_add_file(struct package_tar *tar, const char *name, const char *path, uint64_t size_bytes) {
    add(tar, (struct entry){
                 .source = SOURCE_FILE, .name = text_copy(name), .path = text_copy(path), .size_bytes = size_bytes});
}

void package_tar_add_tar(struct package_tar *tar, const char *name, struct package_tar *inner) {
    add(tar, (struct entry){
                 .source = SOURCE_TAR, .name = text_copy(name), .inner = inner, .size_bytes = package_tar_size(inner)});
}

uint64_t package_tar_size(const struct package_tar *tar) {
    return tar->end + PACKAGE_TAR_END_BYTES;
}

/* ---- reading ---- */

static int open_file(struct package_tar *tar, size_t at, struct error **ret_error) {
    if (tar->file >= 0 && tar->file_entry == at) return 0;
    const struct entry *entry = &tar->entries[at];
    mem_close_descriptor(&tar->file);
    tar->file = open(entry->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (tar->file < 0) return package_fail_errno(ret_error, errno, "open", entry->path);
    tar->file_entry = at;
    struct stat status;
    if (fstat(tar->file, &status) < 0 || !S_ISREG(status.st_mode) || (uint64_t)status.st_size != entry->size_bytes) {
        mem_close_descriptor(&tar->file);
        tar->file = -1;
        return error_set(ret_error, ERROR_DEPLOYMENT, "read %s: it is not the file of %llu bytes that it was",
                         entry->path, (unsigned long long)entry->size_bytes);
    }
    return 0;
}

static int read_file(struct package_tar *tar, size_t at, uint64_t offset, char *bytes, size_t size,
                     struct error **ret_error) {
    int result = open_file(tar, at, ret_error);
    while (result >= 0 && size) {
        ssize_t got = pread(tar->file, bytes, size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return package_fail_errno(ret_error, errno, "read", tar->entries[at].path);
        if (!got)
            return error_set(ret_error, ERROR_DEPLOYMENT, "read %s: it became shorter meanwhile",
                             tar->entries[at].path);
        bytes += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return result;
}

static int read_content(struct package_tar *tar, size_t at, uint64_t offset, char *bytes, size_t size,
                        struct error **ret_error) {
    const struct entry *entry = &tar->entries[at];
    size_t got = 0;
    switch (entry->source) {
    case SOURCE_BYTES: memcpy(bytes, (const char *)entry->bytes + offset, size); return 0;
    case SOURCE_FILE: return read_file(tar, at, offset, bytes, size, ret_error);
    case SOURCE_TAR: return package_tar_read(entry->inner, offset, bytes, size, &got, ret_error);
    default: return 0; /* a folder has none */
    }
}

/* At most `size` bytes of one entry, from `offset` in it: *ret_size of them, at least one. */
static int read_entry(struct package_tar *tar, size_t at, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                      struct error **ret_error) {
    const struct entry *entry = &tar->entries[at];
    uint64_t content_end = entry->head_bytes + entry->size_bytes;
    uint64_t end = entry->head_bytes + padded(entry->size_bytes), left;
    int result = 0;
    if (offset < entry->head_bytes) {
        size_t head_size = 0;
        _cleanup_free_ char *head = make_head(entry, &head_size);
        left = head_size - offset;
        *ret_size = left < size ? (size_t)left : size;
        memcpy(bytes, head + offset, *ret_size);
    } else if (offset < content_end) {
        left = content_end - offset;
        *ret_size = left < size ? (size_t)left : size;
        result = read_content(tar, at, offset - entry->head_bytes, bytes, *ret_size, ret_error);
    } else {
        left = end - offset;
        *ret_size = left < size ? (size_t)left : size;
        memset(bytes, 0, *ret_size);
    }
    return result;
}

/* The entry that the offset lies in: the last that begins at or before it. */
static size_t find_entry(const struct package_tar *tar, uint64_t offset) {
    size_t low = 0, high = tar->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (tar->entries[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int package_tar_read(struct package_tar *tar, uint64_t offset, void *bytes, size_t size, size_t *ret_size,
                     struct error **ret_error) {
    uint64_t total = package_tar_size(tar);
    uint64_t left = offset < total ? total - offset : 0;
    size_t wanted = left < size ? (size_t)left : size, done = 0;
    size_t at = tar->count ? find_entry(tar, offset) : 0;
    while (done < wanted && offset + done < tar->end) {
        while (at + 1 < tar->count && tar->entries[at + 1].offset <= offset + done) at++;
        size_t got = 0;
        int result = read_entry(tar, at, offset + done - tar->entries[at].offset, (char *)bytes + done, wanted - done,
                                &got, ret_error);
        if (result < 0) return result;
        done += got;
    }
    memset((char *)bytes + done, 0, wanted - done);
    *ret_size = wanted;
    return 0;
}
