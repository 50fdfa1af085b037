#include "support/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/scratch.h"

struct authority {
    EVP_PKEY *key;
    X509 *certificate;
};

static void require(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "certificates: %s failed\n", what);
    exit(99);
}

static void add_extension(X509 *certificate, int kind, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    require(extension && X509_add_ext(certificate, extension, -1), value);
    X509_EXTENSION_free(extension);
}

static X509 *make_certificate(const char *name, EVP_PKEY *key) {
    static long serial = 1;
    X509 *certificate = X509_new();
    require(certificate && X509_set_version(certificate, X509_VERSION_3), "X509_new");
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    require(X509_set_pubkey(certificate, key), "X509_set_pubkey");
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8, (const unsigned char *)name, -1,
                               -1, 0);
    return certificate;
}

static void write_certificate(X509 *certificate, const char *folder, const char *name, const char *ending) {
    char file_name[128];
    snprintf(file_name, sizeof file_name, "%s%s", name, ending);
    char *path = scratch_path(folder, file_name);
    FILE *file = fopen(path, "w");
    require(file && PEM_write_X509(file, certificate) && !fclose(file), path);
    free(path);
}

static void write_key(EVP_PKEY *key, const char *folder, const char *name, const char *ending, const char *password) {
    char file_name[128];
    snprintf(file_name, sizeof file_name, "%s%s", name, ending);
    char *path = scratch_path(folder, file_name);
    FILE *file = fopen(path, "w");
    const EVP_CIPHER *cipher = password ? EVP_aes_128_cbc() : NULL;
    int size = password ? (int)strlen(password) : 0;
    require(file && PEM_write_PrivateKey(file, key, cipher, (const unsigned char *)password, size, NULL, NULL) &&
                !fclose(file),
            path);
    free(path);
}

struct authority *authority_new(const char *name) {
    struct authority *authority = calloc(1, sizeof *authority);
    authority->key = EVP_EC_gen("P-256");
    require(authority->key != NULL, "EVP_EC_gen");
    authority->certificate = make_certificate(name, authority->key);
    X509_set_issuer_name(authority->certificate, X509_get_subject_name(authority->certificate));
    add_extension(authority->certificate, NID_basic_constraints, "critical,CA:TRUE");
    require(X509_sign(authority->certificate, authority->key, EVP_sha256()), "X509_sign");
    return authority;
}

void authority_free(struct authority *authority) {
    EVP_PKEY_free(authority->key);
    X509_free(authority->certificate);
    free(authority);
}

void authority_write(const struct authority *authority, const char *folder, const char *name) {
    write_certificate(authority->certificate, folder, name, "");
}

void authority_issue(const struct authority *authority, const char *folder, const char *name) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    require(key != NULL, "EVP_EC_gen");
    X509 *certificate = make_certificate(name, key);
    X509_set_issuer_name(certificate, X509_get_subject_name(authority->certificate));
    add_extension(certificate, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    require(X509_sign(certificate, authority->key, EVP_sha256()), "X509_sign");
    write_certificate(certificate, folder, name, ".pem");
    write_key(key, folder, name, ".key", NULL);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

void certificates_write_key(const char *folder, const char *name, const char *kind, const char *password) {
    EVP_PKEY *key = strcmp(kind, "RSA") ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048);
    require(key != NULL, kind);
    write_key(key, folder, name, "", password);
    EVP_PKEY_free(key);
}
