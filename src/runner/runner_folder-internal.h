/* The model folder as a tree of files: its digest, and the files outside it that its links lead to.
 *
 * Under the supervisor a package is complete, read-only and known by its digest. Alone, a runner is pointed at whatever
 * lies there, for example a snapshot in a hub cache whose files are links; it is measured as the package that would be
 * made of it. The digest is package/package.h's: SHA-256 over the lines "<sha256> <size> <relative path>\n", by path.
 * Blocking.
 */
#pragma once
#include <stddef.h>

#include "base/digest.h"
#include "base/error.h"

#define FOLDER_FILES_MAXIMUM 10000

struct folder_links {
    char **targets; /* absolute paths of regular files outside the folder */
    size_t count;
};

/* CONFIGURATION error for devices, dangling links, links to folders, and more than FOLDER_FILES_MAXIMUM files. */
int runner_folder_measure(const char *folder, char ret_digest[DIGEST_HEX_SIZE], struct error **ret_error);
/* The targets of all links in the tree. Free with runner_folder_links_clear(). */
int runner_folder_find_links(const char *folder, struct folder_links *ret_links, struct error **ret_error);
void runner_folder_links_clear(struct folder_links *links);
