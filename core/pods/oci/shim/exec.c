/* One command in a container. Frames on the socket that is standard input; when its other side is closed, the command and all it
 * started are killed. From the client: I input, C end of input, W columns and rows. To it: 1 and 2 output, E the exit code or e why not. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct inbox inbox;
static struct {
    int input, output, errors, listening; /* for the terminal, until crun has handed it over */
    size_t given;
    bool waits_for_stdin;
} me = {.input = -1, .output = -1, .errors = -1, .listening = -1};

/* crun ends with us, even while kill_tree has it stopped: what waits for it in the container's pid namespace could never end. */
static bool private_mounts(const struct options *o) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return enter_mounts() && chdir(o->run) == 0;
}

static void close_stdin(const struct options *o) {
    if (me.input >= 0 && o->tty) (void)!write(me.input, "\x04", 1);
    else if (me.input >= 0) {
        close(me.input);
        me.input = -1;
    }
}

static void give_input(void) {
    size_t size = inbox_size(&inbox);
    me.waits_for_stdin = false;
    while (me.input >= 0 && me.given < size) {
        ssize_t done = write(me.input, inbox.data + FRAME_HEAD + me.given, size - me.given);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0 && errno == EAGAIN) {
            me.waits_for_stdin = true;
            return;
        }
        if (done < 0) break;
        me.given += (size_t)done;
    }
    me.given = 0;
    inbox_clear(&inbox);
}

/* False when the client has gone. */
static bool hear(const struct options *o) {
    while (!me.waits_for_stdin) {
        int got = inbox_read(0, &inbox);
        if (got <= 0) return got == 0;
        if (inbox.data[0] == 'I') {
            give_input();
            continue;
        }
        if (inbox.data[0] == 'C') close_stdin(o);
        if (inbox.data[0] == 'W' && o->tty && inbox_size(&inbox) == 4) set_window(me.output, inbox.data + FRAME_HEAD);
        inbox_clear(&inbox);
    }
    return true;
}

/* The client's socket is shared with its non-blocking reads: wait for room by hand. False when it has gone. */
static bool tell(char kind, const void *data, uint32_t size) {
    unsigned char head[FRAME_HEAD];
    frame_head(head, kind, size);
    const void *parts[2] = {head, data};
    size_t sizes[2] = {FRAME_HEAD, size};
    for (int i = 0; i < 2; i++)
        for (size_t done = 0; done < sizes[i];) {
            ssize_t sent = send(0, (const char *)parts[i] + done, sizes[i] - done, MSG_NOSIGNAL);
            if (sent >= 0) done += (size_t)sent;
            else if (errno == EAGAIN) poll(&(struct pollfd){.fd = 0, .events = POLLOUT}, 1, -1);
            else if (errno != EINTR) return false;
        }
    return true;
}

/* 1: got some, 0: nothing now, -1: the stream ended, -2: the client has gone. */
static int pass_on(int fd, char kind) {
    static char data[FRAME_MOST];
    ssize_t got = read(fd, data, sizeof data);
    if (got > 0) return tell(kind, data, (uint32_t)got) ? 1 : -2;
    return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static bool take_terminal(void) {
    bool good = receive_terminal(me.listening, &me.output);
    close(me.listening);
    me.listening = -1;
    me.input = me.output;
    if (!good) tell('e', problem, (uint32_t)strlen(problem));
    return good;
}

/* Returns false when the client has gone, or was told that there is no terminal. */
static bool relay(const struct options *o, pid_t *crun, int signals, int *status) {
    for (bool ended = false;;) {
        bool before = me.listening >= 0; /* the terminal is there: what the client sends stays where it is */
        struct pollfd polls[6] = {
            {.fd = 0, .events = before || me.waits_for_stdin ? 0 : POLLIN},
            {.fd = signals, .events = POLLIN},
            {.fd = me.output, .events = POLLIN},
            {.fd = me.errors, .events = POLLIN},
            {.fd = me.waits_for_stdin ? me.input : -1, .events = POLLOUT},
            {.fd = me.listening, .events = POLLIN},
        };
        bool had_ended = ended; /* only what poll says after the end is known tells that nothing more is coming */
        if (poll(polls, 6, ended ? 100 : -1) < 0 && errno != EINTR) return false;
        struct signalfd_siginfo seen;
        while (read(signals, &seen, sizeof seen) == (ssize_t)sizeof seen) continue;
        int each, got = polls[5].revents != 0;
        if (got && !take_terminal()) return false;
        for (pid_t pid; (pid = waitpid(-1, &each, WNOHANG)) > 0;)
            if (pid == *crun) {
                *status = each;
                *crun = 0; /* the number may soon be another's */
                ended = true;
            }
        int *const streams[2] = {&me.output, &me.errors};
        for (int i = 0; i < 2; i++) {
            if (!polls[2 + i].revents) continue;
            int done = pass_on(*streams[i], (char)('1' + i));
            if (done == -2) return false;
            got += done == 1;
            if (done == -1) {
                if (me.input == *streams[i]) me.input = -1;
                close(*streams[i]);
                *streams[i] = -1;
            }
        }
        if (me.waits_for_stdin && polls[4].revents) give_input();
        if (polls[0].revents & (POLLIN | POLLHUP | POLLERR)) {
            if (before || !hear(o) || (polls[0].revents & POLLERR)) return false;
            if (me.waits_for_stdin && (polls[0].revents & POLLHUP)) return false;
        }
        /* A child left in the background may hold the streams; the command's own end is what counts. */
        if (ended && ((me.output < 0 && me.errors < 0 && me.listening < 0) || (had_ended && !got))) return true;
    }
}

int run_exec(const struct options *o) {
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1}, null = open("/dev/null", O_RDWR | O_CLOEXEC), status = 0, count = 3;
    const char *arguments[16] = {"exec", "--process", "process.json"};
    if (chdir(o->run) != 0) return !failed("cannot enter %s: %s", o->run, strerror(errno));
    fcntl(0, F_SETFL, O_NONBLOCK);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    int signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (o->tty) {
        if ((me.listening = listen_unix("tty")) < 0) return !failed("cannot listen in %s: %s", o->run, strerror(errno));
        arguments[count++] = "--console-socket";
        arguments[count++] = "tty";
    } else if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0 || pipe2(in, O_CLOEXEC) != 0) {
        return !failed("no pipe: %s", strerror(errno));
    }
    if (!o->with_stdin && in[1] >= 0) { /* nothing to read; crun would give the command the host's /dev/null itself, and make its user the owner */
        close(in[1]);
        in[1] = -1;
    }
    arguments[count++] = o->id;
    arguments[count] = NULL;
    pid_t crun = spawn_crun(o, "crun.log", in[0] >= 0 ? in[0] : null, o->tty ? null : out[1], o->tty ? null : err[1], private_mounts, arguments);
    if (crun < 0) {
        failed("cannot fork: %s", strerror(errno));
        tell('e', problem, (uint32_t)strlen(problem));
        return 0;
    }
    close(in[0]), close(out[1]), close(err[1]);
    me.output = out[0], me.errors = err[0], me.input = in[1];
    for (int i = 0, fds[3] = {me.input, me.output, me.errors}; i < 3; i++)
        if (fds[i] >= 0) fcntl(fds[i], F_SETFL, O_NONBLOCK);
    if (!relay(o, &crun, signals, &status)) {
        kill_tree(crun);
        return 0;
    }
    char text[1100];
    if (read_file(AT_FDCWD, "crun.log", text, sizeof text) > 0) {
        crun_problem(AT_FDCWD, "crun.log", "");
        tell('e', problem, (uint32_t)strlen(problem));
    } else {
        int size = snprintf(text, sizeof text, "%d", WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
        tell('E', text, (uint32_t)size);
    }
    return 0;
}
