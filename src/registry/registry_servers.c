/* The registries file: a line is a section ("[s3 lake]"), "key = value", a comment or nothing. It is read as the
 * settings file is (base/settings.c), line by line, since values are secrets and long lists. What stands in a line that
 * is wrong may be a secret that was put in the wrong place: errors name keys that look like keys, and never a value of
 * one that may hold a secret. What must hold within a server is registry_servers_check.c's.
 */
#include "registry/registry_servers.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_servers-internal.h"

#define SERVERS_MAXIMUM 1000
#define LIST_MAXIMUM 1000 /* hosts or buckets of one server */
#define KEY_SHOWN 32

const char *const registry_kind_names[] = {
    [REGISTRY_HTTP] = "http", [REGISTRY_MLFLOW] = "mlflow", [REGISTRY_S3] = "s3", [REGISTRY_OCI] = "oci"};
static_assert(ARRAY_SIZE(registry_kind_names) == REGISTRY_OCI + 1, "one name a kind");

enum form { FORM_TEXT, FORM_SECRET, FORM_URL, FORM_PATH, FORM_LIST, FORM_BOOLEAN };
enum { HTTP = 1 << REGISTRY_HTTP, MLFLOW = 1 << REGISTRY_MLFLOW, S3 = 1 << REGISTRY_S3, OCI = 1 << REGISTRY_OCI };

static const struct key {
    const char *name;
    unsigned kinds;
    enum form form;
    size_t offset; /* in struct registry_server */
} keys[] = {
#define KEY(name, kinds, form, field)                                                                                  \
    { name, kinds, FORM_##form, offsetof(struct registry_server, field) }
    KEY("url", MLFLOW, URL, url),
    KEY("endpoint", S3, URL, url),
    KEY("hosts", HTTP | OCI, LIST, hosts),
    KEY("redirect_hosts", HTTP | MLFLOW | OCI, LIST, redirect_hosts),
    KEY("buckets", S3, LIST, buckets),
    KEY("region", S3, TEXT, region),
    KEY("ca_file", HTTP | MLFLOW | S3 | OCI, PATH, ca_file),
    KEY("path_style", S3, BOOLEAN, path_style),
    KEY("plain_http", OCI, BOOLEAN, plain_http),
    KEY("username", HTTP | MLFLOW | OCI, TEXT, username),
    KEY("password", HTTP | MLFLOW | OCI, SECRET, password),
    KEY("password_file", HTTP | MLFLOW | OCI, PATH, password_file),
    KEY("token", HTTP | MLFLOW | OCI, SECRET, token),
    KEY("token_file", HTTP | MLFLOW | OCI, PATH, token_file),
    KEY("access_key_id", S3, TEXT, username),
    KEY("secret_access_key", S3, SECRET, password),
    KEY("secret_access_key_file", S3, PATH, password_file),
    KEY("session_token", S3, SECRET, token),
    KEY("session_token_file", S3, PATH, token_file),
    KEY("profile", S3, TEXT, profile),
#undef KEY
};

struct reading {
    struct registry_servers *servers;
    struct registry_server *server; /* that the lines are of; NULL before the first section */
    bool seen[ARRAY_SIZE(keys)]; /* which keys it has had */
    size_t section_line;
};

/* ---- values ---- */

/* What blanks surround; `line` is changed. */
static char *trim(char *line) {
    line += strspn(line, " \t\r");
    size_t length = strlen(line);
    while (length && strchr(" \t\r", line[length - 1])) line[--length] = 0;
    return line;
}

static int set_boolean(const struct key *key, bool *field, const char *value, struct error **ret_error) {
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(value, words[i])) continue;
        *field = i % 2;
        return 0;
    }
    return error_set(ret_error, ERROR_CONFIGURATION, "%s is neither true nor false", key->name);
}

/* Commas and blanks part them. */
static int set_list(const struct key *key, char ***field, char *value, struct error **ret_error) {
    size_t count = 0;
    char *save = NULL, **list = mem_new_array(LIST_MAXIMUM + 1, char *);
    int result = 0;
    for (char *item = strtok_r(value, ", \t", &save); item && result >= 0; item = strtok_r(NULL, ", \t", &save)) {
        if (count == LIST_MAXIMUM)
            result = error_set(ret_error, ERROR_CONFIGURATION, "%s has more than %d entries", key->name, LIST_MAXIMUM);
        else if (text_equal(key->name, "buckets") || registry_host_is_good(item))
            list[count++] = text_copy(item);
        else
            result = error_set(ret_error, ERROR_CONFIGURATION,
                               "%s: entry %zu is not a host like models.example.com, localhost:5000, *.example.com or "
                               "[::1]:9000 (without http:// and without a path)",
                               key->name, count + 1);
    }
    *field = mem_resize(list, count + 1, sizeof *list);
    return result;
}

static int set_value(struct registry_server *server, const struct key *key, char *value, struct error **ret_error) {
    void *field = (char *)server + key->offset;
    if (!*value) return error_set(ret_error, ERROR_CONFIGURATION, "%s has no value", key->name);
    if (!registry_text_is_plain(value))
        return error_set(ret_error, ERROR_CONFIGURATION, "the value of %s has a control character in it", key->name);
    if (key->form == FORM_BOOLEAN) return set_boolean(key, field, value, ret_error);
    if (key->form == FORM_LIST) return set_list(key, field, value, ret_error);
    if (key->form == FORM_URL) return registry_take_url(key->name, value, field, ret_error);
    if (key->form == FORM_PATH && *value != '/')
        return error_set(ret_error, ERROR_CONFIGURATION, "%s: give the file's path from the root on, /…", key->name);
    *(char **)field = text_copy(value);
    return 0;
}

/* ---- lines ---- */

static bool names_equal(const char *name, const char *other) {
    for (; *name && *other; name++, other++)
        if ((*name == '-' ? '_' : *name) != *other) return false;
    return *name == *other;
}

/* A line that was torn off a secret is not shown. */
static bool looks_like_a_key(const char *name) {
    return *name && strlen(name) <= KEY_SHOWN && strspn(name, "abcdefghijklmnopqrstuvwxyz_-0123456789") == strlen(name);
}

static int refuse_key(const struct registry_server *server, const char *name, struct error **ret_error) {
    const char *known[ARRAY_SIZE(keys)];
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (keys[i].kinds & 1u << server->kind) known[count++] = keys[i].name;
    if (!looks_like_a_key(name))
        return error_set(ret_error, ERROR_CONFIGURATION, "what stands before the = is no key of an [%s] section",
                         registry_kind_names[server->kind]);
    const char *nearest = text_nearest(name, known, count);
    return error_set(ret_error, ERROR_CONFIGURATION, "an [%s] section has no key %s%s%s%s",
                     registry_kind_names[server->kind], name, nearest ? "; did you mean " : "", nearest ? nearest : "",
                     nearest ? "?" : "");
}

static int read_key(struct reading *reading, char *line, struct error **ret_error) {
    char *equals = strchr(line, '=');
    if (!equals || equals == line)
        return error_set(ret_error, ERROR_CONFIGURATION, "the line is neither [section] nor key = value");
    *equals = 0;
    char *name = trim(line);
    if (!reading->server)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "a key stands before the first section; begin with one like [mlflow] or [s3 NAME]");
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (!(keys[i].kinds & 1u << reading->server->kind) || !names_equal(name, keys[i].name)) continue;
        if (reading->seen[i])
            return error_set(ret_error, ERROR_CONFIGURATION, "%s is there a second time", keys[i].name);
        reading->seen[i] = true;
        return set_value(reading->server, &keys[i], trim(equals + 1), ret_error);
    }
    return refuse_key(reading->server, name, ret_error);
}

static int parse_section(char *line, enum registry_kind *ret_kind, const char **ret_name, struct error **ret_error) {
    size_t length = strlen(line);
    if (line[length - 1] != ']') return error_set(ret_error, ERROR_CONFIGURATION, "the section does not end with ]");
    line[length - 1] = 0;
    char *word = trim(line + 1);
    size_t size = strcspn(word, " \t");
    const char *name = word[size] ? word + size + 1 + strspn(word + size + 1, " \t") : "";
    word[size] = 0;
    for (size_t i = 0; i < ARRAY_SIZE(registry_kind_names); i++) {
        if (strcmp(word, registry_kind_names[i])) continue;
        if (*name && !text_is_name(name))
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "the name of the section is not made of letters, digits, '.', '_' and '-'");
        *ret_kind = (enum registry_kind)i;
        *ret_name = name;
        return 0;
    }
    if (!looks_like_a_key(word)) word = "…";
    const char *nearest = text_nearest(word, registry_kind_names, ARRAY_SIZE(registry_kind_names));
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "there is no section [%s]%s%s%s; there are [http NAME], [mlflow], [mlflow NAME], [s3], [s3 NAME] "
                     "and [oci NAME]",
                     word, nearest ? ", did you mean [" : "", nearest ? nearest : "", nearest ? "]?" : "");
}

/* What a section must have can be told when it is over: the error then is about its first line. */
static int end_section(struct reading *reading, const char *where, struct error **ret_error) {
    if (!reading->server) return 0;
    int result = registry_server_check(reading->servers, reading->server, ret_error);
    return result < 0 ? error_wrap(ret_error, "%s, line %zu", where, reading->section_line) : 0;
}

static int begin_section(struct reading *reading, char *line, size_t number, struct error **ret_error) {
    enum registry_kind kind = REGISTRY_HTTP;
    const char *name = "";
    struct registry_servers *servers = reading->servers;
    int result = parse_section(line, &kind, &name, ret_error);
    if (result < 0) return result;
    if (registry_server_named(servers, kind, name))
        return error_set(ret_error, ERROR_CONFIGURATION, "the section [%s%s%s] is there a second time",
                         registry_kind_names[kind], *name ? " " : "", name);
    if (servers->count == SERVERS_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "there are more than %d sections", SERVERS_MAXIMUM);
    reading->server = registry_servers_add(servers, kind, name);
    reading->section_line = number;
    memset(reading->seen, 0, sizeof reading->seen);
    return 0;
}

static int read_lines(struct reading *reading, const char *text, size_t size, const char *where,
                      struct error **ret_error) {
    static const char mark[] = "\xef\xbb\xbf"; /* the byte order mark that some editors write */
    size_t start = size >= 3 && !memcmp(text, mark, 3) ? 3 : 0;
    for (size_t number = 1; start < size; number++) {
        const char *end = memchr(text + start, '\n', size - start);
        size_t length = end ? (size_t)(end - (text + start)) : size - start;
        _cleanup_free_ char *copy = text_copy_bytes(text + start, length);
        char *line = trim(copy);
        int result = 0;
        if (*line == '[' && (result = end_section(reading, where, ret_error)) < 0) return result;
        if (!text_is_utf8(text + start, length))
            result = error_set(ret_error, ERROR_CONFIGURATION, "the line is not UTF-8 text");
        else if (*line == '[')
            result = begin_section(reading, line, number, ret_error);
        else if (*line && *line != '#' && *line != ';')
            result = read_key(reading, line, ret_error);
        explicit_bzero(copy, length);
        if (result < 0) return error_wrap(ret_error, "%s, line %zu", where, number);
        start += length + 1;
    }
    return end_section(reading, where, ret_error);
}

int registry_servers_new(const char *text, size_t size, const char *where, char *const *environment,
                         struct registry_servers **ret_servers, struct error **ret_error) {
    struct registry_servers *servers = mem_new(struct registry_servers);
    struct reading reading = {.servers = servers};
    registry_keep_environment(servers, environment);
    int result = text ? read_lines(&reading, text, size, where, ret_error) : 0;
    if (result >= 0) result = registry_servers_from_environment(servers, ret_error);
    if (result < 0) {
        registry_servers_free(servers);
        return result;
    }
    *ret_servers = servers;
    return 0;
}
