/* A layer on top of an image, and the gzip frame that layers are pushed in. */
#include <archive.h>
#include <archive_entry.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/oci-internal.h"
#include "oci/oci_gzip.h"
#include "oci/oci_image.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define BASE_LAYER "sha256:" HEX
#define OTHER                                                                                                          \
    "sha256:fedcba98"                                                                                                  \
    "76543210fedcba9876543210fedcba9876543210fedcba9876543210"
#define DESCRIPTOR(type) "{\"mediaType\":\"" type "\",\"digest\":\"" BASE_LAYER "\",\"size\":7}"

static const char oci_base[] = "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":" DESCRIPTOR(
    OCI_TYPE_CONFIG) ",\"layers\":[" DESCRIPTOR(OCI_TYPE_LAYER) "],\"annotations\":{\"kept\":\"yes\"}}";
static const char docker_base[] =
    "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_DOCKER_MANIFEST
    "\",\"config\":" DESCRIPTOR(OCI_TYPE_DOCKER_CONFIG) ",\"layers\":[" DESCRIPTOR(OCI_TYPE_DOCKER_LAYER) "]}";
static const char base_config[] =
    "{\"architecture\":\"arm64\",\"os\":\"linux\",\"config\":{\"WorkingDir\":\"/srv\",\"Labels\":{\"a\":\"1\",\"b\":\"2\"}},"
    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" BASE_LAYER "\"]},\"history\":[{\"created_by\":\"x\"}]}";
static const struct oci_layer layer = {.digest = OTHER, .diff_id = BASE_LAYER, .size_bytes = 1000, .created_by = "us"};
static const struct oci_label labels[] = {{"b", "new"}, {"c", "3"}, {"left out", NULL}};

static int extend(const char *manifest, const char *type, const char *config, struct oci_image *image,
                  struct error **error) {
    const struct oci_manifest base = {.bytes = (char *)manifest, .size = strlen(manifest), .media_type = (char *)type};
    return oci_image_extend(&base, config, strlen(config), &layer, labels, ARRAY_SIZE(labels), image, error);
}

static void the_model_goes_on_top_and_all_else_stays(void **state) {
    (void)state;
    _cleanup_oci_image_ struct oci_image image = {0};
    assert_int_equal(extend(oci_base, OCI_TYPE_MANIFEST, base_config, &image, NULL), 0);
    assert_string_equal(
        image.config,
        "{\"architecture\":\"arm64\",\"os\":\"linux\",\"config\":{\"WorkingDir\":\"/srv\",\"Labels\":{\"a\":\"1\","
        "\"b\":\"new\",\"c\":\"3\"}},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" BASE_LAYER "\",\"" BASE_LAYER
        "\"]},\"history\":[{\"created_by\":\"x\"},{\"created\":\"1970-01-01T00:00:00Z\","
        "\"created_by\":\"us\"}]}");
    char digest[72];
    oci_digest_bytes(image.config, image.config_size, digest);
    assert_string_equal(image.config_digest, digest);
    assert_non_null(strstr(image.manifest, digest));
    assert_non_null(strstr(image.manifest, "\"annotations\":{\"kept\":\"yes\",\"b\":\"new\",\"c\":\"3\"}"));
    assert_non_null(strstr(image.manifest, OCI_TYPE_LAYER "\",\"digest\":\"" OTHER "\",\"size\":1000}]"));
    oci_digest_bytes(image.manifest, image.manifest_size, digest);
    assert_string_equal(image.manifest_digest, digest);
    assert_int_equal(image.base_count, 1);
    assert_string_equal(image.base_layers[0].digest, BASE_LAYER);
    assert_int_equal(image.base_layers[0].size_bytes, 7);
}

static void an_image_of_docker_stays_one(void **state) {
    (void)state;
    _cleanup_oci_image_ struct oci_image image = {0};
    assert_int_equal(extend(docker_base, OCI_TYPE_DOCKER_MANIFEST, base_config, &image, NULL), 0);
    assert_non_null(strstr(image.manifest, OCI_TYPE_DOCKER_LAYER "\",\"digest\":\"" OTHER));
    assert_null(strstr(image.manifest, "annotations"));
    assert_string_equal(image.media_type, OCI_TYPE_DOCKER_MANIFEST);
}

static void a_config_without_history_gets_none(void **state) {
    (void)state;
    _cleanup_oci_image_ struct oci_image image = {0};
    assert_int_equal(
        extend(oci_base, OCI_TYPE_MANIFEST, "{\"rootfs\":{\"diff_ids\":[\"x\"]},\"config\":null}", &image, NULL), 0);
    assert_null(strstr(image.config, "history"));
    assert_non_null(strstr(image.config, "\"Labels\":{\"b\":\"new\",\"c\":\"3\"}"));
}

static void what_does_not_fit_together_is_refused(void **state) {
    static const struct {
        const char *manifest, *config, *part;
    } cases[] = {
        {oci_base, "{\"rootfs\":{\"diff_ids\":[]}}", "as many layers"},
        {oci_base, "{}", "as many layers"},
        {oci_base, "[", "no JSON object"},
        {"{", base_config, "no JSON object"},
        {"{\"config\":" DESCRIPTOR("application/vnd.example") ",\"layers\":[]}", base_config, "no container image"},
        {"{\"config\":" DESCRIPTOR(OCI_TYPE_CONFIG) "}", base_config, "no list of layers"},
        {"{\"config\":" DESCRIPTOR(OCI_TYPE_CONFIG) ",\"layers\":[{\"digest\":\"sha256:../..\",\"size\":1}]}",
         base_config, "without a digest that is understood"},
        {"{\"config\":" DESCRIPTOR(OCI_TYPE_CONFIG) ",\"layers\":[{\"digest\":\"" BASE_LAYER "\",\"size\":-1}]}",
         base_config, "without a size"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_oci_image_ struct oci_image image = {0};
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(extend(cases[i].manifest, OCI_TYPE_MANIFEST, cases[i].config, &image, &error),
                         -ERROR_EXTERNAL_SERVICE);
        assert_non_null(strstr(error->message, cases[i].part));
        assert_null(image.config);
    }
}

/* ---- the frame ---- */

struct source {
    const char *bytes;
    size_t size, at_most;
};

static int read_source(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                       struct error **ret_error) {
    const struct source *source = context;
    (void)ret_error;
    size_t left = source->size - (size_t)offset;
    *ret_size = left < size ? left : size;
    if (*ret_size > source->at_most) *ret_size = source->at_most;
    memcpy(bytes, source->bytes + offset, *ret_size);
    return 0;
}

static void check_unpacks(const char *frame, size_t size, const char *plain, size_t plain_size) {
    struct archive *archive = archive_read_new();
    struct archive_entry *entry = NULL;
    archive_read_support_filter_gzip(archive);
    archive_read_support_format_raw(archive);
    archive_read_support_format_empty(archive);
    assert_int_equal(archive_read_open_memory(archive, frame, size), ARCHIVE_OK);
    assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_OK);
    _cleanup_free_ char *unpacked = mem_alloc(plain_size + 1);
    assert_int_equal(archive_read_data(archive, unpacked, plain_size + 1), plain_size);
    assert_memory_equal(unpacked, plain, plain_size);
    archive_read_free(archive);
}

static void a_frame_unpacks_to_what_is_in_it_and_is_read_at_any_offset(void **state) {
    static const size_t sizes[] = {1, 7, 8, 65534, 65535, 65536, 131070, 200001};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        _cleanup_free_ char *plain = mem_alloc(sizes[i]);
        for (size_t at = 0; at < sizes[i]; at++) plain[at] = (char)(at * 131 + (at >> 9));
        struct source source = {plain, sizes[i], 4099};
        struct oci_gzip gzip = {.read = read_source, .context = &source, .plain_size = sizes[i]};
        char digest[72], found[72];
        assert_int_equal(oci_gzip_measure(&gzip, digest, NULL), 0);
        size_t size = (size_t)oci_gzip_size(&gzip), got = 0;
        _cleanup_free_ char *frame = mem_alloc(size + 1);
        assert_int_equal(oci_gzip_read(&gzip, 0, frame, size + 1, &got, NULL), 0);
        assert_int_equal(got, size);
        oci_digest_bytes(frame, size, found);
        assert_string_equal(digest, found);
        check_unpacks(frame, size, plain, sizes[i]);
        for (size_t offset = 0; offset < size; offset += 3001) {
            char piece[5000];
            assert_int_equal(oci_gzip_read(&gzip, offset, piece, sizeof piece, &got, NULL), 0);
            assert_int_equal(got, size - offset < sizeof piece ? size - offset : sizeof piece);
            assert_memory_equal(piece, frame + offset, got);
        }
        assert_int_equal(oci_gzip_read(&gzip, size, frame, 1, &got, NULL), 0);
        assert_int_equal(got, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_goes_on_top_and_all_else_stays),
        cmocka_unit_test(an_image_of_docker_stays_one),
        cmocka_unit_test(a_config_without_history_gets_none),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
        cmocka_unit_test(a_frame_unpacks_to_what_is_in_it_and_is_read_at_any_offset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
