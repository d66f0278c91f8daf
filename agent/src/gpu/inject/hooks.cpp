// SPDX-License-Identifier: Apache-2.0
#include "gpu/inject/hooks.h"

#include "gpu/inject/machine.h"
#include "gpu/inject/symbols.h"
#include "gpu/inject/thunks.h"

namespace memplate::gpu::inject {
namespace {

enum class Job : unsigned char {
    none,
    call,         ///< of the driver
    entry_point,  ///< cuGetProcAddress(name, &address, …)
    open,         ///< of a file; the path is the first argument
    open_at,      ///< the path is the second one
    open_stream,
    read,
    close,
};

struct Hook {
    void* real = nullptr;
    Job job = Job::none;
};

constexpr unsigned long page_bytes = 4096;
constexpr int most_descriptors = 1 << 16;

// One process has one of each; it has no other owner.
TraceFile* file = nullptr;
Hook hooks[thunk_count];
unsigned hooks_used = 0;
bool hooks_locked = false;
/// Descriptors of files that were opened.
unsigned long open_files[most_descriptors / 64];
/// Zero after a fork, unlike the number that is kept here.
int* process = nullptr;
int known_process = 0;

memplate_gpu_event* new_event(unsigned kind, unsigned slots);
void finish(memplate_gpu_event* event, unsigned long long end_ns);

int process_number() {
    if (*process != 0) return *process;
    *process = static_cast<int>(system_call(SYS_getpid));
    const int parent = known_process;
    known_process = *process;
    if (parent == 0 || parent == *process) return *process;
    if (memplate_gpu_event* event = new_event(MEMPLATE_GPU_FORKED, 1)) {
        event->pid = parent;
        event->arguments[0] = *process;
        event->begin_ns = now_ns();
        finish(event, event->begin_ns);
    }
    return *process;
}

/// Differs from thread to thread of a process.
unsigned thread_number() {
    unsigned long self = 0;
    asm("movq %%fs:0x10, %0" : "=r"(self));
    return static_cast<unsigned>(self >> 6);
}

memplate_gpu_event* new_event(unsigned kind, unsigned slots) {
    const int number = process_number();  // of a child it tells first that it was forked
    const unsigned long long at = __atomic_fetch_add(&file->next, slots, __ATOMIC_RELAXED);
    if (at + slots > TraceFile::slots) return nullptr;
    memplate_gpu_event* event = &file->events[at];
    event->kind = kind;
    event->pid = number;
    return event;
}

void finish(memplate_gpu_event* event, unsigned long long end_ns) {
    __atomic_store_n(&event->end_ns, end_ns, __ATOMIC_RELEASE);
}

void copy_text(memplate_gpu_event* event, const char* text) {
    char* to = reinterpret_cast<char*>(event + 1);
    for (int i = 0; i < MEMPLATE_GPU_TEXT - 1 && text[i] != 0; ++i) to[i] = text[i];
}

void lock_hooks() {
    while (__atomic_test_and_set(&hooks_locked, __ATOMIC_ACQUIRE)) __builtin_ia32_pause();
}
void unlock_hooks() {
    __atomic_clear(&hooks_locked, __ATOMIC_RELEASE);
}

/// The number of a new thunk for a function; thunk_count: there is none left.
unsigned new_hook(void* real, Job job, const char* name) {
    if (hooks_used == thunk_count) return thunk_count;
    const unsigned number = hooks_used++;
    hooks[number] = {real, job};
    if (job != Job::call && job != Job::entry_point) return number;
    if (memplate_gpu_event* event = new_event(kind_of_name, slots_with_text)) {
        event->call = number;
        copy_text(event, name);
        finish(event, now_ns());
    }
    return number;
}

/// Lets `choose` say what is to be done with each function that a library exports.
template <class Choose>
void hook_symbols(const link_map& library, Choose choose) {
    const Symbols symbols = symbols_of(library.l_ld, library.l_addr);
    const auto begin = reinterpret_cast<unsigned long>(symbols.first) / page_bytes * page_bytes;
    const auto end = reinterpret_cast<unsigned long>(symbols.first + symbols.count);
    if (failed(system_call(SYS_mprotect, begin, end - begin, PROT_READ | PROT_WRITE))) return;
    lock_hooks();
    for (unsigned long i = 0; i < symbols.count; ++i) {
        ElfW(Sym)& symbol = symbols.first[i];
        if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF) continue;
        const char* name = symbols.names + symbol.st_name;
        const Job job = choose(name);
        if (job == Job::none) continue;
        const unsigned number =
            new_hook(reinterpret_cast<void*>(library.l_addr + symbol.st_value), job, name);
        // The linker adds the library's address, and addresses wrap around.
        if (number != thunk_count) symbol.st_value = thunk_address(number) - library.l_addr;
    }
    unlock_hooks();
    system_call(SYS_mprotect, begin, end - begin, PROT_READ);
}

Job job_in_driver(const char* name) {
    if (!starts_with(name, "cu") || name[2] < 'A' || name[2] > 'Z') return Job::none;
    return starts_with(name, "cuGetProcAddress") ? Job::entry_point : Job::call;
}

Job job_in_c_library(const char* name) {
    struct Entry {
        const char* name;
        Job job;
    };
    static constexpr Entry entries[] = {
        {"open", Job::open},          {"open64", Job::open},
        {"__open_2", Job::open},      {"__open64_2", Job::open},
        {"openat", Job::open_at},     {"openat64", Job::open_at},
        {"__openat_2", Job::open_at}, {"__openat64_2", Job::open_at},
        {"fopen", Job::open_stream},  {"fopen64", Job::open_stream},
        {"read", Job::read},          {"pread", Job::read},
        {"pread64", Job::read},       {"close", Job::close},
    };
    for (const Entry& entry : entries)
        if (equal(name, entry.name)) return entry.job;
    return Job::none;
}

/// The thunk of an entry point that the driver has named: it need not be one that it exports.
void replace_entry_point(const Frame& frame) {
    auto* address = reinterpret_cast<void**>(frame.arguments[1]);
    if (static_cast<int>(frame.result) != 0 || address == nullptr || *address == nullptr) return;
    lock_hooks();
    unsigned number = 0;
    while (number < hooks_used && hooks[number].real != *address) ++number;
    if (number == hooks_used) {
        const auto* name = reinterpret_cast<const char*>(frame.arguments[0]);
        number = new_hook(
            *address, job_in_driver(name) == Job::entry_point ? Job::entry_point : Job::call, name);
    }
    if (number != thunk_count) *address = reinterpret_cast<void*>(thunk_address(number));
    unlock_hooks();
}

void tell_opened(const Frame& frame, const char* path, int descriptor) {
    if (descriptor >= 0 && descriptor < most_descriptors)
        __atomic_fetch_or(&open_files[descriptor / 64], 1UL << descriptor % 64, __ATOMIC_RELAXED);
    memplate_gpu_event* event = new_event(MEMPLATE_GPU_OPENED, slots_with_text);
    if (event == nullptr) return;
    event->begin_ns = frame.begin_ns;
    event->thread = thread_number();
    event->result = descriptor;
    copy_text(event, path);
    finish(event, now_ns());
}

void tell_read(const Frame& frame) {
    const auto descriptor = static_cast<int>(frame.arguments[0]);
    if (descriptor < 0 || descriptor >= most_descriptors || static_cast<long>(frame.result) <= 0)
        return;
    const unsigned long bit = 1UL << descriptor % 64;
    if ((__atomic_load_n(&open_files[descriptor / 64], __ATOMIC_RELAXED) & bit) == 0) return;
    memplate_gpu_event* event = new_event(MEMPLATE_GPU_READ, 1);
    if (event == nullptr) return;
    event->begin_ns = frame.begin_ns;
    event->thread = thread_number();
    event->arguments[0] = descriptor;
    event->arguments[1] = frame.result;
    finish(event, now_ns());
}

void forget(int descriptor) {
    if (descriptor >= 0 && descriptor < most_descriptors)
        __atomic_fetch_and(&open_files[descriptor / 64], ~(1UL << descriptor % 64),
                           __ATOMIC_RELAXED);
}

/// The value of a variable of this process; it may be cut off.
bool read_variable(const char* name, char* value, unsigned long room) {
    const long fd = system_call(SYS_openat, AT_FDCWD, "/proc/self/environ", O_RDONLY | O_CLOEXEC);
    if (failed(fd)) return false;
    char buffer[page_bytes];
    unsigned long matched = 0;  // characters of "name="; all of them: this is its value
    unsigned long length = 0;
    for (unsigned long at_start = 1;;) {
        const long bytes = system_call(SYS_read, fd, buffer, sizeof buffer);
        if (bytes <= 0) break;
        for (long i = 0; i < bytes; ++i) {
            const char c = buffer[i];
            const bool whole = matched != 0 && name[matched - 1] == 0;
            if (c == 0) {
                if (whole) {
                    system_call(SYS_close, fd);
                    value[length] = 0;
                    return true;
                }
                at_start = 1;
                matched = 0;
            } else if (whole) {
                if (length + 1 < room) value[length++] = c;
            } else if (at_start != 0 && c == (name[matched] != 0 ? name[matched] : '=')) {
                ++matched;
            } else {
                at_start = 0;
                matched = 0;
            }
        }
    }
    system_call(SYS_close, fd);
    return false;
}

}  // namespace

bool begin_trace() {
    char path[256];
    if (!read_variable(variable, path, sizeof path)) return false;
    const long fd = system_call(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (failed(fd)) return false;
    file = static_cast<TraceFile*>(
        map(sizeof(TraceFile), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, (int)fd));
    system_call(SYS_close, fd);
    process =
        static_cast<int*>(map(page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1));
    if (file == nullptr || process == nullptr) return false;
    system_call(SYS_madvise, process, page_bytes, MADV_WIPEONFORK);
    tell(MEMPLATE_GPU_EXECUTED, nullptr);
    return true;
}

void tell(unsigned kind, const char* text) {
    const bool with_text = kind == MEMPLATE_GPU_OPENED || kind == MEMPLATE_GPU_EXECUTED;
    memplate_gpu_event* event = new_event(kind, with_text ? slots_with_text : 1);
    if (event == nullptr) return;
    event->begin_ns = now_ns();
    event->result = -1;
    if (text != nullptr) copy_text(event, text);
    finish(event, event->begin_ns);
}

void hook_driver(const link_map& library) {
    hook_symbols(library, job_in_driver);
}

void hook_c_library(const link_map& library) {
    hook_symbols(library, job_in_c_library);
}

}  // namespace memplate::gpu::inject

using namespace memplate::gpu::inject;

void* memplate_gpu_begin(Frame* frame) {
    const Hook& hook = hooks[frame->thunk];
    frame->record = nullptr;
    if (hook.job == Job::call || hook.job == Job::entry_point) {
        if (memplate_gpu_event* event = new_event(MEMPLATE_GPU_CALL, 1)) {
            event->thread = thread_number();
            event->call = static_cast<unsigned>(frame->thunk);
            for (int i = 0; i < 3; ++i) event->arguments[i] = frame->arguments[i];
            frame->record = event;
            event->begin_ns = now_ns();
        }
    } else if (hook.job == Job::close) {
        // Before the call: afterwards another thread may have got the same number.
        forget(static_cast<int>(frame->arguments[0]));
    } else {
        frame->begin_ns = now_ns();
    }
    return hook.real;
}

void memplate_gpu_end(Frame* frame) {
    const Job job = hooks[frame->thunk].job;
    if (frame->record != nullptr) {
        auto* event = static_cast<memplate_gpu_event*>(frame->record);
        event->result = static_cast<int>(frame->result);
        finish(event, now_ns());
    }
    const auto text = [frame](int argument) {
        return reinterpret_cast<const char*>(frame->arguments[argument]);
    };
    const auto descriptor = static_cast<int>(frame->result);
    if (job == Job::entry_point)
        replace_entry_point(*frame);
    else if (job == Job::read)
        tell_read(*frame);
    else if (job == Job::open && descriptor >= 0)
        tell_opened(*frame, text(0), descriptor);
    else if (job == Job::open_at && descriptor >= 0)
        tell_opened(*frame, text(1), descriptor);
    else if (job == Job::open_stream && frame->result != 0)
        tell_opened(*frame, text(0), -1);
}
