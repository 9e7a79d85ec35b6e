#define _GNU_SOURCE
#include "shim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

uint32_t inbox_size(const struct inbox *inbox) {
    uint32_t size;
    memcpy(&size, inbox->data + 4, sizeof size);
    return ntohl(size);
}

void inbox_clear(struct inbox *inbox) { inbox->used = 0; }

/* Reads no further than one frame, so that what is not yet dealt with waits at the sender. */
int inbox_read(int fd, struct inbox *inbox) {
    for (;;) {
        size_t want = FRAME_HEAD;
        if (inbox->used >= FRAME_HEAD) {
            uint32_t size = inbox_size(inbox);
            if (size > FRAME_MOST) return -1;
            want += size;
            if (inbox->used == want) return 1;
        }
        ssize_t got = read(fd, inbox->data + inbox->used, want - inbox->used);
        if (got > 0) inbox->used += (size_t)got;
        else if (got < 0 && errno == EINTR) continue;
        else return got < 0 && errno == EAGAIN ? 0 : -1;
    }
}

void frame_head(unsigned char *head, char kind, uint32_t size) {
    memset(head, 0, FRAME_HEAD);
    head[0] = (unsigned char)kind;
    size = htonl(size);
    memcpy(head + 4, &size, sizeof size);
}

bool frame_send(int fd, char kind, const void *data, uint32_t size) {
    unsigned char head[FRAME_HEAD];
    frame_head(head, kind, size);
    return write_whole(fd, head, FRAME_HEAD) && write_whole(fd, data, size);
}

void set_window(int terminal, const unsigned char *columns_rows) {
    struct winsize size = {
        .ws_col = (unsigned short)(columns_rows[0] << 8 | columns_rows[1]),
        .ws_row = (unsigned short)(columns_rows[2] << 8 | columns_rows[3]),
    };
    ioctl(terminal, TIOCSWINSZ, &size);
}
