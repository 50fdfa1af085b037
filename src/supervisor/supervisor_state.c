/* Our state as JSON, for the program that follows (RULES U1), and back. Every struct that goes along has one table of
 * its fields, from which both directions are made; what a table does not name starts anew. A reader takes what it does
 * not find as it is in a fresh struct, and passes over what it does not know, so that neighbours in version understand
 * each other; STATE_FORMAT grows where that would not do. */
#include <fcntl.h>
#include <stddef.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/version.h"
#include "supervisor/supervisor-internal.h"

/* ---- fields ---- */

enum field_kind { FIELD_INT, FIELD_UNSIGNED, FIELD_U64, FIELD_I64, FIELD_BOOL, FIELD_TEXT };

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
};

#define FIELD(container, kind, field)                                                                                  \
    { #field, FIELD_##kind, offsetof(struct container, field) }

static const struct field child_fields[] = {
    FIELD(child, INT, pid),
    FIELD(child, INT, pidfd),
    FIELD(child, INT, failure),
    FIELD(child, U64, started_ms),
    FIELD(child, I64, since_ms),
    FIELD(child, U64, kill_at_ms),
    FIELD(child, TEXT, kill_reason),
    FIELD(child, BOOL, killed),
    FIELD(child, U64, ping_at_ms),
    FIELD(child, U64, pings),
    FIELD(child, UNSIGNED, pings_unanswered),
    FIELD(child, U64, oom_kills),
};
static const struct field process_fields[] = {
    FIELD(process, U64, start_at_ms), FIELD(process, U64, stable_since_ms), FIELD(process, U64, worked_ms),
    FIELD(process, U64, deaths),      FIELD(process, U64, restarts),        FIELD(process, BOOL, idle_priority),
};
static const struct field role_fields[] = {
    FIELD(role, BOOL, registered), FIELD(role, BOOL, ready),   FIELD(role, BOOL, has_been_ready),
    FIELD(role, BOOL, is_fresh),   FIELD(role, BOOL, leaving), FIELD(role, U64, gateway_id),
    FIELD(role, U64, generation),  FIELD(role, U64, lowest),
};
static const struct field replica_fields[] = {
    FIELD(replica, TEXT, id),
    FIELD(replica, TEXT, deployment_id),
    FIELD(replica, TEXT, deployment_name),
    FIELD(replica, TEXT, package_path),
    FIELD(replica, TEXT, package_digest),
    FIELD(replica, TEXT, recipe_json),
    FIELD(replica, U64, revision),
    FIELD(replica, U64, threads),
    FIELD(replica, U64, memory_limit_bytes),
    FIELD(replica, U64, restarts_maximum),
    FIELD(replica, U64, ready_deadline_ms),
    FIELD(replica, U64, incarnation),
    FIELD(replica, INT, last_pid),
    FIELD(replica, TEXT, address),
    FIELD(replica, TEXT, log_path),
    FIELD(replica, I64, log_start),
    FIELD(replica, TEXT, report_json),
    FIELD(replica, TEXT, error_json),
    FIELD(replica, BOOL, permanent),
    FIELD(replica, BOOL, stopping),
    FIELD(replica, BOOL, final),
    FIELD(replica, TEXT, cause),
    FIELD(replica, TEXT, log_tail),
};
static const struct field supervisor_fields[] = {
    FIELD(supervisor, TEXT, program),
    FIELD(supervisor, TEXT, state),
    FIELD(supervisor, TEXT, alias_folder),
    FIELD(supervisor, TEXT, members),
    FIELD(supervisor, INT, lock),
    FIELD(supervisor, INT, listener),
    FIELD(supervisor, INT, control),
    FIELD(supervisor, INT, alias_lock),
    FIELD(supervisor, U64, gateways),
    FIELD(supervisor, U64, incarnations),
    FIELD(supervisor, U64, started_ms),
    FIELD(supervisor, BOOL, said_ready),
    FIELD(supervisor, BOOL, replace.is_asked_again),
};
static const struct field upgrade_fields[] = {
    FIELD(upgrade, INT, state),    FIELD(upgrade, TEXT, from),    FIELD(upgrade, TEXT, to),
    FIELD(upgrade, TEXT, program), FIELD(upgrade, TEXT, reason),  FIELD(upgrade, I64, began_at),
    FIELD(upgrade, I64, ended_at), FIELD(upgrade, INT, previous), FIELD(upgrade, TEXT, previous_program),
};

_Static_assert(sizeof(pid_t) == sizeof(int), "FIELD_INT holds a pid");
_Static_assert(sizeof(off_t) == sizeof(int64_t), "FIELD_I64 holds an offset");
_Static_assert(sizeof(enum upgrade_state) == sizeof(int), "FIELD_INT holds a state");

static void write_field(yyjson_mut_doc *document, yyjson_mut_val *object, const struct field *field, const void *from) {
    const char *at = (const char *)from + field->offset;
    switch (field->kind) {
    case FIELD_INT: yyjson_mut_obj_add_int(document, object, field->name, *(const int *)at); break;
    case FIELD_UNSIGNED: yyjson_mut_obj_add_uint(document, object, field->name, *(const unsigned *)at); break;
    case FIELD_U64: yyjson_mut_obj_add_uint(document, object, field->name, *(const uint64_t *)at); break;
    case FIELD_I64: yyjson_mut_obj_add_sint(document, object, field->name, *(const int64_t *)at); break;
    case FIELD_BOOL: yyjson_mut_obj_add_bool(document, object, field->name, *(const bool *)at); break;
    case FIELD_TEXT: json_add_text(document, object, field->name, *(char *const *)at); break;
    }
}

static void write_fields(yyjson_mut_doc *document, yyjson_mut_val *object, const struct field *fields, size_t count,
                         const void *from) {
    for (size_t i = 0; i < count; i++) write_field(document, object, &fields[i], from);
}

static bool fits(const struct field *field, yyjson_val *value) {
    switch (field->kind) {
    case FIELD_INT:
        return yyjson_is_int(value) && yyjson_get_sint(value) >= INT32_MIN && yyjson_get_sint(value) <= INT32_MAX;
    case FIELD_UNSIGNED: return yyjson_is_uint(value) && yyjson_get_uint(value) <= UINT32_MAX;
    case FIELD_U64: return yyjson_is_uint(value);
    case FIELD_I64: return yyjson_is_int(value);
    case FIELD_BOOL: return yyjson_is_bool(value);
    case FIELD_TEXT: return yyjson_is_str(value);
    }
    return false;
}

static void take_field(const struct field *field, yyjson_val *value, char *at) {
    switch (field->kind) {
    case FIELD_INT: *(int *)at = (int)yyjson_get_sint(value); break;
    case FIELD_UNSIGNED: *(unsigned *)at = (unsigned)yyjson_get_uint(value); break;
    case FIELD_U64: *(uint64_t *)at = yyjson_get_uint(value); break;
    case FIELD_I64: *(int64_t *)at = yyjson_get_sint(value); break;
    case FIELD_BOOL: *(bool *)at = yyjson_get_bool(value); break;
    case FIELD_TEXT:
        free(*(char **)at);
        *(char **)at = text_copy(yyjson_get_str(value));
        break;
    }
}

static int read_fields(yyjson_val *object, const struct field *fields, size_t count, void *to,
                       struct error **ret_error) {
    if (!yyjson_is_obj(object)) return error_set(ret_error, ERROR_CONFIGURATION, "what should be an object is none");
    for (size_t i = 0; i < count; i++) {
        yyjson_val *value = yyjson_obj_get(object, fields[i].name);
        if (!value) continue;
        if (!fits(&fields[i], value))
            return error_set(ret_error, ERROR_CONFIGURATION, "%s is not what it should be", fields[i].name);
        take_field(&fields[i], value, (char *)to + fields[i].offset);
    }
    return 0;
}

#define WRITE(document, object, fields, from) write_fields((document), (object), (fields), ARRAY_SIZE(fields), (from))
#define READ(object, fields, to, ret_error) read_fields((object), (fields), ARRAY_SIZE(fields), (to), (ret_error))

/* ---- processes ---- */

static void write_process(yyjson_mut_doc *document, yyjson_mut_val *array, struct process *process) {
    yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, array);
    yyjson_mut_obj_add_str(document, object, "kind", process->kind->role);
    WRITE(document, object, process_fields, process);
    yyjson_mut_val *child = yyjson_mut_obj_add_obj(document, object, "child");
    WRITE(document, child, child_fields, &process->child);
    if (process->child.channel)
        yyjson_mut_obj_add_int(document, child, "channel", wire_channel_descriptor(process->child.channel));
    yyjson_mut_val *own = yyjson_mut_obj_add_obj(document, object, "own");
    if (process_is_role(process))
        WRITE(document, own, role_fields, role_of(process));
    else
        WRITE(document, own, replica_fields, CONTAINER_OF(process, struct replica, process));
}

static int read_child(yyjson_val *object, struct child *child, bool adopt, struct error **ret_error) {
    int result = READ(object, child_fields, child, ret_error);
    if (result < 0) return result;
    yyjson_val *channel = yyjson_obj_get(object, "channel");
    if (!channel) return 0;
    if (!yyjson_is_uint(channel) || yyjson_get_uint(channel) > INT32_MAX)
        return error_set(ret_error, ERROR_CONFIGURATION, "a channel is not a descriptor");
    if (adopt) child->channel = wire_channel_new((int)yyjson_get_uint(channel));
    return 0;
}

/* A replica that was told to exist has these, whatever came after. */
static bool is_whole(const struct replica *replica) {
    const char *const texts[] = {replica->id,           replica->deployment_id,  replica->deployment_name,
                                 replica->package_path, replica->package_digest, replica->recipe_json,
                                 replica->log_path};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (!texts[i]) return false;
    return replica->address || !replica->process.child.pid;
}

static int read_replica(yyjson_val *own, struct replica *replica, struct error **ret_error) {
    int result = READ(own, replica_fields, replica, ret_error);
    if (result < 0 || is_whole(replica)) return result;
    return error_set(ret_error, ERROR_CONFIGURATION, "a replica lacks a field");
}

/* An empty process of that kind, in the list. */
static struct process *add_process(struct supervisor *supervisor, const char *kind) {
    for (size_t i = 0; i < ROLE_COUNT; i++)
        if (text_equal(role_kinds[i].role, kind)) return &supervisor_add_role(supervisor, (enum role_index)i)->process;
    if (!text_equal(runner_kind.role, kind)) return NULL;
    struct replica *replica = mem_new(struct replica);
    process_init(&replica->process, &runner_kind);
    supervisor_add_process(supervisor, &replica->process);
    return &replica->process;
}

static int read_process(struct supervisor *supervisor, yyjson_val *object, bool adopt, struct error **ret_error) {
    const char *kind = yyjson_get_str(yyjson_obj_get(object, "kind"));
    struct process *process = kind ? add_process(supervisor, kind) : NULL;
    if (!process)
        return error_set(ret_error, ERROR_CONFIGURATION, "there is a process of the kind \"%s\", which is not known",
                         kind ? kind : "");
    int result = READ(object, process_fields, process, ret_error);
    if (result >= 0) result = read_child(yyjson_obj_get(object, "child"), &process->child, adopt, ret_error);
    if (result < 0) return result;
    yyjson_val *own = yyjson_obj_get(object, "own");
    if (!process_is_role(process)) return read_replica(own, CONTAINER_OF(process, struct replica, process), ret_error);
    struct role *role = role_of(process);
    result = READ(own, role_fields, role, ret_error);
    if (!role->leaving) supervisor->roles[role_index_of(process)] = role;
    return result;
}

static int read_processes(struct supervisor *supervisor, yyjson_val *array, bool adopt, struct error **ret_error) {
    size_t at, count;
    yyjson_val *object;
    yyjson_arr_foreach(array, at, count, object) {
        int result = read_process(supervisor, object, adopt, ret_error);
        if (result < 0) return error_wrap(ret_error, "process %zu", at);
    }
    for (size_t i = 0; i < ROLE_COUNT; i++)
        if (!supervisor->roles[i]) supervisor->roles[i] = supervisor_add_role(supervisor, (enum role_index)i);
    return 0;
}

/* ---- settings ---- */

static void write_settings(yyjson_mut_doc *document, yyjson_mut_val *object, const struct settings *settings) {
    for (size_t i = 0; i < settings_count; i++) {
        _cleanup_free_ char *value = settings_value(settings, &settings_table[i]);
        json_add_text(document, object, settings_table[i].name, value);
    }
}

static int read_settings(yyjson_val *object, struct settings *settings, struct error **ret_error) {
    size_t at, count;
    yyjson_val *name, *value;
    yyjson_obj_foreach(object, at, count, name, value) {
        if (!settings_find(yyjson_get_str(name))) continue; /* of another version */
        if (!yyjson_is_str(value))
            return error_set(ret_error, ERROR_CONFIGURATION, "the setting %s is no text", yyjson_get_str(name));
        int result = settings_set(settings, yyjson_get_str(name), yyjson_get_str(value), ret_error);
        if (result < 0) return result;
    }
    return 0;
}

/* ---- the whole ---- */

char *state_write(const struct supervisor *supervisor, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_int(document, root, "format", STATE_FORMAT);
    json_add_text(document, root, "version", build_version());
    WRITE(document, yyjson_mut_obj_add_obj(document, root, "supervisor"), supervisor_fields, supervisor);
    WRITE(document, yyjson_mut_obj_add_obj(document, root, "upgrade"), upgrade_fields, &supervisor->upgrade);
    write_settings(document, yyjson_mut_obj_add_obj(document, root, "settings"), supervisor->settings);
    write_settings(document, yyjson_mut_obj_add_obj(document, root, "asked"), supervisor->asked);
    yyjson_mut_val *processes = yyjson_mut_obj_add_arr(document, root, "processes");
    for (struct process *process = supervisor->processes; process; process = process->next)
        if (!process->forgotten && (process_is_role(process) || process->kind == &runner_kind))
            write_process(document, processes, process);
    return json_write(document, ret_size);
}

static int check_format(yyjson_val *root, struct error **ret_error) {
    int64_t format = 0;
    int result = json_get_number(root, "", "format", true, 0, INT32_MAX, &format, ret_error);
    if (result < 0 || format <= STATE_FORMAT) return result;
    return error_set(ret_error, ERROR_CONFIGURATION, "the state has format %lld, and version %s reads formats up to %d",
                     (long long)format, build_version(), STATE_FORMAT);
}

/* Without these there is nothing to go on with. */
static int check_supervisor(const struct supervisor *supervisor, struct error **ret_error) {
    if (supervisor->program && supervisor->state && supervisor->members && supervisor->lock >= 0 &&
        supervisor->listener >= 0)
        return 0;
    return error_set(ret_error, ERROR_CONFIGURATION, "the state folder, a lock or the listening socket is missing");
}

int state_read(struct supervisor *supervisor, const char *json, size_t size, bool adopt, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    int result = json_parse_object(json, size, &document, &root, ret_error);
    if (result >= 0) result = check_format(root, ret_error);
    if (result >= 0) result = READ(yyjson_obj_get(root, "supervisor"), supervisor_fields, supervisor, ret_error);
    if (result >= 0) result = check_supervisor(supervisor, ret_error);
    if (result >= 0) result = READ(yyjson_obj_get(root, "upgrade"), upgrade_fields, &supervisor->upgrade, ret_error);
    if (result >= 0) result = read_settings(yyjson_obj_get(root, "settings"), supervisor->settings, ret_error);
    if (result >= 0) result = read_settings(yyjson_obj_get(root, "asked"), supervisor->asked, ret_error);
    if (result >= 0) result = read_processes(supervisor, yyjson_obj_get(root, "processes"), adopt, ret_error);
    return result < 0 ? error_wrap(ret_error, "read the state of the running service") : 0;
}

static void forget_process(struct process *process) {
    free(process->child.kill_reason);
    if (process_is_role(process))
        role_free(role_of(process));
    else
        replica_free(CONTAINER_OF(process, struct replica, process));
}

void state_forget(struct supervisor *supervisor) {
    for (struct process *process = TAKE(supervisor->processes), *next; process; process = next) {
        next = process->next;
        forget_process(process);
    }
    memset(supervisor->roles, 0, sizeof supervisor->roles);
    free(TAKE(supervisor->program));
    free(TAKE(supervisor->state));
    free(TAKE(supervisor->alias_folder));
    free(TAKE(supervisor->members));
    supervisor->lock = supervisor->listener = supervisor->control = supervisor->alias_lock =
        supervisor->upgrade.previous = -1;
    upgrade_clear(&supervisor->upgrade);
}

/* ---- descriptors ---- */

static void set_close_on_exec(int descriptor, bool close_on_exec) {
    if (descriptor >= 0) fcntl(descriptor, F_SETFD, close_on_exec ? FD_CLOEXEC : 0);
}

void state_set_close_on_exec(const struct supervisor *supervisor, bool close_on_exec) {
    set_close_on_exec(supervisor->listener, close_on_exec); /* the lock's never had it */
    set_close_on_exec(supervisor->control, close_on_exec);
    set_close_on_exec(supervisor->alias_lock, close_on_exec);
    set_close_on_exec(supervisor->upgrade.previous, close_on_exec);
    for (const struct process *process = supervisor->processes; process; process = process->next) {
        const struct child *child = &process->child;
        if (!child->pid || process->forgotten) continue;
        set_close_on_exec(child->pidfd, close_on_exec);
        set_close_on_exec(child->failure, close_on_exec);
        if (child->channel) set_close_on_exec(wire_channel_descriptor(child->channel), close_on_exec);
    }
}
