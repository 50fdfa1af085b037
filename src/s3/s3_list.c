/* ListObjectsV2, page by page: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html. Keys are asked
 * for percent-encoded, since XML cannot say every character that a key may have; a server that does not know this sends
 * them as they are, and does not say EncodingType. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "s3/s3-internal.h"

#define PAGE_MAXIMUM (16u << 20) /* bytes of one page's XML: 1000 keys of 1024 bytes, percent-encoded, are 4 MiB */
#define EMPTY_PAGES_MAXIMUM 100 /* in a row */
#define SIZE_MAXIMUM ((uint64_t)1 << 50) /* bytes of an object, which Amazon ends at 5 TiB (50 since 2025) */

struct listing {
    const struct s3 *s3;
    const char *bucket, *prefix;
    size_t maximum;
    struct s3_objects objects;
    struct s3_object object; /* that is being read */
    bool has_size, is_truncated, is_encoded;
    size_t page_start; /* objects before this page */
    char *token; /* of the next page */
};

void s3_object_clear(struct s3_object *object) {
    free(object->key);
    free(object->etag);
    free(object->version_id);
    free(object->sha256);
    *object = (struct s3_object){0};
}

void s3_objects_clear(struct s3_objects *objects) {
    for (size_t i = 0; i < objects->count; i++) s3_object_clear(&objects->list[i]);
    free(objects->list);
    *objects = (struct s3_objects){0};
}

static int fail(const struct listing *listing, const char *what, struct error **ret_error) {
    return error_set(ret_error, listing->s3->transfer_config.class, "the server's list of %s: %s", listing->bucket,
                     what);
}

/* ---- one page ---- */

static void replace(char **field, const char *text) {
    free(*field);
    *field = text_copy(text);
}

static int end_object(struct listing *listing, struct error **ret_error) {
    struct s3_object *object = &listing->object;
    if (!object->key || !listing->has_size) return fail(listing, "an object without a key or a size", ret_error);
    struct s3_objects *objects = &listing->objects;
    if (objects->count >= listing->maximum)
        return error_set(ret_error, ERROR_CONFIGURATION, "there are more than %zu objects", listing->maximum);
    if (!(objects->count & (objects->count + 1))) /* 0, 1, 3, 7, …: room for twice as many */
        objects->list = mem_resize(objects->list, 2 * objects->count + 1, sizeof *objects->list);
    objects->list[objects->count++] = *object;
    *object = (struct s3_object){0};
    listing->has_size = false;
    return 0;
}

static int on_element(void *context, const char *path, const char *text, struct error **ret_error) {
    struct listing *listing = context;
    static const char root[] = "ListBucketResult";
    if (strncmp(path, root, sizeof root - 1)) return fail(listing, "another document", ret_error);
    const char *name = path + sizeof root - 1;
    if (!strcmp(name, "/Contents")) return end_object(listing, ret_error);
    if (!strcmp(name, "/Contents/Key")) replace(&listing->object.key, text);
    if (!strcmp(name, "/Contents/ETag")) {
        free(listing->object.etag);
        listing->object.etag = s3_quote_etag(text);
    }
    if (!strcmp(name, "/Contents/Size")) {
        listing->has_size = text_parse_number(text, SIZE_MAXIMUM, &listing->object.size_bytes);
        if (!listing->has_size) return fail(listing, "a size that is none", ret_error);
    }
    if (!strcmp(name, "/IsTruncated")) listing->is_truncated = !strcmp(text, "true");
    if (!strcmp(name, "/EncodingType")) listing->is_encoded = !strcmp(text, "url");
    if (!strcmp(name, "/NextContinuationToken")) replace(&listing->token, text);
    return 0;
}

/* Keys are encoded as forms are: '+' is a space. */
static bool decode_key(char **key) {
    for (char *at = *key; *at; at++)
        if (*at == '+') *at = ' ';
    char *decoded;
    size_t size;
    if (!text_percent_decode(*key, strlen(*key), &decoded, &size)) return false;
    free(*key);
    *key = decoded;
    return true;
}

/* EncodingType may stand behind the objects. */
static int end_page(struct listing *listing, struct error **ret_error) {
    for (size_t i = listing->page_start; i < listing->objects.count; i++) {
        char **key = &listing->objects.list[i].key;
        if (listing->is_encoded && !decode_key(key)) return fail(listing, "a key that is badly encoded", ret_error);
        if (!text_is_utf8(*key, strlen(*key))) return fail(listing, "a key that is not UTF-8", ret_error);
        if (strncmp(*key, listing->prefix, strlen(listing->prefix)))
            return fail(listing, "a key that does not begin with what was asked for", ret_error);
    }
    return 0;
}

static int read_page(struct s3 *s3, struct listing *listing, const char *token, struct error **ret_error) {
    const struct s3_parameter parameters[] = {
        {"list-type", "2"},   {"encoding-type", "url"},      {"prefix", listing->prefix},
        {"max-keys", "1000"}, {"continuation-token", token},
    };
    _cleanup_free_ char *url = NULL;
    int result = s3_url(s3, listing->bucket, NULL, parameters, ARRAY_SIZE(parameters), &url, ret_error);
    if (result < 0) return result;
    struct transfer_request request = {.url = url, .answer_maximum = PAGE_MAXIMUM};
    _cleanup_answer_ struct transfer_answer answer = {0};
    result = s3_perform(s3, &request, (const int[]){200}, 1, &answer, ret_error);
    if (result < 0) return result;
    listing->page_start = listing->objects.count;
    listing->is_truncated = listing->is_encoded = false;
    result = s3_read_answer(s3, &answer, on_element, listing, ret_error);
    return result < 0 ? result : end_page(listing, ret_error);
}

/* ---- all pages ---- */

static int by_key(const void *a, const void *b) {
    return strcmp(((const struct s3_object *)a)->key, ((const struct s3_object *)b)->key);
}

/* Directory buckets list in an order of their own. An object that is added or removed while pages are read may move
 * another to a page where it stands again. */
static void sort(struct s3_objects *objects) {
    qsort(objects->list, objects->count, sizeof *objects->list, by_key);
    size_t kept = 0;
    for (size_t i = 0; i < objects->count; i++) {
        if (kept && !strcmp(objects->list[kept - 1].key, objects->list[i].key))
            s3_object_clear(&objects->list[i]);
        else
            objects->list[kept++] = objects->list[i];
    }
    objects->count = kept;
}

static int read_pages(struct s3 *s3, struct listing *listing, struct error **ret_error) {
    _cleanup_free_ char *token = NULL;
    for (unsigned empty = 0; empty <= EMPTY_PAGES_MAXIMUM;) {
        int result = read_page(s3, listing, token, ret_error);
        if (result < 0 || !listing->is_truncated) return result;
        if (!listing->token || !*listing->token || text_equal(listing->token, token))
            return fail(listing, "it is not all, and does not say how to go on", ret_error);
        empty = listing->objects.count == listing->page_start ? empty + 1 : 0;
        free(token);
        token = TAKE(listing->token);
    }
    return fail(listing, "page after page with nothing in it", ret_error);
}

int s3_list(struct s3 *s3, const char *bucket, const char *prefix, size_t maximum, struct s3_objects *ret_objects,
            struct error **ret_error) {
    struct listing listing = {.s3 = s3, .bucket = bucket, .prefix = prefix, .maximum = maximum};
    int result = read_pages(s3, &listing, ret_error);
    free(listing.token);
    s3_object_clear(&listing.object);
    if (result < 0) {
        s3_objects_clear(&listing.objects);
        return error_wrap(ret_error, "list s3://%s/%s", bucket, prefix);
    }
    if (listing.objects.count) sort(&listing.objects);
    *ret_objects = listing.objects;
    return 0;
}
