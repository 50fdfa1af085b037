/* Errors: what was tried, on what, why it failed.
 *
 * A function that can fail returns 0 or a negative error class and takes `struct error **ret_error` last. The callee
 * sets it with error_set(); each caller on the way up adds what *it* was trying to do with error_wrap(), so that the
 * user reads "deploy minilm: fetch file:///m: open model.onnx: Permission denied". The class is that of the root
 * unless a caller re-classes it. Nothing here logs.
 *
 * Ownership: *ret_error belongs to the caller, who frees it (error_free, _cleanup_error_). ret_error may be NULL when
 * the caller only wants the class. Thread-safe: errors are plain values without shared state.
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

enum error_class {
    ERROR_CLASS_NONE = 0,
#define ERROR_CLASS(constant, name, status) ERROR_##constant,
#include "base/errors.def"
#undef ERROR_CLASS
    ERROR_CLASS_COUNT
};

struct error {
    enum error_class class;
    int http_status; /* the class's default unless error_set_status() named another */
    bool transient; /* trying again later can help (busy, network, a peer that restarts) */
    char *message; /* this layer's sentence, without its cause */
    struct error *cause; /* the next inner error or NULL */
};

/* Makes *ret_error a new error of `class` and returns -(int)class. Always "fails", so that callers write
 * `return error_set(ret_error, ERROR_CONFLICT, "name %s is taken", name);`. */
int error_set(struct error **ret_error, enum error_class class, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with an HTTP status other than the class's own (for example REQUEST with 413). */
int error_set_status(struct error **ret_error, enum error_class class, int http_status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same for a failed system call: appends ": " strerror(errno_value); EAGAIN, EBUSY, ENOSPC, … are transient. */
int error_set_errno(struct error **ret_error, enum error_class class, int errno_value, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Puts a layer in front of *error (which must be set; a NULL `error` pointer is allowed) and returns its class,
 * negative. */
int error_wrap(struct error **error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Marks *error as transient; returns its class, negative. */
int error_mark_transient(struct error **error);

/* "outer: inner: root" as one line; caller frees. */
char *error_text(const struct error *error);
/* The API's name of a class ("ConflictError") and its default HTTP status. */
const char *error_class_name(enum error_class class);
int error_class_status(enum error_class class);
/* The class with that name, or ERROR_CLASS_NONE. */
enum error_class error_class_parse(const char *name);

struct error *error_copy(const struct error *error);
void error_free(struct error *error);
static inline void error_free_pointer(struct error **error) {
    error_free(*error);
}
#define _cleanup_error_ __attribute__((cleanup(error_free_pointer)))
