/* The container's log in CRI format: `time stdout|stderr F|P text`, one line per write, P for a line that goes on in the next. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int file = -1;
static unsigned long lost;
static int lost_because;
static char texts[2][LINE_MOST];
static size_t used[2];

bool log_open(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0) return failed("cannot write the log %s: %s", path, strerror(errno));
    if (file >= 0) close(file);
    file = fd;
    return true;
}

static bool put(int stream, char tag, const char *text, size_t size) {
    char head[64];
    struct timespec now;
    struct tm t;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &t);
    size_t length = strftime(head, sizeof head, "%Y-%m-%dT%H:%M:%S", &t);
    length += (size_t)snprintf(head + length, sizeof head - length, ".%09ldZ %s %c ", now.tv_nsec, stream == 1 ? "stdout" : "stderr", tag);
    struct iovec parts[3] = {{head, length}, {(void *)text, size}, {"\n", 1}};
    ssize_t wanted = (ssize_t)(length + size + 1), done = writev(file, parts, 3);
    if (done == wanted) return true;
    lost_because = done < 0 ? errno : ENOSPC;
    struct stat now_is;
    if (done > 0 && fstat(file, &now_is) == 0) (void)!ftruncate(file, now_is.st_size - done);
    return false;
}

/* A full disk must not stop the container: lines are dropped, counted, and the log says so when there is room again. */
static void put_line(int stream, char tag, const char *text, size_t size) {
    if (lost > 0) {
        char said[160];
        int length = snprintf(said, sizeof said, "pinnace: %lu lines could not be written to this log (%s)", lost, strerror(lost_because));
        if (put(2, 'F', said, (size_t)length)) lost = 0;
    }
    if (lost > 0 || !put(stream, tag, text, size)) lost++;
}

void log_bytes(int stream, const char *data, size_t size) {
    char *text = texts[stream - 1];
    size_t *have = &used[stream - 1];
    while (size > 0) {
        const char *end = memchr(data, '\n', size);
        size_t part = end ? (size_t)(end - data) : size;
        if (end && *have == 0 && part <= LINE_MOST) {
            put_line(stream, 'F', data, part);
        } else {
            size_t room = LINE_MOST - *have, taken = part < room ? part : room;
            memcpy(text + *have, data, taken);
            *have += taken;
            if (taken < part) {
                put_line(stream, 'P', text, *have);
                *have = 0;
                data += taken;
                size -= taken;
                continue;
            }
            if (end) {
                put_line(stream, 'F', text, *have);
                *have = 0;
            }
        }
        data += part + (end != NULL);
        size -= part + (end != NULL);
    }
}

/* What stands without an end of line when the container ends. */
void log_end(void) {
    for (int i = 0; i < 2; i++)
        if (used[i] > 0) put_line(i + 1, 'P', texts[i], used[i]);
    used[0] = used[1] = 0;
}
