/* spawn exec|shell DIR MAX CHILD FIFO: the least that starts a child for every file that is moved
 * into DIR, at most MAX at once. Prints a line when it watches. */
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char buffer[65536] __attribute__((aligned(8)));

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    int shell = strcmp(argv[1], "shell") == 0, max = atoi(argv[3]), running = 0;
    int fd = inotify_init1(IN_CLOEXEC);
    if (inotify_add_watch(fd, argv[2], IN_MOVED_TO) < 0)
        return 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
        while (running > 0 && waitpid(-1, NULL, WNOHANG) > 0)
            running--;
        ssize_t size = read(fd, buffer, sizeof buffer);
        for (char *at = buffer; at < buffer + size;) {
            struct inotify_event *event = (struct inotify_event *)at;
            at += sizeof *event + event->len;
            if (event->len == 0)
                continue;
            char path[PATH_MAX], command[3 * PATH_MAX];
            snprintf(path, sizeof path, "%s/%s", argv[2], event->name);
            snprintf(command, sizeof command, "%s %s '%s'", argv[4], argv[5], path);
            char *direct[] = {argv[4], argv[5], path, NULL};
            char *by_shell[] = {"/bin/sh", "-c", command, NULL};
            char **words = shell ? by_shell : direct;
            while (running >= max && waitpid(-1, NULL, 0) > 0)
                running--;
            pid_t pid;
            if (posix_spawn(&pid, words[0], NULL, NULL, words, environ) == 0)
                running++;
        }
    }
}
