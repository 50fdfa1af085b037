/* /v1/upgrade: the supervisor is asked, which is the one who upgrades. Loop thread only, but for the handlers. */
#pragma once
#include "controller/api.h"

struct upgrade_questions; /* calls whose answer has not come yet */

struct upgrade_questions *upgrade_questions_new(struct controller *controller);
void upgrade_questions_free(struct upgrade_questions *questions);
/* False: the call is none of these. True: it is handed back by upgrade_questions_take(), or at once in *ret_failed,
 * with its error, when its body is wrong. */
bool upgrade_questions_ask(struct upgrade_questions *questions, struct api_call *call, struct api_call **ret_failed);
/* True when the message is the supervisor's answer; *ret_complete is then its call, or NULL. */
bool upgrade_questions_take(struct upgrade_questions *questions, const struct wire_message *message,
                            struct api_call **ret_complete);
