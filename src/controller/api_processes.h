/* GET /v1/processes: the supervisor is asked who there is (a round trip on the wire), then the memory of each is read.
 */
#pragma once
#include "base/buffer.h"
#include "controller/api.h"

struct process_list; /* what the supervisor told for one call */
struct process_questions; /* calls whose answer has not come yet; loop thread only */

struct process_questions *process_questions_new(struct controller *controller);
void process_questions_free(struct process_questions *questions);
/* Asks; the call is handed back by process_questions_take(). */
void process_questions_ask(struct process_questions *questions, struct api_call *call);
/* True when the message is one of these answers; *ret_complete is then the call whose list is complete, or NULL. */
bool process_questions_take(struct process_questions *questions, const struct wire_message *message,
                            struct api_call **ret_complete);
void process_list_free(struct process_list *list);
/* The families about the service's own processes, but for replicas; `list` may be NULL. */
void process_list_write_metrics(const struct process_list *list, struct buffer *out);
