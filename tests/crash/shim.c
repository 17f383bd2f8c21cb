/* Preloaded into a process, writes down every change of a file below a folder and every sync, in order, so that a test
 * can tell what a power cut at any moment might leave. One change at a time: the order in the log is the order in
 * which they happened. Syncs are written down, not done.
 *
 * TAYBERRY_SHIM_ROOT is the folder, without symbolic links; TAYBERRY_SHIM_LOG the file to write to. A record is kind
 * (W: write, T: truncate, S: sync, U: unlink, R: rename, whose data is the new path, M: a folder is made), whether the
 * write was synced by itself, the lengths of path (16 bits) and data (64), the offset (64), all in the machine's order, then path and data.
 *
 * Not seen: what is written through a mapping. SQLite's -shm and LMDB's lock.mdb are, and neither outlives a crash. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static int record_fd = -1;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("TAYBERRY_SHIM_LOG");
    root = getenv("TAYBERRY_SHIM_ROOT");
    if (!path || !root) return;
    record_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (record_fd < 0) abort();
}

/* The path below the folder; none if the file is elsewhere or gone. */
static const char *below(const char *path) {
    size_t length = root ? strlen(root) : 0, all = strlen(path);
    const char gone[] = " (deleted)";
    if (record_fd < 0 || strncmp(path, root, length) || path[length] != '/') return NULL;
    if (all >= sizeof gone && !strcmp(path + all - (sizeof gone - 1), gone)) return NULL;
    return path + length + 1;
}

static const char *path_of(int fd, char *buffer) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return below(buffer);
}

static void record(char kind, int synced, const char *path, uint64_t offset, const struct iovec *data, int count,
                   uint64_t length) {
    char head[20] = {kind, (char)synced};
    uint16_t path_length = strlen(path);
    memcpy(head + 2, &path_length, 2);
    memcpy(head + 4, &length, 8);
    memcpy(head + 12, &offset, 8);
    struct iovec parts[2] = {{head, sizeof head}, {(void *)path, path_length}};
    int failed = syscall(SYS_writev, record_fd, parts, 2) != (ssize_t)sizeof head + path_length;
    for (int i = 0; i < count && length; i++) {
        size_t part = data[i].iov_len < length ? data[i].iov_len : length;
        failed |= syscall(SYS_write, record_fd, data[i].iov_base, part) != (ssize_t)part;
        length -= part;
    }
    if (failed) abort();
}

/* Writes at an offset, or where the file stands if that is negative. */
static ssize_t change(int fd, const struct iovec *data, int count, off_t offset) {
    char buffer[PATH_MAX + 1];
    pthread_mutex_lock(&lock);
    const char *path = path_of(fd, buffer);
    int flags = path ? fcntl(fd, F_GETFL) : 0;
    off_t at = offset;
    if (path && at < 0) at = lseek(fd, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t written = offset < 0 ? syscall(SYS_writev, fd, data, count)
                                 : syscall(SYS_pwritev, fd, data, count, offset, 0);
    if (path && written > 0) record('W', !!(flags & O_DSYNC), path, at, data, count, written);
    pthread_mutex_unlock(&lock);
    return written;
}

static int cut_to(int fd, off_t length) {
    char buffer[PATH_MAX + 1];
    pthread_mutex_lock(&lock);
    const char *path = path_of(fd, buffer);
    int done = syscall(SYS_ftruncate, fd, length);
    if (path && !done) record('T', 0, path, length, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return done;
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

int fdatasync(int fd) {
    char buffer[PATH_MAX + 1];
    pthread_mutex_lock(&lock);
    const char *path = path_of(fd, buffer);
    if (path) record('S', 0, path, 0, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return path ? 0 : syscall(SYS_fdatasync, fd);
}
int fsync(int fd) { return fdatasync(fd); }

int unlink(const char *file) {
    pthread_mutex_lock(&lock);
    const char *path = below(file);
    int done = syscall(SYS_unlinkat, AT_FDCWD, file, 0);
    if (path && !done) record('U', 0, path, 0, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int mkdir(const char *folder, mode_t mode) {
    pthread_mutex_lock(&lock);
    const char *path = below(folder);
    int done = syscall(SYS_mkdirat, AT_FDCWD, folder, mode);
    if (path && !done) record('M', 0, path, 0, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    const char *path = below(from), *new_path = below(to);
    int done = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (path && new_path && !done) {
        struct iovec name = {(void *)new_path, strlen(new_path)};
        record('R', 0, path, 0, &name, 1, name.iov_len);
    }
    pthread_mutex_unlock(&lock);
    return done;
}
