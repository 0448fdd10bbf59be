/* Volumes by number: open, use, close, and everything that a careless caller does. Argument: a
 * directory for the volumes. */
#include "check.h"
#include <errno.h>
#include <pthread.h>

#define SIZE (64ull << 20)

static char data[2 << 20], back[2 << 20], zeroes[2 << 20];
static lsvd_volume_t shared;

static void wrong_openings(const char *directory) {
    lsvd_volume_t volume = 77;
    CHECK_FAILS(lsvd_volume_open(NULL, "ephemeral,size=1M", &volume), -EINVAL, "url");
    CHECK(volume == 0);
    CHECK_FAILS(lsvd_volume_open("memory://", NULL, &volume), -EINVAL, "options");
    CHECK_FAILS(lsvd_volume_open("memory://", "ephemeral,size=1M", NULL), -EINVAL, "null");
    CHECK_FAILS(lsvd_volume_open("memory://", "", &volume), -EINVAL, "ephemeral");
    CHECK_FAILS(lsvd_volume_open("memory://", "ephemeral", &volume), -EINVAL, "size");
    CHECK_FAILS(lsvd_volume_open("memory://", "ephemeral,size=1M,color=red", &volume), -EINVAL,
                "color");
    CHECK_FAILS(lsvd_volume_open("memory://", "ephemeral,size=0", &volume), -EINVAL, "512");
    CHECK_FAILS(lsvd_volume_open("memory://", "ephemeral,size=1M,window=0", &volume), -EINVAL,
                "window");
    CHECK_FAILS(lsvd_volume_open("memory://", "ephemeral,size=1M,object-size=5000", &volume),
                -EINVAL, "object");
    CHECK_FAILS(lsvd_volume_open("ftp://x", "ephemeral,size=1M", &volume), -EINVAL, "ftp");
    CHECK_FAILS(lsvd_volume_open("/none/such", "ephemeral,size=1M", &volume), -ENOENT, "parent");
    CHECK_FAILS(lsvd_volume_open("\xff\xfe", "ephemeral,size=1M", &volume), -EINVAL, "UTF-8");

    lsvd_volume_t first;
    char url[4096];
    snprintf(url, sizeof url, "file://%s/taken", directory);
    CHECK(lsvd_volume_open(url, "ephemeral,size=1M,flush=store", &first) == 0);
    CHECK_FAILS(lsvd_volume_open(url, "ephemeral,size=1M", &volume), -EBUSY, "in use");
    /* It is no less in use with objects in it, which nobody is to be told to remove. */
    CHECK(lsvd_volume_write(first, 0, 4096, data) == 0);
    CHECK(lsvd_volume_flush(first) == 0);
    CHECK_FAILS(lsvd_volume_open(url, "ephemeral,size=1M", &volume), -EBUSY, "in use");
    CHECK(lsvd_volume_close(first) == 0);
    snprintf(url, sizeof url, "file://%s", directory);
    CHECK_FAILS(lsvd_volume_open(url, "ephemeral,size=1M", &volume), -ENOTEMPTY, "not empty");
    CHECK(volume == 0);
}

static void verbs(lsvd_volume_t volume) {
    uint64_t size = 0;
    CHECK(lsvd_volume_size(volume, &size) == 0 && size == SIZE);
    CHECK(lsvd_volume_size(volume, NULL) == -EINVAL);
    CHECK(lsvd_volume_write(volume, 512, sizeof data, data) == 0);
    CHECK(lsvd_volume_flush(volume) == 0);
    CHECK(lsvd_volume_read(volume, 512, sizeof back, back) == 0);
    CHECK(memcmp(data, back, sizeof data) == 0);

    CHECK(lsvd_volume_discard(volume, 4096, 8192) == 0);
    CHECK(lsvd_volume_write_zeroes(volume, 1 << 20, 512) == 0);
    CHECK(lsvd_volume_flush(volume) == 0);
    CHECK(lsvd_volume_read(volume, 512, sizeof back, back) == 0);
    CHECK(memcmp(back, data, 4096 - 512) == 0);
    CHECK(memcmp(back + 4096 - 512, zeroes, 8192) == 0);
    CHECK(memcmp(back + 12288 - 512, data + 12288 - 512, 4096) == 0);
    CHECK(memcmp(back + (1 << 20) - 512, zeroes, 512) == 0);
    CHECK(memcmp(back + (1 << 20), data + (1 << 20), 4096) == 0);

    CHECK(lsvd_volume_discard(volume, 0, SIZE) == 0);
    CHECK(lsvd_volume_read(volume, 0, sizeof back, back) == 0);
    CHECK(memcmp(back, zeroes, sizeof back) == 0);

    CHECK(lsvd_volume_write(volume, SIZE, 512, data) == -EINVAL);
    CHECK(lsvd_volume_write(volume, UINT64_MAX - 511, 1024, data) == -EINVAL);
    CHECK(lsvd_volume_write(volume, 0, 512, NULL) == -EINVAL);
    CHECK(lsvd_volume_write(volume, 0, 0, NULL) == 0);
    CHECK(lsvd_volume_read(volume, 7, 512, back) == -EINVAL);
    CHECK(lsvd_volume_read(volume, 0, 512, NULL) == -EINVAL);
    CHECK(lsvd_volume_read(volume, 0, 0, NULL) == 0);
    CHECK(lsvd_volume_discard(volume, 0, SIZE + 512) == -EINVAL);
    CHECK(lsvd_volume_discard(volume, 1, 512) == -EINVAL);
    CHECK(lsvd_volume_discard(volume, 0, 0) == 0);
    CHECK(lsvd_volume_write_zeroes(volume, UINT64_MAX - 511, 512) == -EINVAL);
    CHECK(lsvd_volume_write_zeroes(volume, 0, 0) == 0);
    CHECK(lsvd_volume_write(volume, SIZE, 0, NULL) == 0);
    static const uint64_t wrong[] = {7, SIZE + 512, UINT64_MAX - 511};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK(lsvd_volume_read(volume, wrong[i], 0, NULL) == -EINVAL);
        CHECK(lsvd_volume_write(volume, wrong[i], 0, NULL) == -EINVAL);
        CHECK(lsvd_volume_discard(volume, wrong[i], 0) == -EINVAL);
        CHECK(lsvd_volume_write_zeroes(volume, wrong[i], 0) == -EINVAL);
    }
}

static void assert_gone(lsvd_volume_t volume) {
    uint64_t size;
    CHECK_FAILS(lsvd_volume_read(volume, 0, 512, back), -EBADF, "not an open volume");
    CHECK(lsvd_volume_read(volume, 0, 0, NULL) == -EBADF);
    CHECK(lsvd_volume_write(volume, 0, 512, data) == -EBADF);
    CHECK(lsvd_volume_flush(volume) == -EBADF);
    CHECK(lsvd_volume_discard(volume, 0, 512) == -EBADF);
    CHECK(lsvd_volume_write_zeroes(volume, 0, 512) == -EBADF);
    CHECK(lsvd_volume_size(volume, &size) == -EBADF);
    CHECK(lsvd_volume_close(volume) == -EBADF);
}

/* Writes until the volume is closed under it. */
static void *write_on(void *unused) {
    (void)unused;
    for (uint64_t at = 0;; at = (at + 4096) % SIZE) {
        int result = lsvd_volume_write(shared, at, 4096, data);
        if (result == -EBADF || result == -ESHUTDOWN)
            return NULL;
        CHECK(result == 0);
    }
}

static void close_under_writers(const char *directory) {
    char url[4096];
    snprintf(url, sizeof url, "%s/closing", directory);
    CHECK(lsvd_volume_open(url, "ephemeral,size=64M,store-latency=5ms..10ms", &shared) == 0);
    pthread_t writers[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&writers[i], NULL, write_on, NULL) == 0);
    for (int i = 0; i < 1000; i++)
        CHECK(lsvd_volume_read(shared, 0, 4096, back) == 0);
    CHECK(lsvd_volume_close(shared) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(writers[i], NULL) == 0);
    assert_gone(shared);
}

/* The message of one thread is no other thread's. */
static void *fail_elsewhere(void *unused) {
    (void)unused;
    CHECK(strcmp(lsvd_last_error(), "") == 0);
    CHECK_FAILS(lsvd_volume_flush(123456), -EBADF, "123456");
    return NULL;
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    for (size_t at = 0; at < sizeof data; at++)
        data[at] = (char)(1 + at % 251);
    wrong_openings(arguments[1]);

    lsvd_volume_t one, two;
    CHECK(lsvd_volume_open("memory://", "size=64M,ephemeral,flush=store", &one) == 0);
    char path[4096];
    snprintf(path, sizeof path, "%s/two", arguments[1]);
    CHECK(lsvd_volume_open(path, "ephemeral,size=64M,object-size=1M,flush=store", &two) == 0);
    CHECK(one != 0 && two != 0 && one != two);
    verbs(one);
    verbs(two);

    CHECK(lsvd_volume_write(one, 0, 4096, data) == 0);
    CHECK(lsvd_volume_read(two, 0, 4096, back) == 0);
    CHECK(memcmp(back, zeroes, 4096) == 0);
    CHECK(lsvd_volume_close(one) == 0);
    assert_gone(one);
    CHECK(lsvd_volume_read(two, 0, 4096, back) == 0);
    CHECK(lsvd_volume_open("memory://", "ephemeral,size=1M", &shared) == 0);
    CHECK(shared != one);
    assert_gone(one);
    CHECK(lsvd_volume_close(shared) == 0);
    CHECK(lsvd_volume_close(two) == 0);
    assert_gone(two);
    assert_gone(0);
    assert_gone(UINT64_MAX);

    close_under_writers(arguments[1]);
    CHECK_FAILS(lsvd_volume_flush(0), -EBADF, "0 is not");
    pthread_t other;
    CHECK(pthread_create(&other, NULL, fail_elsewhere, NULL) == 0);
    CHECK(pthread_join(other, NULL) == 0);
    CHECK(strncmp(lsvd_last_error(), "0 is not", 8) == 0);
    puts("ok");
    return 0;
}
