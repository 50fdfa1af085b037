#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/packages.h"
#include "controller/upload.h"

#define BLOCK_BYTES (1u << 20)

void download_free(struct download *download) {
    if (!download) return;
    package_tar_free(download->archive);
    package_tar_free(download->layer);
    digest_free(download->digest);
    free(download->holder);
    free(download->file_name);
    free(download->block);
    free(download);
}

/* ---- on the pool ---- */

/* What of the block is the layer's. */
static void take_into_digest(struct download *download) {
    uint64_t begin = download->layer_offset, end = begin + package_tar_size(download->layer);
    uint64_t from = download->offset, to = from + download->block_size;
    if (from < begin) from = begin;
    if (to > end) to = end;
    if (from < to) digest_update(download->digest, download->block + (from - download->offset), (size_t)(to - from));
}

static int check_digest(struct download *download, struct error **ret_error) {
    char hex[DIGEST_HEX_SIZE];
    digest_finish(TAKE(download->digest), hex);
    if (text_equal(hex, download->layer_digest)) return 0;
    return error_set(ret_error, ERROR_DEPLOYMENT,
                     "package sha256:%s is damaged on the disk: its layer is sha256:%s, not %s",
                     download->package_digest, hex, download->layer_digest);
}

static void read_block(uv_work_t *work) {
    struct api_call *call = CONTAINER_OF(work, struct api_call, work);
    struct download *download = call->download;
    if (package_tar_read(download->archive, download->offset, download->block, BLOCK_BYTES, &download->block_size,
                         &call->error) < 0)
        return;
    take_into_digest(download);
    download->is_over = download->offset + download->block_size == package_tar_size(download->archive);
    if (download->is_over) check_digest(download, &call->error);
}

/* The pin goes, whatever became of the rest; what cannot be released now goes at the next start. */
static void let_go(uv_work_t *work) {
    struct api_call *call = CONTAINER_OF(work, struct api_call, work);
    _cleanup_error_ struct error *error = NULL;
    if (package_let_go(call->controller, call->download->package_digest, call->download->holder, &error) >= 0) return;
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_WARNING, "a package stays pinned until the next start", "package", call->download->package_digest,
              "error", text, NULL);
}

/* ---- on the loop ---- */

static void after_let_go(uv_work_t *work, int status) {
    (void)status;
    struct api_call *call = CONTAINER_OF(work, struct api_call, work);
    call->download->end(call);
}

static void end(struct api_call *call, bool is_whole) {
    if (is_whole)
        http_end(call->request);
    else
        http_break(call->request);
    uv_queue_work(call->controller->loop, &call->work, let_go, after_let_go);
}

static void after_block(uv_work_t *work, int status);

static void go_on(struct api_call *call) {
    call->download->is_working = true;
    uv_queue_work(call->controller->loop, &call->work, read_block, after_block);
}

static void after_block(uv_work_t *work, int status) {
    (void)status;
    struct api_call *call = CONTAINER_OF(work, struct api_call, work);
    struct download *download = call->download;
    download->is_working = false;
    if (call->error) {
        _cleanup_free_ char *text = error_text(call->error);
        log_write(LOG_ERROR, "an export broke off", "package", download->package_digest, "error", text, NULL);
    }
    if (call->error || http_is_gone(call->request)) {
        end(call, false);
        return;
    }
    download->offset += download->block_size;
    download->is_full = !http_send(call->request, download->block, download->block_size);
    if (download->is_over)
        end(call, true);
    else if (!download->is_full)
        go_on(call);
}

void download_begin(struct api_call *call, void (*end_call)(struct api_call *call)) {
    struct download *download = call->download;
    download->call = call;
    download->end = end_call;
    download->digest = digest_new();
    download->block = mem_alloc(BLOCK_BYTES);
    _cleanup_free_ char *disposition = text_format("attachment; filename=\"%s\"", download->file_name);
    const struct http_header headers[] = {{"Content-Type", "application/x-tar"}, {"Content-Disposition", disposition}};
    http_begin(call->request, 200, headers, ARRAY_SIZE(headers), (int64_t)package_tar_size(download->archive));
    call->is_downloading = true;
    if (text_equal(call->request->method, "HEAD"))
        end(call, true);
    else
        go_on(call);
}

void download_writable(struct api_call *call) {
    struct download *download = call->download;
    if (!download->is_full || download->is_working) return;
    download->is_full = false;
    if (http_is_gone(call->request))
        end(call, false);
    else
        go_on(call);
}

void download_gone(struct api_call *call) {
    struct download *download = call->download;
    if (download->is_working) return; /* seen when the block is there */
    download->is_full = false;
    end(call, false);
}
