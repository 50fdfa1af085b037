#include "controller/api_processes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "wire/wire.h"

struct process_entry {
    char *role, *deployment_id;
    uint64_t pid, since_ms, restarts, revision;
};

struct process_list {
    uint64_t question;
    struct process_entry *entries;
    size_t count;
};

struct process_questions {
    struct controller *controller;
    uint64_t newest;
    struct api_call *asked; /* linked by next */
};

struct process_questions *process_questions_new(struct controller *controller) {
    struct process_questions *questions = mem_new(struct process_questions);
    questions->controller = controller;
    return questions;
}

void process_questions_free(struct process_questions *questions) {
    free(questions);
}

void process_list_free(struct process_list *list) {
    if (!list) return;
    for (size_t i = 0; i < list->count; i++) {
        free(list->entries[i].role);
        free(list->entries[i].deployment_id);
    }
    free(list->entries);
    free(list);
}

void process_questions_ask(struct process_questions *questions, struct api_call *call) {
    call->processes = mem_new(struct process_list);
    call->processes->question = ++questions->newest;
    call->next = questions->asked;
    questions->asked = call;
    controller_say(questions->controller, &(struct wire_message){.type = WIRE_list_processes,
                                                                 .list_processes = {.request = questions->newest}});
}

static void add_entry(struct process_list *list, const struct wire_process *process) {
    list->entries = mem_resize(list->entries, list->count + 1, sizeof *list->entries);
    list->entries[list->count++] = (struct process_entry){
        .role = text_copy(process->role),
        .deployment_id = text_copy(process->deployment_id),
        .pid = process->pid,
        .since_ms = process->since_ms,
        .restarts = process->restarts,
        .revision = process->revision,
    };
}

bool process_questions_take(struct process_questions *questions, const struct wire_message *message,
                            struct api_call **ret_complete) {
    *ret_complete = NULL;
    if (message->type != WIRE_process && message->type != WIRE_processes_end) return false;
    bool is_end = message->type == WIRE_processes_end;
    uint64_t question = is_end ? message->processes_end.request : message->process.request;
    for (struct api_call **at = &questions->asked; *at; at = &(*at)->next) {
        struct api_call *call = *at;
        if (call->processes->question != question) continue;
        if (is_end) {
            *at = call->next;
            call->next = NULL;
            *ret_complete = call;
        } else {
            add_entry(call->processes, &message->process);
        }
        break;
    }
    return true;
}

/* The proportional set size in bytes (Linux Documentation/filesystems/proc.rst, smaps_rollup), 0 when it has gone. */
uint64_t process_memory_bytes(uint64_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%llu/smaps_rollup", (unsigned long long)pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    char line[256];
    unsigned long long kibibytes = 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "Pss: %llu kB", &kibibytes) == 1) break;
    fclose(file);
    return kibibytes * 1024;
}

/* The deployment's current name; caller frees. NULL for a process without one. */
static char *deployment_name(struct store_transaction *tx, const char *deployment_id) {
    _cleanup_deployment_ struct deployment deployment = {0};
    if (!deployment_id || !*deployment_id || deployment_load(tx, deployment_id, &deployment, NULL) < 0) return NULL;
    return TAKE(deployment.name);
}

int api_process_list(struct api_call *call, struct error **ret_error) {
    int result = api_check_parameters(call, 1u << API_LIMIT | 1u << API_OFFSET, ret_error);
    int64_t limit, offset;
    if (result < 0 || (result = api_page(call, &limit, &offset, ret_error)) < 0) return result;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if ((result = store_begin(call->controller->store, &tx, ret_error)) < 0) return result;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *array = yyjson_mut_arr(document);
    for (size_t i = (size_t)offset; i < call->processes->count && i < (size_t)(offset + limit); i++) {
        const struct process_entry *entry = &call->processes->entries[i];
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, array);
        json_add_text(document, object, "role", entry->role);
        yyjson_mut_obj_add_uint(document, object, "pid", entry->pid);
        json_add_time(document, object, "since", (int64_t)entry->since_ms);
        yyjson_mut_obj_add_uint(document, object, "restarts", entry->restarts);
        yyjson_mut_obj_add_uint(document, object, "memory_bytes", process_memory_bytes(entry->pid));
        _cleanup_free_ char *name = deployment_name(tx, entry->deployment_id);
        json_add_text(document, object, "deployment", name);
        if (entry->revision) yyjson_mut_obj_add_uint(document, object, "revision", entry->revision);
    }
    call->total_count = (int64_t)call->processes->count;
    api_answer(call, 200, document, array);
    return 0;
}

/* ---- as metrics ---- */

static uint64_t restarts_of(const struct process_entry *entry) {
    return entry->restarts;
}

static uint64_t memory_of(const struct process_entry *entry) {
    return process_memory_bytes(entry->pid);
}

static uint64_t started_of(const struct process_entry *entry) {
    return entry->since_ms / 1000;
}

/* During an upgrade a role has two processes: they are one sample, that of the younger. */
static bool is_sample(const struct process_list *list, size_t i) {
    const struct process_entry *entry = &list->entries[i];
    if (text_equal(entry->role, "runner")) return false; /* replicas have families of their own */
    for (size_t k = 0; k < list->count; k++)
        if (k != i && text_equal(list->entries[k].role, entry->role) &&
            (list->entries[k].since_ms > entry->since_ms || (list->entries[k].since_ms == entry->since_ms && k < i)))
            return false;
    return true;
}

void process_list_write_metrics(const struct process_list *list, struct buffer *out) {
    static const struct {
        const char *name, *type, *help;
        uint64_t (*value)(const struct process_entry *entry);
    } families[] = {
        {"slipway_process_restarts_total", "counter", "How often a process of the service was started again.",
         restarts_of},
        {"slipway_process_memory_bytes", "gauge", "Proportional set size of a process of the service.", memory_of},
        {"slipway_process_start_time_seconds", "gauge", "When a process of the service was started, since 1970.",
         started_of},
    };
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        buffer_append_format(out, "# HELP %s %s\n# TYPE %s %s\n", families[i].name, families[i].help, families[i].name,
                             families[i].type);
        for (size_t k = 0; list && k < list->count; k++)
            if (is_sample(list, k))
                buffer_append_format(out, "%s{process=\"%s\"} %llu\n", families[i].name, list->entries[k].role,
                                     (unsigned long long)families[i].value(&list->entries[k]));
    }
}
