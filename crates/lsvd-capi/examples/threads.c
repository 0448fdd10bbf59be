/* Threads that write and read the default volume at once, 512 bytes to 2 MiB at a time, against a
 * model of every sector. Arguments: rounds per thread, seed.
 *
 * The lower part of the volume belongs to all threads. Every sector carries the number of the write
 * that it came from, and every write the moments when it began and ended. A read must not show a
 * write that ended before another write to the same sector began that had ended before the read
 * began. The upper part is cut into one piece a thread, where the newest write is known exactly. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 8, SECTOR = 512, LONGEST = 4096 /* sectors */ };
#define SHARED_SECTORS 65536u
#define OWN_SECTORS 16384u
#define SECTORS (SHARED_SECTORS + THREADS * OWN_SECTORS)

struct stamp { uint64_t sector, write; };

static atomic_ullong clock_now = 1, checked;
static atomic_ullong *began, *ended;         /* of each write, by its number; 0: not yet */
static atomic_ullong newest[SHARED_SECTORS]; /* latest beginning of a write that has ended */
static uint64_t rounds, seed;

static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Short lengths as often as long ones: each doubling is as likely as any other. */
static uint64_t draw_length(uint64_t *state) {
    uint64_t longest = 1ull << draw(state) % 13;
    return 1 + draw(state) % longest;
}

static void fill(char *buffer, uint64_t sector, uint64_t len, uint64_t write) {
    for (uint64_t i = 0; i < len; i++) {
        struct stamp stamp = {sector + i, write};
        for (size_t at = 0; at < SECTOR; at += sizeof stamp)
            memcpy(buffer + i * SECTOR + at, &stamp, sizeof stamp);
    }
}

/* The number of the write that the sector shows, 0 for none, after a look at its every byte. */
static uint64_t shown(const char *buffer, uint64_t sector) {
    struct stamp stamp;
    memcpy(&stamp, buffer, sizeof stamp);
    for (size_t at = 0; at < SECTOR; at += sizeof stamp)
        CHECK(memcmp(buffer + at, &stamp, sizeof stamp) == 0); /* torn otherwise */
    CHECK(stamp.sector == (stamp.write ? sector : 0));
    return stamp.write;
}

static void write_shared(char *buffer, uint64_t sector, uint64_t len, uint64_t number) {
    fill(buffer, sector, len, number);
    unsigned long long begin = atomic_fetch_add(&clock_now, 1);
    atomic_store(&began[number], begin);
    CHECK(lsvd_write((int64_t)(sector * SECTOR), len * SECTOR, buffer) == 0);
    atomic_store(&ended[number], atomic_fetch_add(&clock_now, 1));
    for (uint64_t i = 0; i < len; i++) {
        unsigned long long known = atomic_load(&newest[sector + i]);
        while (known < begin && !atomic_compare_exchange_weak(&newest[sector + i], &known, begin))
            ;
    }
}

static void read_shared(char *buffer, unsigned long long *due, uint64_t sector, uint64_t len) {
    for (uint64_t i = 0; i < len; i++)
        due[i] = atomic_load(&newest[sector + i]);
    CHECK(lsvd_read(sector * SECTOR, len * SECTOR, buffer) == 0);
    for (uint64_t i = 0; i < len; i++) {
        uint64_t number = shown(buffer + i * SECTOR, sector + i);
        if (number == 0) {
            CHECK(due[i] == 0);
            continue;
        }
        CHECK(number < THREADS * rounds + 1 && atomic_load(&began[number]) != 0);
        unsigned long long end = atomic_load(&ended[number]);
        CHECK(end == 0 || end > due[i]);
    }
    atomic_fetch_add(&checked, len);
}

static void read_own(char *buffer, const uint64_t *model, uint64_t first, uint64_t at,
                     uint64_t len) {
    CHECK(lsvd_read((first + at) * SECTOR, len * SECTOR, buffer) == 0);
    for (uint64_t i = 0; i < len; i++)
        CHECK(shown(buffer + i * SECTOR, first + at + i) == model[at + i]);
    atomic_fetch_add(&checked, len);
}

static void *work(void *argument) {
    uint64_t thread = (uint64_t)(uintptr_t)argument, state = seed * THREADS + thread;
    uint64_t first = SHARED_SECTORS + thread * OWN_SECTORS;
    char *buffer = malloc((size_t)LONGEST * SECTOR);
    uint64_t *model = calloc(OWN_SECTORS, sizeof *model);
    unsigned long long *due = malloc(LONGEST * sizeof *due);
    CHECK(buffer && model && due);
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t number = 1 + thread * rounds + round;
        uint64_t len = draw_length(&state);
        write_shared(buffer, draw(&state) % (SHARED_SECTORS - len), len, number);
        len = draw_length(&state);
        read_shared(buffer, due, draw(&state) % (SHARED_SECTORS - len), len);

        len = draw_length(&state);
        uint64_t at = draw(&state) % (OWN_SECTORS - len);
        fill(buffer, first + at, len, number);
        CHECK(lsvd_write((int64_t)((first + at) * SECTOR), len * SECTOR, buffer) == 0);
        for (uint64_t i = 0; i < len; i++)
            model[at + i] = number;
        len = draw_length(&state);
        read_own(buffer, model, first, draw(&state) % (OWN_SECTORS - len), len);
    }
    for (uint64_t at = 0; at < OWN_SECTORS; at += LONGEST)
        read_own(buffer, model, first, at, LONGEST);
    for (uint64_t at = 0; at < SHARED_SECTORS; at += LONGEST)
        read_shared(buffer, due, at, LONGEST);
    free(due);
    free(model);
    free(buffer);
    return NULL;
}

int main(int count, char **arguments) {
    CHECK(count == 3);
    rounds = strtoull(arguments[1], NULL, 10);
    seed = strtoull(arguments[2], NULL, 10);
    began = calloc(THREADS * rounds + 1, sizeof *began);
    ended = calloc(THREADS * rounds + 1, sizeof *ended);
    CHECK(rounds > 0 && began && ended);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(lsvd_write((int64_t)SECTORS * SECTOR, SECTOR, (char *)newest) < 0);
    printf("ok: %llu sectors checked\n", (unsigned long long)checked);
    free(ended);
    free(began);
    return 0;
}
