#include "runner/runner_session-internal.h"

#include <dlfcn.h>
#include <onnxruntime_c_api.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"

#define API_VERSION 21

struct ort {
    const OrtApi *api;
    OrtEnv *environment;
    OrtMemoryInfo *memory;
    OrtAllocator *allocator; /* the default one; not ours to free */
    char *version;
};

struct session {
    struct ort *ort;
    OrtSession *handle;
    struct session_value *inputs, *outputs;
    const char **input_names, **output_names;
    size_t input_count, output_count;
};

/* Turns a status into an error and frees it; 0 for NULL. */
static int check(const OrtApi *api, OrtStatus *status, enum error_class class, struct error **ret_error) {
    if (!status) return 0;
    int result = error_set(ret_error, class, "%.2000s", api->GetErrorMessage(status));
    api->ReleaseStatus(status);
    return result;
}

/* ---- the library --------------------------------------------------------- */

static void ORT_API_CALL keep_quiet(void *context, OrtLoggingLevel severity, const char *category, const char *id,
                                    const char *location, const char *message) {
    /* What matters comes back as a status; the rest would only fill the log. */
    (void)context, (void)severity, (void)category, (void)id, (void)location, (void)message;
}

static int make_environment(struct ort *ort, struct error **ret_error) {
    const OrtApi *api = ort->api;
    int result = check(
        api, api->CreateEnvWithCustomLogger(keep_quiet, NULL, ORT_LOGGING_LEVEL_ERROR, "slipway", &ort->environment),
        ERROR_DEPLOYMENT, ret_error);
    if (result == 0) result = check(api, api->DisableTelemetryEvents(ort->environment), ERROR_DEPLOYMENT, ret_error);
    if (result == 0)
        result = check(api, api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &ort->memory),
                       ERROR_DEPLOYMENT, ret_error);
    if (result == 0)
        result = check(api, api->GetAllocatorWithDefaultOptions(&ort->allocator), ERROR_DEPLOYMENT, ret_error);
    return result;
}

int ort_open(const char *path, struct ort **ret_ort, struct error **ret_error) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return error_set(ret_error, ERROR_CONFIGURATION, "open ONNX Runtime: %s", dlerror());
    const OrtApiBase *(*get_base)(void) = (const OrtApiBase *(*)(void))dlsym(library, "OrtGetApiBase");
    const OrtApiBase *base = get_base ? get_base() : NULL;
    const OrtApi *api = base ? base->GetApi(API_VERSION) : NULL;
    if (!api) { /* the library stays open: unloading one that has made threads is not safe */
        return error_set(ret_error, ERROR_CONFIGURATION, "open ONNX Runtime: %s offers no API of version %d", path,
                         API_VERSION);
    }
    struct ort *ort = mem_new(struct ort);
    ort->api = api;
    ort->version = text_copy(base->GetVersionString());
    int result = make_environment(ort, ret_error);
    if (result < 0) {
        ort_free(ort);
        return error_wrap(ret_error, "start ONNX Runtime");
    }
    *ret_ort = ort;
    return 0;
}

void ort_free(struct ort *ort) {
    if (!ort) return;
    if (ort->memory) ort->api->ReleaseMemoryInfo(ort->memory);
    if (ort->environment) ort->api->ReleaseEnv(ort->environment);
    free(ort->version);
    free(ort);
}

const char *ort_version(const struct ort *ort) {
    return ort->version;
}

/* ---- loading ------------------------------------------------------------- */

static int read_type(struct ort *ort, const OrtTypeInfo *info, const char *what, struct session_value *value,
                     struct error **ret_error) {
    const OrtApi *api = ort->api;
    const OrtTensorTypeAndShapeInfo *tensor = NULL;
    int result = check(api, api->CastTypeInfoToTensorInfo(info, &tensor), ERROR_DEPLOYMENT, ret_error);
    if (result < 0) return result;
    if (!tensor)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the %s %s is a sequence, map or optional value; only tensors can be served", what,
                         value->name);
    ONNXTensorElementDataType type;
    result = check(api, api->GetTensorElementType(tensor, &type), ERROR_DEPLOYMENT, ret_error);
    if (result == 0) result = check(api, api->GetDimensionsCount(tensor, &value->rank), ERROR_DEPLOYMENT, ret_error);
    if (result < 0) return result;
    if (!tensor_type_from_onnx((int)type, &value->type))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the %s %s has the ONNX element type %d, which cannot be served", what, value->name,
                         (int)type);
    if (value->rank > TENSOR_RANK_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "the %s %s has %zu dimensions; at most %d can be served", what,
                         value->name, value->rank, TENSOR_RANK_MAXIMUM);
    result = check(api, api->GetDimensions(tensor, value->shape, value->rank), ERROR_DEPLOYMENT, ret_error);
    for (size_t i = 0; i < value->rank; i++)
        if (value->shape[i] < 0) value->shape[i] = -1;
    return result;
}

static int read_value(struct session *session, bool input, size_t index, struct session_value *value,
                      struct error **ret_error) {
    const OrtApi *api = session->ort->api;
    OrtAllocator *allocator = session->ort->allocator;
    char *name = NULL;
    OrtTypeInfo *info = NULL;
    OrtStatus *status = input ? api->SessionGetInputName(session->handle, index, allocator, &name)
                              : api->SessionGetOutputName(session->handle, index, allocator, &name);
    int result = check(api, status, ERROR_DEPLOYMENT, ret_error);
    if (result < 0) return result;
    value->name = text_copy(name);
    allocator->Free(allocator, name);
    status = input ? api->SessionGetInputTypeInfo(session->handle, index, &info)
                   : api->SessionGetOutputTypeInfo(session->handle, index, &info);
    result = check(api, status, ERROR_DEPLOYMENT, ret_error);
    if (result == 0) result = read_type(session->ort, info, input ? "input" : "output", value, ret_error);
    if (info) api->ReleaseTypeInfo(info);
    return result;
}

static int read_values(struct session *session, bool input, struct session_value **ret_values, const char ***ret_names,
                       size_t *ret_count, struct error **ret_error) {
    const OrtApi *api = session->ort->api;
    size_t count = 0;
    OrtStatus *status = input ? api->SessionGetInputCount(session->handle, &count)
                              : api->SessionGetOutputCount(session->handle, &count);
    int result = check(api, status, ERROR_DEPLOYMENT, ret_error);
    if (result < 0) return result;
    if (count > SESSION_VALUES_MAXIMUM || (count == 0 && !input))
        return error_set(ret_error, ERROR_CONFIGURATION, "the model has %zu %s; 1 to %d can be served", count,
                         input ? "inputs" : "outputs", SESSION_VALUES_MAXIMUM);
    *ret_values = mem_new_array(count, struct session_value);
    *ret_names = mem_new_array(count, const char *);
    *ret_count = count;
    for (size_t i = 0; i < count; i++) {
        result = read_value(session, input, i, &(*ret_values)[i], ret_error);
        if (result < 0) return result;
        (*ret_names)[i] = (*ret_values)[i].name;
    }
    return 0;
}

/* What the session is to do, entry by entry; every one of these is a status. */
static int set_options(const OrtApi *api, OrtSessionOptions *options, const struct session_options *wanted,
                       struct error **ret_error) {
    static const struct {
        const char *key, *value;
    } entries[] = {
        {"session.load_model_format", "ONNX"}, /* never the flatbuffer format, which nothing has checked */
        {"session.intra_op.allow_spinning", "0"}, /* a waiting thread leaves its core to others */
        {"session.inter_op.allow_spinning", "0"},
        {"session.use_device_allocator_for_initializers",
         "1"}, /* weights outside the arena: it does not double for them */
    };
    int result = check(api, api->SetIntraOpNumThreads(options, (int)wanted->threads), ERROR_DEPLOYMENT, ret_error);
    if (result == 0) result = check(api, api->SetInterOpNumThreads(options, 1), ERROR_DEPLOYMENT, ret_error);
    if (result == 0)
        result = check(api, api->SetSessionExecutionMode(options, ORT_SEQUENTIAL), ERROR_DEPLOYMENT, ret_error);
    if (result == 0)
        result =
            check(api, api->SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL), ERROR_DEPLOYMENT, ret_error);
    if (result == 0 && wanted->varying) /* a plan for every shape that ever came would grow without end */
        result = check(api, api->DisableMemPattern(options), ERROR_DEPLOYMENT, ret_error);
    for (size_t i = 0; result == 0 && i < ARRAY_SIZE(entries); i++)
        result = check(api, api->AddSessionConfigEntry(options, entries[i].key, entries[i].value), ERROR_DEPLOYMENT,
                       ret_error);
    return result;
}

static int load(struct session *session, const char *path, const struct session_options *wanted,
                struct error **ret_error) {
    const OrtApi *api = session->ort->api;
    OrtSessionOptions *options = NULL;
    int result = check(api, api->CreateSessionOptions(&options), ERROR_DEPLOYMENT, ret_error);
    if (result == 0) result = set_options(api, options, wanted, ret_error);
    if (result == 0) {
        OrtStatus *status = api->CreateSession(session->ort->environment, path, options, &session->handle);
        bool no_memory = status && (strstr(api->GetErrorMessage(status), "bad_alloc") ||
                                    strstr(api->GetErrorMessage(status), "Failed to allocate memory"));
        result = check(api, status, no_memory ? ERROR_UNAVAILABLE : ERROR_CONFIGURATION, ret_error);
        if (result < 0 && no_memory) {
            error_mark_transient(ret_error);
            result = error_wrap(ret_error, "there is not enough memory for the model");
        }
    }
    if (options) api->ReleaseSessionOptions(options);
    return result;
}

int session_open(struct ort *ort, const char *path, const struct session_options *options, struct session **ret_session,
                 struct error **ret_error) {
    struct session *session = mem_new(struct session);
    session->ort = ort;
    int result = load(session, path, options, ret_error);
    if (result == 0)
        result = read_values(session, true, &session->inputs, &session->input_names, &session->input_count, ret_error);
    if (result == 0)
        result =
            read_values(session, false, &session->outputs, &session->output_names, &session->output_count, ret_error);
    if (result < 0) {
        session_free(session);
        return error_wrap(ret_error, "load %s", path);
    }
    *ret_session = session;
    return 0;
}

static void free_values(struct session_value *values, size_t count) {
    for (size_t i = 0; values && i < count; i++) free(values[i].name);
    free(values);
}

void session_free(struct session *session) {
    if (!session) return;
    if (session->handle) session->ort->api->ReleaseSession(session->handle);
    free_values(session->inputs, session->input_count);
    free_values(session->outputs, session->output_count);
    free(session->input_names);
    free(session->output_names);
    free(session);
}

const struct session_value *session_inputs(const struct session *session, size_t *ret_count) {
    *ret_count = session->input_count;
    return session->inputs;
}

const struct session_value *session_outputs(const struct session *session, size_t *ret_count) {
    *ret_count = session->output_count;
    return session->outputs;
}

/* ---- running ------------------------------------------------------------- */

static int make_text_value(struct ort *ort, const struct tensor *tensor, OrtValue **ret_value,
                           struct error **ret_error) {
    const OrtApi *api = ort->api;
    int result = check(api,
                       api->CreateTensorAsOrtValue(ort->allocator, tensor->shape, tensor->rank,
                                                   ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, ret_value),
                       ERROR_DEPLOYMENT, ret_error);
    size_t position = 0;
    for (size_t i = 0; result == 0 && i < tensor->element_count; i++) {
        uint32_t size;
        char *room;
        const char *bytes = tensor_next_bytes(tensor, &position, &size);
        result = check(api, api->GetResizedStringTensorElementBuffer(*ret_value, i, size, &room), ERROR_DEPLOYMENT,
                       ret_error);
        if (result == 0 && size) memcpy(room, bytes, size);
    }
    return result;
}

static int make_value(struct ort *ort, const struct tensor *tensor, OrtValue **ret_value, struct error **ret_error) {
    if (tensor->type == TENSOR_BYTES) return make_text_value(ort, tensor, ret_value, ret_error);
    OrtStatus *status = ort->api->CreateTensorWithDataAsOrtValue(
        ort->memory, (void *)tensor->data, tensor->data_size, tensor->shape, tensor->rank,
        (ONNXTensorElementDataType)tensor_types[tensor->type].onnx, ret_value);
    return check(ort->api, status, ERROR_DEPLOYMENT, ret_error);
}

/* Strings of an output, in the protocol's form. */
static int take_text(struct ort *ort, OrtValue *value, struct tensor *tensor, struct error **ret_error) {
    const OrtApi *api = ort->api;
    size_t total = 0;
    int result = check(api, api->GetStringTensorDataLength(value, &total), ERROR_DEPLOYMENT, ret_error);
    if (result < 0) return result;
    tensor->data_size = total + tensor->element_count * sizeof(uint32_t);
    char *at = tensor->owned = malloc(tensor->data_size ? tensor->data_size : 1);
    if (!at) return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for the answer");
    tensor->data = tensor->owned;
    for (size_t i = 0; result == 0 && i < tensor->element_count; i++) {
        size_t size = 0;
        result = check(api, api->GetStringTensorElementLength(value, i, &size), ERROR_DEPLOYMENT, ret_error);
        uint32_t prefix = (uint32_t)size;
        memcpy(at, &prefix, sizeof prefix);
        at += sizeof prefix;
        if (result == 0)
            result = check(api, api->GetStringTensorElement(value, size, i, at), ERROR_DEPLOYMENT, ret_error);
        at += size;
    }
    return result;
}

static int take_shape(struct ort *ort, const OrtValue *value, struct tensor *tensor, struct error **ret_error) {
    const OrtApi *api = ort->api;
    OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    int result = check(api, api->GetTensorTypeAndShape(value, &info), ERROR_DEPLOYMENT, ret_error);
    if (result == 0) result = check(api, api->GetTensorElementType(info, &type), ERROR_DEPLOYMENT, ret_error);
    if (result == 0) result = check(api, api->GetDimensionsCount(info, &tensor->rank), ERROR_DEPLOYMENT, ret_error);
    if (result == 0 && (tensor->rank > TENSOR_RANK_MAXIMUM || !tensor_type_from_onnx((int)type, &tensor->type)))
        result = error_set(ret_error, ERROR_DEPLOYMENT, "the model gave an output of another type than it declares");
    if (result == 0)
        result = check(api, api->GetDimensions(info, tensor->shape, tensor->rank), ERROR_DEPLOYMENT, ret_error);
    if (result == 0 && !tensor_count_elements(tensor->shape, tensor->rank, &tensor->element_count))
        result = error_set(ret_error, ERROR_DEPLOYMENT, "the model gave an output of an impossible shape");
    if (info) api->ReleaseTensorTypeAndShapeInfo(info);
    return result;
}

static int take_output(struct ort *ort, OrtValue *value, struct tensor *tensor, struct error **ret_error) {
    int result = take_shape(ort, value, tensor, ret_error);
    if (result < 0) return result;
    if (tensor->type == TENSOR_BYTES) return take_text(ort, value, tensor, ret_error);
    void *data = NULL;
    result = check(ort->api, ort->api->GetTensorMutableData(value, &data), ERROR_DEPLOYMENT, ret_error);
    tensor->data = data;
    tensor->data_size = tensor->element_count * tensor_types[tensor->type].size;
    return result;
}

/* ONNX Runtime says INVALID_ARGUMENT for shapes and for indexes out of range: the request's fault. */
static int check_run(const OrtApi *api, OrtStatus *status, struct error **ret_error) {
    bool refused = status && api->GetErrorCode(status) == ORT_INVALID_ARGUMENT;
    int result = check(api, status, refused ? ERROR_REQUEST : ERROR_DEPLOYMENT, ret_error);
    return result < 0 ? error_wrap(ret_error, refused ? "the model refuses the input" : "the model failed") : 0;
}

static int run(struct session *session, const OrtValue *const *inputs, const size_t *wanted, size_t wanted_count,
               struct session_result *result_, struct error **ret_error) {
    const char *names[SESSION_VALUES_MAXIMUM];
    for (size_t i = 0; i < wanted_count; i++) names[i] = session->output_names[wanted[i]];
    const OrtApi *api = session->ort->api;
    int result = check_run(api,
                           api->Run(session->handle, NULL, session->input_names, inputs, session->input_count, names,
                                    wanted_count, (OrtValue **)result_->values),
                           ret_error);
    for (size_t i = 0; result == 0 && i < wanted_count; i++) {
        result_->tensors[i].name = names[i];
        result = take_output(session->ort, result_->values[i], &result_->tensors[i], ret_error);
    }
    return result;
}

int session_run(struct session *session, const struct tensor *inputs, const size_t *wanted, size_t wanted_count,
                struct session_result *ret_result, struct error **ret_error) {
    OrtValue *values[SESSION_VALUES_MAXIMUM] = {0};
    struct session_result given = {.count = wanted_count, .session = session};
    int result = 0;
    for (size_t i = 0; result == 0 && i < session->input_count; i++)
        result = make_value(session->ort, &inputs[i], &values[i], ret_error);
    if (result == 0) {
        given.tensors = mem_new_array(wanted_count, struct tensor);
        given.values = mem_new_array(wanted_count, void *);
        result = run(session, (const OrtValue *const *)values, wanted, wanted_count, &given, ret_error);
    }
    for (size_t i = 0; i < session->input_count; i++)
        if (values[i]) session->ort->api->ReleaseValue(values[i]);
    if (result < 0)
        session_result_clear(&given);
    else
        *ret_result = given;
    return result;
}

void session_result_clear(struct session_result *result) {
    for (size_t i = 0; i < result->count; i++) {
        if (result->values && result->values[i]) result->session->ort->api->ReleaseValue(result->values[i]);
        if (result->tensors) tensor_clear(&result->tensors[i]);
    }
    free(result->values);
    free(result->tensors);
    *result = (struct session_result){0};
}
