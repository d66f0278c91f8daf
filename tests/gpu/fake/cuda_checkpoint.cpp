// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints of other processes. As with the driver, a thread of the target does the work: it is
// woken by a signal, which also reaches a process in another pid namespace, and the signal's number
// names a file in the state folder with what is wanted.
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>

#include "fake/cuda_state.h"
#include "fake/memory.h"
#include "fake/settings.h"

using namespace memplate::gpu;
using fake_gpu::Gate;
using fake_gpu::settings;
using fake_gpu::state;
using Json = nlohmann::json;

namespace {

constexpr CudaResult invalid_value = 1;
constexpr CudaResult illegal_state = 401;
constexpr CudaResult not_ready = 600;

int wake_up_signal() {
    return SIGRTMIN + 9;
}

std::string file_of(const char* kind, int number) {
    return settings().state + "/" + kind + "." + std::to_string(number);
}

void write_file(const std::string& path, const Json& content) {
    const std::string unfinished = path + ".new";
    std::ofstream(unfinished) << content.dump();
    ::rename(unfinished.c_str(), path.c_str());
}

Json take_file(const std::string& path) {
    std::ifstream file(path);
    Json content = Json::parse(file, nullptr, false);
    ::unlink(path.c_str());
    return content.is_object() ? content : Json::object();
}

/// The target's side.
struct Saved {
    int device = 0;
    uint64_t bytes = 0;
    std::string* block = nullptr;  ///< where its name stands
    void* address = nullptr;       ///< null: nobody looks into it
    void* copy = nullptr;          ///< in memory of the process's own
};

struct Service {
    sem_t wake_up{};
    // Requests that signals announced and nobody has served; 0: none. Two may come at once.
    std::array<std::atomic<int>, 64> wanted{};
    std::atomic<unsigned> announced = 0;
    int state = process_running;
    std::vector<Saved> saved;
};
Service& service() {
    static auto& one = *new Service;
    return one;
}

int device_of(const std::string& block) {
    return std::atoi(block.c_str());
}

CudaResult lock_calls(unsigned timeout_ms) {
    if (service().state != process_running) return illegal_state;
    const auto timeout =
        timeout_ms == 0 ? std::chrono::hours(1) : std::chrono::milliseconds(timeout_ms);
    if (!Gate::close(timeout)) return not_ready;
    service().state = process_locked;
    return cuda_success;
}

CudaResult unlock_calls() {
    if (service().state != process_locked) return illegal_state;
    service().state = process_running;
    Gate::open();
    return cuda_success;
}

CudaResult save() {
    if (service().state != process_locked) return illegal_state;
    const std::lock_guard lock(state().mutex);
    if (!state().physical.empty()) return cuda_not_supported;
    for (const auto& [pointer, allocation] : state().allocations)
        if (allocation.block.empty()) return cuda_not_supported;  // another process's
    std::vector<Saved> saved;
    for (auto& [pointer, allocation] : state().allocations)
        saved.push_back({.device = allocation.device,
                         .bytes = allocation.bytes,
                         .block = &allocation.block,
                         .address = allocation.address});
    for (auto& [handle, block] : state().modules)
        saved.push_back({device_of(block), fake_gpu::block_size(block), &block});
    for (auto& [device, block] : state().context_blocks)
        if (state().contexts[device] > 0)
            saved.push_back({device, fake_gpu::block_size(block), &block});
    for (Saved& entry : saved) {
        if (entry.address != nullptr) {
            entry.copy = ::mmap(nullptr, entry.bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (entry.copy == MAP_FAILED) return cuda_out_of_memory;
            std::memcpy(entry.copy, entry.address, entry.bytes);
            // The address stays taken.
            if (::mmap(entry.address, entry.bytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
                       0) == MAP_FAILED)
                return cuda_out_of_memory;
        }
        fake_gpu::remove_block(*entry.block);
    }
    fake_gpu::forget_owner();
    service().saved = std::move(saved);
    service().state = process_checkpointed;
    return cuda_success;
}

CudaResult bring_back() {
    if (service().state != process_checkpointed) return illegal_state;
    const std::lock_guard lock(state().mutex);
    for (Saved& entry : service().saved) {
        *entry.block = fake_gpu::create_block(entry.device, entry.bytes,
                                              entry.address != nullptr ? "memory" : "other");
        uint64_t bytes = 0;
        if (entry.block->empty() ||
            (entry.address != nullptr &&
             fake_gpu::map_block(*entry.block, &bytes, entry.address) == nullptr)) {
            service().state = process_failed;  // as with the driver, for good
            return cuda_out_of_memory;
        }
        if (entry.address == nullptr) continue;
        std::memcpy(entry.address, entry.copy, entry.bytes);
        ::munmap(entry.copy, entry.bytes);
    }
    service().saved.clear();
    service().state = process_locked;
    return cuda_success;
}

Json serve(const Json& request) {
    const std::string wanted = request.value("do", "");
    CudaResult result = invalid_value;
    if (wanted == "state") result = cuda_success;
    if (wanted == "lock") result = lock_calls(request.value("timeout_ms", 0U));
    if (wanted == "checkpoint") result = save();
    if (wanted == "restore") result = bring_back();
    if (wanted == "unlock") result = unlock_calls();
    return {{"result", result}, {"state", service().state}};
}

void wake_up(int, siginfo_t* info, void*) {
    auto& wanted = service().wanted;
    wanted[service().announced++ % wanted.size()] = info->si_value.sival_int;
    ::sem_post(&service().wake_up);
}

void serve_forever() {
    auto& wanted = service().wanted;
    for (unsigned served = 0;; ++served) {
        while (::sem_wait(&service().wake_up) != 0) {
        }
        int number = 0;
        while ((number = wanted[served % wanted.size()].exchange(0)) == 0)
            std::this_thread::yield();
        write_file(file_of("answer", number), serve(take_file(file_of("request", number))));
    }
}

/// The caller's side.
bool listens(pid_t pid) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);) {
        unsigned long long caught = 0;
        if (std::sscanf(line.c_str(), "SigCgt: %llx", &caught) == 1)
            return (caught >> (wake_up_signal() - 1) & 1) != 0;
    }
    return false;
}

CudaResult ask(int pid, const Json& request, int* process_state = nullptr) {
    if (!state().initialized) return cuda_not_initialized;
    if (!listens(pid)) return invalid_value;
    unsigned random = 0;
    (void)!::getrandom(&random, sizeof random, 0);
    const int number = static_cast<int>(random >> 1 | 1);
    write_file(file_of("request", number), request);
    sigval value{};
    value.sival_int = number;
    if (::sigqueue(pid, wake_up_signal(), value) != 0) return invalid_value;
    const std::string answer_file = file_of("answer", number);
    while (::access(answer_file.c_str(), F_OK) != 0) {
        if (::kill(pid, 0) != 0) return 999;
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    const Json answer = take_file(answer_file);
    if (process_state != nullptr) *process_state = answer.value("state", process_failed);
    return answer.value("result", 999);
}

}  // namespace

void fake_gpu::serve_checkpoints() {
    static std::once_flag once;
    std::call_once(once, [] {
        ::sem_init(&service().wake_up, 0, 0);
        struct sigaction action{};
        action.sa_sigaction = wake_up;
        action.sa_flags = SA_SIGINFO | SA_RESTART;
        ::sigaction(wake_up_signal(), &action, nullptr);
        sigset_t all;
        sigset_t before;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before);
        std::thread(serve_forever).detach();
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    });
}

FAKE_EXPORT CudaResult cuCheckpointProcessGetState(int pid, int* process_state) {
    FAKE_ENTER();
    return ask(pid, {{"do", "state"}}, process_state);
}

FAKE_EXPORT CudaResult cuCheckpointProcessLock(int pid, CheckpointLockArguments* arguments) {
    FAKE_ENTER();
    return ask(pid,
               {{"do", "lock"}, {"timeout_ms", arguments == nullptr ? 0U : arguments->timeout_ms}});
}

FAKE_EXPORT CudaResult cuCheckpointProcessCheckpoint(int pid, CheckpointArguments*) {
    FAKE_ENTER();
    return ask(pid, {{"do", "checkpoint"}});
}

FAKE_EXPORT CudaResult cuCheckpointProcessRestore(int pid, CheckpointArguments*) {
    FAKE_ENTER();
    return ask(pid, {{"do", "restore"}});
}

FAKE_EXPORT CudaResult cuCheckpointProcessUnlock(int pid, CheckpointArguments*) {
    FAKE_ENTER();
    return ask(pid, {{"do", "unlock"}});
}
