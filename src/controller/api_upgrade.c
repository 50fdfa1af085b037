#include "controller/api_upgrade.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "wire/wire.h"

struct upgrade_questions {
    struct controller *controller;
    uint64_t newest; /* begins where no controller before began: one of those may still be answered */
    struct api_call *asked; /* linked by next */
};

struct upgrade_questions *upgrade_questions_new(struct controller *controller) {
    struct upgrade_questions *questions = mem_new(struct upgrade_questions);
    questions->controller = controller;
    questions->newest = clock_monotonic_us() << 16;
    return questions;
}

void upgrade_questions_free(struct upgrade_questions *questions) {
    free(questions);
}

/* {"program": path}, or nothing. *ret_program is borrowed from *ret_document. */
static int read_body(const struct api_call *call, yyjson_doc **ret_document, const char **ret_program,
                     struct error **ret_error) {
    static const char *const fields[] = {"program"};
    yyjson_val *root = NULL;
    if (!call->body_size) return 0;
    int result = json_parse_object(call->body, call->body_size, ret_document, &root, ret_error);
    if (result >= 0) result = json_check_fields(root, "", fields, ARRAY_SIZE(fields), ret_error);
    if (result >= 0) result = json_get_text(root, "", "program", false, ret_program, ret_error);
    if (result >= 0 && **ret_program && **ret_program != '/')
        result = error_set(ret_error, ERROR_CONFIGURATION, "program: a path from the root on is needed, not \"%.200s\"",
                           *ret_program);
    return result;
}

bool upgrade_questions_ask(struct upgrade_questions *questions, struct api_call *call, struct api_call **ret_failed) {
    bool is_begin = call->handler == api_upgrade_begin;
    *ret_failed = NULL;
    if (!is_begin && call->handler != api_upgrade_show) return false;
    _cleanup_json_ yyjson_doc *document = NULL;
    const char *program = "";
    int result = api_check_parameters(call, 0, &call->error);
    if (result >= 0 && is_begin) result = read_body(call, &document, &program, &call->error);
    if (result < 0) {
        *ret_failed = call;
        return true;
    }
    call->question = ++questions->newest;
    call->next = questions->asked;
    questions->asked = call;
    controller_say(questions->controller, &(struct wire_message){.type = WIRE_upgrade_ask,
                                                                 .upgrade_ask = {.request = call->question,
                                                                                 .verb = is_begin ? "begin" : "show",
                                                                                 .program = program}});
    return true;
}

static void take_answer(struct api_call *call, const struct wire_upgrade_answer *answer) {
    if (!*answer->error_json)
        call->told = text_copy(answer->body_json);
    else if (!(call->error = json_to_error(answer->error_json)))
        error_set(&call->error, ERROR_DEPLOYMENT, "the supervisor's error cannot be read");
}

bool upgrade_questions_take(struct upgrade_questions *questions, const struct wire_message *message,
                            struct api_call **ret_complete) {
    *ret_complete = NULL;
    if (message->type != WIRE_upgrade_answer) return false;
    for (struct api_call **at = &questions->asked; *at; at = &(*at)->next) {
        struct api_call *call = *at;
        if (call->question != message->upgrade_answer.request) continue;
        *at = call->next;
        call->next = NULL;
        take_answer(call, &message->upgrade_answer);
        *ret_complete = call;
        break;
    }
    return true;
}

static int answer(struct api_call *call, int status, struct error **ret_error) {
    if (call->error) return -(int)call->error->class;
    _cleanup_json_ yyjson_doc *told = NULL;
    int result = json_parse(call->told, strlen(call->told), &told, ret_error);
    if (result < 0) return result;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    api_answer(call, status, document, yyjson_val_mut_copy(document, yyjson_doc_get_root(told)));
    return 0;
}

int api_upgrade_begin(struct api_call *call, struct error **ret_error) {
    return answer(call, 202, ret_error);
}

int api_upgrade_show(struct api_call *call, struct error **ret_error) {
    return answer(call, 200, ret_error);
}
