/* Authorities and certificates for tests of TLS, made anew each time. Everything here ends the test program when it
 * fails. */
#pragma once

struct authority;
struct authority *authority_new(const char *name);
void authority_free(struct authority *authority);
/* Its certificate as a PEM file folder/name. */
void authority_write(const struct authority *authority, const char *folder, const char *name);
/* A certificate for localhost and 127.0.0.1 of that common name, and its key, as PEM files folder/<name>.pem and
 * folder/<name>.key. Elliptic (P-256). */
void authority_issue(const struct authority *authority, const char *folder, const char *name);
/* A fresh key alone: of the kind "EC" or "RSA"; with a password when one is given. */
void certificates_write_key(const char *folder, const char *name, const char *kind, const char *password);
