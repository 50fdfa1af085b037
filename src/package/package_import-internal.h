/* What an archive was found to hold: package_import.c looks, package_import_image.c understands images. */
#pragma once
#include "package/package_archive-internal.h"

/* The small files that an image may describe itself in. */
struct package_blob {
    char *path, *bytes;
    size_t size;
};
struct package_survey {
    struct package_blob *blobs;
    size_t blob_count, blob_bytes;
    char *top; /* the folder that all lies in; NULL when there is none */
    bool has_several_tops, has_layout, has_index, has_docker_manifest;
};

/* Where in the archive an image has its layer, and what that must be. */
struct package_layer_reference {
    char *path; /* of the entry */
    char digest[DIGEST_HEX_SIZE]; /* of its bytes, "" when nobody says */
    char diff_id[DIGEST_HEX_SIZE]; /* of the tar that they unpack to */
    int64_t size_bytes; /* -1 when nobody says */
};
/* Fills in the reference (caller frees its path) and what the image says of the model. CONFIGURATION otherwise. */
int package_image_understand(const struct package_survey *survey, struct package_layer_reference *ret_reference,
                             struct package_import *import, struct error **ret_error);
