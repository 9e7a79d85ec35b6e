/* The first process of a shared pid namespace: it takes in orphans and sleeps. Containers see it, and one that may trace processes has
 * whatever it has. So it has nothing of the host: no file system, no open file, no privilege, and of the kernel one call. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOBODY = 65535 }; /* whose processes are none but these */

/* From an empty, read-only root. Returns this program, opened there by a mount that is read-only and then in no namespace: who gets to the
 * host's file by /proc/1/exe can neither change it nor mount it anew. -1: errno says why not. */
static int leave_host(const struct options *o) {
    char path[4096];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    if (size < 0) return -1;
    path[size] = 0;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return -1;
    if (mount(path, path, NULL, MS_BIND, NULL) != 0 || mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) != 0)
        return -1;
    int program = open(path, O_RDONLY | O_CLOEXEC);
    if (program < 0 || mount("pinnace", o->run, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0555,size=4k") != 0) return -1;
    if (chdir(o->run) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) return -1;
    return program;
}

static void give_up(int report) {
    failed("cannot shut the pause process off from the host: %s; pods need root", strerror(errno));
    write_whole(report, problem, strlen(problem));
    _exit(1);
}

/* Privileges go last, in `pause_here`: without them and with the host's root still there, every container could have that. */
void pause_begin(const struct options *o, int report) {
    setsid();
    int program = leave_host(o);
    if (program < 0) give_up(report);
    dup2(report, 1);
    close(0);
    close(2);
    syscall(SYS_execveat, program, "", (char *[]){PAUSE, NULL}, (char *[]){NULL}, AT_EMPTY_PATH);
    give_up(1);
}

static bool drop_privileges(void) {
    struct { uint32_t version; int pid; } head = {0x20080522, 0}; /* the third version, of 64 capabilities: capget(2) */
    const uint32_t none[6] = {0};
    for (int each = 0; prctl(PR_CAPBSET_DROP, each, 0, 0, 0) == 0; each++) continue;
    return setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0 &&
           syscall(SYS_capset, &head, none) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}

/* It is in no pod's cgroup and under no container's profile: whoever makes it do something else would be neither. A kernel without filters
 * goes on without this one. */
static void allow_one_call(void) {
    struct { uint16_t code; uint8_t yes, no; uint32_t value; } program[] = {
        {0x20, 0, 0, 0},                     /* the call's number */
        {0x15, 0, 1, SYS_rt_sigsuspend},     /* is it this one? */
        {0x06, 0, 0, 0x7fff0000},            /* SECCOMP_RET_ALLOW */
        {0x06, 0, 0, 0x00050000 | EPERM},    /* SECCOMP_RET_ERRNO */
    };
    struct { unsigned short size; void *program; } filter = {sizeof program / sizeof *program, program};
    prctl(PR_SET_SECCOMP, 2, &filter, 0, 0);
}

/* Says PAUSE on standard output when it is ready, or what went wrong. */
void pause_here(void) {
    static const uint64_t no_signals = 0;
    prctl(PR_SET_NAME, PAUSE);
    signal(SIGCHLD, SIG_IGN);
    if (!drop_privileges()) give_up(1);
    write_whole(1, PAUSE, strlen(PAUSE));
    close(1);
    allow_one_call();
    for (;;) syscall(SYS_rt_sigsuspend, &no_signals, sizeof no_signals);
}
