/* What the functions on the default volume refuse, and that nothing changes then. Argument: the
 * directory for the volume. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (8 << 20)

static char buffer[1 << 20], before[1 << 20], after[1 << 20];

static void settings(const char *directory) {
    char occupied[4096];

    CHECK(setenv("LSVD_DIR", directory, 1) == 0);
    /* A mistyped variable is no silent default, and a mended one is all that it takes. */
    CHECK(setenv("LSVD_SIEZ", "8M", 1) == 0);
    CHECK_FAILS(lsvd_read(0, 512, buffer), -EINVAL, "LSVD_SIEZ");
    CHECK(unsetenv("LSVD_SIEZ") == 0);
    CHECK(setenv("LSVD_SIZE", "eight", 1) == 0);
    CHECK_FAILS(lsvd_write(0, 512, buffer), -EINVAL, "LSVD_SIZE=eight");
    CHECK_FAILS(lsvd_flush(), -EINVAL, "LSVD_SIZE=eight");
    CHECK(setenv("LSVD_SIZE", "1000", 1) == 0);
    CHECK_FAILS(lsvd_write(0, 512, buffer), -EINVAL, "multiple of 512");
    CHECK(setenv("LSVD_SIZE", "8M", 1) == 0);

    CHECK(setenv("LSVD_DIR", "s3://bucket/disk", 1) == 0);
    CHECK_FAILS(lsvd_read(0, 512, buffer), -EINVAL, "s3");
    CHECK(setenv("LSVD_DIR", "/dev/null", 1) == 0);
    CHECK_FAILS(lsvd_read(0, 512, buffer), -EINVAL, "not a directory");
    snprintf(occupied, sizeof occupied, "%s/none/volume", directory);
    CHECK(setenv("LSVD_DIR", occupied, 1) == 0);
    CHECK_FAILS(lsvd_read(0, 512, buffer), -ENOENT, "parent");
    snprintf(occupied, sizeof occupied, "%s/occupied", directory);
    CHECK(mkdir(occupied, 0777) == 0);
    CHECK(setenv("LSVD_DIR", directory, 1) == 0);
    CHECK_FAILS(lsvd_read(0, 512, buffer), -ENOTEMPTY, "not empty");
    CHECK(rmdir(occupied) == 0);
}

static int entries(const char *directory) {
    int count = 0;
    DIR *open = opendir(directory);

    CHECK(open != NULL);
    while (readdir(open) != NULL)
        count++;
    CHECK(closedir(open) == 0);
    return count - 2;
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    CHECK(strcmp(lsvd_last_error(), "") == 0);
    settings(arguments[1]);
    /* Only a flush writes this soon what is less than an object. */
    CHECK(setenv("LSVD_FLUSH", "store", 1) == 0);
    CHECK(setenv("LSVD_SEAL_TIMEOUT", "60s", 1) == 0);

    /* What was never written reads as zeroes. */
    memset(buffer, 0xee, sizeof buffer);
    CHECK(lsvd_read(0, sizeof buffer, buffer) == 0);
    CHECK(memcmp(buffer, after, sizeof buffer) == 0);
    CHECK(lsvd_write(0, 512, buffer) == 0);
    CHECK(entries(arguments[1]) == 0);
    CHECK(lsvd_flush() == 0);
    CHECK(entries(arguments[1]) == 1);
    for (size_t at = 0; at < sizeof before; at++)
        before[at] = (char)(at * 31 + at / 512);
    for (int64_t at = 0; at < SIZE; at += sizeof before)
        CHECK(lsvd_write(at, sizeof before, before) == 0);

    static const struct { int64_t offset; size_t len; } wrong[] = {
        {1, 512}, {511, 512}, {513, 512}, {0, 1}, {0, 511}, {0, 513}, {512, 1023},
        {SIZE, 512}, {SIZE - 512, 1024}, {SIZE - 511, 512}, {INT64_MAX - 511, 512},
        {INT64_MAX - 511, 1024}, {INT64_MAX, 512}, {0, SIZE + 512}, {0, SIZE_MAX},
        {0, SIZE_MAX - 511}, {512, SIZE_MAX - 511}, {0, (size_t)1 << 63},
    };
    memset(buffer, 0x5a, sizeof buffer);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK(lsvd_write(wrong[i].offset, wrong[i].len, buffer) == -EINVAL);
        CHECK(lsvd_read((uint64_t)wrong[i].offset, wrong[i].len, buffer) == -EINVAL);
        CHECK(buffer[0] == 0x5a);
    }
    CHECK_FAILS(lsvd_write(-512, 512, buffer), -EINVAL, "negative");
    CHECK_FAILS(lsvd_write(INT64_MIN, 512, buffer), -EINVAL, "negative");
    CHECK(lsvd_read(UINT64_MAX - 511, 512, buffer) == -EINVAL);
    CHECK(lsvd_read(UINT64_MAX - 511, 1024, buffer) == -EINVAL);
    CHECK_FAILS(lsvd_write(0, 512, NULL), -EINVAL, "null");
    CHECK_FAILS(lsvd_read(0, 512, NULL), -EINVAL, "null");
    /* Nothing at a place that exists is no error, wherever the buffer is; elsewhere it is one. */
    CHECK(lsvd_write(0, 0, NULL) == 0);
    CHECK(lsvd_read(0, 0, NULL) == 0);
    CHECK(lsvd_write(SIZE, 0, buffer) == 0);
    CHECK(lsvd_read(SIZE, 0, buffer) == 0);
    CHECK_FAILS(lsvd_write(-512, 0, NULL), -EINVAL, "negative");
    CHECK_FAILS(lsvd_write(1, 0, NULL), -EINVAL, "multiples of 512");
    CHECK_FAILS(lsvd_read(1, 0, buffer), -EINVAL, "multiples of 512");
    CHECK_FAILS(lsvd_write(SIZE + 512, 0, buffer), -EINVAL, "past the end");
    CHECK_FAILS(lsvd_read(SIZE + 512, 0, NULL), -EINVAL, "past the end");
    CHECK_FAILS(lsvd_read(UINT64_MAX - 511, 0, NULL), -EINVAL, "past the end");

    /* Nothing of all that changed a byte, and the very last sector is there. */
    for (uint64_t at = 0; at < SIZE; at += sizeof after) {
        CHECK(lsvd_read(at, sizeof after, after) == 0);
        CHECK(memcmp(before, after, sizeof after) == 0);
    }
    CHECK(lsvd_write(SIZE - 512, 512, buffer) == 0);
    CHECK(lsvd_read(SIZE - 512, 512, after) == 0);
    CHECK(memcmp(buffer, after, 512) == 0);
    puts("ok");
    return 0;
}
