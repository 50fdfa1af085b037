#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

static const struct {
    const char *name;
    int status;
} classes[ERROR_CLASS_COUNT] = {
#define ERROR_CLASS(constant, name, status) [ERROR_##constant] = {name, status},
#include "base/errors.def"
#undef ERROR_CLASS
};

const char *error_class_name(enum error_class class) {
    return class > 0 && class < ERROR_CLASS_COUNT ? classes[class].name : "none";
}

int error_class_status(enum error_class class) {
    return class > 0 && class < ERROR_CLASS_COUNT ? classes[class].status : 500;
}

enum error_class error_class_parse(const char *name) {
    for (int class = 1; class < ERROR_CLASS_COUNT; class ++)
        if (name && !strcmp(classes[class].name, name)) return (enum error_class) class;
    return ERROR_CLASS_NONE;
}

static int set_message(struct error **ret_error, enum error_class class, int status, bool transient, char *message) {
    if (!ret_error) {
        free(message);
        return -(int)class;
    }
    text_make_utf8(message); /* names of files, and what was cut to fit, may be anything; answers are JSON */
    struct error *error = mem_new(struct error);
    *error = (struct error){.class = class, .http_status = status, .transient = transient, .message = message};
    *ret_error = error;
    return -(int)class;
}

int error_set(struct error **ret_error, enum error_class class, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *message = text_format_list(format, arguments);
    va_end(arguments);
    return set_message(ret_error, class, error_class_status(class), false, message);
}

int error_set_status(struct error **ret_error, enum error_class class, int http_status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *message = text_format_list(format, arguments);
    va_end(arguments);
    return set_message(ret_error, class, http_status, false, message);
}

static bool errno_is_transient(int errno_value) {
    switch (errno_value) {
    case EAGAIN:
    case EBUSY:
    case EINTR:
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ETIMEDOUT:
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE: return true;
    default: return false;
    }
}

int error_set_errno(struct error **ret_error, enum error_class class, int errno_value, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    _cleanup_free_ char *what = text_format_list(format, arguments);
    va_end(arguments);
    char reason[128];
    const char *text = strerror_r(errno_value, reason, sizeof reason); /* the GNU one: thread-safe */
    return set_message(ret_error, class, error_class_status(class), errno_is_transient(errno_value),
                       text_format("%s: %s", what, text));
}

int error_wrap(struct error **error, const char *format, ...) {
    if (!error || !*error) return -(int)ERROR_DEPLOYMENT;
    va_list arguments;
    va_start(arguments, format);
    char *message = text_format_list(format, arguments);
    va_end(arguments);
    struct error *cause = *error;
    set_message(error, cause->class, cause->http_status, cause->transient, message);
    (*error)->cause = cause;
    return -(int)cause->class;
}

int error_mark_transient(struct error **error) {
    if (!error || !*error) return -(int)ERROR_UNAVAILABLE;
    (*error)->transient = true;
    return -(int)(*error)->class;
}

char *error_text(const struct error *error) {
    char *text = text_copy(error ? error->message : "unknown error");
    for (const struct error *cause = error ? error->cause : NULL; cause; cause = cause->cause) {
        char *longer = text_format("%s: %s", text, cause->message);
        free(text);
        text = longer;
    }
    return text;
}

struct error *error_copy(const struct error *error) {
    if (!error) return NULL;
    struct error *copy = mem_new(struct error);
    *copy = *error;
    copy->message = text_copy(error->message);
    copy->cause = error_copy(error->cause);
    return copy;
}

void error_free(struct error *error) {
    while (error) {
        struct error *cause = error->cause;
        free(error->message);
        free(error);
        error = cause;
    }
}
