#include "runner/tokenizer_added-internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/json.h"
#include "base/memory.h"
#include "runner/tokenizer_unicode-internal.h"

/* One entry of the file. */
struct entry {
    const char *content;
    size_t size, position; /* position in the file */
    bool normalized;
    bool replaced; /* a later entry has the same content */
    struct entry *first; /* the first entry with this content */
    struct added_token token;
};

static int read_flag(yyjson_val *json, const char *field, bool *ret_flag, struct error **ret_error) {
    if (!yyjson_is_bool(yyjson_obj_get(json, field)))
        return error_set(ret_error, ERROR_CONFIGURATION, "added_tokens: the field %s must be true or false", field);
    *ret_flag = yyjson_get_bool(yyjson_obj_get(json, field));
    return 0;
}

static int read_entry(yyjson_val *json, struct entry *entry, struct error **ret_error) {
    if (!yyjson_is_obj(json))
        return error_set(ret_error, ERROR_CONFIGURATION, "added_tokens must be a list of objects");
    int result = json_get_text(json, "added_tokens", "content", true, &entry->content, ret_error);
    if (result == 0) result = read_flag(json, "single_word", &entry->token.single_word, ret_error);
    if (result == 0) result = read_flag(json, "lstrip", &entry->token.strip_left, ret_error);
    if (result == 0) result = read_flag(json, "rstrip", &entry->token.strip_right, ret_error);
    if (result == 0) result = read_flag(json, "normalized", &entry->normalized, ret_error);
    if (result < 0) return result;
    entry->size = strlen(entry->content);
    if (entry->size > TOKENIZER_MAXIMUM_TOKEN)
        return error_set(ret_error, ERROR_CONFIGURATION, "an added token is %zu bytes long; %u are allowed",
                         entry->size, TOKENIZER_MAXIMUM_TOKEN);
    return 0;
}

static int compare_entries(const void *a, const void *b) {
    const struct entry *left = *(struct entry *const *)a, *right = *(struct entry *const *)b;
    int order = strcmp(left->content, right->content);
    return order ? order : (left->position > right->position) - (left->position < right->position);
}

/* Finds entries of the same content: they share an id, and the last one's flags count. */
static void join_equal(struct entry *entries, size_t count) {
    struct entry **sorted = mem_new_array(count, struct entry *);
    for (size_t i = 0; i < count; i++) sorted[i] = &entries[i];
    if (count > 1) qsort(sorted, count, sizeof *sorted, compare_entries);
    for (size_t i = 0; i < count; i++) {
        bool again = i > 0 && !strcmp(sorted[i]->content, sorted[i - 1]->content);
        sorted[i]->first = again ? sorted[i - 1]->first : sorted[i];
        if (again) sorted[i - 1]->replaced = true;
    }
    free(sorted);
}

static int give_ids(struct entry *entries, size_t count, const struct tokenizer_model_ops *model, const void *state,
                    struct added_tokens *added, struct error **ret_error) {
    int64_t next = (int64_t)model->count(state);
    for (size_t i = 0; i < count; i++) {
        struct entry *entry = &entries[i];
        if (entry->size == 0) continue;
        int64_t id = entry->first != entry ? entry->first->token.id : model->find(state, entry->content, entry->size);
        if (id < 0) {
            id = next++;
            if (id <= model->highest_id(state))
                return error_set(ret_error, ERROR_CONFIGURATION,
                                 "the added token \"%s\" gets the id %" PRId64
                                 ", which may be another token's: the ids of "
                                 "the vocabulary have gaps",
                                 entry->content, id);
        }
        entry->token.id = id;
        if (id > added->highest_id) added->highest_id = id;
    }
    return 0;
}

/* The keys of one set: the content, or its normal form kept in *forms, which the keys point into at the end. */
static int collect_keys(struct entry *entries, size_t count, bool normalized, const struct normalizer *normalizer,
                        struct trie_key *keys, size_t *ret_count, struct buffer *forms, struct error **ret_error) {
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        const struct entry *entry = &entries[i];
        if (entry->size == 0 || entry->replaced || entry->normalized != normalized) continue;
        struct trie_key key = {.size = forms->size, .value = (int32_t)i};
        int result = 0;
        if (normalized)
            result = normalizer_run(normalizer, entry->content, entry->size, forms, ret_error);
        else if (!buffer_append(forms, entry->content, entry->size))
            result = error_set(ret_error, ERROR_UNAVAILABLE, "no memory for the added tokens");
        if (result < 0) return result;
        if (forms->size == key.size)
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "the normalizer leaves nothing of the added token \"%s\"; give it \"normalized\": false",
                             entry->content);
        keys[used++] = key; /* for now `size` is where it begins */
    }
    for (size_t i = 0; i < used; i++) {
        size_t from = keys[i].size, to = i + 1 < used ? keys[i + 1].size : forms->size;
        keys[i].bytes = forms->bytes + from;
        keys[i].size = to - from;
    }
    *ret_count = used;
    return 0;
}

static int build_set(struct entry *entries, size_t count, bool normalized, const struct normalizer *normalizer,
                     struct added_set *set, struct error **ret_error) {
    _cleanup_buffer_ struct buffer forms = {0};
    _cleanup_free_ struct trie_key *keys = mem_new_array(count + 1, struct trie_key);
    size_t used = 0;
    int result = collect_keys(entries, count, normalized, normalizer, keys, &used, &forms, ret_error);
    if (result < 0) return result;
    set->empty = used == 0;
    for (size_t i = 0; i < used; i++) set->begins[(uint8_t)keys[i].bytes[0]] = true;
    result = trie_build(keys, used, &set->trie, ret_error);
    return result < 0 ? error_wrap(ret_error, "added tokens%s", normalized ? " in normal form" : "") : 0;
}

int added_open(yyjson_val *json, const struct tokenizer_model_ops *model, const void *state,
               const struct normalizer *normalizer, struct added_tokens *ret_added, struct error **ret_error) {
    size_t count = yyjson_arr_size(json), index, maximum;
    *ret_added = (struct added_tokens){.count = count, .highest_id = -1};
    if (json && !yyjson_is_null(json) && !yyjson_is_arr(json))
        return error_set(ret_error, ERROR_CONFIGURATION, "added_tokens must be a list");
    if (count > ADDED_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "there are %zu added tokens; %d are allowed", count,
                         ADDED_MAXIMUM);
    _cleanup_free_ struct entry *entries = mem_new_array(count + 1, struct entry);
    yyjson_val *item;
    yyjson_arr_foreach(json, index, maximum, item) {
        entries[index].position = index;
        int result = read_entry(item, &entries[index], ret_error);
        if (result < 0) return result;
    }
    join_equal(entries, count);
    int result = give_ids(entries, count, model, state, ret_added, ret_error);
    if (result == 0) result = build_set(entries, count, false, normalizer, &ret_added->raw, ret_error);
    if (result == 0) result = build_set(entries, count, true, normalizer, &ret_added->normalized, ret_error);
    if (result < 0) return result;
    ret_added->tokens = mem_new_array(count + 1, struct added_token);
    for (size_t i = 0; i < count; i++) ret_added->tokens[i] = entries[i].token;
    return 0;
}

void added_clear(struct added_tokens *added) {
    trie_clear(&added->raw.trie);
    trie_clear(&added->normalized.trie);
    free(added->tokens);
    added->tokens = NULL;
}

static bool is_single_word(const char *text, size_t size, size_t start, size_t end) {
    uint32_t code;
    bool broken = false;
    if (start > 0) {
        unicode_read_back(text, start, &code);
        if (unicode_flags(code) & UNICODE_WORD) return false;
    }
    if (end == size) return true;
    unicode_read(text + end, size - end, &code, &broken);
    return !(unicode_flags(code) & UNICODE_WORD);
}

/* Back over whitespace from `start`, not beyond what the last match took. */
static size_t strip_left(const struct added_search *search, size_t start) {
    uint32_t code;
    while (start > search->done) {
        size_t taken = unicode_read_back(search->text, start, &code);
        if (!(unicode_flags(code) & UNICODE_WHITESPACE)) break;
        start -= taken;
    }
    return start > search->done ? start : search->done;
}

/* On over whitespace from `end`; remembers the run, so that tokens inside it do not walk it again. */
static size_t strip_right(struct added_search *search, size_t end) {
    uint32_t code;
    bool broken = false;
    if (end >= search->space_from && end < search->space) return search->space;
    search->space_from = end;
    while (end < search->size) {
        size_t taken = unicode_read(search->text + end, search->size - end, &code, &broken);
        if (!(unicode_flags(code) & UNICODE_WHITESPACE)) break;
        end += taken;
    }
    search->space = end;
    return end;
}

bool added_next(const struct added_tokens *added, const struct added_set *set, struct added_search *search,
                size_t *ret_start, int64_t *ret_id) {
    const char *text = search->text;
    while (!set->empty && search->at < search->size) {
        size_t start = search->at, taken = 0;
        int32_t found = TRIE_NO_VALUE;
        if (set->begins[(uint8_t)text[start]])
            found = trie_find_longest(&set->trie, TRIE_ROOT, text + start, search->size - start, &taken);
        if (found == TRIE_NO_VALUE) {
            search->at++;
            continue;
        }
        size_t end = search->at = start + taken;
        const struct added_token *token = &added->tokens[found];
        if (token->single_word && !is_single_word(text, search->size, start, end)) continue;
        if (token->strip_left) start = strip_left(search, start);
        if (token->strip_right) end = strip_right(search, end);
        search->done = end;
        *ret_start = start;
        *ret_id = token->id;
        return true;
    }
    return false;
}
