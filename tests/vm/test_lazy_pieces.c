// SPDX-License-Identifier: Apache-2.0
// Eager pieces in a lazy mapping: ATTACH finds them empty, touched, written, dropped, swapped out.
#include <signal.h>
#include <sys/mman.h>

#include "instance.h"

static const uintptr_t base = 0x30000000000;

/*
 * Eager pieces all over a mapping: each begins in the middle of a page table or goes over its end,
 * has lazy pages behind it, and holes around.
 */
enum { PIECES = 10, PIECE = 8, LAZY = 4, APART = 168, COPIED_PIECES = 3 };

static char* piece_at(char* memory, uint64_t piece) {
    return memory + (piece * APART + 4) * PAGE;
}

static int map_pieces(char** memory) {
    struct pseudo_mm_extent list[2 * PIECES];
    for (uint64_t i = 0; i < PIECES; i++) {
        const uintptr_t address = (uintptr_t)piece_at((char*)base, i);
        list[2 * i] =
            (struct pseudo_mm_extent){.addr = address,
                                      .page = 20 * i,
                                      .nr_pages = PIECE,
                                      .kind = i % 3 == 1 ? PSEUDO_MM_COPIED : PSEUDO_MM_SHARED};
        list[2 * i + 1] = (struct pseudo_mm_extent){.addr = address + PIECE * PAGE,
                                                    .page = 20 * i + PIECE,
                                                    .nr_pages = LAZY,
                                                    .kind = PSEUDO_MM_LAZY};
    }
    const int fd = template_of(common_pool.fd, list, 2 * PIECES);
    *memory = mmap((void*)base, PIECES * APART * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, (off_t)base);
    CHECK(*memory == (void*)base, "%s", strerror(errno));
    return fd;
}

/* Leaves in each piece something else, or nothing. */
static void touch_pieces(char* memory, uint64_t turn) {
    for (uint64_t i = 0; i < PIECES; i++) {
        char* const piece = piece_at(memory, i);
        switch ((i + turn) % 5) {
            case 1: /* one page of the template */
                CHECK_EQ(*(volatile char*)(piece + 5 * PAGE), piece[5 * PAGE]);
                break;
            case 2: /* one of its own */
                fill_mark(piece, turn);
                break;
            case 3: /* its own, and in the middle none but a page of zeros */
                for (int page = 0; page < PIECE; page++) fill_mark(piece + page * PAGE, turn);
                CHECK_OK(madvise(piece + 2 * PAGE, 4 * PAGE, MADV_DONTNEED));
                CHECK(page_is_zero(piece + 3 * PAGE), "piece %d", (int)i);
                break;
            case 4: /* in swap */
                fill_mark(piece + (PIECE - 1) * PAGE, turn);
                madvise(piece, PIECE * PAGE, MADV_PAGEOUT);
                break;
        }
        /* What ATTACH must leave alone. */
        fill_mark(piece - PAGE, turn + i);
        fill_mark(piece + PIECE * PAGE, turn + i);
        CHECK_OK(madvise(piece + (PIECE + 1) * PAGE, PAGE, MADV_POPULATE_READ));
        CHECK_OK(madvise(piece + (PIECE + 1) * PAGE, PAGE, MADV_DONTNEED));
    }
}

static void expect_pieces(char* memory, uint64_t turn, const char* where) {
    for (uint64_t i = 0; i < PIECES; i++) {
        char* const piece = piece_at(memory, i);
        char mark[PAGE];
        fill_mark(mark, turn + i);
        for (uint64_t page = 0; page < PIECE + LAZY; page++) {
            const char* const place = piece + page * PAGE;
            const bool right = page == PIECE ? memcmp(place, mark, PAGE) == 0
                               : page == PIECE + 1
                                   ? page_is_zero(place)
                                   : page_is(place, common_pool.seed, 20 * i + page);
            CHECK(right, "turn %d, %s: page %d of piece %d", (int)turn, where, (int)page, (int)i);
        }
        CHECK(memcmp(piece - PAGE, mark, PAGE) == 0, "%s: before piece %d", where, (int)i);
        CHECK(page_is_zero(piece - 2 * PAGE), "%s: hole before piece %d", where, (int)i);
        CHECK(page_is_zero(piece + (PIECE + LAZY) * PAGE), "%s: hole after %d", where, (int)i);
    }
}

static void attach_pieces(int fd, pid_t pid) {
    struct pseudo_mm_attach result;
    CHECK_OK(call_attach(fd, pid, &result));
    CHECK_EQ(result.pages_shared + result.pages_copied, PIECES * PIECE);
    /* Without ROLLBACK what is in the way is overwritten. */
    if (info().features & PSEUDO_MM_FEATURE_ROLLBACK)
        CHECK_EQ(result.pages_copied, COPIED_PIECES * PIECE);
}

/* Whatever is in the way of eager pages goes, also of those that a child has with its parent. */
TEST(lazy, attach_over_touched, MODE_LAZY) {
    char* memory;
    CHECK(write_text("/sys/module/pseudo_mm/parameters/fault_around_pages", "1"), "%s",
          strerror(errno));
    const int fd = map_pieces(&memory);
    for (uint64_t turn = 0; turn < 5; turn++) {
        touch_pieces(memory, turn);
        const pid_t pid = child_start();
        if (pid == 0) {
            raise(SIGSTOP);
            expect_pieces(memory, turn, "child");
            touch_pieces(memory, turn);
            attach_pieces(fd, 0);
            expect_pieces(memory, turn, "child, once more");
            child_end();
        }
        wait_stopped(pid);
        attach_pieces(fd, pid);
        if (turn == 1) { /* in several VMAs from now on */
            char* const middle = piece_at(memory, 4) + 3 * PAGE;
            CHECK_OK(mprotect(middle, 2 * PAGE, PROT_READ));
            CHECK_OK(mprotect(middle, 2 * PAGE, PROT_READ | PROT_WRITE));
        }
        if (turn == 3) { /* to elsewhere and back */
            char* const place = piece_at(memory, 5);
            char* const other = memory + 0x10000000;
            const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
            CHECK(mremap(place, 5 * PAGE, 5 * PAGE, flags, other) == other, "%s", strerror(errno));
            CHECK(mremap(other, 5 * PAGE, 5 * PAGE, flags, place) == place, "%s", strerror(errno));
        }
        attach_pieces(fd, 0);
        expect_pieces(memory, turn, "parent");
        CHECK_OK(kill(pid, SIGCONT));
        child_join(pid);
        expect_pieces(memory, turn, "parent at the end");
        /* Dropped again, and again there at the next turn. */
        CHECK_OK(madvise(piece_at(memory, 2 * turn), 3 * PAGE, MADV_DONTNEED));
        CHECK(page_is_zero(piece_at(memory, 2 * turn) + PAGE), "turn %d", (int)turn);
    }
}
