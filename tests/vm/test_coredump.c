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

TEST(coredump, contains_template, ANONYMOUS) {
    make_scratch_folder();
    char old[256];
    CHECK(read_text(pattern_path, old, sizeof old), "core_pattern");
    const bool changed = old[0] == '|' || old[0] == '/';
    if (changed && !write_text(pattern_path, "core")) skip("core_pattern cannot be changed");
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_CORE, &unlimited)) skip("core dumps are not allowed");

    instance_setup(&instance);
    write_marks(&instance, 0, 6, 40);
    const pid_t pid = child_start();
    if (pid == 0) abort();
    const int status = child_status(pid);
    const int fd = open_core();
    if (changed) write_text(pattern_path, old);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x", (unsigned)status);
    if (!WCOREDUMP(status) || fd == -1) skip("no core dump was written");

    const size_t size = (size_t)CHECK_OK(lseek(fd, 0, SEEK_END));
    const char* const core = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(core != MAP_FAILED, "%s", strerror(errno));
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
