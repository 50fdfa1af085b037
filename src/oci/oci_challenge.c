/* WWW-Authenticate: a list of challenges, each a scheme and its parameters (RFC 9110 §11.6.1); of those, Bearer as
 * registries use it, and Basic. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/text.h"
#include "oci/oci-internal.h"

#define VALUE_MAXIMUM 4096 /* bytes of one parameter's value */

struct cursor {
    const char *at;
};

static bool is_token_letter(char letter) {
    return isalnum((unsigned char)letter) || (letter && strchr("!#$%&'*+-.^_`|~", letter));
}

static void skip_space(struct cursor *cursor) {
    cursor->at += strspn(cursor->at, " \t");
}

static size_t token_length(const char *text) {
    size_t length = 0;
    while (is_token_letter(text[length])) length++;
    return length;
}

/* A quoted-string without its quotes and escapes; NULL when it does not end or is too long. */
static char *read_quoted(struct cursor *cursor) {
    char *text = mem_alloc(VALUE_MAXIMUM + 1);
    size_t length = 0;
    for (cursor->at++; *cursor->at && *cursor->at != '"' && length < VALUE_MAXIMUM; cursor->at++) {
        if (*cursor->at == '\\' && cursor->at[1]) cursor->at++;
        text[length++] = *cursor->at;
    }
    text[length] = '\0';
    if (*cursor->at == '"') {
        cursor->at++;
        return text;
    }
    free(text);
    return NULL;
}

static char *read_value(struct cursor *cursor) {
    if (*cursor->at == '"') return read_quoted(cursor);
    size_t length = token_length(cursor->at);
    if (!length || length > VALUE_MAXIMUM) return NULL;
    char *value = text_copy_bytes(cursor->at, length);
    cursor->at += length;
    return value;
}

/* Keeps the first value of a parameter that is known. */
static void keep(struct oci_challenge *challenge, const char *name, size_t length, char *value) {
    const struct {
        const char *name;
        char **place;
    } parameters[] = {{"realm", &challenge->realm}, {"service", &challenge->service}, {"scope", &challenge->scope}};
    for (size_t i = 0; i < ARRAY_SIZE(parameters); i++)
        if (strlen(parameters[i].name) == length && !strncasecmp(parameters[i].name, name, length) &&
            !*parameters[i].place) {
            *parameters[i].place = value;
            return;
        }
    free(value);
}

/* name=value, after a comma or at once; false when what stands there is no parameter (the next scheme, or the end). */
static bool read_parameter(struct cursor *cursor, struct oci_challenge *challenge) {
    struct cursor ahead = *cursor;
    ahead.at += strspn(ahead.at, " \t,");
    size_t length = token_length(ahead.at);
    const char *name = ahead.at;
    ahead.at += length;
    skip_space(&ahead);
    if (!length || *ahead.at != '=') return false;
    ahead.at++;
    skip_space(&ahead);
    char *value = read_value(&ahead);
    if (!value) return false;
    keep(challenge, name, length, value);
    *cursor = ahead;
    return true;
}

/* Credentials of other schemes, like Negotiate's: letters, then any number of '='. */
static void skip_token68(struct cursor *cursor) {
    const char *at = cursor->at + strspn(cursor->at, " \t");
    while (isalnum((unsigned char)*at) || (*at && strchr("-._~+/", *at))) at++;
    at += strspn(at, "=");
    at += strspn(at, " \t");
    if (!*at || *at == ',') cursor->at = at;
}

static enum oci_scheme name_scheme(const char *text, size_t length) {
    if (length == 6 && !strncasecmp(text, "Bearer", 6)) return OCI_SCHEME_BEARER;
    if (length == 5 && !strncasecmp(text, "Basic", 5)) return OCI_SCHEME_BASIC;
    return OCI_SCHEME_NONE;
}

/* False at the end, or where what stands there is no challenge. */
static bool read_challenge(struct cursor *cursor, struct oci_challenge *ret_challenge) {
    cursor->at += strspn(cursor->at, " \t,");
    size_t length = token_length(cursor->at);
    if (!length) return false;
    *ret_challenge = (struct oci_challenge){.scheme = name_scheme(cursor->at, length)};
    cursor->at += length;
    if (*cursor->at && *cursor->at != ' ' && *cursor->at != '\t' && *cursor->at != ',') return false;
    skip_token68(cursor);
    while (read_parameter(cursor, ret_challenge)) continue;
    if (ret_challenge->scheme == OCI_SCHEME_BEARER && !ret_challenge->realm) ret_challenge->scheme = OCI_SCHEME_NONE;
    return true;
}

void oci_challenge_parse(const char *value, struct oci_challenge *ret_challenge) {
    *ret_challenge = (struct oci_challenge){0};
    struct cursor cursor = {.at = value};
    for (;;) {
        _cleanup_challenge_ struct oci_challenge challenge = {0};
        if (!read_challenge(&cursor, &challenge)) return;
        if (challenge.scheme <= ret_challenge->scheme) continue;
        oci_challenge_clear(ret_challenge);
        *ret_challenge = challenge;
        challenge = (struct oci_challenge){0};
    }
}

void oci_challenge_clear(struct oci_challenge *challenge) {
    free(challenge->realm);
    free(challenge->service);
    free(challenge->scope);
    *challenge = (struct oci_challenge){0};
}
