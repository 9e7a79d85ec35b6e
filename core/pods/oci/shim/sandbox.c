/* A pod's namespaces, kept by bind mounts instead of a process; only a shared pid namespace needs one. */
#define _GNU_SOURCE
#include "shim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Give the run folder a mount of its own: mounts below it then reach those who copied it, and are taken from them again. */
int prepare_run(const struct options *o) {
    char mnt[4096];
    snprintf(mnt, sizeof mnt, "%s/mnt", o->base);
    mkdir(mnt, 0755);
    if (mount(NULL, o->base, NULL, MS_SHARED, NULL) == 0) return 0;
    if (mount(o->base, o->base, NULL, MS_BIND, NULL) != 0 || mount(NULL, o->base, NULL, MS_PRIVATE, NULL) != 0 ||
        mount(NULL, o->base, NULL, MS_SHARED, NULL) != 0) {
        failed("cannot mount %s: %s; pods need root", o->base, strerror(errno));
        return 1;
    }
    return 0;
}

static bool loopback_up(void) {
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    if (fd >= 0) close(fd);
    return good || failed("cannot switch the loopback interface on: %s", strerror(errno));
}

/* `setting` is name=value; a name has dots, or slashes where a part of it has dots. */
static bool set_sysctl(const char *setting) {
    char path[512] = "/proc/sys/";
    const char *value = strchr(setting, '=');
    size_t size = value ? (size_t)(value - setting) : sizeof path;
    if (size > sizeof path - 16 || strstr(setting, "..")) return failed("sysctl %s: expected name=value", setting);
    bool dots = !memchr(setting, '/', size);
    for (size_t i = 0; i < size; i++) path[10 + i] = dots && setting[i] == '.' ? '/' : setting[i];
    path[10 + size] = 0;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write_whole(fd, value + 1, strlen(value + 1));
    if (!good) failed("cannot set sysctl %s: %s", setting, strerror(errno));
    if (fd >= 0) close(fd);
    return good;
}

/* `kind` is the namespace's name below /proc/<pid>/ns, `name` the file's that keeps it. */
static bool keep(const struct options *o, pid_t pid, const char *kind, const char *name) {
    char from[64], to[4096];
    snprintf(from, sizeof from, "/proc/%d/ns/%s", (int)pid, kind);
    snprintf(to, sizeof to, "%s/%s", o->run, name);
    int fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
    if (fd >= 0) close(fd);
    if (fd < 0 || mount(from, to, NULL, MS_BIND, NULL) != 0) return failed("cannot keep the %s namespace at %s: %s", name, to, strerror(errno));
    return true;
}

/* Start the process that keeps the pid namespace, and wait until it has cut itself off. */
static bool start_pause(const struct options *o, pid_t *pause) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) return failed("no pipe: %s", strerror(errno));
    if ((*pause = fork()) == 0) {
        if (o->own_cgroup) cgroup_join(o->own_cgroup);
        pause_begin(o, report[1]);
    }
    if (*pause < 0) return failed("cannot start the pause process: %s", strerror(errno));
    char said[sizeof problem] = "";
    size_t used = 0;
    close(report[1]);
    for (ssize_t got; used < sizeof said - 1 && (got = read(report[0], said + used, sizeof said - 1 - used)) > 0;) used += (size_t)got;
    close(report[0]);
    return strcmp(said, PAUSE) == 0 || failed("%s", used > 0 ? said : "the pause process ended");
}

/* In the child: enter new namespaces and set them up. `pause` is the process that keeps the pid namespace, or 0. */
static bool enter_new(const struct options *o, pid_t *pause) {
    int flags = (o->new_net ? CLONE_NEWNET : 0) | (o->new_ipc ? CLONE_NEWIPC : 0) | (o->new_uts ? CLONE_NEWUTS : 0) | (o->new_pid ? CLONE_NEWPID : 0);
    if (unshare(flags) != 0) return failed("cannot make namespaces: %s; pods need root", strerror(errno));
    if (o->new_net && !loopback_up()) return false;
    if (o->new_uts && o->hostname && sethostname(o->hostname, strlen(o->hostname)) != 0)
        return failed("cannot set the host name %s: %s", o->hostname, strerror(errno));
    for (int i = 0; i < o->sysctl_count; i++)
        if (!set_sysctl(o->sysctls[i])) return false;
    return !o->new_pid || start_pause(o, pause);
}

static bool make(const struct options *o, pid_t *pause) {
    struct { bool good; pid_t pause; char problem[sizeof problem]; } answer = {.good = false};
    int up[2], down[2];
    if (pipe2(up, O_CLOEXEC) != 0 || pipe2(down, O_CLOEXEC) != 0) return failed("no pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0) return failed("cannot fork: %s", strerror(errno));
    if (child == 0) {
        close(down[1]);
        answer.good = enter_new(o, &answer.pause);
        memcpy(answer.problem, problem, sizeof problem);
        write_whole(up[1], &answer, sizeof answer);
        (void)!read(down[0], &answer, 1); /* stays until its namespaces are kept */
        _exit(0);
    }
    close(up[1]);
    bool good = read(up[0], &answer, sizeof answer) == (ssize_t)sizeof answer;
    if (!good) failed("the process that makes the namespaces ended");
    else if (!(good = answer.good)) failed("%s", answer.problem);
    *pause = answer.pause;
    good = good && (!o->new_net || keep(o, child, "net", "net")) && (!o->new_ipc || keep(o, child, "ipc", "ipc")) &&
           (!o->new_uts || keep(o, child, "uts", "uts")) && (!o->new_pid || keep(o, child, "pid_for_children", "pid"));
    close(down[1]);
    waitpid(child, NULL, 0);
    return good;
}

static bool make_shm(const struct options *o) {
    char path[4096], options[64];
    snprintf(path, sizeof path, "%s/shm", o->run);
    snprintf(options, sizeof options, "mode=1777,size=%s", o->shm);
    mkdir(path, 0755);
    if (mount("shm", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) != 0) return failed("cannot mount %s: %s", path, strerror(errno));
    return true;
}

int sandbox_make(const struct options *o) {
    pid_t pause = 0;
    char text[64];
    bool good = (!(o->new_net || o->new_ipc || o->new_uts || o->new_pid) || make(o, &pause)) && (!o->shm || make_shm(o));
    if (pause > 0) {
        int dir = open(o->run, O_DIRECTORY | O_CLOEXEC);
        snprintf(text, sizeof text, "%d %llu\n", (int)pause, start_time(pause));
        good = good && write_file(dir, "pause", text, false);
    }
    if (!good) {
        char reason[sizeof problem];
        memcpy(reason, problem, sizeof problem);
        if (pause > 0) kill(pause, SIGKILL);
        sandbox_drop(o);
        memcpy(problem, reason, sizeof problem);
    }
    return good ? 0 : 1;
}

/* Nothing happens for what is not there. */
int sandbox_drop(const struct options *o) {
    static const char *const kinds[] = {"net", "ipc", "uts", "pid", "shm"};
    char path[4096], text[64];
    int pid, dir = open(o->run, O_DIRECTORY | O_CLOEXEC);
    unsigned long long started;
    if (dir < 0) return 0;
    if (read_file(dir, "pause", text, sizeof text) > 0 && sscanf(text, "%d %llu", &pid, &started) == 2 && start_time(pid) == started) kill(pid, SIGKILL);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(path, sizeof path, "%s/%s", o->run, kinds[i]);
        while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0) continue;
        unlinkat(dir, kinds[i], strcmp(kinds[i], "shm") == 0 ? AT_REMOVEDIR : 0);
    }
    unlinkat(dir, "pause", 0);
    close(dir);
    return 0;
}

/* Connect to a port on the loopback of a network namespace and hand the connection over on the socket that is standard input. */
int connect_into(const struct options *o) {
    int home = open(o->net, O_RDONLY | O_CLOEXEC), fd = -1, port = atoi(o->port);
    if (home < 0 || setns(home, CLONE_NEWNET) != 0) {
        failed("cannot enter the pod's network: %s", strerror(errno));
        return 1;
    }
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct timeval patience = {.tv_sec = 10}; /* for a server that takes no more connections */
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&four, sizeof four) != 0) {
        int reason = errno;
        close(fd);
        fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&six, sizeof six) != 0) {
            failed("nothing answers on port %d in the pod: %s", port, strerror(reason));
            return 1;
        }
    }
    union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = {0};
    char byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(head), &fd, sizeof(int));
    return sendmsg(0, &message, 0) == 1 ? 0 : 1;
}
