/* A tour through the runner.
 *
 * runner_main() below is its life, in RULES P5's order: flags (runner_flags), bind (runner_bind), open ONNX Runtime
 * (runner_session), the sandbox (runner_sandbox), and only then threads: a worker loads the model (runner_model, which
 * reads the recipe with runner_recipe, checks the file with runner_onnx, and tries the model with runner_probe) while
 * the loop answers the supervisor's pings. When it is loaded, the service opens (runner_service), the socket listens,
 * and the supervisor is told (runner_report).
 *
 * A request comes from http/, becomes a job (runner_job) that speaks one of three protocols (runner_infer with
 * runner_v2_…, runner_embeddings), is tokenised (runner_texts, tokenizer), waits in the batcher (runner_batch), runs
 * (runner_embed with runner_pool, or runner_join), and is answered.
 *
 * It ends on SIGTERM after a drain, when the supervisor's socket closes, or with a reason when the model cannot be
 * served.
 */
#include "runner/runner.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/settings.h"
#include "base/text.h"
#include "runner/runner_bind-internal.h"
#include "runner/runner_flags-internal.h"
#include "runner/runner_folder-internal.h"
#include "runner/runner_pages-internal.h"
#include "runner/runner_report-internal.h"
#include "runner/runner_service-internal.h"
#include "wire/wire.h"

#define HEAD_MAXIMUM 65536
#define CONNECTIONS_MAXIMUM 4096
#define DESCRIPTORS_BESIDE 64 /* files, pipes, the model's own */

struct runner {
    struct runner_flags flags;
    char *folder; /* absolute */
    char *name;
    char digest[DIGEST_HEX_SIZE];
    unsigned threads;
    uv_loop_t loop;
    uv_signal_t terminate, interrupt;
    uv_work_t loading;
    int listener;
    struct ort *ort;
    struct sandbox_report sandbox;
    struct model *model;
    struct error *error; /* why it ends before its time */
    struct runner_service service;
    struct http_server *server;
    struct wire_channel *supervisor; /* NULL: alone */
    uv_poll_t supervisor_poll;
    bool loaded, ending;
};

/* ---- before the sandbox --------------------------------------------------------- */

static unsigned count_processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

/* Beside the program: as it lies in the build folder, or as it is installed. */
static char *find_onnxruntime(const char *flag) {
    if (*flag) return text_copy(flag);
    static const char *const places[] = {SLIPWAY_ORT_LIBRARY_BUILT, SLIPWAY_ORT_LIBRARY_INSTALLED};
    char program[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    program[size > 0 ? size : 0] = 0;
    char *slash = strrchr(program, '/');
    if (slash) *slash = 0;
    for (size_t i = 0; slash && i < ARRAY_SIZE(places); i++) {
        char *path = fs_join(program, places[i]);
        if (fs_exists(path)) return path;
        free(path);
    }
    return text_copy("libonnxruntime.so");
}

static int find_folder(struct runner *runner, struct error **ret_error) {
    char path[PATH_MAX];
    if (!realpath(runner->flags.model, path))
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open the model folder %s", runner->flags.model);
    runner->folder = text_copy(path);
    const char *last = strrchr(path, '/');
    runner->name = text_copy(runner->flags.name ? runner->flags.name : last + 1);
    if (!text_is_name(runner->name))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the folder's name %s cannot be the model's name: give one with --name", runner->name);
    return 0;
}

static int bind_socket(struct runner *runner, struct error **ret_error) {
    const struct runner_flags *flags = &runner->flags;
    bool local = flags->socket || text_starts_with(flags->listen, "unix:");
    if (!local && !settings_is_loopback(flags->listen) && !flags->allow_remote)
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "--listen %s is beyond loopback, and a runner asks nobody who they are: put it behind a gateway, or say "
            "--allow-remote on",
            flags->listen);
    _cleanup_free_ char *address = flags->socket ? text_format("unix:%s", flags->socket) : text_copy(flags->listen);
    return runner_bind(address, &runner->listener, ret_error);
}

static int enter_sandbox(struct runner *runner, struct error **ret_error) {
    if (!runner->flags.sandbox) return 0;
    struct folder_links links = {0};
    int result =
        runner->supervisor ? 0 : runner_folder_find_links(runner->folder, &links, ret_error); /* packages have none */
    if (result < 0) return result;
    const char **paths = mem_new_array(links.count + 1, const char *);
    paths[0] = runner->folder;
    for (size_t i = 0; i < links.count; i++) paths[i + 1] = links.targets[i];
    const struct sandbox_config config = {.read_paths = paths,
                                          .read_path_count = links.count + 1,
                                          .memory_limit = runner->flags.memory_limit,
                                          .complete = runner->flags.sandbox_required,
                                          .descriptors = CONNECTIONS_MAXIMUM + DESCRIPTORS_BESIDE};
    result = runner_sandbox_enter(&config, &runner->sandbox, ret_error);
    free(paths);
    runner_folder_links_clear(&links);
    return result;
}

static int prepare(struct runner *runner, struct error **ret_error) {
    _cleanup_free_ char *library = find_onnxruntime(runner->flags.onnxruntime);
    int result = find_folder(runner, ret_error);
    if (result == 0) result = bind_socket(runner, ret_error);
    if (result == 0) result = ort_open(library, &runner->ort, ret_error);
    if (result == 0) result = enter_sandbox(runner, ret_error);
    return result;
}

/* ---- loading --------------------------------------------------------------------- */

static int load(struct runner *runner, struct error **ret_error) {
    const struct runner_flags *flags = &runner->flags;
    int result = 0;
    if (flags->package_digest)
        memcpy(runner->digest, flags->package_digest, DIGEST_HEX_SIZE);
    else
        result = runner_folder_measure(runner->folder, runner->digest, ret_error);
    if (result < 0) return result;
    const struct model_config config = {.ort = runner->ort,
                                        .folder = runner->folder,
                                        .package_digest = runner->digest,
                                        .recipe_json = flags->recipe,
                                        .threads = runner->threads};
    return model_open(&config, &runner->model, ret_error);
}

static void load_on_worker(uv_work_t *work) {
    struct runner *runner = work->data;
    load(runner, &runner->error);
    malloc_trim(0); /* what reading the file took */
}

/* ---- ending ---------------------------------------------------------------------- */

static void close_supervisor(struct runner *runner) {
    if (!runner->supervisor) return;
    uv_poll_stop(&runner->supervisor_poll);
    if (!uv_is_closing((uv_handle_t *)&runner->supervisor_poll))
        uv_close((uv_handle_t *)&runner->supervisor_poll, NULL);
}

/* Lets go of everything that keeps the loop running. */
static void on_drained(void *context) {
    struct runner *runner = context;
    uv_close((uv_handle_t *)&runner->terminate, NULL);
    uv_close((uv_handle_t *)&runner->interrupt, NULL);
    close_supervisor(runner);
    if (runner->service.batcher) runner_service_close(&runner->service);
    if (runner->server) http_server_close(runner->server);
    runner->server = NULL;
}

static void end(struct runner *runner) {
    if (runner->ending) return;
    runner->ending = true;
    if (runner->server)
        http_server_drain(runner->server, on_drained, runner);
    else if (runner->loaded)
        on_drained(runner);
    /* else: the load ends first; a worker cannot be stopped */
}

static void on_signal(uv_signal_t *signal, int number) {
    struct runner *runner = signal->data;
    if (runner->ending || !runner->loaded) _exit(RUNNER_EXIT_OK); /* the second time, or nothing to drain */
    log_write(LOG_INFO, "ending after a drain", "signal", number == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
    end(runner);
}

/* ---- the supervisor -------------------------------------------------------------- */

static void watch_supervisor(struct runner *runner);

/* A line is one write(2), so none is torn: each goes into the file before or into this one. */
static void take_log_file(struct runner *runner) {
    _cleanup_close_ int file = wire_take_descriptor(runner->supervisor);
    if (file < 0 || dup2(file, STDOUT_FILENO) < 0 || dup2(file, STDERR_FILENO) < 0) return;
    wire_say(runner->supervisor, log_file_taken, .unused = 0);
}

static void on_message(struct runner *runner, const struct wire_message *message) {
    if (message->type == WIRE_ping) wire_say(runner->supervisor, pong, .sequence = message->ping.sequence);
    if (message->type == WIRE_log_file) take_log_file(runner);
}

static void on_supervisor(uv_poll_t *poll, int status, int events) {
    struct runner *runner = poll->data;
    (void)events;
    int received = status < 0 ? -1 : wire_flush(runner->supervisor, NULL);
    while (received >= 0) {
        _cleanup_wire_message_ struct wire_message message = {0};
        received = wire_receive(runner->supervisor, &message, NULL);
        if (received <= 0) break;
        on_message(runner, &message);
    }
    if (received < 0) {
        log_write(LOG_WARNING, "the supervisor is gone", NULL);
        _exit(RUNNER_EXIT_TRANSIENT); /* P2: nobody is there to be served */
    }
    watch_supervisor(runner);
}

static void watch_supervisor(struct runner *runner) {
    int events = UV_READABLE | (wire_channel_wants_write(runner->supervisor) ? UV_WRITABLE : 0);
    if (!uv_is_closing((uv_handle_t *)&runner->supervisor_poll))
        uv_poll_start(&runner->supervisor_poll, events, on_supervisor);
}

static void open_supervisor(struct runner *runner) {
    uv_poll_init(&runner->loop, &runner->supervisor_poll, wire_channel_descriptor(runner->supervisor));
    runner->supervisor_poll.data = runner;
    watch_supervisor(runner);
}

/* ---- serving --------------------------------------------------------------------- */

static void tell_ready(struct runner *runner) {
    uint64_t memory = runner_memory_pss();
    _cleanup_free_ char *report = runner_report(runner->model, &runner->sandbox, runner->threads, memory);
    _cleanup_free_ char *address =
        runner_bound_address(runner->listener, runner->flags.socket ? "" : runner->flags.listen);
    _cleanup_free_ char *size = text_size(memory);
    if (runner->supervisor) {
        wire_say(runner->supervisor, runner_ready, .report_json = report);
        watch_supervisor(runner);
    }
    log_write(LOG_INFO, "ready", "model", runner->name, "listen", runner->flags.socket ? runner->flags.socket : address,
              "memory", size, "batching", runner->model->together ? "on" : runner->model->together_reason, "probe",
              runner->model->probe_reason, NULL);
    log_write(LOG_DEBUG, "report", "json", report, NULL);
}

static int serve(struct runner *runner, struct error **ret_error) {
    const struct batch_config limits = {.rows_maximum = runner->flags.batch_texts,
                                        .tokens_maximum = runner->flags.batch_tokens};
    runner_service_open(&runner->service, &runner->loop, runner->model, runner->name, runner->supervisor != NULL,
                        runner->flags.revision, &limits);
    const struct http_server_config config = {
        .loop = &runner->loop,
        .limits = {.head_maximum = HEAD_MAXIMUM,
                   .body_maximum = runner->flags.body_maximum,
                   .connections_maximum = CONNECTIONS_MAXIMUM,
                   /* the gateway, which has its own, keeps connections for as long as it likes */
                   .header_timeout_ms = runner->supervisor ? 0 : 10000,
                   .body_timeout_ms = runner->supervisor ? 0 : 30000,
                   .idle_timeout_ms = runner->supervisor ? 0 : 75000},
        .handler = &runner_handler,
        .context = &runner->service};
    if (listen(runner->listener, SOMAXCONN) < 0) {
        error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "listen for requests");
        return error_mark_transient(ret_error);
    }
    runner->server = http_server_new(&config);
    return http_server_listen(runner->server, runner->listener, ret_error);
}

static void tell_failed(struct runner *runner) {
    _cleanup_free_ char *text = error_text(runner->error);
    _cleanup_free_ char *json = json_from_error(runner->error);
    bool permanent = !runner->error->transient;
    log_write(LOG_ERROR, "cannot serve the model", "cause", text, "permanent", permanent ? "yes" : "no", NULL);
    if (!runner->supervisor) return;
    wire_say(runner->supervisor, runner_failed, .error_json = json, .permanent = permanent);
    wire_flush(runner->supervisor, NULL);
}

static void after_load(uv_work_t *work, int status) {
    struct runner *runner = work->data;
    (void)status;
    runner->loaded = true;
    if (!runner->error && !runner->ending && serve(runner, &runner->error) == 0) {
        tell_ready(runner);
        return;
    }
    runner->ending = true;
    on_drained(runner);
}

/* ---- life ------------------------------------------------------------------------ */

static int run(struct runner *runner) {
    if (runner->flags.sandbox) runner_sandbox_forbid_io_uring(&runner->error);
    uv_loop_init(&runner->loop);
    uv_signal_init(&runner->loop, &runner->terminate);
    uv_signal_init(&runner->loop, &runner->interrupt);
    runner->terminate.data = runner->interrupt.data = runner->loading.data = runner;
    uv_signal_start(&runner->terminate, on_signal, SIGTERM);
    uv_signal_start(&runner->interrupt, on_signal, SIGINT);
    if (runner->supervisor) open_supervisor(runner);
    if (!runner->error && prepare(runner, &runner->error) == 0) {
        if (runner->sandbox.missing)
            log_write(LOG_WARNING, "the sandbox is not complete", "missing", runner->sandbox.missing, NULL);
        uv_queue_work(&runner->loop, &runner->loading, load_on_worker, after_load);
    } else {
        on_drained(runner);
    }
    uv_run(&runner->loop, UV_RUN_DEFAULT);
    uv_loop_close(&runner->loop);
    if (!runner->error) return RUNNER_EXIT_OK;
    tell_failed(runner);
    return runner->error->transient ? RUNNER_EXIT_TRANSIENT : RUNNER_EXIT_PERMANENT;
}

static void clear(struct runner *runner) {
    model_free(runner->model);
    ort_free(runner->ort);
    wire_channel_free(runner->supervisor);
    error_free(runner->error);
    free(runner->sandbox.missing);
    free(runner->folder);
    free(runner->name);
}

int runner_main(int argc, char **argv) {
    struct runner runner = {.listener = -1};
    _cleanup_error_ struct error *error = NULL;
    if (runner_flags_parse(argc, argv, &runner.flags, &error) < 0) {
        _cleanup_free_ char *text = error_text(error);
        fprintf(stderr, "slipway runner: %s\nTry slipway runner --help.\n", text);
        return RUNNER_EXIT_USAGE;
    }
    if (runner.flags.help) {
        _cleanup_free_ char *help = runner_flags_help();
        fputs(help, stdout);
        return RUNNER_EXIT_OK;
    }
    log_open_as("runner", runner.flags.log_level, runner.flags.log_format);
    signal(SIGPIPE, SIG_IGN);
    runner_ask_for_huge_pages(argc, argv);
    mallopt(M_ARENA_MAX, 1); /* more would scatter what is freed, and only the first one grows on huge pages */
    runner.threads = runner.flags.threads                 ? (unsigned)runner.flags.threads
                     : runner.flags.supervisor_descriptor ? 1
                                                          : count_processors();
    if (runner.flags.supervisor_descriptor)
        runner.supervisor = wire_channel_new((int)runner.flags.supervisor_descriptor);
    int status = run(&runner);
    clear(&runner);
    return status;
}
