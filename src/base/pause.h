/* Points between the steps of what must survive a kill at any moment. In the program they are empty calls; the program
 * test/slipway-paused (the same objects with test/pause/pause_files.c for this one) can be stopped at one, so that a
 * test kills exactly there instead of sleeping and hoping. Any thread. */
#pragma once

void pause_point(const char *name);
