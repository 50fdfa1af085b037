#include "base/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

struct digest {
    EVP_MD_CTX *context;
};

struct digest *digest_new(void) {
    struct digest *digest = mem_new(struct digest);
    digest->context = EVP_MD_CTX_new();
    if (!digest->context || EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) abort();
    return digest;
}

void digest_update(struct digest *digest, const void *bytes, size_t size) {
    if (EVP_DigestUpdate(digest->context, bytes, size) != 1) abort();
}

void digest_finish(struct digest *digest, char ret_hex[DIGEST_HEX_SIZE]) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (EVP_DigestFinal_ex(digest->context, bytes, &size) != 1 || size != 32) abort();
    for (unsigned i = 0; i < size; i++) snprintf(ret_hex + 2 * i, 3, "%02x", bytes[i]);
    digest_free(digest);
}

void digest_free(struct digest *digest) {
    if (!digest) return;
    EVP_MD_CTX_free(digest->context);
    free(digest);
}

void digest_again(struct digest *digest, const void *bytes, size_t size, unsigned char ret_bytes[DIGEST_SIZE]) {
    digest_update(digest, bytes, size);
    if (EVP_DigestFinal_ex(digest->context, ret_bytes, NULL) != 1 ||
        EVP_DigestInit_ex(digest->context, NULL, NULL) != 1)
        abort();
}

static int digit_of(char character) {
    if (character >= '0' && character <= '9') return character - '0';
    return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

bool digest_parse(const char *hex, unsigned char ret_bytes[DIGEST_SIZE]) {
    if (strlen(hex) != DIGEST_HEX_SIZE - 1) return false;
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        int high = digit_of(hex[2 * i]), low = digit_of(hex[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        ret_bytes[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

void digest_bytes(const void *bytes, size_t size, char ret_hex[DIGEST_HEX_SIZE]) {
    struct digest *digest = digest_new();
    digest_update(digest, bytes, size);
    digest_finish(digest, ret_hex);
}

int digest_descriptor(int descriptor, char ret_hex[DIGEST_HEX_SIZE], struct error **ret_error) {
    size_t room = 256 * 1024;
    _cleanup_free_ char *block = mem_alloc(room);
    struct digest *digest = digest_new();
    for (;;) {
        ssize_t size = read(descriptor, block, room);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) {
            int cause = errno;
            digest_finish(digest, ret_hex);
            return error_set_errno(ret_error, ERROR_DEPLOYMENT, cause, "read");
        }
        if (!size) break;
        digest_update(digest, block, (size_t)size);
    }
    digest_finish(digest, ret_hex);
    return 0;
}
