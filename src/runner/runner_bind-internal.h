/* The runner's socket: bound before the sandbox closes around it, listening only when the model is ready. */
#pragma once
#include "base/error.h"

/* Binds "127.0.0.1:9000", "[::1]:9000" or "unix:/path" (an old socket there is removed; the new one is its owner's
 * only). CONFIGURATION error; an address in use is transient. */
int runner_bind(const char *address, int *ret_descriptor, struct error **ret_error);
/* The address that a TCP socket really has (port 0 was asked for), or the text as given; caller frees. */
char *runner_bound_address(int descriptor, const char *address);
