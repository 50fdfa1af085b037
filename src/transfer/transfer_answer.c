/* What servers say: headers, and the words of an error in the forms that registries and object stores write it. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "transfer/transfer-internal.h"

#define WORDS_MAXIMUM 300

char *transfer_find_header(const char *head, const char *name) {
    size_t length = strlen(name);
    const char *found = NULL;
    for (const char *line = head; line && *line;) {
        const char *end = strchr(line, '\n');
        if (!strncasecmp(line, name, length) && line[length] == ':') found = line + length + 1;
        line = end ? end + 1 : NULL;
    }
    if (!found) return NULL;
    found += strspn(found, " \t");
    size_t size = strcspn(found, "\r\n");
    while (size && (found[size - 1] == ' ' || found[size - 1] == '\t')) size--;
    return text_copy_bytes(found, size);
}

uint64_t transfer_content_length(const char *head) {
    _cleanup_free_ char *text = transfer_find_header(head, "Content-Length");
    uint64_t size;
    return text && text_parse_number(text, INT64_MAX, &size) ? size : TRANSFER_SIZE_UNKNOWN;
}

bool transfer_content_range(const char *head, uint64_t *ret_first, uint64_t *ret_total) {
    _cleanup_free_ char *text = transfer_find_header(head, "Content-Range");
    if (!text || strncasecmp(text, "bytes ", 6)) return false;
    char *first = text + 6 + strspn(text + 6, " ");
    char *dash = strchr(first, '-');
    char *slash = dash ? strchr(dash, '/') : NULL;
    if (!slash) return false;
    *dash = *slash = '\0';
    *ret_total = TRANSFER_SIZE_UNKNOWN;
    uint64_t last;
    return text_parse_number(first, INT64_MAX, ret_first) && text_parse_number(dash + 1, INT64_MAX, &last) &&
           *ret_first <= last &&
           (!strcmp(slash + 1, "*") || (text_parse_number(slash + 1, INT64_MAX, ret_total) && last < *ret_total));
}

char *transfer_answer_header(const struct transfer_answer *answer, const char *name) {
    return transfer_find_header(answer->headers, name);
}

void transfer_answer_clear(struct transfer_answer *answer) {
    free(answer->body);
    free(answer->headers);
    free(answer->url);
    *answer = (struct transfer_answer){0};
}

/* ---- the words ---- */

/* {"message"}, {"error":{"message"}}, {"error":"…"}, {"errors":[{"message"}]}, {"detail":"…"}, with a code before it
 * where there is one. */
static char *words_of_object(yyjson_val *object) {
    static const char *const names[] = {"message", "detail", "error_description", "error"};
    static const char *const codes[] = {"error_code", "code"};
    const char *text = NULL, *code = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(names) && !text; i++) text = yyjson_get_str(yyjson_obj_get(object, names[i]));
    for (size_t i = 0; i < ARRAY_SIZE(codes) && !code; i++) code = yyjson_get_str(yyjson_obj_get(object, codes[i]));
    if (!text && !code) return NULL;
    return text && code ? text_format("%s: %s", code, text) : text_copy(text ? text : code);
}

static char *words_of_json(const char *body, size_t size) {
    _cleanup_json_ yyjson_doc *document = NULL;
    if (json_parse(body, size, &document, NULL) < 0) return NULL;
    yyjson_val *root = yyjson_doc_get_root(document);
    if (yyjson_is_arr(root)) root = yyjson_arr_get_first(root);
    yyjson_val *inner = yyjson_obj_get(root, "error");
    yyjson_val *first = yyjson_arr_get_first(yyjson_obj_get(root, "errors"));
    char *words = yyjson_is_obj(inner) ? words_of_object(inner) : NULL;
    if (!words && yyjson_is_obj(first)) words = words_of_object(first);
    if (!words && yyjson_is_str(first)) words = text_copy(yyjson_get_str(first));
    return words ? words : words_of_object(root);
}

/* The text of the first element of that name, without attributes: enough for what is only shown. */
static char *words_of_element(const char *body, const char *name) {
    _cleanup_free_ char *open = text_format("<%s>", name);
    const char *start = strcasestr(body, open);
    if (!start) return NULL;
    start += strlen(open);
    const char *end = strstr(start, "</");
    return end && end > start ? text_copy_bytes(start, (size_t)(end - start)) : NULL;
}

static char *words_of_markup(const char *body) {
    _cleanup_free_ char *code = words_of_element(body, "Code");
    _cleanup_free_ char *message = words_of_element(body, "Message");
    if (code && message) return text_format("%s: %s", code, message);
    if (code || message) return code ? TAKE(code) : TAKE(message);
    return words_of_element(body, "title");
}

/* One line, cut at WORDS_MAXIMUM. */
static void make_printable(char *text) {
    char *to = text;
    bool is_space = true;
    for (const char *from = text; *from; from++) {
        bool space = iscntrl((unsigned char)*from) || *from == ' ';
        if (!space) *to++ = *from;
        if (space && !is_space) *to++ = ' ';
        is_space = space;
    }
    *to = '\0';
    if (strlen(text) > WORDS_MAXIMUM) text[WORDS_MAXIMUM] = '\0';
    size_t size = strlen(text);
    while (size && text[size - 1] == ' ') text[--size] = '\0';
    text_make_utf8(text);
}

char *transfer_words(const char *body, size_t size) {
    if (!body || !size) return NULL;
    const char *start = body + strspn(body, " \t\r\n");
    char *words = NULL;
    if (*start == '{' || *start == '[') words = words_of_json(body, size);
    if (*start == '<') words = words_of_markup(start);
    if (!words && *start != '<') words = text_copy_bytes(start, strnlen(start, WORDS_MAXIMUM + 1));
    if (words) make_printable(words);
    if (words && *words) return words;
    free(words);
    return NULL;
}

int transfer_fail_status(const struct transfer *transfer, int status, const char *url, const char *body, size_t size,
                         struct error **ret_error) {
    _cleanup_free_ char *words = transfer_words(body, size);
    error_set(ret_error, transfer->config.class, "%d from the server%s%s", status, words ? ": " : "",
              words ? words : "");
    _cleanup_free_ char *shown = url ? transfer_public_url(url) : NULL;
    if (shown) error_wrap(ret_error, "%s", shown);
    return -(int)transfer->config.class;
}

int transfer_fail_answer(struct transfer *transfer, const struct transfer_answer *answer, struct error **ret_error) {
    return transfer_fail_status(transfer, answer->status, answer->url, answer->body, answer->body_size, ret_error);
}
