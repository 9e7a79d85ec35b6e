/* What the parts of the shim share. Every failure goes up as a message a person can act on; errors of clean-up are passed over. */
#ifndef SHIM_H
#define SHIM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CGROUPS "/sys/fs/cgroup"
#define MOST_REPEATED 160
#define PAUSE "pinnace-pause" /* what the program is called where it is the first process of a pid namespace */

/* One list of options for every command: a command reads those it needs. */
struct options {
    const char *id, *base, *run, *state, *log, *crun, *crun_root, *cgroup, *own_cgroup, *hostname, *shm, *net, *port, *oom_score, *seconds;
    const char *volumes[MOST_REPEATED], *shared[MOST_REPEATED], *sysctls[MOST_REPEATED];
    int volume_count, shared_count, sysctl_count;
    bool tty, with_stdin, stdin_once, kills_all, systemd, new_net, new_ipc, new_uts, new_pid;
};

/* common.c */
extern char problem[1024];
bool failed(const char *format, ...) __attribute__((format(printf, 1, 2)));    /* sets problem; returns false */
double now_seconds(void);
unsigned long long start_time(pid_t pid);                                      /* clock ticks after boot; 0: no such process */
bool write_whole(int fd, const void *data, size_t size);
bool write_file(int dir, const char *name, const char *text, bool durably);    /* atomically */
ssize_t read_file(int dir, const char *name, char *text, size_t room);         /* ends it with a NUL; -1: cannot */
int listen_unix(const char *name);
void close_above(int last);
void plain_descriptors(void);
pid_t spawn_crun(const struct options *o, const char *log, int in, int out, int err, bool (*prepare)(const struct options *), const char *const *args);
void crun_problem(int dir, const char *log, const char *otherwise);            /* the last error in crun's log into `problem` */
bool receive_terminal(int listening, int *terminal);
void kill_tree(pid_t root);

/* frames.c: one byte of kind, three of nothing, four of length (big endian), then that many bytes */
enum { FRAME_HEAD = 8, FRAME_MOST = 16384 };
struct inbox { unsigned char data[FRAME_HEAD + FRAME_MOST]; size_t used; };
int inbox_read(int fd, struct inbox *inbox);            /* 1: a whole frame is in it, 0: not yet, -1: the other side ended */
uint32_t inbox_size(const struct inbox *inbox);
void inbox_clear(struct inbox *inbox);
void frame_head(unsigned char *head, char kind, uint32_t size);
bool frame_send(int fd, char kind, const void *data, uint32_t size);           /* waits for room */
void set_window(int terminal, const unsigned char *columns_rows);

/* cgroup.c */
void cgroup_join(const char *name);
void cgroup_kill(const char *path);
void cgroup_remove(const char *path);
long cgroup_oom_kills(const char *path); /* v2: below it as well; -1: it is gone, or has no memory controller */

/* log.c */
enum { LINE_MOST = 16384 };
bool log_open(const char *path);
void log_bytes(int stream, const char *data, size_t size);
void log_end(void);

/* rootfs.c */
bool make_rootfs(const struct options *o);
bool enter_mounts(void);                                                       /* a mount namespace of our own, fit for crun */
bool share_mount(const char *path);
int cat_layers(const struct options *o, char **names, int count);

/* pause.c: neither returns */
void pause_begin(const struct options *o, int report);                         /* in the pid namespace's first process: becomes pause_here */
void pause_here(void);

/* one command each; they return an exit code */
int supervise(const struct options *o);
int run_exec(const struct options *o);
int sandbox_make(const struct options *o);
int sandbox_drop(const struct options *o);
int prepare_run(const struct options *o);
int connect_into(const struct options *o);

#endif
