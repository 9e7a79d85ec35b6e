/* One container's supervisor: runs it with crun, holds its streams, writes its log, lets people attach, and leaves its exit code behind.
 *
 * Folder `state` (survives a reboot): `started` (seconds) once it may have run, `exit` once it ended.
 * Folder `run` (does not): config.json, `shim` (pids with start times), the socket `s`, crun's log, `exit` for when the disk is full.
 *
 * On the socket, from the client: A attach (with a byte: to give input), I input, C end of input, W columns and rows, K signal number, R reopen the log.
 * To the client: 1 and 2 output, L bytes left out, r the answer to A, K and R (empty: done), E the end.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 16, BACKLOG = 1 << 18 };

/* What a client has not read yet is kept up to BACKLOG bytes; more is left out and counted: a slow reader never holds the container up. */
struct client {
    int fd;
    bool attached, gives_input, waits_for_stdin;
    size_t given; /* of the input frame in the inbox, what stdin has taken */
    size_t start, used;
    unsigned long left_out;
    struct pages { struct inbox inbox; char backlog[BACKLOG]; } *pages;
};

static struct client clients[CLIENTS];
static struct {
    int input, output, errors, state, listening;
    pid_t container;
    bool once;
} me = {.input = -1, .output = -1, .errors = -1, .state = -1, .listening = -1};

static void client_drop(struct client *c) {
    if (c->gives_input && me.once && me.input >= 0 && me.input != me.output) {
        close(me.input);
        me.input = -1;
    }
    munmap(c->pages, sizeof *c->pages);
    close(c->fd);
    *c = (struct client){.fd = -1};
}

static void backlog_put(struct client *c, const void *data, size_t size) {
    size_t at = (c->start + c->used) % BACKLOG, first = size < BACKLOG - at ? size : BACKLOG - at;
    memcpy(c->pages->backlog + at, data, first);
    memcpy(c->pages->backlog, (const char *)data + first, size - first);
    c->used += size;
}

static bool client_frame(struct client *c, char kind, const void *data, uint32_t size) {
    unsigned char head[FRAME_HEAD];
    if (c->used + FRAME_HEAD + size > BACKLOG) return false;
    frame_head(head, kind, size);
    backlog_put(c, head, sizeof head);
    backlog_put(c, data, size);
    return true;
}

static bool client_flush(struct client *c) {
    while (c->used > 0) {
        size_t part = c->used < BACKLOG - c->start ? c->used : BACKLOG - c->start;
        ssize_t done = send(c->fd, c->pages->backlog + c->start, part, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done < 0) return errno == EAGAIN || errno == EINTR;
        c->start = (c->start + (size_t)done) % BACKLOG;
        c->used -= (size_t)done;
    }
    if (c->left_out > 0) {
        char text[24];
        int size = snprintf(text, sizeof text, "%lu", c->left_out);
        if (client_frame(c, 'L', text, (uint32_t)size)) c->left_out = 0;
    }
    return true;
}

static void give_output(int stream, const char *data, size_t size) {
    log_bytes(stream, data, size);
    for (struct client *c = clients; c < clients + CLIENTS; c++) {
        if (c->fd < 0 || !c->attached) continue;
        if (c->left_out > 0 || !client_frame(c, (char)('0' + stream), data, (uint32_t)size)) c->left_out += size;
        if (!client_flush(c)) client_drop(c);
    }
}

/* False at the end of the stream. A terminal whose other side is closed answers EIO. */
static bool take_output(int fd, int stream) {
    static char data[FRAME_MOST];
    ssize_t got = read(fd, data, sizeof data);
    if (got > 0) give_output(stream, data, (size_t)got);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Hands the input frame of the inbox to stdin; what does not fit stays, and nothing more is read from this client until it does. */
static void give_input(struct client *c) {
    size_t size = inbox_size(&c->pages->inbox);
    c->waits_for_stdin = false;
    while (me.input >= 0 && c->given < size) {
        ssize_t done = write(me.input, c->pages->inbox.data + FRAME_HEAD + c->given, size - c->given);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0 && errno == EAGAIN) {
            c->waits_for_stdin = true;
            return;
        }
        if (done < 0) break;
        c->given += (size_t)done;
    }
    c->given = 0;
    inbox_clear(&c->pages->inbox);
}

static void answer(struct client *c, const char *text) {
    if (!client_frame(c, 'r', text, (uint32_t)strlen(text)) || !client_flush(c)) client_drop(c);
}

static int attached_but(const struct client *other) {
    int count = 0;
    for (const struct client *c = clients; c < clients + CLIENTS; c++) count += c != other && c->fd >= 0 && c->attached;
    return count;
}

static void obey(struct client *c, const struct options *o) {
    const unsigned char *body = c->pages->inbox.data + FRAME_HEAD;
    uint32_t size = inbox_size(&c->pages->inbox);
    char text[12] = {0};
    switch (c->pages->inbox.data[0]) {
    case 'A':
        if (attached_but(c) >= CLIENTS - 1) { /* the last place is for who signals the container */
            answer(c, "as many as there may be are attached to the container already; end one of them first");
            break;
        }
        c->attached = true;
        c->gives_input = size > 0;
        answer(c, "");
        break;
    case 'I':
        give_input(c);
        return;
    case 'C':
        if (o->tty && me.input >= 0) (void)!write(me.input, "\x04", 1);
        else if (me.input >= 0) {
            close(me.input);
            me.input = -1;
        }
        break;
    case 'W':
        if (o->tty && size == 4) set_window(me.output, body);
        break;
    case 'K':
        memcpy(text, body, size < sizeof text - 1 ? size : sizeof text - 1);
        if (o->kills_all && atoi(text) == SIGKILL) cgroup_kill(o->cgroup);
        answer(c, me.container <= 0 || kill(me.container, atoi(text)) == 0 || errno == ESRCH ? "" : strerror(errno));
        break;
    case 'R':
        answer(c, log_open(o->log) ? "" : problem);
        break;
    default:
        client_drop(c);
        return;
    }
    if (c->fd >= 0) inbox_clear(&c->pages->inbox);
}

static void hear(struct client *c, const struct options *o) {
    while (c->fd >= 0 && !c->waits_for_stdin) {
        int got = inbox_read(c->fd, &c->pages->inbox);
        if (got < 0) client_drop(c);
        if (got <= 0) return;
        obey(c, o);
    }
}

static struct client *free_place(void) {
    for (struct client *c = clients; c < clients + CLIENTS; c++)
        if (c->fd < 0) return c;
    return NULL;
}

static void welcome(void) {
    struct client *c = free_place();
    int fd = c ? accept4(me.listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
    if (fd < 0) return;
    void *pages = mmap(NULL, sizeof *c->pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) close(fd);
    else *c = (struct client){.fd = fd, .pages = pages};
}

/* False when crun did not end in time: it hangs where the server of a mount is away. Then it is ended, with all it has started. */
static bool wait_for_crun(const struct options *o, pid_t crun, int *status) {
    const char *seconds = o->seconds ? o->seconds : "60";
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const time_t limit = now.tv_sec + atoi(seconds);
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGCHLD);
    for (pid_t done; (done = waitpid(crun, status, WNOHANG)) == 0 || (done < 0 && errno == EINTR);) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec >= limit) {
            kill_tree(crun);
            return failed("crun did not end within %s s: is the server or disk of a mount away, or the machine overloaded?", seconds);
        }
        sigtimedwait(&ends, NULL, &(struct timespec){.tv_nsec = 200 * 1000 * 1000});
    }
    raise(SIGCHLD); /* blocked, so it stays for wait_for_end: the container's own may have been taken here */
    return true;
}

static bool start(const struct options *o) {
    int in[2], out[2], err[2], console = -1, status;
    const char *arguments[16] = {"run", "--detach", "--bundle", o->run, "--pid-file", "pid"};
    int count = 6;
    if (o->tty) {
        if ((console = listen_unix("tty")) < 0) return failed("cannot listen in %s: %s", o->run, strerror(errno));
        arguments[count++] = "--console-socket";
        arguments[count++] = "tty";
    }
    /* Also where nothing is to be read or a terminal comes: crun makes the container's user the owner of what it has there, /dev/null say. */
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) return failed("no pipe: %s", strerror(errno));
    if (o->tty || !o->with_stdin) {
        close(in[1]);
        in[1] = -1;
    }
    arguments[count++] = o->id;
    arguments[count] = NULL;
    pid_t crun = spawn_crun(o, "crun.log", in[0], out[1], err[1], make_rootfs, arguments);
    if (crun < 0) return failed("cannot fork: %s", strerror(errno));
    char text[96];
    snprintf(text, sizeof text, "%.6f", now_seconds());
    bool noted = write_file(me.state, "started", text, true);
    close(in[0]), close(out[1]), close(err[1]);
    if (!wait_for_crun(o, crun, &status)) return false;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        crun_problem(AT_FDCWD, "crun.log", "crun ended without a word");
        return false;
    }
    if (read_file(AT_FDCWD, "pid", text, sizeof text) < 0 || (me.container = (pid_t)atoi(text)) <= 0) return failed("crun wrote no pid");
    if (!noted) return false;
    if (o->tty) {
        bool got = receive_terminal(console, &me.output);
        close(console), close(out[0]), close(err[0]);
        unlink("tty");
        me.input = me.output;
        return got;
    }
    me.output = out[0], me.errors = err[0], me.input = in[1];
    fcntl(me.output, F_SETFL, O_NONBLOCK);
    fcntl(me.errors, F_SETFL, O_NONBLOCK);
    if (me.input >= 0) fcntl(me.input, F_SETFL, O_NONBLOCK);
    return true;
}

static int wait_for_end(const struct options *o, int signals) {
    enum { FIRST = 5 };
    struct pollfd polls[FIRST + CLIENTS];
    int status = 0;
    for (bool ended = false;;) {
        bool stdin_wanted = false;
        for (int i = 0; i < CLIENTS; i++) {
            struct client *c = &clients[i];
            if (c->fd >= 0 && c->waits_for_stdin && me.input < 0) give_input(c); /* another client has ended it: thrown away */
            stdin_wanted |= c->fd >= 0 && c->waits_for_stdin;
            polls[FIRST + i] = (struct pollfd){.fd = c->fd, .events = (short)((c->waits_for_stdin ? 0 : POLLIN) | (c->used ? POLLOUT : 0))};
        }
        polls[0] = (struct pollfd){.fd = signals, .events = POLLIN};
        polls[1] = (struct pollfd){.fd = free_place() ? me.listening : -1, .events = POLLIN}; /* else they wait to be let in */
        polls[2] = (struct pollfd){.fd = me.output, .events = (short)(POLLIN | (stdin_wanted && o->tty ? POLLOUT : 0))};
        polls[3] = (struct pollfd){.fd = me.errors, .events = POLLIN};
        polls[4] = (struct pollfd){.fd = stdin_wanted && !o->tty ? me.input : -1, .events = POLLOUT};
        bool had_ended = ended; /* only what poll says after the end is known tells that nothing more is coming */
        if (poll(polls, FIRST + CLIENTS, ended ? 200 : -1) < 0 && errno != EINTR) usleep(200000); /* no memory; the container goes on */
        struct signalfd_siginfo seen;
        while (read(signals, &seen, sizeof seen) == (ssize_t)sizeof seen) continue;
        int each;
        for (pid_t pid; (pid = waitpid(-1, &each, WNOHANG)) > 0;) {
            if (pid != me.container) continue;
            status = each;
            ended = true;
            me.container = -1;
            if (o->kills_all) cgroup_kill(o->cgroup);
        }
        bool got = false;
        if (polls[2].revents & (POLLIN | POLLHUP | POLLERR)) {
            got = true;
            if (!take_output(me.output, 1)) {
                close(me.output);
                if (me.input == me.output) me.input = -1;
                me.output = -1;
            }
        }
        if (polls[3].revents) {
            got = true;
            if (!take_output(me.errors, 2)) {
                close(me.errors);
                me.errors = -1;
            }
        }
        /* The streams end with the last process; one that outlived the container (it left the cgroup) is not waited for. */
        if (ended && ((me.output < 0 && me.errors < 0) || (had_ended && !got))) break;
        for (int i = 0; i < CLIENTS; i++) {
            struct client *c = &clients[i];
            if (c->fd < 0) continue;
            if (c->waits_for_stdin && me.input >= 0) give_input(c);
            if (polls[FIRST + i].fd == c->fd && (polls[FIRST + i].revents & POLLOUT) && !client_flush(c)) client_drop(c);
            if (c->fd < 0 || polls[FIRST + i].fd != c->fd || !(polls[FIRST + i].revents & ~POLLOUT)) continue;
            if (c->waits_for_stdin) client_drop(c); /* it has left, and nobody reads what it typed */
            else hear(c, o);
        }
        if (polls[1].revents) welcome();
    }
    return status;
}

static void say_goodbye(void) {
    for (struct client *c = clients; c < clients + CLIENTS; c++) {
        if (c->fd < 0 || !c->attached) continue;
        client_frame(c, 'E', "0", 1);
        for (int tries = 0; client_flush(c) && c->used > 0 && tries < 20; tries++) poll(&(struct pollfd){.fd = c->fd, .events = POLLOUT}, 1, 50);
    }
}

/* crun's own record of the container, which `crun delete` would remove; done here, the container is gone when its end is known. */
static void forget(const struct options *o) {
    static const char *const files[] = {"config.json", "status", "exec.fifo", "seccomp.bpf"};
    cgroup_kill(o->cgroup);
    cgroup_remove(o->cgroup);
    int root = open(o->crun_root, O_DIRECTORY | O_CLOEXEC), dir = openat(root, o->id, O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; dir >= 0 && i < sizeof files / sizeof *files; i++) unlinkat(dir, files[i], 0);
    unlinkat(root, o->id, AT_REMOVEDIR);
}

static void leave_exit(const struct options *o, int status, bool started, long oom_kills) {
    char text[2200], escaped[1700];
    int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), size = 0;
    for (const char *c = started ? "" : problem; *c && size < (int)sizeof escaped - 8; c++)
        size += snprintf(escaped + size, sizeof escaped - (size_t)size, *c == '"' || *c == '\\' ? "\\%c" : (unsigned char)*c < 32 ? " " : "%c", *c);
    escaped[size] = 0;
    snprintf(text, sizeof text, "{\"finished_at\":%.6f,\"exit_code\":%d,\"signal\":%d,\"oom_kills\":%ld,\"started\":%s,\"error\":\"%s\"}\n", now_seconds(),
             started ? code : 128, WIFSIGNALED(status) ? WTERMSIG(status) : 0, oom_kills, started ? "true" : "false", escaped);
    /* A full disk must not lose an exit code: what is in memory is brought to the disk by the agent, once there is room. */
    int run = open(o->run, O_DIRECTORY | O_CLOEXEC);
    write_file(run, "exit", text, false);
    close(run);
    for (int tries = 0; tries < 50 && !write_file(me.state, "exit", text, true); tries++) usleep(200000);
}

/* What the pod's cgroup has counted: it outlives the container's, which systemd takes away as soon as nothing runs there. */
static long kills_in_pod(const struct options *o) {
    char pod[4096];
    snprintf(pod, sizeof pod, "%.*s", (int)(strrchr(o->cgroup, '/') - o->cgroup), o->cgroup);
    return cgroup_oom_kills(pod);
}

static long kills_since(long in_pod, int status, const struct options *o) {
    long kills = cgroup_oom_kills(o->cgroup);
    if (kills >= 0) return kills;
    bool was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL; /* other containers of the pod count there too */
    return was_killed && in_pod >= 0 ? kills_in_pod(o) - in_pod : 0;
}

int supervise(const struct options *o) {
    pid_t child = fork();
    if (child != 0) return child > 0 ? 0 : 1;
    setsid();
    int report = fcntl(1, F_DUPFD_CLOEXEC, 3);
    plain_descriptors();
    umask(0077);
    if (o->own_cgroup) cgroup_join(o->own_cgroup);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    (void)!write(score, "-999", 4); /* may be refused */
    close(score);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    int signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    for (int i = 0; i < CLIENTS; i++) clients[i].fd = -1;
    me.once = o->stdin_once;
    char text[1200];
    bool good = chdir(o->run) == 0 || failed("cannot enter %s: %s", o->run, strerror(errno));
    if (good && signals < 0) good = failed("no signalfd: the machine has no file descriptors or memory left");
    snprintf(text, sizeof text, "%d %llu\n", (int)getpid(), start_time(getpid()));
    good = good && write_file(AT_FDCWD, "shim", text, false);
    /* What follows may wait for a disk: the agent, which does not wait for ever, knows from here on whom to end. */
    if (good && (me.state = open(o->state, O_DIRECTORY | O_CLOEXEC)) < 0) good = failed("cannot enter %s: %s", o->state, strerror(errno));
    good = good && log_open(o->log);
    for (int i = 0; good && i < o->shared_count; i++) good = share_mount(o->shared[i]);
    if (good && (me.listening = listen_unix("s")) < 0) good = failed("cannot listen in %s: %s", o->run, strerror(errno));
    long in_pod = kills_in_pod(o);
    good = good && start(o);
    if (good) snprintf(text, sizeof text, "ok %d %llu\n", (int)getpid(), start_time(getpid()));
    else snprintf(text, sizeof text, "error %s\n", problem);
    if (!good) leave_exit(o, 0, false, 0);
    (void)!write_whole(report, text, strlen(text));
    close(report);
    if (good) {
        int status = wait_for_end(o, signals);
        long kills = kills_since(in_pod, status, o);
        log_end();
        leave_exit(o, status, true, kills);
        say_goodbye();
    }
    forget(o);
    return 0;
}
