/* Import and export of a whole collection as NDJSON. An import goes in parts of whole lines, each a request of its own,
 * so that no ceiling of the service is in the way, memory stays what a part takes, and each part is safe once it is
 * answered. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

#define PART_LINES 2000
#define PART_BYTES ((size_t)4 * 1024 * 1024)
#define WAITED_LINES 256 /* what a small machine embeds within the service's own deadline */
#define WAITED_BYTES ((size_t)1024 * 1024)
#define LINE_MAXIMUM ((size_t)32 * 1024 * 1024)
#define READ_SIZE ((size_t)64 * 1024)

struct importer {
    struct slipway *service;
    const struct slipway_import *import;
    char *path;
    struct slipway_bulk *bulk;
    struct buffer part;
    size_t scanned, whole; /* bytes of the part that were searched for line ends; that are whole lines */
    uint64_t lines; /* whole ones of the part */
    uint64_t lines_before, bytes_before; /* those of the parts that were sent */
};

static int send_part(struct importer *importer, struct slipway_error **ret_error) {
    const struct client_request request = {.method = "POST",
                                           .path = importer->path,
                                           .body = importer->part.bytes,
                                           .body_size = importer->whole,
                                           .content_type = "application/x-ndjson"};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(importer->service, &request, &answer, ret_error);
    if (result >= 0) result = client_read_bulk(&answer, importer->lines_before, importer->bulk, ret_error);
    if (result < 0) return result;
    importer->lines_before += importer->lines;
    importer->bytes_before += importer->whole;
    buffer_consume(&importer->part, importer->whole);
    importer->scanned = importer->whole = 0;
    importer->lines = 0;
    const struct slipway_import *import = importer->import;
    if (!import->progress || import->progress(import->context, importer->bulk, importer->bytes_before)) return 0;
    return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "the caller broke it off");
}

/* Finds the line ends in what is new, and sends each part that is full. */
static int take_lines(struct importer *importer, struct slipway_error **ret_error) {
    bool waits = importer->import->wait_indexed;
    uint64_t lines_maximum = waits ? WAITED_LINES : PART_LINES;
    size_t bytes_maximum = waits ? WAITED_BYTES : PART_BYTES;
    for (;;) {
        size_t left = importer->part.size - importer->scanned;
        const char *end = left ? memchr(importer->part.bytes + importer->scanned, '\n', left) : NULL;
        if (!end) break;
        importer->scanned = importer->whole = (size_t)(end - importer->part.bytes) + 1;
        if (++importer->lines < lines_maximum && importer->whole < bytes_maximum) continue;
        int result = send_part(importer, ret_error);
        if (result < 0) return result;
    }
    importer->scanned = importer->part.size;
    if (importer->part.size - importer->whole <= LINE_MAXIMUM) return 0;
    return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "line %" PRIu64 " is longer than 32 MiB: is this NDJSON?",
                        importer->lines_before + importer->lines + 1);
}

static int read_and_send(struct importer *importer, struct slipway_error **ret_error) {
    const struct slipway_import *import = importer->import;
    for (;;) {
        if (!buffer_reserve(&importer->part, READ_SIZE))
            return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "no memory for the next part");
        int64_t size = import->read(import->context, importer->part.bytes + importer->part.size, READ_SIZE);
        if (size < 0 || (uint64_t)size > READ_SIZE)
            return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "the documents cannot be read");
        if (size == 0) break;
        importer->part.size += (size_t)size;
        int result = take_lines(importer, ret_error);
        if (result < 0) return result;
    }
    if (importer->part.size > importer->whole) importer->lines++; /* the last line may lack its end */
    importer->whole = importer->part.size;
    return importer->whole ? send_part(importer, ret_error) : 0;
}

int slipway_import_documents(struct slipway *service, const char *collection, const struct slipway_import *import,
                             struct slipway_bulk **ret_bulk, struct slipway_error **ret_error) {
    struct importer importer = {
        .service = service,
        .import = import,
        .path = client_documents_path(collection, NULL, import->wait_indexed),
        .bulk = mem_new(struct slipway_bulk),
    };
    int result = read_and_send(&importer, ret_error);
    if (result >= 0) {
        *ret_bulk = TAKE(importer.bulk);
    } else if (ret_error && importer.lines_before) {
        client_error_add_context(*ret_error, "import into %s: the first %llu lines are safe, what follows is not",
                                 collection, (unsigned long long)importer.lines_before);
    } else if (ret_error) {
        client_error_add_context(*ret_error, "import into %s", collection);
    }
    slipway_bulk_free(importer.bulk);
    buffer_clear(&importer.part);
    free(importer.path);
    return result;
}

static int64_t read_file(void *context, char *buffer, size_t size) {
    FILE *file = context;
    size_t count = fread(buffer, 1, size, file);
    return !count && ferror(file) ? -1 : (int64_t)count;
}

int slipway_import_file(struct slipway *service, const char *collection, FILE *file, bool wait_indexed,
                        struct slipway_bulk **ret_bulk, struct slipway_error **ret_error) {
    const struct slipway_import import = {.read = read_file, .context = file, .wait_indexed = wait_indexed};
    return slipway_import_documents(service, collection, &import, ret_bulk, ret_error);
}

/* ---- export ---- */

int slipway_export_documents(struct slipway *service, const char *collection,
                             bool (*take)(void *context, const char *bytes, size_t size), void *context,
                             struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_documents_path(collection, NULL, false);
    const struct client_request request = {.method = "GET", .path = path, .take = take, .take_context = context};
    _cleanup_answer_ struct client_answer answer = {0};
    return client_send(service, &request, &answer, ret_error);
}

static bool write_to_file(void *context, const char *bytes, size_t size) {
    return fwrite(bytes, 1, size, context) == size;
}

int slipway_export_file(struct slipway *service, const char *collection, FILE *file, struct slipway_error **ret_error) {
    return slipway_export_documents(service, collection, write_to_file, file, ret_error);
}
