#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "controller/packages.h"
#include "controller/upload.h"
#include "package/package_import.h"

#define GATHER_BYTES (1u << 20)

struct uploads {
    struct controller *controller;
    void (*end)(struct api_call *call);
    size_t count;
    struct upload *first;
    bool is_stopped;
};

struct upload {
    struct uploads *uploads;
    struct api_call *call;
    char id[48]; /* of its folder in the package store */
    char *folder;
    int descriptor; /* the file without a name */
    uint64_t wanted; /* the body's length if the client says it, else 0 */
    struct buffer gathered, writing;
    bool is_working, is_begun, is_whole, is_paused, is_gone;
    atomic_bool canceled;
    int (*stage)(struct upload *upload, struct error **ret_error);
    uv_work_t work;
    struct error *error;
    struct upload *next, **at;
};

/* ---- on the pool ---- */

/* What the package store and its archives call UNAVAILABLE for a while is a full disk: an upload that does not fit is
 * told so by a status of its own. */
static int tell_full(int result, struct error **error) {
    if (result >= 0 || !error || !*error || (*error)->class != ERROR_UNAVAILABLE || !(*error)->transient) return result;
    for (struct error *layer = *error; layer; layer = layer->cause) {
        layer->class = ERROR_REFUSED;
        layer->http_status = 507;
        layer->transient = false;
    }
    return -(int)ERROR_REFUSED;
}

static int refuse_full(struct error **ret_error, uint64_t wanted, uint64_t free_bytes) {
    _cleanup_free_ char *wanted_text = text_size(wanted), *free_text = text_size(free_bytes);
    return error_set_status(ret_error, ERROR_REFUSED, 507,
                            "the upload of %s does not fit: %s are free on the disk of the state folder", wanted_text,
                            free_text);
}

static int open_spool(struct upload *upload, struct error **ret_error) {
    struct controller *controller = upload->uploads->controller;
    int result = controller->packages->begin(controller->package_store, upload->id, &upload->folder, ret_error);
    if (result < 0) return tell_full(result, ret_error);
    struct statvfs disk;
    if (!statvfs(upload->folder, &disk) && upload->wanted > (uint64_t)disk.f_bavail * disk.f_frsize)
        return refuse_full(ret_error, upload->wanted, (uint64_t)disk.f_bavail * disk.f_frsize);
    _cleanup_free_ char *path = fs_join(upload->folder, "upload");
    upload->descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (upload->descriptor < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "make %s", path);
    if (unlink(path) < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "unlink %s", path);
    pause_point("upload_begun");
    return 0;
}

static int write_gathered(struct upload *upload, struct error **ret_error) {
    const char *bytes = upload->writing.bytes;
    for (size_t left = upload->writing.size; left;) {
        ssize_t written = write(upload->descriptor, bytes, left);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && (errno == ENOSPC || errno == EDQUOT))
            return error_set_status(ret_error, ERROR_REFUSED, 507,
                                    "the upload does not fit: the disk of the state folder is full");
        if (written < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "write the upload");
        bytes += written;
        left -= (size_t)written;
    }
    upload->writing.size = 0;
    return 0;
}

static int compare(const struct package_import *import, const struct package_info *info, struct error **ret_error) {
    if (!*import->tree_digest || text_equal(import->tree_digest, info->digest)) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "the image is damaged: it says that its package is sha256:%s, but its files are sha256:%s",
                     import->tree_digest, info->digest);
}

static int answer(struct upload *upload, const struct package_info *info, bool created, struct error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = NULL;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_package_row_ struct package_row row = {0};
    int result = store_begin(upload->uploads->controller->store, &tx, ret_error);
    if (result < 0 || (result = package_row_load(tx, info->digest, &row, ret_error)) < 0 ||
        (result = package_render(tx, &row, document, &object, ret_error)) < 0)
        return result;
    api_answer(upload->call, created ? 201 : 200, document, object);
    upload->call->changed = true;
    return 0;
}

static int make_package(struct upload *upload, struct error **ret_error) {
    struct controller *controller = upload->uploads->controller;
    const struct package_import_limits limits = {
        .size_maximum = controller->settings->model_size_maximum,
        .file_maximum = (size_t)controller->settings->model_files_maximum,
        .canceled = &upload->canceled,
    };
    _cleanup_import_ struct package_import import = {0};
    struct package_info info = {0};
    bool created = false;
    int result = package_import_read(upload->descriptor, upload->folder, &limits, &import, ret_error);
    mem_close_descriptor(&upload->descriptor); /* its room on the disk is free again */
    upload->descriptor = -1;
    if (result >= 0) {
        pause_point("package_unpacked");
        result =
            controller->packages->measure(controller->package_store, upload->id, &upload->canceled, &info, ret_error);
    }
    if (result < 0) return tell_full(result, ret_error);
    if ((result = compare(&import, &info, ret_error)) < 0) return result;
    const struct package_origin origin = {.source_uri = import.source_uri,
                                          .resolved_uri = import.resolved_uri,
                                          .recipe_json = import.recipe_json,
                                          .facts_json = import.facts_json};
    result = package_keep(controller, upload->id, &info, &origin, &created, ret_error);
    return result < 0 ? result : answer(upload, &info, created, ret_error);
}

static int drop(struct upload *upload, struct error **ret_error) {
    (void)ret_error;
    struct controller *controller = upload->uploads->controller;
    mem_close_descriptor(&upload->descriptor);
    upload->descriptor = -1;
    controller->packages->abandon(controller->package_store, upload->id);
    return 0;
}

static void run(uv_work_t *work) {
    struct upload *upload = CONTAINER_OF(work, struct upload, work);
    if (upload->stage(upload, &upload->error) >= 0) return;
    if (!upload->error) error_set(&upload->error, ERROR_DEPLOYMENT, "the upload failed without a cause");
    drop(upload, NULL);
}

/* ---- on the loop ---- */

static void after(uv_work_t *work, int status);

static void start(struct upload *upload, int (*stage)(struct upload *upload, struct error **ret_error)) {
    upload->stage = stage;
    upload->is_working = true;
    uv_queue_work(upload->uploads->controller->loop, &upload->work, run, after);
}

static void end(struct upload *upload) {
    struct uploads *uploads = upload->uploads;
    struct api_call *call = upload->call;
    *upload->at = upload->next;
    if (upload->next) upload->next->at = upload->at;
    uploads->count--;
    call->upload = NULL;
    call->error = TAKE(upload->error);
    buffer_clear(&upload->gathered);
    buffer_clear(&upload->writing);
    free(upload->folder);
    free(upload);
    uploads->end(call);
}

static void set_paused(struct upload *upload, bool is_paused) {
    if (upload->is_paused == is_paused || upload->is_gone) return;
    upload->is_paused = is_paused;
    if (is_paused)
        http_pause_body(upload->call->request);
    else
        http_resume_body(upload->call->request);
}

static void go_on(struct upload *upload) {
    if (upload->is_working || !upload->is_begun) return;
    if (upload->is_gone) {
        error_set(&upload->error, ERROR_UNAVAILABLE, "the client went away");
        start(upload, drop);
    } else if (upload->gathered.size) {
        struct buffer emptied = upload->writing;
        upload->writing = upload->gathered;
        upload->gathered = emptied;
        start(upload, write_gathered);
        set_paused(upload, false);
    } else if (upload->is_whole) {
        start(upload, make_package);
    } else {
        set_paused(upload, false);
    }
}

static void after(uv_work_t *work, int status) {
    (void)status; /* work is never canceled */
    struct upload *upload = CONTAINER_OF(work, struct upload, work);
    upload->is_working = false;
    upload->is_begun = true;
    if (upload->error || upload->stage == drop || upload->stage == make_package)
        end(upload);
    else
        go_on(upload);
}

void uploads_begin(struct uploads *uploads, struct api_call *call) {
    if (uploads->count >= UPLOADS_MAXIMUM || uploads->is_stopped) {
        error_set_status(&call->error, ERROR_UNAVAILABLE, 503,
                         "%d packages are being uploaded; no more are let in until one of them is done",
                         UPLOADS_MAXIMUM);
        uploads->end(call);
        return;
    }
    char uuid[37];
    text_new_uuid(uuid);
    struct upload *upload = mem_new(struct upload);
    *upload = (struct upload){.uploads = uploads,
                              .call = call,
                              .descriptor = -1,
                              .wanted = call->request->content_length > 0 ? (uint64_t)call->request->content_length : 0,
                              .next = uploads->first,
                              .at = &uploads->first};
    snprintf(upload->id, sizeof upload->id, "upload-%s", uuid);
    if (uploads->first) uploads->first->at = &upload->next;
    uploads->first = upload;
    uploads->count++;
    call->upload = upload;
    set_paused(upload, true);
    start(upload, open_spool);
}

void uploads_piece(struct api_call *call, const char *bytes, size_t size) {
    struct upload *upload = call->upload;
    if (!buffer_append(&upload->gathered, bytes, size) && !upload->error)
        error_set(&upload->error, ERROR_UNAVAILABLE, "there is no memory for the upload");
    if (upload->gathered.size >= GATHER_BYTES) set_paused(upload, true);
    go_on(upload);
}

void uploads_body_end(struct api_call *call) {
    call->upload->is_whole = true;
    go_on(call->upload);
}

void uploads_gone(struct api_call *call) {
    struct upload *upload = call->upload;
    upload->is_gone = true;
    atomic_store(&upload->canceled, true);
    go_on(upload);
}

struct uploads *uploads_new(struct controller *controller, void (*end_call)(struct api_call *call)) {
    struct uploads *uploads = mem_new(struct uploads);
    uploads->controller = controller;
    uploads->end = end_call;
    return uploads;
}

void uploads_stop(struct uploads *uploads) {
    uploads->is_stopped = true;
    for (struct upload *upload = uploads->first; upload; upload = upload->next) atomic_store(&upload->canceled, true);
}

void uploads_free(struct uploads *uploads) {
    free(uploads);
}
