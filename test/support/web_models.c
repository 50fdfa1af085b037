#include "support/web_models.h"

#include <archive.h>
#include <archive_entry.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "support/rough_server.h"
#include "support/scratch.h"

#define ARCHIVE_MAXIMUM (1u << 20)

struct web_models {
    char *folder;
    struct rough_server *server;
    struct registry_servers *servers;
    char answer[ARCHIVE_MAXIMUM + 512];
};

/* nftw() has no context; only the server's thread walks. */
static struct archive *walked;
static size_t walked_prefix;

static int add_file(const char *path, const struct stat *status, int kind, struct FTW *place) {
    (void)place;
    if (kind != FTW_F) return 0;
    size_t size;
    _cleanup_free_ char *bytes = scratch_read("/", path + 1, &size);
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path + walked_prefix);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, status->st_size);
    archive_write_header(walked, entry);
    archive_write_data(walked, bytes, size);
    archive_entry_free(entry);
    return 0;
}

static size_t pack(const char *folder, char *bytes, size_t maximum) {
    size_t size = 0;
    walked = archive_write_new();
    walked_prefix = strlen(folder) + 1;
    archive_write_set_format_pax_restricted(walked);
    archive_write_open_memory(walked, bytes, maximum, &size);
    nftw(folder, add_file, 8, FTW_PHYS);
    archive_write_close(walked);
    archive_write_free(walked);
    return size;
}

static struct rough_answer answer(void *context, const char *request) {
    struct web_models *web = context;
    char name[128];
    bool is_archive = sscanf(request, "GET /%100[a-z].tar HTTP/", name) == 1 && !strstr(request, ".sha256");
    _cleanup_free_ char *inner = text_format("root/%s", is_archive ? name : "");
    if (!is_archive || !scratch_exists(web->folder, inner))
        return (struct rough_answer){.bytes = "HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nnot there"};
    _cleanup_free_ char *folder = scratch_path(web->folder, inner);
    static const char form[] = "HTTP/1.1 200 OK\r\nContent-Length: %6zu\r\nETag: \"one\"\r\n\r\n";
    size_t head = (size_t)snprintf(web->answer, sizeof web->answer, form, (size_t)0);
    size_t size = pack(folder, web->answer + head, ARCHIVE_MAXIMUM);
    char first = web->answer[head]; /* which the head's NUL takes */
    snprintf(web->answer, sizeof web->answer, form, size);
    web->answer[head] = first;
    return (struct rough_answer){.bytes = web->answer, .size = head + size};
}

struct web_models *web_models_start(const char *folder) {
    struct web_models *web = mem_new(struct web_models);
    web->folder = text_copy(folder);
    web->server = rough_server_start_with(answer, web);
    _cleanup_free_ char *conf = text_format("[http web]\nhosts = 127.0.0.1:%d\n", rough_server_port(web->server));
    if (registry_servers_new(conf, strlen(conf), "registries.conf", NULL, &web->servers, NULL) < 0) abort();
    return web;
}

char *web_models_uri(const struct web_models *web, const char *model) {
    return text_format("http://127.0.0.1:%d/%s.tar", rough_server_port(web->server), model);
}

const struct registry_servers *web_models_servers(const struct web_models *web) {
    return web->servers;
}

void web_models_stop(struct web_models *web) {
    if (!web) return;
    rough_server_stop(web->server);
    registry_servers_free(web->servers);
    free(web->folder);
    free(web);
}
