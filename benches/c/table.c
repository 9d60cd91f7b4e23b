/* table DIR: watches the directories in DIR and keeps what a path is made of again: by watch
 * descriptor the parent and the name. Prints a line when it watches, then waits. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

struct node {
    int parent;
    unsigned name;
};

int main(int argc, char **argv)
{
    if (argc != 2 || chdir(argv[1]) != 0)
        return 2;
    int fd = inotify_init1(IN_CLOEXEC);
    struct node *nodes = NULL;
    char *names = NULL;
    size_t nodes_size = 0, names_len = 0, names_size = 0;
    DIR *dir = opendir(".");
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        int wd = inotify_add_watch(fd, entry->d_name, IN_CREATE | IN_CLOSE_WRITE);
        if (wd < 0)
            return 1;
        if ((size_t)wd >= nodes_size)
            nodes = realloc(nodes, (nodes_size = (size_t)wd * 5 / 4 + 16) * sizeof *nodes);
        size_t len = strlen(entry->d_name) + 1;
        if (names_len + len > names_size)
            names = realloc(names, names_size = (names_len + len) * 5 / 4 + 64);
        nodes[wd] = (struct node){0, (unsigned)names_len};
        memcpy(names + names_len, entry->d_name, len);
        names_len += len;
    }
    closedir(dir);
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
