#define _GNU_SOURCE
#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

char problem[1024];

bool failed(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vsnprintf(problem, sizeof problem, format, rest);
    va_end(rest);
    return false;
}

double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Field 22 of /proc/<pid>/stat; the name in field 2 may hold anything, so count from its closing bracket.
 * A process that has ended and waits for its parent is none. */
unsigned long long start_time(pid_t pid) {
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_file(AT_FDCWD, path, text, sizeof text) < 0) return 0;
    char *at = strrchr(text, ')');
    if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X') return 0;
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

bool write_whole(int fd, const void *data, size_t size) {
    for (const char *at = data; size > 0;) {
        ssize_t done = write(fd, at, size);
        if (done < 0) {
            if (errno == EINTR) continue;
            return false;
        }
        at += done;
        size -= (size_t)done;
    }
    return true;
}

bool write_file(int dir, const char *name, const char *text, bool durably) {
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".%s.new", name);
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return failed("cannot write %s: %s", name, strerror(errno));
    bool good = write_whole(fd, text, strlen(text)) && (!durably || fsync(fd) == 0);
    int reason = errno;
    close(fd);
    if (!good || renameat(dir, temporary, dir, name) != 0) return failed("cannot write %s: %s", name, strerror(good ? errno : reason));
    if (durably) fsync(dir);
    return true;
}

ssize_t read_file(int dir, const char *name, char *text, size_t room) {
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    size_t used = 0;
    ssize_t got;
    while (used < room - 1 && (got = read(fd, text + used, room - 1 - used)) > 0) used += (size_t)got;
    close(fd);
    text[used] = 0;
    return (ssize_t)used;
}

int listen_unix(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(name) >= sizeof address.sun_path) return -1;
    strcpy(address.sun_path, name);
    unlink(name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 128) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Standard streams that lead nowhere, so that nothing of who started us is kept open. */
void close_above(int last) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, last + 1, ~0U, 0) == 0) return;
#endif
    for (int fd = last + 1, end = (int)sysconf(_SC_OPEN_MAX); fd < end; fd++) close(fd);  // kernels before 5.9
}

void plain_descriptors(void) {
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) dup2(null, fd);
    if (null > 2) close(null);
}

/* Run crun in a mount namespace of its own, where `prepare` may do what it likes. Its errors go to the file `log` in the folder `run`. */
pid_t spawn_crun(const struct options *o, const char *log, int in, int out, int err, bool (*prepare)(const struct options *), const char *const *args) {
    pid_t child = fork();
    if (child != 0) return child;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); /* not ours: crun leaves what config.json says is 0 */
    (void)!write(score, o->oom_score ? o->oom_score : "0", strlen(o->oom_score ? o->oom_score : "0"));
    close(score);
    char target[4096];
    snprintf(target, sizeof target, "%s/%s", o->run, log);
    unlink(target);
    if (!prepare(o)) {
        int dir = open(o->run, O_DIRECTORY | O_CLOEXEC);
        write_file(dir, log, problem, false);
        _exit(125);
    }
    umask(0022); /* the folders crun makes for mounts are for every user of the container */
    const char *list[40] = {o->crun, "--root", o->crun_root, "--log", target};
    int count = 5;
    if (o->systemd) list[count++] = "--systemd-cgroup";
    for (int i = 0; args[i]; i++) list[count++] = args[i];
    list[count] = NULL;
    dup2(in, 0);
    dup2(out, 1);
    dup2(err, 2);
    execvp(o->crun, (char *const *)list);
    snprintf(problem, sizeof problem, "cannot run %s: %s; install crun or set builtinRuntime.crun\n", o->crun, strerror(errno));
    write_file(open(o->run, O_DIRECTORY | O_CLOEXEC), log, problem, false);
    _exit(127);
}

void crun_problem(int dir, const char *log, const char *otherwise) {
    char text[sizeof problem];
    ssize_t size = read_file(dir, log, text, sizeof text);
    while (size > 0 && text[size - 1] == '\n') text[--size] = 0;
    char *last = size > 0 ? strrchr(text, '\n') : NULL;
    failed("%s", size > 0 ? (last ? last + 1 : text) : otherwise);
}

/* crun connects and hands over the terminal's own end. Waits ten seconds: it connected before it ended. */
bool receive_terminal(int listening, int *terminal) {
    struct pollfd wait = {.fd = listening, .events = POLLIN};
    int fd = poll(&wait, 1, 10000) == 1 ? accept4(listening, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (fd < 0) return failed("crun gave no terminal");
    char byte[64];
    union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
    struct iovec part = {byte, sizeof byte};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *head = got >= 0 ? CMSG_FIRSTHDR(&message) : NULL;
    close(fd);
    if (!head || head->cmsg_type != SCM_RIGHTS) return failed("crun gave no terminal");
    memcpy(terminal, CMSG_DATA(head), sizeof(int));
    fcntl(*terminal, F_SETFL, fcntl(*terminal, F_GETFL) | O_NONBLOCK);
    return true;
}

static pid_t parent_of(const char *pid) {
    char path[300], text[1024];
    int parent = -1;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    if (read_file(AT_FDCWD, path, text, sizeof text) < 0) return -1;
    char *at = strrchr(text, ')');
    if (!at || sscanf(at + 1, " %*c %d", &parent) != 1) return -1;
    return parent;
}

/* Stop a process and all it started, then kill them: stopped ones can start no more. Nothing happens for what is no process: kill(2) takes
 * -1 for everybody on the machine. */
void kill_tree(pid_t root) {
    enum { MOST = 1024 };
    static pid_t tree[MOST];
    int count = 1;
    if (root <= 1) return;
    tree[0] = root;
    kill(root, SIGSTOP);
    for (bool grew = true; grew;) {
        grew = false;
        DIR *proc = opendir("/proc");
        for (struct dirent *each; proc && (each = readdir(proc));) {
            pid_t pid = (pid_t)atoi(each->d_name), parent = pid > 0 ? parent_of(each->d_name) : -1;
            bool known = false, below = false;
            for (int i = 0; i < count; i++) {
                known |= tree[i] == pid;
                below |= tree[i] == parent;
            }
            if (pid > 0 && below && !known && count < MOST) {
                kill(pid, SIGSTOP);
                tree[count++] = pid;
                grew = true;
            }
        }
        if (proc) closedir(proc);
    }
    while (count > 0) kill(tree[--count], SIGKILL);
}
