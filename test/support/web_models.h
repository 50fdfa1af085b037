/* A web server that has each folder below <folder>/root as an archive, /NAME.tar, made when it is asked for. In a
 * thread (rough_server.h); without ranges, and without a digest beside it. */
#pragma once
#include "registry/registry_servers.h"

struct web_models;
struct web_models *web_models_start(const char *folder);
/* Caller frees. */
char *web_models_uri(const struct web_models *web, const char *model);
/* Those that name it; owned by it. */
const struct registry_servers *web_models_servers(const struct web_models *web);
void web_models_stop(struct web_models *web);
