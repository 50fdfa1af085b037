#include "s3/s3_xml.h"

#include <stdint.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"

struct reader {
    const char *bytes, *at, *end;
    char path[S3_XML_PATH_MAXIMUM];
    size_t lengths[S3_XML_DEPTH_MAXIMUM]; /* of the path, around each open element */
    size_t depth;
    bool has_root, has_children; /* has_children: the element that ends next has held others */
    struct buffer text;
    s3_xml_on_element *on_element;
    void *context;
    struct error **ret_error;
};

static int fail(struct reader *reader, const char *why) {
    return error_set(reader->ret_error, ERROR_MODEL_REGISTRY, "the answer is not the XML of an S3 server: byte %zu: %s",
                     (size_t)(reader->at - reader->bytes), why);
}

static bool is_space(char byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static void skip_spaces(struct reader *reader) {
    while (reader->at < reader->end && is_space(*reader->at)) reader->at++;
}

/* Whether `text` stands here; then it is passed over. */
static bool take(struct reader *reader, const char *text) {
    size_t length = strlen(text);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, text, length)) return false;
    reader->at += length;
    return true;
}

static bool is_name_byte(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '-' || byte == '_' || byte == '.' || byte == ':';
}

/* Without its namespace prefix. */
static bool take_name(struct reader *reader, const char **ret_name, size_t *ret_length) {
    const char *start = reader->at;
    while (reader->at < reader->end && is_name_byte(*reader->at)) {
        if (*reader->at++ == ':') start = reader->at;
    }
    *ret_name = start;
    *ret_length = (size_t)(reader->at - start);
    return *ret_length > 0;
}

/* ---- text ---- */

/* Characters that XML 1.0 allows; a server that encodes keys sends no others. */
static bool is_character(uint32_t code) {
    return code == '\t' || code == '\n' || code == '\r' || (code >= 0x20 && code < 0xD800) ||
           (code >= 0xE000 && code < 0xFFFE) || (code >= 0x10000 && code <= 0x10FFFF);
}

static size_t encode_utf8(uint32_t code, char bytes[4]) {
    if (code < 0x80) return bytes[0] = (char)code, 1;
    if (code < 0x800) return bytes[0] = (char)(0xC0 | code >> 6), bytes[1] = (char)(0x80 | (code & 63)), 2;
    if (code < 0x10000) {
        bytes[0] = (char)(0xE0 | code >> 12), bytes[1] = (char)(0x80 | (code >> 6 & 63));
        return bytes[2] = (char)(0x80 | (code & 63)), 3;
    }
    bytes[0] = (char)(0xF0 | code >> 18), bytes[1] = (char)(0x80 | (code >> 12 & 63));
    return bytes[2] = (char)(0x80 | (code >> 6 & 63)), bytes[3] = (char)(0x80 | (code & 63)), 4;
}

static int digit_of(char byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
    return 16;
}

/* Behind "&#". */
static int read_numeric(struct reader *reader) {
    int base = take(reader, "x") ? 16 : 10;
    uint32_t code = 0;
    const char *start = reader->at;
    while (reader->at < reader->end && digit_of(*reader->at) < base && code <= 0x10FFFF)
        code = code * (uint32_t)base + (uint32_t)digit_of(*reader->at++);
    if (reader->at == start || !take(reader, ";") || !is_character(code)) return fail(reader, "a broken entity");
    char bytes[4];
    buffer_append(&reader->text, bytes, encode_utf8(code, bytes));
    return 0;
}

static int read_entity(struct reader *reader) {
    static const struct {
        const char *name, *text;
    } entities[] = {{"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"}};
    if (take(reader, "&#")) return read_numeric(reader);
    for (size_t i = 0; i < ARRAY_SIZE(entities); i++)
        if (take(reader, entities[i].name)) return buffer_append_text(&reader->text, entities[i].text), 0;
    return fail(reader, "an entity that is not known");
}

/* Up to the next '<'. */
static int read_text(struct reader *reader) {
    while (reader->at < reader->end && *reader->at != '<') {
        if (*reader->at == '&') {
            int result = read_entity(reader);
            if (result < 0) return result;
            continue;
        }
        const char *start = reader->at;
        while (reader->at < reader->end && *reader->at != '<' && *reader->at != '&') {
            if (!is_character((unsigned char)*reader->at)) return fail(reader, "a control character");
            reader->at++;
        }
        buffer_append(&reader->text, start, (size_t)(reader->at - start));
    }
    return 0;
}

/* ---- elements ---- */

/* Attributes say nothing that is needed: passed over, up to the '>'. */
static int skip_attributes(struct reader *reader, bool *ret_is_empty) {
    for (;;) {
        skip_spaces(reader);
        if ((*ret_is_empty = take(reader, "/>")) || take(reader, ">")) return 0;
        const char *name;
        size_t length;
        if (!take_name(reader, &name, &length)) return fail(reader, "a tag that does not end");
        skip_spaces(reader);
        if (!take(reader, "=")) return fail(reader, "an attribute without a value");
        skip_spaces(reader);
        if (reader->at == reader->end || (*reader->at != '"' && *reader->at != '\''))
            return fail(reader, "an attribute without quotes");
        char quote = *reader->at++;
        while (reader->at < reader->end && *reader->at != quote && *reader->at != '<') reader->at++;
        if (reader->at == reader->end || *reader->at++ != quote) return fail(reader, "an attribute that does not end");
    }
}

static int end_element(struct reader *reader) {
    const char *text = reader->has_children || !reader->text.size ? "" : reader->text.bytes;
    if (!text_is_utf8(text, strlen(text))) return fail(reader, "text that is not UTF-8");
    int result = reader->on_element(reader->context, reader->path, text, reader->ret_error);
    reader->text.size = 0;
    reader->has_children = true;
    reader->path[reader->lengths[--reader->depth]] = 0;
    return result;
}

static int begin_element(struct reader *reader) {
    const char *name;
    size_t length, before = strlen(reader->path);
    if (!reader->depth && reader->has_root) return fail(reader, "a second root");
    if (!take_name(reader, &name, &length)) return fail(reader, "a tag that is none");
    if (reader->depth == S3_XML_DEPTH_MAXIMUM) return fail(reader, "elements too deep in each other");
    if (before + length + 2 > sizeof reader->path) return fail(reader, "names that are too long");
    reader->lengths[reader->depth++] = before;
    if (before) reader->path[before++] = '/';
    memcpy(reader->path + before, name, length);
    reader->path[before + length] = 0;
    reader->text.size = 0;
    reader->has_root = true;
    reader->has_children = false;
    bool is_empty;
    int result = skip_attributes(reader, &is_empty);
    return result < 0 || !is_empty ? result : end_element(reader);
}

static int read_end_tag(struct reader *reader) {
    const char *name;
    size_t length;
    if (!reader->depth || !take_name(reader, &name, &length)) return fail(reader, "an end tag that ends nothing");
    size_t before = reader->lengths[reader->depth - 1];
    const char *open = reader->path + before + (before > 0);
    if (strlen(open) != length || memcmp(open, name, length)) return fail(reader, "an end tag of another element");
    skip_spaces(reader);
    if (!take(reader, ">")) return fail(reader, "a tag that does not end");
    return end_element(reader);
}

static int read_markup(struct reader *reader) {
    if (take(reader, "</")) return read_end_tag(reader);
    if (take(reader, "<!") || take(reader, "<?")) return fail(reader, "a declaration, a comment or CDATA");
    return take(reader, "<") ? begin_element(reader) : fail(reader, "text outside of the root");
}

static int skip_declaration(struct reader *reader) {
    take(reader, "\xEF\xBB\xBF");
    skip_spaces(reader);
    if (!take(reader, "<?xml")) return 0;
    while (reader->at < reader->end && *reader->at != '>') reader->at++;
    return take(reader, ">") && reader->at[-2] == '?' ? 0 : fail(reader, "a declaration that does not end");
}

int s3_xml_read(const char *bytes, size_t size, s3_xml_on_element *on_element, void *context,
                struct error **ret_error) {
    struct reader reader = {.bytes = bytes,
                            .at = bytes,
                            .end = bytes + size,
                            .on_element = on_element,
                            .context = context,
                            .ret_error = ret_error};
    int result = skip_declaration(&reader);
    while (result >= 0) {
        if (reader.depth) {
            result = read_text(&reader);
            if (result < 0) break;
        } else {
            skip_spaces(&reader);
            if (reader.at == reader.end && reader.has_root) break;
        }
        result = reader.at == reader.end ? fail(&reader, "it ends too early") : read_markup(&reader);
    }
    buffer_clear(&reader.text);
    return result < 0 ? result : 0;
}

char *s3_xml_escape(const char *text) {
    _cleanup_buffer_ struct buffer escaped = {0};
    for (; *text; text++) {
        const char *entity = *text == '&'   ? "&amp;"
                             : *text == '<' ? "&lt;"
                             : *text == '>' ? "&gt;"
                             : *text == '"' ? "&quot;"
                                            : NULL;
        if (entity)
            buffer_append_text(&escaped, entity);
        else
            buffer_append(&escaped, text, 1);
    }
    return buffer_take(&escaped, NULL);
}
