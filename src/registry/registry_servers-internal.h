/* What the files of the configured servers share: registry_servers.c reads the file, registry_servers_check.c holds
 * what is good in it, registry_servers_environment.c what the environment adds, registry_servers_find.c who asks. */
#pragma once
#include "registry/registry_servers.h"

extern const char *const registry_kind_names[]; /* by enum registry_kind */

/* A new one at the end; pointers to the others do not hold any more. */
struct registry_server *registry_servers_add(struct registry_servers *servers, enum registry_kind kind,
                                             const char *name);

/* UTF-8 without control characters: what goes into a header or a line. */
bool registry_text_is_plain(const char *text);
/* "models.example.com", "localhost:5000", "*.example.com", "[::1]:9000". */
bool registry_host_is_good(const char *host);
/* An http or https URL without user, query and fragment; *ret_url (what was there is freed) has no '/' at its end. The
 * error names the key and not the value, which may hold a password. */
int registry_take_url(const char *key, const char *value, char **ret_url, struct error **ret_error);
/* What must hold within a server, and between it and the others. */
int registry_server_check(const struct registry_servers *servers, const struct registry_server *server,
                          struct error **ret_error);

void registry_keep_environment(struct registry_servers *servers, char *const *environment);
/* The default servers that the variables name, unless the file has them. */
int registry_servers_from_environment(struct registry_servers *servers, struct error **ret_error);
