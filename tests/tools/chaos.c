// Clocks that run faster, are set or stand still, and a disk that fails, for one process: LD_PRELOAD of `tests/campaign
// chaos`. CHAOS_PAGE names a file of nine 64-bit integers, which may change at any time (tests/it/chaos/machine.rs).

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct page {
    int64_t began;  // CLOCK_MONOTONIC, from which on time passes faster
    int64_t speed;  // this many times
    int64_t set;    // how far the clock is wrong
    int64_t asleep; // how long the machine was suspended
    int64_t error;  // errno of failing calls, 0: none fails
    int64_t calls;  // which: READ, WRITE, SYNC, RESIZE
    int64_t share;  // of 1,000,000
    int64_t failed; // so many did
    int64_t port;   // the process is stopped before it connects there, once; 0: it is not
};

enum { READ = 1, WRITE = 2, SYNC = 4, RESIZE = 8 };

static volatile struct page *page;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CHAOS_PAGE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (found == MAP_FAILED) {
        fprintf(stderr, "chaos.c: no page at CHAOS_PAGE\n");
        _exit(70);
    }
    close(file);
    page = found;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

// --- Time ---

static int64_t nanoseconds(const struct timespec *at) { return at->tv_sec * 1000000000LL + at->tv_nsec; }

static void set(struct timespec *at, int64_t nanoseconds) {
    at->tv_sec = nanoseconds / 1000000000;
    at->tv_nsec = nanoseconds % 1000000000;
}

static int really(clockid_t clock, struct timespec *at) { return syscall(SYS_clock_gettime, clock, at); }

int clock_gettime(clockid_t clock, struct timespec *at) {
    struct timespec mono;
    if (really(clock, at) != 0) return -1;
    if (!page) return 0;
    really(CLOCK_MONOTONIC, &mono);
    int64_t more = (nanoseconds(&mono) - page->began) * (page->speed - 1);
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE: more += page->asleep + page->set; break;
    case CLOCK_BOOTTIME: more += page->asleep; break;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_MONOTONIC_RAW: break;
    default: return 0;
    }
    set(at, nanoseconds(at) + more);
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int epoll_wait(int file, struct epoll_event *events, int most, int timeout) {
    REAL(int, "epoll_wait", int, struct epoll_event *, int, int);
    if (page && timeout > 0) timeout = (timeout + page->speed - 1) / page->speed;
    return real(file, events, most, timeout);
}

int nanosleep(const struct timespec *wanted, struct timespec *left) {
    REAL(int, "nanosleep", const struct timespec *, struct timespec *);
    struct timespec shorter = *wanted;
    if (page) set(&shorter, nanoseconds(wanted) / page->speed);
    return real(&shorter, left);
}

// The standard library of Rust waits until a time of CLOCK_MONOTONIC.
long syscall(long number, ...) {
    REAL(long, "syscall", long, ...);
    va_list list;
    long args[6];
    struct timespec until;
    va_start(list, number);
    for (int n = 0; n < 6; n++) args[n] = va_arg(list, long);
    va_end(list);
    if (number == SYS_futex && page && args[3]) {
        int64_t began = page->began;
        if ((args[1] & (FUTEX_CMD_MASK | FUTEX_CLOCK_REALTIME)) == FUTEX_WAIT_BITSET) {
            set(&until, began + (nanoseconds((struct timespec *)args[3]) - began) / page->speed);
            args[3] = (long)&until;
        }
    }
    return real(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

// --- The disk, as far as it holds the database and its backups ---

static int fails(int file, int call) {
    static uint64_t calls;
    char link[40], path[4096];
    if (!page || !page->error || !(page->calls & call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, ".db")) return 0;
    uint64_t z = __atomic_add_fetch(&calls, 0x9E3779B97F4A7C15, __ATOMIC_RELAXED);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    if ((int64_t)((z ^ (z >> 31)) % 1000000) >= page->share) return 0;
    __atomic_add_fetch(&page->failed, 1, __ATOMIC_RELAXED);
    return 1;
}

ssize_t pread64(int file, void *into, size_t size, off64_t at) {
    REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
    if (!fails(file, READ)) return real(file, into, size, at);
    errno = EIO;
    return -1;
}

// A write that fails has written its first half.
ssize_t pwrite64(int file, const void *from, size_t size, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (!fails(file, WRITE)) return real(file, from, size, at);
    if (size > 1) real(file, from, size / 2, at);
    errno = page->error;
    return -1;
}

int fsync(int file) {
    REAL(int, "fsync", int);
    if (!fails(file, SYNC)) return real(file);
    errno = page->error;
    return -1;
}

int fdatasync(int file) {
    REAL(int, "fdatasync", int);
    if (!fails(file, SYNC)) return real(file);
    errno = page->error;
    return -1;
}

int ftruncate64(int file, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    if (!fails(file, RESIZE)) return real(file, size);
    errno = page->error;
    return -1;
}

// --- Connections ---

int connect(int socket, const struct sockaddr *to, socklen_t length) {
    REAL(int, "connect", int, const struct sockaddr *, socklen_t);
    const struct sockaddr_in *inet = (const struct sockaddr_in *)to;
    if (page && page->port && length >= sizeof *inet && inet->sin_family == AF_INET && ntohs(inet->sin_port) == page->port) {
        page->port = 0;
        kill(getpid(), SIGSTOP);
    }
    return real(socket, to, length);
}
