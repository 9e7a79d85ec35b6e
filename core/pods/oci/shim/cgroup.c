/* The cgroup tree in any of its shapes: v2 at /sys/fs/cgroup, v1 hierarchies below it, or both. */
#define _GNU_SOURCE
#include "shim.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_v2(void) { return access(CGROUPS "/cgroup.controllers", F_OK) == 0; }

/* Calls `visit(folder)` for the cgroup's folder in each hierarchy. Never for the root, where the whole machine is. */
static void each_hierarchy(const char *path, void (*visit)(const char *folder, void *context), void *context) {
    char folder[4096];
    if (path[0] != '/' || path[strspn(path, "/")] == 0) return;
    if (is_v2()) {
        snprintf(folder, sizeof folder, CGROUPS "%s", path);
        visit(folder, context);
        return;
    }
    DIR *root = opendir(CGROUPS);
    for (struct dirent *each; root && (each = readdir(root));) {
        if (each->d_name[0] == '.' || each->d_type == DT_LNK) continue;
        snprintf(folder, sizeof folder, CGROUPS "/%s%s", each->d_name, path);
        visit(folder, context);
    }
    if (root) closedir(root);
}

/* Calls `visit` for the folder and all below it, the deepest first. `path` has room for 4096 characters, `size` of which are the folder: one for
 * all levels, since a container that may make cgroups makes as many of them as it likes. */
static void walk_from(char *path, size_t size, void (*visit)(const char *folder)) {
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *each; (each = readdir(dir));) {
        if (each->d_type != DT_DIR || each->d_name[0] == '.') continue;
        size_t more = strlen(each->d_name) + 1;
        if (size + more >= 4096) continue;
        path[size] = '/';
        memcpy(path + size + 1, each->d_name, more);
        walk_from(path, size + more, visit);
        path[size] = 0;
    }
    closedir(dir);
    visit(path);
}

static void walk(const char *folder, void (*visit)(const char *folder)) {
    char path[4096];
    walk_from(path, (size_t)snprintf(path, sizeof path, "%s", folder), visit);
}

static void write_to(const char *folder, const char *name, const char *text) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    (void)!write(fd, text, strlen(text));
    close(fd);
}

static void kill_here(const char *folder) {
    char path[4200];
    snprintf(path, sizeof path, "%s/cgroup.procs", folder);
    for (int round = 0, found = 1; found && round < 50; round++) {
        FILE *processes = fopen(path, "re");
        found = 0;
        for (int pid; processes && fscanf(processes, "%d", &pid) == 1; found = 1)
            if (pid > 0) kill(pid, SIGKILL);
        if (processes) fclose(processes);
        if (found) usleep(2000);
    }
}

static void kill_hierarchy(const char *folder, void *context) {
    (void)context;
    if (access(folder, F_OK) != 0) return;
    write_to(folder, "cgroup.kill", "1");
    walk(folder, kill_here);
}

void cgroup_kill(const char *path) { each_hierarchy(path, kill_hierarchy, NULL); }

/* A cgroup is busy for a moment after its last process has ended. */
static void remove_here(const char *folder) {
    for (int round = 0; round < 100 && rmdir(folder) != 0 && access(folder, F_OK) == 0; round++) usleep(1000);
}

static void remove_hierarchy(const char *folder, void *context) {
    (void)context;
    walk(folder, remove_here);
}

void cgroup_remove(const char *path) { each_hierarchy(path, remove_hierarchy, NULL); }

static void join_hierarchy(const char *folder, void *context) {
    (void)context;
    mkdir(folder, 0755);
    write_to(folder, "cgroup.procs", "0");
}

/* Out of the agent's cgroup: what stops or bounds the agent's service must not touch its containers. */
void cgroup_join(const char *name) { each_hierarchy(name, join_hierarchy, NULL); }

static void count_kills(const char *folder, void *context) {
    static const char *const files[] = {"memory.events", "memory.oom_control"};
    for (int i = 0; i < 2; i++) {
        char path[4200], text[512];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        if (read_file(AT_FDCWD, path, text, sizeof text) < 0) continue;
        char *at = strstr(text, "oom_kill ");
        if (at) *(long *)context = strtol(at + 9, NULL, 10);
    }
}

long cgroup_oom_kills(const char *path) {
    long kills = -1;
    each_hierarchy(path, count_kills, &kills);
    return kills;
}
