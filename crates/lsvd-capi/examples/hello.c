/* Ten lines: write a sector and read it back. The disk keeps its objects in /tmp/lsvd (or $LSVD_DIR),
 * which must be empty or absent. Build: cc hello.c $(pkg-config --cflags --libs lsvd) */
#include <lsvd.h>
#include <stdio.h>

int main(void) {
    char out[512] = "hello, disk", in[512];
    if (lsvd_write(4096, sizeof out, out) || lsvd_read(4096, sizeof in, in))
        return fprintf(stderr, "%s\n", lsvd_last_error()), 1;
    return puts(in) < 0;
}
