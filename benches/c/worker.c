/* A worker: reports into a FIFO when it has read a task, answers, and reads the next. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The digits at the end of the path, which is the fourth field. */
static uint64_t number_of(const char *line)
{
	for (int field = 0; field < 3 && line; field++) {
		line = strchr(line, '\t');
		line = line ? line + 1 : NULL;
	}
	uint64_t number = 0;
	for (; line && *line && *line != '\t' && *line != '\n'; line++)
		number = *line >= '0' && *line <= '9' ? number * 10 + (uint64_t)(*line - '0') : 0;
	return number;
}

int main(int argc, char **argv)
{
	static char line[65536];
	int fifo = argc > 1 ? open(argv[1], O_WRONLY) : -1;
	if (fifo < 0)
		return 1;
	while (fgets(line, sizeof line, stdin)) {
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		uint64_t record[2] = {
			(uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec, number_of(line) };
		if (write(fifo, record, sizeof record) != sizeof record)
			return 1;
		/* The answer repeats the whole id, which is the first field. */
		printf("%.*s ok\n", (int)strcspn(line, "\t"), line);
		if (fflush(stdout))
			return 1;
	}
	return 0;
}
