/* mover FROM TO: whatever is moved into FROM is renamed into TO. Prints a line when it watches. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>
#include <fcntl.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int from = open(argv[1], O_PATH | O_DIRECTORY), to = open(argv[2], O_PATH | O_DIRECTORY);
    int fd = inotify_init1(IN_CLOEXEC);
    if (from < 0 || to < 0 || inotify_add_watch(fd, argv[1], IN_MOVED_TO) < 0)
        return 1;
    puts("ready");
    fflush(stdout);
    static char buffer[65536] __attribute__((aligned(8)));
    for (;;) {
        ssize_t size = read(fd, buffer, sizeof buffer);
        if (size <= 0)
            return 1;
        for (char *at = buffer; at < buffer + size;) {
            struct inotify_event *event = (struct inotify_event *)at;
            if (event->len && renameat(from, event->name, to, event->name) != 0)
                return 1;
            at += sizeof *event + event->len;
        }
    }
}
