/* A container's root file system. It is mounted in a mount namespace that only crun and the container ever see, so that nothing is
 * left of it on the host when the container ends, whatever way it ends. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RESOLVE_IN_ROOT 0x10
struct how { uint64_t flags, mode, resolve; };

/* Open a path of the image: links in it, and .., lead nowhere outside. */
static int open_in(int root, const char *path, int flags) {
    struct how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_IN_ROOT};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

/* crun refuses a machine with cgroup v1 and v2 at once. The mount above is made private first, or the host would lose its own. */
static bool hide_unified(void) {
    if (access(CGROUPS "/unified/cgroup.procs", F_OK) != 0) return true;
    mount(NULL, CGROUPS, NULL, MS_PRIVATE, NULL);
    if (umount2(CGROUPS "/unified", MNT_DETACH) != 0) return failed("cannot hide %s/unified from crun: %s", CGROUPS, strerror(errno));
    return true;
}

/* Make the mount that holds `path` one whose mounts are seen elsewhere, as HostToContainer and Bidirectional need. */
bool share_mount(const char *path) {
    char at[4096];
    if (snprintf(at, sizeof at, "%s", path) >= (int)sizeof at) return failed("%s is too long", path);
    while (mount(NULL, at, NULL, MS_SHARED, NULL) != 0) {
        char *end = strrchr(at, '/');
        if (errno != EINVAL || !end || strcmp(at, "/") == 0) return failed("cannot share the mounts of %s: %s", path, strerror(errno));
        *(end == at ? end + 1 : end) = 0;
    }
    return true;
}

bool enter_mounts(void) {
    if (unshare(CLONE_NEWNS) != 0) return failed("cannot make a mount namespace: %s; pods need root", strerror(errno));
    return hide_unified();
}

/* The names l/0:l/1:..., short since mount takes 4096 characters and an image may have a hundred layers. */
static int lower_names(char *text, size_t room) {
    int count = 0;
    size_t used = 0;
    for (char name[16]; used + sizeof name < room; count++) {
        snprintf(name, sizeof name, "l/%d", count);
        if (access(name, F_OK) != 0) break;
        used += (size_t)snprintf(text + used, room - used, "%s%s", count ? ":" : "", name);
    }
    return count;
}

static bool make_folder(int root, const char *path) {
    char part[4096];
    for (const char *end = path; end && *end;) {
        end = strchr(end + 1, '/');
        size_t size = end ? (size_t)(end - path) : strlen(path);
        if (size >= sizeof part) return failed("the volume %s of the image is too long", path);
        memcpy(part, path, size);
        part[size] = 0;
        int fd = open_in(root, part, O_PATH | O_DIRECTORY);
        if (fd < 0 && errno == ENOENT) {
            char *name = strrchr(part, '/');
            if (name) *name = 0;
            int above = open_in(root, name && name != part ? part : ".", O_PATH | O_DIRECTORY);
            if (above >= 0) fd = mkdirat(above, name ? name + 1 : part, 0755) == 0 ? dup(above) : -1;
            if (above >= 0) close(above);
        }
        if (fd < 0) return failed("cannot make the volume %s of the image: %s", path, strerror(errno));
        close(fd);
    }
    return true;
}

/* A volume the image declares stays writable when the root is read-only: its folder is bound to where config.json expects it. */
static bool bind_volume(int root, const char *path, int number) {
    char from[40], to[40];
    if (!make_folder(root, path)) return false;
    int fd = open_in(root, path, O_PATH | O_DIRECTORY);
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    snprintf(to, sizeof to, "v%d", number);
    bool good = fd >= 0 && mkdir(to, 0755) == 0 && mount(from, to, NULL, MS_BIND, NULL) == 0;
    if (!good) failed("cannot give the volume %s of the image: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return good;
}

/* Mounts below <run>/../../mnt: a tmpfs, in it root/ and v0, v1, ... */
bool make_rootfs(const struct options *o) {
    char options[4096], names[3600];
    if (!enter_mounts()) return false;
    if (mount(NULL, o->base, NULL, MS_PRIVATE, NULL) != 0) return failed("%s is no mount: %s", o->base, strerror(errno));
    if (chdir(o->base) != 0 || mount("pinnace", "mnt", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=256k") != 0 || mkdir("mnt/root", 0755) != 0)
        return failed("cannot prepare %s/mnt: %s", o->base, strerror(errno));
    if (chdir(o->state) != 0 || lower_names(names, sizeof names) == 0) return failed("%s/l names no layers", o->state);
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=upper,workdir=work", names);
    char target[4096];
    snprintf(target, sizeof target, "%s/mnt/root", o->base);
    if (mount("pinnace", target, "overlay", 0, options) != 0)
        return failed("cannot mount the root file system (overlay: %s); see the kernel's log", strerror(errno));
    if (chdir(target) != 0) return failed("cannot enter %s: %s", target, strerror(errno));
    int root = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool good = chdir("..") == 0;
    for (int i = 0; good && i < o->volume_count; i++) good = bind_volume(root, o->volumes[i], i);
    close(root);
    return good && chdir(o->run) == 0;
}

/* Write files of an image to standard output, a frame each; an empty one for a file that is not there. */
int cat_layers(const struct options *o, char **names, int count) {
    char text[3600], options[4096], mnt[4096];
    snprintf(mnt, sizeof mnt, "%s/mnt", o->base);
    static char content[1 << 20];
    if (!enter_mounts() || chdir(o->state) != 0) return 1;
    int layers = lower_names(text, sizeof text);
    if (layers > 1) {
        snprintf(options, sizeof options, "lowerdir=%s", text);
        if (mount(NULL, o->base, NULL, MS_PRIVATE, NULL) != 0 || mount("pinnace", mnt, "overlay", MS_RDONLY, options) != 0) {
            failed("cannot mount the image (overlay: %s); see the kernel's log", strerror(errno));
            return 1;
        }
    }
    int root = open(layers > 1 ? mnt : "l/0", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < count; i++) {
        size_t used = 0;
        int found = open_in(root, names[i], O_PATH), fd = -1; /* what is no file is not even opened */
        struct stat is;
        if (found >= 0 && fstat(found, &is) == 0 && S_ISREG(is.st_mode)) {
            char path[40];
            snprintf(path, sizeof path, "/proc/self/fd/%d", found);
            fd = open(path, O_RDONLY | O_CLOEXEC);
        }
        if (fd >= 0)
            for (ssize_t got; used < sizeof content && (got = read(fd, content + used, sizeof content - used)) > 0;) used += (size_t)got;
        if (fd >= 0) close(fd);
        if (found >= 0) close(found);
        if (!frame_send(1, 'f', content, (uint32_t)used)) return 1;
    }
    return 0;
}
