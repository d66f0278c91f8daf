// SPDX-License-Identifier: Apache-2.0
// A core dump contains the template's pages.
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "instance.h"

static struct instance instance;
static const char pattern_path[] = "/proc/sys/kernel/core_pattern";

/* The part of the dump with this address; NULL: not dumped. */
static const void* in_dump(const char* core, size_t size, uintptr_t address) {
    Elf64_Ehdr header;
    memcpy(&header, core, sizeof header);
    for (int i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr part;
        memcpy(&part, core + header.e_phoff + (size_t)i * sizeof part, sizeof part);
        if (part.p_type == PT_LOAD && address >= part.p_vaddr &&
            address < part.p_vaddr + part.p_filesz) {
            const size_t offset = part.p_offset + (address - part.p_vaddr);
            CHECK(offset + PAGE <= size, "the dump was cut off");
            return core + offset;
        }
    }
    return NULL;
}

static int open_core(void) {
    DIR* const folder = opendir(".");
    CHECK(folder, "%s", strerror(errno));
    int fd = -1;
    for (struct dirent* entry; (entry = readdir(folder));)
        if (!strncmp(entry->d_name, "core", 4)) fd = open(entry->d_name, O_RDONLY | O_CLOEXEC);
    closedir(folder);
    return fd;
}

/* The core dump of a child that aborts. */
static const char* dump_child(size_t* size) {
    make_scratch_folder();
    char old[256];
    CHECK(read_text(pattern_path, old, sizeof old), "core_pattern");
    const bool changed = old[0] == '|' || old[0] == '/';
    if (changed && !write_text(pattern_path, "core")) skip("core_pattern cannot be changed");
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_CORE, &unlimited)) skip("core dumps are not allowed");

    const pid_t pid = child_start();
    if (pid == 0) abort();
    const int status = child_status(pid);
    const int fd = open_core();
    if (changed) write_text(pattern_path, old);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x", (unsigned)status);
    if (!WCOREDUMP(status) || fd == -1) skip("no core dump was written");

    *size = (size_t)CHECK_OK(lseek(fd, 0, SEEK_END));
    const char* const core = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(core != MAP_FAILED, "%s", strerror(errno));
    return core;
}

TEST(coredump, contains_template, ANONYMOUS) {
    instance_setup(&instance);
    write_marks(&instance, 0, 6, 40);
    size_t size;
    const char* const core = dump_child(&size);
    for (int a = 0; a < AREAS; a++) {
        for (uint64_t page = 0; page < instance.area[a].pages; page++) {
            uint64_t expected[PAGE / 8];
            expected_page(&instance, (enum area_name)a, page, expected);
            const void* const dumped =
                in_dump(core, size, (uintptr_t)page_at(&instance, (enum area_name)a, page));
            CHECK(dumped, "area %d page %d is not in the dump", a, (int)page);
            CHECK(memcmp(dumped, expected, PAGE) == 0, "area %d page %d is wrong in the dump", a,
                  (int)page);
        }
    }
    instance_check(&instance);
}

static char* map_lazy(uintptr_t address, uint64_t pages) {
    const struct pseudo_mm_extent extent = {
        .addr = address, .nr_pages = pages, .kind = PSEUDO_MM_LAZY};
    const int fd = template_of(common_pool.fd, &extent, 1);
    char* const memory = mmap((void*)address, pages * PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, (off_t)address);
    CHECK(memory == (void*)address, "%s", strerror(errno));
    return memory;
}

/* What INFO says of mappings of a template is so: all of one that was written to, delivered or not,
 * nothing of another. */
TEST(coredump, lazy_mappings, MODE_LAZY) {
    enum { PAGES = 200 };
    struct pseudo_mm_info info;
    CHECK_OK(call_info(device_fd, &info));
    const char* const read_only = map_lazy(0x30000000000, PAGES);
    char* const written = map_lazy(0x30010000000, PAGES);
    CHECK(page_is(read_only + 9 * PAGE, common_pool.seed, 9), "page 9");
    fill_mark(written + 9 * PAGE, 70);
    size_t size;
    const char* const core = dump_child(&size);
    char expected[PAGE];
    for (uint64_t page = 0; page < PAGES; page++) {
        const bool missing = !in_dump(core, size, (uintptr_t)read_only + page * PAGE);
        CHECK_EQ(missing, info.lazy_differences & PSEUDO_MM_LAZY_CORE_DUMP_PARTIAL ? 1 : 0);
        if (page == 9)
            fill_mark(expected, 70);
        else
            fill_page(expected, common_pool.seed, page);
        const void* const dumped = in_dump(core, size, (uintptr_t)written + page * PAGE);
        CHECK(dumped, "page %d is not in the dump", (int)page);
        CHECK(memcmp(dumped, expected, PAGE) == 0, "page %d is wrong in the dump", (int)page);
    }
}
