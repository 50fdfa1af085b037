/* Marshalling. The table messages.def is turned into one list of fields per message; all else walks that list. */
#include "wire/wire.h"

#include <endian.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"

enum field_kind { FIELD_U64 = 1, FIELD_TEXT = 2 };

struct field {
    enum field_kind kind;
    size_t offset; /* in the message's struct */
};

#define U64(field) {FIELD_U64, offsetof(struct_of_message, field)},
#define TEXT(field) {FIELD_TEXT, offsetof(struct_of_message, field)},
#define MESSAGE(name, number, fields)                                                                                  \
    static const struct field *fields_of_##name(size_t *ret_count) {                                                   \
        typedef struct wire_##name struct_of_message;                                                                  \
        static const struct field table[] = {fields};                                                                  \
        *ret_count = ARRAY_SIZE(table);                                                                                \
        return table;                                                                                                  \
    }
#include "wire/messages.def"
#undef MESSAGE
#undef TEXT
#undef U64

/* The fields of a message and where its struct lies in the union; NULL for a number that we do not know. */
static const struct field *find_fields(uint32_t number, size_t *ret_count, size_t *ret_offset) {
    switch (number) {
#define MESSAGE(name, number, fields)                                                                                  \
    case number:                                                                                                       \
        *ret_offset = offsetof(struct wire_message, name);                                                             \
        return fields_of_##name(ret_count);
#include "wire/messages.def"
#undef MESSAGE
    default: return NULL;
    }
}

/* ---- sending ---- */

static void append_u32(struct buffer *out, uint32_t number) {
    uint32_t little = htole32(number);
    buffer_append(out, &little, sizeof little);
}

/* Appends text as UTF-8: log lines and the like may hold any byte, and one that is not part of a well-formed sequence
 * becomes '?', so that the size stays and the peer's check holds. */
static void append_text(struct buffer *out, const char *text, size_t size) {
    if (text_is_utf8(text, size)) {
        buffer_append(out, text, size);
        return;
    }
    for (size_t at = 0; at < size;) {
        size_t length = 1;
        while (length <= 4 && length <= size - at && !text_is_utf8(text + at, length)) length++;
        bool whole = length <= 4 && length <= size - at;
        buffer_append(out, whole ? text + at : "?", whole ? length : 1);
        at += whole ? length : 1;
    }
}

static void append_field(struct buffer *out, const struct field *field, const char *message) {
    char kind = (char)field->kind;
    buffer_append(out, &kind, 1);
    if (field->kind == FIELD_U64) {
        uint64_t number;
        memcpy(&number, message + field->offset, sizeof number);
        number = htole64(number);
        append_u32(out, sizeof number);
        buffer_append(out, &number, sizeof number);
    } else {
        const char *text;
        memcpy(&text, message + field->offset, sizeof text);
        size_t size = text ? strlen(text) : 0;
        append_u32(out, (uint32_t)size);
        append_text(out, text ? text : "", size);
    }
}

static size_t encoded_size(const struct field *fields, size_t count, const char *message) {
    size_t size = 8;
    for (size_t i = 0; i < count; i++) {
        const char *text = NULL;
        if (fields[i].kind == FIELD_TEXT) memcpy(&text, message + fields[i].offset, sizeof text);
        size += 5 + (fields[i].kind == FIELD_U64 ? 8 : text ? strlen(text) : 0);
    }
    return size;
}

int wire_encode(const struct wire_message *message, char **ret_bytes, size_t *ret_size, struct error **ret_error) {
    size_t count, offset;
    const struct field *fields = find_fields((uint32_t)message->type, &count, &offset);
    if (!fields)
        return error_set(ret_error, ERROR_REQUEST, "send message %u: there is no such message",
                         (unsigned)message->type);
    const char *body = (const char *)message + offset;
    size_t size = encoded_size(fields, count, body);
    if (size > WIRE_MESSAGE_MAXIMUM)
        return error_set(ret_error, ERROR_REQUEST,
                         "send message %u: %zu bytes, more than the %u that one message may have",
                         (unsigned)message->type, size, WIRE_MESSAGE_MAXIMUM);
    _cleanup_buffer_ struct buffer out = {0};
    append_u32(&out, (uint32_t)message->type);
    append_u32(&out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) append_field(&out, &fields[i], body);
    *ret_bytes = buffer_take(&out, ret_size);
    return 0;
}

/* ---- receiving ---- */

struct reader {
    const unsigned char *at;
    size_t left;
};

static bool take_bytes(struct reader *reader, size_t size, const unsigned char **ret_bytes) {
    if (size > reader->left) return false;
    *ret_bytes = reader->at;
    reader->at += size;
    reader->left -= size;
    return true;
}

static bool take_u32(struct reader *reader, uint32_t *ret_number) {
    const unsigned char *bytes;
    if (!take_bytes(reader, sizeof *ret_number, &bytes)) return false;
    memcpy(ret_number, bytes, sizeof *ret_number);
    *ret_number = le32toh(*ret_number);
    return true;
}

/* One field off the packet, whatever its kind. */
static bool take_field(struct reader *reader, unsigned *ret_kind, const unsigned char **ret_bytes, size_t *ret_size) {
    const unsigned char *kind;
    uint32_t size;
    if (!take_bytes(reader, 1, &kind) || !take_u32(reader, &size) || !take_bytes(reader, size, ret_bytes)) return false;
    *ret_kind = *kind;
    *ret_size = size;
    return true;
}

/* Puts one field's value where the message's struct has it; texts go to *storage, which moves on behind them. */
static bool store_field(const struct field *field, unsigned kind, const unsigned char *bytes, size_t size,
                        char *message, char **storage) {
    if (kind != (unsigned)field->kind) return false;
    if (kind == FIELD_U64) {
        uint64_t number;
        if (size != sizeof number) return false;
        memcpy(&number, bytes, sizeof number);
        number = le64toh(number);
        memcpy(message + field->offset, &number, sizeof number);
        return true;
    }
    if (!text_is_utf8((const char *)bytes, size)) return false;
    const char *text = *storage;
    memcpy(*storage, bytes, size);
    (*storage)[size] = 0;
    *storage += size + 1;
    memcpy(message + field->offset, &text, sizeof text);
    return true;
}

static void set_missing_texts(const struct field *fields, size_t count, char *message) {
    const char *nothing = "";
    for (size_t i = 0; i < count; i++)
        if (fields[i].kind == FIELD_TEXT) memcpy(message + fields[i].offset, &nothing, sizeof nothing);
}

static int malformed(struct error **ret_error, uint32_t number) {
    return error_set(ret_error, ERROR_REQUEST, "read message %u: the packet is malformed", (unsigned)number);
}

int wire_decode(const void *bytes, size_t size, struct wire_message *ret_message, struct error **ret_error) {
    struct reader reader = {bytes, size};
    uint32_t number = 0, sent;
    if (size > WIRE_MESSAGE_MAXIMUM || !take_u32(&reader, &number) || !take_u32(&reader, &sent))
        return malformed(ret_error, number);
    /* Each text needs its bytes and a NUL, for which its five bytes of head are more than enough room. */
    struct wire_message message = {.storage = mem_alloc(size)};
    size_t known = 0, offset = 0;
    const struct field *fields = find_fields(number, &known, &offset);
    char *body = (char *)&message + offset, *storage = message.storage;
    if (fields) set_missing_texts(fields, known, body);
    for (uint32_t i = 0; i < sent; i++) {
        unsigned kind;
        const unsigned char *value;
        size_t value_size;
        bool good = take_field(&reader, &kind, &value, &value_size);
        if (good && fields && i < known) good = store_field(&fields[i], kind, value, value_size, body, &storage);
        if (good) continue;
        wire_message_clear(&message);
        return malformed(ret_error, number);
    }
    if (reader.left) {
        wire_message_clear(&message);
        return malformed(ret_error, number);
    }
    message.type = fields ? (enum wire_type)number : (enum wire_type)0;
    *ret_message = message;
    return 0;
}

void wire_message_clear(struct wire_message *message) {
    free(message->storage);
    *message = (struct wire_message){0};
}
