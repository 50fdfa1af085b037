/* The header: the page of numbers that all processes have mapped. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "vector/vector-internal.h"

#define MAGIC UINT64_C(0x31305845444e4956) /* "VINDEX01" */
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

_Static_assert(sizeof(struct vector_header) <= VECTOR_HEADER_SIZE, "the header is one page");

/* 32 hexadecimal digits with dashes between them (random(4)). */
static bool parse_boot_id(const char *text, struct vector_boot *ret_boot) {
    struct vector_boot boot = {0};
    size_t digits = 0;
    for (; *text && *text != '\n'; text++) {
        if (*text == '-') continue;
        const char *alphabet = "0123456789abcdef", *digit = strchr(alphabet, *text);
        if (!digit || digits == 32) return false;
        uint64_t *half = &boot.id[digits++ / 16];
        *half = *half << 4 | (uint64_t)(digit - alphabet);
    }
    *ret_boot = boot;
    return digits == 32;
}

int vector_boot_read(struct vector_boot *ret_boot, struct error **ret_error) {
    char text[64] = "";
    _cleanup_close_ int file = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, text, sizeof text - 1) < 0)
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno,
                               "tell this boot of the machine from earlier ones: read %s", BOOT_ID_PATH);
    if (!parse_boot_id(text, ret_boot))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "tell this boot of the machine from earlier ones: there is no id in %s", BOOT_ID_PATH);
    return 0;
}

bool vector_header_is_of(const struct vector_header *header, const struct vector_boot *boot) {
    return atomic_load_explicit(&header->boot_id[0], memory_order_acquire) == boot->id[0] &&
           atomic_load_explicit(&header->boot_id[1], memory_order_acquire) == boot->id[1];
}

void vector_header_set_boot(struct vector_header *header, const struct vector_boot *boot) {
    for (size_t i = 0; i < 2; i++) atomic_store_explicit(&header->boot_id[i], boot->id[i], memory_order_release);
}

void vector_header_begin(struct vector_header *ret_header, const struct vector_boot *boot) {
    memset(ret_header, 0, sizeof *ret_header);
    ret_header->magic = MAGIC;
    vector_header_set_boot(ret_header, boot);
    for (size_t i = 0; i < HEADER_WORDS; i++) vector_store(&ret_header->words[i], 0);
    struct vector_sync_record record = {0};
    vector_header_record(ret_header, &record);
}

static uint32_t checksum_of(const struct vector_sync_record *record) {
    return vector_checksum(0, record, offsetof(struct vector_sync_record, checksum));
}

/* One that was never written is all zeros, which no checksum makes. */
static bool is_whole(const struct vector_sync_record *record) {
    return record->count && record->checksum == checksum_of(record);
}

const char *vector_header_check(const struct vector_header *header, struct vector_sync_record *ret_record) {
    if (header->magic != MAGIC) return "it does not begin as a header of this version does";
    for (size_t i = 0; i < HEADER_WORDS; i++)
        if (!vector_word_is_sound(atomic_load(&header->words[i]))) return "a number in it fails its check";
    const struct vector_sync_record *last = NULL;
    for (size_t i = 0; i < 2; i++) {
        const struct vector_sync_record *record = &header->records[i];
        if (is_whole(record) && (!last || last->count < record->count)) last = record;
    }
    if (!last) return "its record of the last sync fails its checksum";
    if (last->durable > VECTOR_NUMBER_MAXIMUM || last->count >= VECTOR_NUMBER_MAXIMUM)
        return "its record of the last sync has a number that cannot be";
    if (vector_load(&header->words[HEADER_APPLIED]) > vector_load(&header->words[HEADER_WRITTEN]))
        return "more was shown than written";
    if (vector_load(&header->words[HEADER_RATE]) > UINT32_MAX) return "its rate cannot be";
    *ret_record = *last;
    return NULL;
}

void vector_header_record(struct vector_header *header, struct vector_sync_record *record) {
    record->count++;
    record->checksum = checksum_of(record);
    header->records[record->count % 2] = *record;
}
