/* Special tokens around a text, from the field `post_processor` of tokenizer.json: what stands before the text's own
 * ids and what behind them. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct yyjson_val;

#define SPECIAL_MAXIMUM 64 /* ids on either side */

struct special_ids {
    int64_t ids[SPECIAL_MAXIMUM];
    size_t count;
};
struct special_tokens {
    struct special_ids before, behind;
};

/* Known are TemplateProcessing (of which `single` is read: the text once, all type ids 0), BertProcessing and
 * RobertaProcessing; NULL and null are none. Ids must be at most highest_id. CONFIGURATION error otherwise. */
int special_open(struct yyjson_val *json, int64_t highest_id, struct special_tokens *ret_special,
                 struct error **ret_error);
