/* child FIFO PATH: the time of its first instruction, and the number at the end of PATH, as two
 * 64-bit words into FIFO. No C library: what it would do before main() is not what is measured. */
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>

static long call(long number, long a, long b, long c, long d)
{
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
#else
#error "no system call for this architecture"
#endif
}

__attribute__((noreturn, used)) static void run(long *stack)
{
    struct timespec now;
    call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0);
    char **argv = (char **)(stack + 1);
    unsigned long record[2] = {now.tv_sec * 1000000000UL + now.tv_nsec, 0};
    if (stack[0] >= 3) {
        const char *end = argv[2];
        while (*end)
            end++;
        const char *digits = end;
        while (digits > argv[2] && digits[-1] >= '0' && digits[-1] <= '9')
            digits--;
        for (; digits < end; digits++)
            record[1] = record[1] * 10 + (unsigned long)(*digits - '0');
        long fd = call(SYS_openat, AT_FDCWD, (long)argv[1], O_WRONLY, 0);
        call(SYS_write, fd, (long)record, sizeof record, 0);
    }
    for (;;)
        call(SYS_exit_group, 0, 0, 0, 0);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall run\n");
#else
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tb run\n");
#endif
