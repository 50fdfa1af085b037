/* Bodies that are too large for memory, on their way to the disk and from it.
 *
 * An upload's pieces are gathered on the loop thread, a mebibyte at most, and written on libuv's pool; the client waits
 * meanwhile. What has come lies in a file without a name, so that a kill at any moment leaves nothing; when all of it
 * is there, the package is made of it on the pool, and the call answered. A download is read on the pool, a piece at a
 * time as the client takes it. */
#pragma once
#include "controller/api.h"
#include "package/package_tar.h"

#define UPLOADS_MAXIMUM 4 /* at once: each may hold a thread of the pool while its package is made */

/* ---- uploads (api_upload.c); all on the loop thread ---- */

struct uploads;
struct upload;
struct uploads *uploads_new(struct controller *controller, void (*end)(struct api_call *call));
/* The head is there: `end` answers the call, whatever becomes of it (an error is in call->error then), and frees it. */
void uploads_begin(struct uploads *uploads, struct api_call *call);
void uploads_piece(struct api_call *call, const char *bytes, size_t size);
void uploads_body_end(struct api_call *call);
void uploads_gone(struct api_call *call);
/* What is under way gives up soon. */
void uploads_stop(struct uploads *uploads);
void uploads_free(struct uploads *uploads);

/* ---- downloads (api_download.c) ---- */

/* What a handler leaves in call->download. */
struct download {
    struct package_tar *layer, *archive;
    uint64_t layer_offset; /* where in the archive it begins */
    char layer_digest[DIGEST_HEX_SIZE]; /* what it must have: otherwise the answer breaks off before its end */
    char package_digest[DIGEST_HEX_SIZE], *holder; /* the pin meanwhile */
    char *file_name;

    /* below: api_download.c */
    struct api_call *call;
    struct digest *digest;
    uint64_t offset;
    char *block;
    size_t block_size;
    bool is_working, is_full, is_over;
    void (*end)(struct api_call *call);
};
/* Answers with it; `end` frees the call when that is over. Loop thread. */
void download_begin(struct api_call *call, void (*end)(struct api_call *call));
void download_writable(struct api_call *call);
void download_gone(struct api_call *call);
void download_free(struct download *download); /* NULL is fine */
