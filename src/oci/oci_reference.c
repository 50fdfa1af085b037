/* References: registry/repository[:tag][@digest] (OCI Distribution Specification 1.1, "Pulling manifests"). */
#include <ctype.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "oci/oci-internal.h"

#define REFERENCE_MAXIMUM 1024 /* bytes */
#define REPOSITORY_MAXIMUM 255
#define TAG_MAXIMUM 128

static bool is_lower(char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9');
}

/* How many bytes the separator at `text` has: ".", "_", "__" or any number of "-"; 0 when it is none. */
static size_t separator_length(const char *text) {
    if (*text == '.') return 1;
    if (*text == '_') return text[1] == '_' ? 2 : 1;
    return strspn(text, "-");
}

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, joined by '/'. */
bool oci_is_repository(const char *text) {
    if (strlen(text) > REPOSITORY_MAXIMUM || !is_lower(*text)) return false;
    while (*text) {
        while (is_lower(*text)) text++;
        if (!*text) return true;
        text += *text == '/' ? 1 : separator_length(text);
        if (!is_lower(*text)) return false;
    }
    return true;
}

bool oci_is_tag(const char *text) {
    if (!isalnum((unsigned char)*text) && *text != '_') return false;
    size_t length = 1;
    while (isalnum((unsigned char)text[length]) || (text[length] && strchr("._-", text[length]))) length++;
    return !text[length] && length <= TAG_MAXIMUM;
}

bool oci_is_digest(const char *text) {
    if (!text_starts_with(text, OCI_SHA256)) return false;
    text += strlen(OCI_SHA256);
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

/* host, host:port, [v6] or [v6]:port. */
bool oci_is_registry(const char *text) {
    size_t length;
    if (*text == '[') {
        length = 1 + strspn(text + 1, "0123456789abcdefABCDEF:.");
        if (length < 3 || text[length++] != ']') return false;
    } else {
        if (!isalnum((unsigned char)*text)) return false;
        length = 1;
        while (isalnum((unsigned char)text[length]) || text[length] == '.' || text[length] == '-') length++;
    }
    if (!text[length]) return true;
    uint64_t port = 0;
    return text[length] == ':' && text_parse_number(text + length + 1, 65535, &port) && port > 0;
}

static int refuse(const char *text, const char *why, struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "\"%.200s\" is no reference to an image: %s; it reads registry/repository[:tag][@sha256:...]",
                     text, why);
}

/* Ends the text at `mark` and gives a copy of what is behind it; NULL when there is no mark. */
static char *split_tail(char *mark) {
    if (!mark) return NULL;
    *mark = '\0';
    return text_copy(mark + 1);
}

static const char *find_fault(const struct oci_reference *reference) {
    if (!oci_is_registry(reference->registry)) return "the registry is no host or host:port";
    if (!oci_is_repository(reference->repository))
        return "a repository has lower-case letters, digits and . _ - between them, in parts joined by /";
    if (reference->tag && !oci_is_tag(reference->tag))
        return "a tag has at most 128 letters, digits, . _ and -, and begins with none of . and -";
    if (reference->digest && !oci_is_digest(reference->digest))
        return "the digest is not sha256: and 64 lower-case hexadecimal digits";
    return NULL;
}

int oci_reference_parse(const char *text, struct oci_reference *ret_reference, struct error **ret_error) {
    if (strlen(text) > REFERENCE_MAXIMUM) return refuse(text, "it is too long", ret_error);
    _cleanup_free_ char *rest = text_copy(text);
    char *slash = strchr(rest, '/');
    if (!slash || !slash[1]) return refuse(text, "the repository is missing", ret_error);
    _cleanup_reference_ struct oci_reference reference = {0};
    reference.digest = split_tail(strchr(slash, '@'));
    reference.tag = split_tail(strrchr(slash, ':'));
    reference.repository = text_copy(slash + 1);
    reference.registry = text_copy_bytes(rest, (size_t)(slash - rest));
    const char *fault = find_fault(&reference);
    if (fault) return refuse(text, fault, ret_error);
    if (!reference.tag && !reference.digest) reference.tag = text_copy("latest");
    *ret_reference = reference;
    reference = (struct oci_reference){0};
    return 0;
}

char *oci_reference_text(const struct oci_reference *reference) {
    return text_format("%s/%s%s%s%s%s", reference->registry, reference->repository, reference->tag ? ":" : "",
                       reference->tag ? reference->tag : "", reference->digest ? "@" : "",
                       reference->digest ? reference->digest : "");
}

void oci_reference_clear(struct oci_reference *reference) {
    free(reference->registry);
    free(reference->repository);
    free(reference->tag);
    free(reference->digest);
    *reference = (struct oci_reference){0};
}
