#include "base/pause.h"

void pause_point(const char *name) {
    (void)name;
}
