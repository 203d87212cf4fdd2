/* Loaded before libc (LD_PRELOAD): counts the calls that change files below a directory, and makes one of them fail.
 *
 *   FAULT_DIR=path   count calls on paths below it; nothing happens where it is unset
 *   FAULT_LOG=file   write a line for each: number, name, path
 *   FAULT_AT=n       do something at the n-th such call (from 1); 0 is every one
 *   FAULT_CALL=name  count calls of that name only
 *   FAULT_DO=what    before | after | torn: SIGKILL before it, after it, in the middle of a write
 *                    or an error's name: ENOSPC, EIO, EROFS; or sleep: never return
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int calls;

enum verdict { PASS, KILL_AFTER, TORN, FAIL };

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int error_number(const char *name) {
    if (!strcmp(name, "ENOSPC")) return ENOSPC;
    if (!strcmp(name, "EROFS")) return EROFS;
    return EIO;
}

static void note(const char *file, int number, const char *name, const char *path) {
    char line[4352];
    int length = snprintf(line, sizeof line, "%d %s %s\n", number, name, path);
    int log = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (log >= 0) {
        if (syscall(SYS_write, log, line, length) < 0) die();
        syscall(SYS_close, log);
    }
}

/* What becomes of this call; sets errno where it is to fail. */
static enum verdict judge(const char *name, const char *path) {
    const char *directory = getenv("FAULT_DIR"), *only = getenv("FAULT_CALL");
    if (directory == NULL || strncmp(path, directory, strlen(directory)) || (only && strcmp(only, name))) return PASS;
    int number = atomic_fetch_add(&calls, 1) + 1;
    const char *log = getenv("FAULT_LOG"), *at = getenv("FAULT_AT"), *what = getenv("FAULT_DO");
    if (log) note(log, number, name, path);
    if (what == NULL || at == NULL || (atoi(at) != 0 && atoi(at) != number)) return PASS;
    if (!strcmp(what, "before")) die();
    if (!strcmp(what, "after")) return KILL_AFTER;
    if (!strcmp(what, "torn")) return TORN;
    if (!strcmp(what, "sleep")) for (;;) pause();
    errno = error_number(what);
    return FAIL;
}

static enum verdict judge_fd(const char *name, int fd) {
    char link[64], path[4096];
    if (getenv("FAULT_DIR") == NULL) return PASS;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return PASS;
    path[length] = 0;
    return judge(name, path);
}

static enum verdict judge_at(const char *name, int directory, const char *path) {
    char link[64], whole[8300];
    if (getenv("FAULT_DIR") == NULL) return PASS;
    if (directory == AT_FDCWD || path[0] == '/') return judge(name, path);
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, whole, 4096);
    if (length < 0) return PASS;
    snprintf(whole + length, sizeof whole - length, "/%s", path);
    return judge(name, whole);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define AROUND(judgement, call)                     \
    do {                                            \
        enum verdict decided = (judgement);         \
        if (decided == FAIL) return -1;             \
        __typeof__(call) result = (call);           \
        if (decided != PASS) die();                 \
        return result;                              \
    } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    enum verdict decided = judge_fd("write", fd);
    if (decided == FAIL) return -1;
    ssize_t result = syscall(SYS_write, fd, data, decided == TORN ? size / 2 : size);
    if (decided != PASS) die();
    return result;
}
int fsync(int fd) { AROUND(judge_fd("fsync", fd), REAL(fsync)(fd)); }
int fdatasync(int fd) { AROUND(judge_fd("fdatasync", fd), REAL(fdatasync)(fd)); }
int rename(const char *from, const char *to) { AROUND(judge("rename", to), REAL(rename)(from, to)); }
int mkdir(const char *path, mode_t mode) { AROUND(judge("mkdir", path), REAL(mkdir)(path, mode)); }
int unlink(const char *path) { AROUND(judge("unlink", path), REAL(unlink)(path)); }
int rmdir(const char *path) { AROUND(judge("rmdir", path), REAL(rmdir)(path)); }
int unlinkat(int directory, const char *path, int flags) {
    AROUND(judge_at("unlink", directory, path), REAL(unlinkat)(directory, path, flags));
}
static int open_counted(const char *name, const char *path, int flags, mode_t mode) {
    enum verdict decided = (flags & (O_CREAT | O_TRUNC)) ? judge(name, path) : PASS;
    if (decided == FAIL) return -1;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (decided != PASS) die();
    return fd;
}
int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_counted("open", path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_counted("open", path, flags | O_LARGEFILE, mode);
}
