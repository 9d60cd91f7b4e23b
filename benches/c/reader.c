/* reader MASK DIR: reads the events of the directories in DIR whenever there are any, and counts
 * them. Prints a line when it watches. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

static char buffer[65536] __attribute__((aligned(8)));
static volatile unsigned long count;

int main(int argc, char **argv)
{
    if (argc != 3 || chdir(argv[2]) != 0)
        return 2;
    unsigned mask = (unsigned)strtoul(argv[1], NULL, 16);
    int fd = inotify_init1(IN_CLOEXEC);
    DIR *dir = opendir(".");
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && inotify_add_watch(fd, entry->d_name, mask) < 0)
            return 1;
    closedir(dir);
    puts("ready");
    fflush(stdout);
    for (;;) {
        ssize_t size = read(fd, buffer, sizeof buffer);
        for (char *at = buffer; at < buffer + size; count++)
            at += sizeof(struct inotify_event) + ((struct inotify_event *)at)->len;
    }
}
