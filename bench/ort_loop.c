/* ort_loop: the floor that the service is measured against. A loop over ONNX Runtime and nothing else.
 *
 *     ort_loop LIBRARY MODEL THREADS BATCH SECONDS SENTENCE...
 *     ort_loop LIBRARY MODEL THREADS BATCH 0 @FILE
 *
 * A SENTENCE is its token ids, joined by commas; a FILE has one a line. The loop takes the next BATCH of them, over and
 * over (SECONDS 0: each once, in their order; BATCH divides their number), pads them to the longest, runs them with the
 * session options that Slipway's runner sets, and makes of the answer what a runner makes of it: the mean over each
 * one's tokens, divided by its length. No tokenising, no HTTP, no JSON: what a server adds to this is its own cost.
 * After a warm-up of a tenth of SECONDS it prints one line of JSON about the rest: sentences, seconds (monotonic clock)
 * and cpu_seconds (of the process).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define API_VERSION 21
#define INPUTS 3
#define TOKENS_MAXIMUM 512

struct loop {
    const OrtApi *api;
    OrtSession *session;
    OrtMemoryInfo *memory;
    size_t batch, next;
    size_t count; /* sentences */
    struct sentence {
        size_t tokens;
        int64_t ids[TOKENS_MAXIMUM];
    } * sentences;
    int64_t *inputs[INPUTS];
    float *vector; /* of one sentence; the optimiser must not drop it */
};

static const char *const input_names[INPUTS] = {"input_ids", "attention_mask", "token_type_ids"};
static const char *const output_names[] = {"last_hidden_state"};

static void check(const OrtApi *api, OrtStatus *status, const char *what) {
    if (!status) return;
    fprintf(stderr, "ort_loop: %s: %s\n", what, api->GetErrorMessage(status));
    exit(1);
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static const OrtApi *open_library(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const OrtApiBase *(*get_base)(void) = library ? (const OrtApiBase *(*)(void))dlsym(library, "OrtGetApiBase") : NULL;
    const OrtApi *api = get_base ? get_base()->GetApi(API_VERSION) : NULL;
    if (api) return api;
    fprintf(stderr, "ort_loop: cannot open ONNX Runtime at %s\n", path);
    exit(1);
}

/* The options of src/runner/runner_session.c. */
static void open_session(struct loop *loop, const char *model, int threads) {
    static const char *const entries[][2] = {{"session.intra_op.allow_spinning", "0"},
                                             {"session.inter_op.allow_spinning", "0"},
                                             {"session.use_device_allocator_for_initializers", "1"}};
    const OrtApi *api = loop->api;
    OrtEnv *environment;
    OrtSessionOptions *options;
    check(api, api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "ort_loop", &environment), "start");
    check(api, api->CreateSessionOptions(&options), "options");
    check(api, api->SetIntraOpNumThreads(options, threads), "options");
    check(api, api->SetInterOpNumThreads(options, 1), "options");
    check(api, api->SetSessionExecutionMode(options, ORT_SEQUENTIAL), "options");
    check(api, api->SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL), "options");
    check(api, api->DisableMemPattern(options), "options");
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        check(api, api->AddSessionConfigEntry(options, entries[i][0], entries[i][1]), "options");
    check(api, api->CreateSession(environment, model, options, &loop->session), "load the model");
    check(api, api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &loop->memory), "memory");
}

static void read_sentence(struct sentence *sentence, const char *text) {
    while (*text && sentence->tokens < TOKENS_MAXIMUM) {
        char *end;
        sentence->ids[sentence->tokens++] = strtoll(text, &end, 10);
        text = *end ? end + 1 : end;
    }
}

/* "@FILE" is read into one text a line; anything else is taken as it is. */
static char **read_arguments(int argc, char **argv, size_t *ret_count) {
    if (argc != 1 || argv[0][0] != '@') {
        *ret_count = (size_t)argc;
        return argv;
    }
    FILE *file = fopen(argv[0] + 1, "r");
    char **lines = NULL;
    size_t count = 0;
    for (;;) {
        char *line = NULL;
        size_t room = 0;
        ssize_t size = file ? getline(&line, &room, file) : -1;
        if (size <= 0) break;
        if (line[size - 1] == '\n') line[size - 1] = 0;
        lines = realloc(lines, (count + 1) * sizeof *lines);
        lines[count++] = line;
    }
    if (!count) {
        fprintf(stderr, "ort_loop: cannot read %s\n", argv[0] + 1);
        exit(1);
    }
    fclose(file);
    *ret_count = count;
    return lines;
}

static void make_room(struct loop *loop) {
    for (size_t i = 0; i < INPUTS; i++) loop->inputs[i] = calloc(loop->batch * TOKENS_MAXIMUM, sizeof(int64_t));
}

/* Lays the next batch out; returns its length in tokens. */
static size_t fill(struct loop *loop) {
    size_t length = 0;
    for (size_t i = 0; i < loop->batch; i++) {
        size_t tokens = loop->sentences[(loop->next + i) % loop->count].tokens;
        if (length < tokens) length = tokens;
    }
    for (size_t i = 0; i < loop->batch; i++) {
        const struct sentence *sentence = &loop->sentences[(loop->next + i) % loop->count];
        for (size_t j = 0; j < length; j++) {
            bool real = j < sentence->tokens;
            loop->inputs[0][i * length + j] = real ? sentence->ids[j] : 0;
            loop->inputs[1][i * length + j] = real;
        }
    }
    return length;
}

static void pool(struct loop *loop, const float *hidden, size_t tokens, size_t dimension) {
    float *restrict sum = loop->vector;
    memcpy(sum, hidden, dimension * sizeof *sum);
    for (size_t token = 1; token < tokens; token++)
        for (size_t i = 0; i < dimension; i++) sum[i] += hidden[token * dimension + i];
    double square = 0;
    for (size_t i = 0; i < dimension; i++) {
        sum[i] /= (float)tokens;
        square += (double)sum[i] * sum[i];
    }
    float factor = (float)(1 / sqrt(square));
    for (size_t i = 0; i < dimension; i++) sum[i] *= factor;
}

static void take_vectors(struct loop *loop, OrtValue *output, size_t length) {
    const OrtApi *api = loop->api;
    OrtTensorTypeAndShapeInfo *info;
    int64_t shape[3];
    float *hidden;
    check(api, api->GetTensorTypeAndShape(output, &info), "shape");
    check(api, api->GetDimensions(info, shape, 3), "shape");
    check(api, api->GetTensorMutableData(output, (void **)&hidden), "data");
    size_t dimension = (size_t)shape[2];
    if (!loop->vector) loop->vector = malloc(dimension * sizeof *loop->vector);
    for (size_t i = 0; i < loop->batch; i++)
        pool(loop, hidden + i * length * dimension, loop->sentences[(loop->next + i) % loop->count].tokens, dimension);
    api->ReleaseTensorTypeAndShapeInfo(info);
}

static void run_once(struct loop *loop) {
    const OrtApi *api = loop->api;
    size_t length = fill(loop), size = loop->batch * length * sizeof(int64_t);
    const int64_t shape[2] = {(int64_t)loop->batch, (int64_t)length};
    OrtValue *inputs[INPUTS], *output = NULL;
    for (size_t i = 0; i < INPUTS; i++)
        check(api,
              api->CreateTensorWithDataAsOrtValue(loop->memory, loop->inputs[i], size, shape, 2,
                                                  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, &inputs[i]),
              "make an input");
    check(api,
          api->Run(loop->session, NULL, input_names, (const OrtValue *const *)inputs, INPUTS, output_names, 1, &output),
          "run");
    take_vectors(loop, output, length);
    api->ReleaseValue(output);
    for (size_t i = 0; i < INPUTS; i++) api->ReleaseValue(inputs[i]);
    loop->next = (loop->next + loop->batch) % loop->count;
}

static size_t run_for(struct loop *loop, double seconds) {
    size_t runs = 0;
    for (double end = now(CLOCK_MONOTONIC) + seconds; now(CLOCK_MONOTONIC) < end; runs++) run_once(loop);
    return runs * loop->batch;
}

static size_t run_once_each(struct loop *loop) {
    for (size_t i = 0; i < loop->count; i += loop->batch) run_once(loop);
    return loop->count;
}

int main(int argc, char **argv) {
    if (argc < 7) {
        fprintf(stderr, "usage: ort_loop LIBRARY MODEL THREADS BATCH SECONDS SENTENCE...\n");
        return 2;
    }
    struct loop loop = {.api = open_library(argv[1]), .batch = (size_t)atoi(argv[4])};
    char **sentences = read_arguments(argc - 6, argv + 6, &loop.count);
    loop.sentences = calloc(loop.count, sizeof *loop.sentences);
    for (size_t i = 0; i < loop.count; i++) read_sentence(&loop.sentences[i], sentences[i]);
    open_session(&loop, argv[2], atoi(argv[3]));
    make_room(&loop);
    double seconds = atof(argv[5]);
    run_for(&loop, seconds > 0 ? seconds / 10 : 1);
    if (seconds <= 0) loop.next = 0;
    double begin = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    size_t done = seconds > 0 ? run_for(&loop, seconds) : run_once_each(&loop);
    printf("{\"sentences\": %zu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", done, now(CLOCK_MONOTONIC) - begin,
           now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return 0;
}
