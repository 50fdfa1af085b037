/* `slipway top`: on a terminal a page that is drawn anew every second, until q or Ctrl-C; elsewhere, or with --once,
 * the page once, of what happened within one second. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/top-internal.h"

#define EVERY_MS 1000
#define TIMEOUT_MS 5000 /* of a look; --timeout sets another */

#define ENTER_SCREEN "\033[?1049h\033[?25l" /* the other screen, without a cursor */
#define LEAVE_SCREEN "\033[?25h\033[?1049l"
#define BEGIN_PAGE "\033[H\033[2J"

/* ---- the terminal ---- */

/* As it was before. A signal's handler needs it, and gets nothing passed. */
static struct termios terminal_before;

static void leave_screen(void) {
    if (write(STDOUT_FILENO, LEAVE_SCREEN, sizeof LEAVE_SCREEN - 1) < 0) return; /* it has gone */
    tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
}

/* Only calls that signal-safety(7) allows. The signal then does what it does by default. */
static void on_signal(int number) {
    leave_screen();
    raise(number);
}

static void on_resize(int number) {
    (void)number; /* it ends the pause */
}

static void enter_screen(void) {
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_NODEFER};
    struct sigaction resize = {.sa_handler = on_resize};
    tcgetattr(STDIN_FILENO, &terminal_before);
    for (size_t i = 0; i < ARRAY_SIZE(ending); i++) sigaction(ending[i], &action, NULL);
    sigaction(SIGWINCH, &resize, NULL);
    signal(SIGTSTP, SIG_IGN);
    struct termios raw = terminal_before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    printf(ENTER_SCREEN);
    fflush(stdout);
}

/* Until the next look, or q; false then, and at the end of the input. */
static bool pause_between(void) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char key = 0;
    if (poll(&input, 1, EVERY_MS) <= 0) return true;
    if (read(STDIN_FILENO, &key, 1) <= 0) return false;
    return key != 'q' && key != 'Q';
}

/* ---- pages ---- */

static void show_page(const struct top_look *before, const struct top_look *now, const char *problem) {
    struct winsize window = {.ws_row = 24, .ws_col = 80};
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
    struct buffer page = {0};
    buffer_append_text(&page, BEGIN_PAGE);
    if (problem) buffer_append_format(&page, "%.*s\n", (int)window.ws_col, problem);
    size_t lines = window.ws_row > 1 ? window.ws_row - 1u - (problem != NULL) : 1; /* the last one has no line end */
    if (now->at_us) top_draw(&page, before, now, window.ws_col, lines);
    fwrite(page.bytes, 1, page.size, stdout);
    fflush(stdout);
    buffer_clear(&page);
}

/* A service that does not answer is said on the page, above what it said last. */
static int show_live(struct cli *cli) {
    struct top_look before = {0}, now = {0};
    enter_screen();
    do {
        struct top_look next = {0};
        struct slipway_error *error = NULL;
        if (top_look_take(cli->service, &next, &error) >= 0) {
            top_look_clear(&before);
            before = now;
            now = next;
        }
        show_page(before.at_us ? &before : &now, &now, error ? error->message : NULL);
        slipway_error_free(error);
    } while (pause_between());
    leave_screen();
    top_look_clear(&before);
    top_look_clear(&now);
    return EXIT_OK;
}

static int show_once(struct cli *cli) {
    struct top_look before = {0}, now = {0};
    struct slipway_error *error = NULL;
    int result = top_look_take(cli->service, &before, &error);
    if (result >= 0) {
        usleep(EVERY_MS * 1000);
        result = top_look_take(cli->service, &now, &error);
    }
    struct buffer page = {0};
    if (result >= 0) top_draw(&page, &before, &now, 0, 0);
    if (page.size) fwrite(page.bytes, 1, page.size, stdout);
    buffer_clear(&page);
    top_look_clear(&before);
    top_look_clear(&now);
    return result < 0 ? cli_fail(cli, error) : EXIT_OK;
}

int cli_top(struct cli *cli) {
    if (!cli->timeout_ms) slipway_set_timeout(cli->service, TIMEOUT_MS);
    bool is_terminal = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO);
    return is_terminal && !cli->flags[FLAG_ONCE] ? show_live(cli) : show_once(cli);
}
