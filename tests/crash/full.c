/* Preloaded into a process, makes the disk below a folder look full while a file is there: what has its place already
 * can be written again, nothing grows. TAYBERRY_SHIM_ROOT is the folder, without symbolic links; TAYBERRY_SHIM_FULL the
 * file. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Whether a file may not come to have this length. */
static int is_full(int fd, off_t length) {
    char link[32], path[PATH_MAX + 1];
    struct stat file;
    const char *full = getenv("TAYBERRY_SHIM_FULL"), *root = getenv("TAYBERRY_SHIM_ROOT");
    if (!full || !root || access(full, F_OK)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t read = readlink(link, path, PATH_MAX);
    if (read < 0 || strncmp(path, root, strlen(root)) || fstat(fd, &file)) return 0;
    return S_ISREG(file.st_mode) && length > file.st_size;
}

static off_t length_of(const struct iovec *data, int count) {
    off_t length = 0;
    for (int i = 0; i < count; i++) length += data[i].iov_len;
    return length;
}

static ssize_t change(int fd, const struct iovec *data, int count, off_t offset) {
    off_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) : offset;
    if (is_full(fd, at + length_of(data, count))) return errno = ENOSPC, -1;
    return offset < 0 ? syscall(SYS_writev, fd, data, count) : syscall(SYS_pwritev, fd, data, count, offset, 0);
}

static int cut_to(int fd, off_t length) {
    if (is_full(fd, length)) return errno = ENOSPC, -1;
    return syscall(SYS_ftruncate, fd, length);
}

ssize_t write(int fd, const void *data, size_t length) {
    return change(fd, &(struct iovec){(void *)data, length}, 1, -1);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return change(fd, &(struct iovec){(void *)data, length}, 1, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) { return pwrite(fd, data, length, offset); }
ssize_t writev(int fd, const struct iovec *data, int count) { return change(fd, data, count, -1); }
ssize_t pwritev(int fd, const struct iovec *data, int count, off_t offset) { return change(fd, data, count, offset); }
ssize_t pwritev64(int fd, const struct iovec *data, int count, off_t offset) { return change(fd, data, count, offset); }
int ftruncate(int fd, off_t length) { return cut_to(fd, length); }
int ftruncate64(int fd, off_t length) { return cut_to(fd, length); }
