/* service RECORDS ID: notes when it came to life, then waits for a signal.

   One record is 48 bytes, appended in one write: CLOCK_MONOTONIC in ns, id, pid. The service says itself when it runs,
   so how often the bench looks is in no number. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (argc < 3) return 2;
    char record[64];
    int n = snprintf(record, sizeof record, "%lld %d %d", now.tv_sec * 1000000000LL + now.tv_nsec, atoi(argv[2]), (int)getpid());
    memset(record + n, ' ', 47 - n);
    record[47] = '\n';
    int file = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0 || write(file, record, 48) != 48) return 3;
    close(file);
    for (;;) pause();
}
