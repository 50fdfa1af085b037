/* ONNX Runtime, kept behind one file: opening the library, a model's session, running it.
 *
 * The library is opened with dlopen and asked for API 21; nothing else of it is used. Only the CPU provider runs, no
 * custom-op library is ever loaded. Threads: open and load on any one thread; session_run() on one thread at a time.
 * Source: onnxruntime_c_api.h.
 */
#pragma once
#include "runner/runner_tensor-internal.h"

#define SESSION_VALUES_MAXIMUM 256 /* inputs, and outputs, of one model */

struct ort; /* the opened library */
struct session; /* a loaded model */

struct session_value {
    char *name;
    enum tensor_type type;
    size_t rank;
    int64_t shape[TENSOR_RANK_MAXIMUM]; /* -1: any */
};

/* `path` is that of libonnxruntime.so. Before the sandbox, since the library reads /proc and /sys when it is loaded. */
int ort_open(const char *path, struct ort **ret_ort, struct error **ret_error);
void ort_free(struct ort *ort);
const char *ort_version(const struct ort *ort);

struct session_options {
    unsigned threads; /* within one operator; at least 1 */
    bool varying; /* shapes differ from run to run: no memory plan is kept for each of them */
};

/* Loads the file, which runner_onnx_check() has passed. CONFIGURATION error for a model that cannot be served;
 * UNAVAILABLE (transient) when memory is gone. `ort` outlives the session. */
int session_open(struct ort *ort, const char *path, const struct session_options *options, struct session **ret_session,
                 struct error **ret_error);
void session_free(struct session *session);
const struct session_value *session_inputs(const struct session *session, size_t *ret_count);
const struct session_value *session_outputs(const struct session *session, size_t *ret_count);

/* What a run gave: tensors whose data belongs to the result until session_result_clear(). */
struct session_result {
    struct tensor *tensors;
    void **values; /* OrtValue * */
    size_t count;
    const struct session *session;
};

/* Runs with all inputs in the model's order (their data is borrowed during the call) and gives the outputs whose
 * indexes stand in wanted[0..wanted_count). REQUEST error where the model refuses the input, DEPLOYMENT error
 * otherwise. */
int session_run(struct session *session, const struct tensor *inputs, const size_t *wanted, size_t wanted_count,
                struct session_result *ret_result, struct error **ret_error);
void session_result_clear(struct session_result *result);
