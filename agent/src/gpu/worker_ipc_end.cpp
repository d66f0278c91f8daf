// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "gpu/kernel_images.h"
#include "gpu/worker_ipc.h"
#include "util/clock.h"
#include "util/message.h"

namespace memplate::gpu {
namespace {

/// As many as StreamBox's experiment: the first launches load code and settle clocks.
constexpr int warm_up_launches = 50;
constexpr unsigned threads = 256;

/// The worker ends; what the other one says of its own end is the reason.
Failure gone() {
    Failure failure = fail("the other GPU worker is gone");
    failure.error().code = ECONNRESET;
    return failure;
}

bool among(const std::vector<Transport>& list, std::string_view name) {
    return std::ranges::any_of(list, [&](const Transport& one) { return one.name == name; });
}

}  // namespace

Result<HostMemory> HostMemory::map(uint64_t bytes, int fd) {
    const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, fd, 0);
    if (address == MAP_FAILED) return fail_errno(errno, fmt::format("{} B of host memory", bytes));
    HostMemory memory;
    memory.address_ = address;
    memory.bytes_ = bytes;
    return memory;
}

HostMemory::~HostMemory() {
    if (address_ != nullptr) ::munmap(address_, bytes_);
}

void HostMemory::wipe() const {
    std::memset(address_, 0, bytes_);
}

Times::Times() : start_(monotonic_ns()), last_(start_) {}

void Times::mark(const char* phase) {
    last_ = monotonic_ns();
    marks_.push_back({{"phase", phase}, {"ns", last_}});
}

void Times::aside(const char* phase) {
    const int64_t now = monotonic_ns();
    aside_.push_back({{"phase", phase}, {"ns", now - last_}});
    last_ = now;
}

void Times::skip() {
    last_ = monotonic_ns();
}

Json Times::json() const {
    return {{"start", start_}, {"marks", marks_}, {"aside", aside_}};
}

void write_pattern(std::span<uint32_t> words, uint32_t seed) {
    uint32_t value = seed;
    for (uint32_t& word : words) {
        word = value;
        value += 2654435761U;  // odd: no two words of a message are equal
    }
}

Result<Json> TransferEnd::begin(std::vector<UniqueFd> descriptors) {
    const std::array places = {&control_, &pipe_, &unix_, &tcp_, &plain_file_, &pinned_file_};
    if (descriptors.size() != places.size()) return fail("GPU worker: descriptors are missing");
    for (size_t i = 0; i < places.size(); ++i) *places[i] = std::move(descriptors[i]);

    Json answer = Json::object();
    if (auto loaded = load_kernels(); !loaded) {
        if (loaded.error().kind != ErrorKind::unsupported) return std::unexpected(loaded.error());
        answer["no_kernels"] = loaded.error().message;
    }
    {
        TRY_ASSIGN(const DeviceMemory probe, DeviceMemory::allocate(driver_, 2 << 20));
        IpcMemoryHandle handle{};
        driver_.enter("cuIpcGetMemHandle");
        const CudaResult result = driver_.calls.cuIpcGetMemHandle(&handle, probe.get());
        const auto possible = driver_.check(result, "cuIpcGetMemHandle");
        if (result == cuda_not_supported)
            answer["no_ipc"] = possible.error().message;
        else
            TRY(possible);
    }
    size_t free = 0;
    size_t total = 0;
    TRY_CUDA(driver_, cuMemGetInfo_v2, (&free, &total));
    answer["free_bytes"] = free;
    return answer;
}

Result<> TransferEnd::load_kernels() {
    TRY_ASSIGN(const KernelImages images, kernel_images());
    CudaModule module = nullptr;
    driver_.enter("cuModuleLoadData");
    // A device that is newer than the compiler takes the portable code.
    if (!driver_.check(driver_.calls.cuModuleLoadData(&module, images.machine_code), ""))
        TRY_CUDA(driver_, cuModuleLoadData, (&module, images.ptx));
    TRY_CUDA(driver_, cuModuleGetFunction, (&reader_, module, "memplate_count_different"));
    TRY_ASSIGN(counter_, DeviceMemory::allocate(driver_, 2 << 20));
    for (int i = 0; i < warm_up_launches; ++i) TRY(launch(counter_.get(), nullptr));
    return synchronize();
}

Result<> TransferEnd::launch(DevicePointer data, CudaStream stream) {
    unsigned long long count = threads;
    float value = 0;
    // Behind what the warm-up reads.
    DevicePointer different = counter_.get() + threads * sizeof(float);
    std::array<void*, 4> parameters = {&data, &count, &value, &different};
    TRY_CUDA(driver_, cuLaunchKernel,
             (reader_, 1, 1, 1, threads, 1, 1, 0, stream, parameters.data(), nullptr));
    return {};
}

Result<> TransferEnd::run_kernels(DevicePointer data, CudaStream stream, Times& times) {
    if (reader_ == nullptr) return {};
    for (const char* phase : {"first kernel", "second kernel", "third kernel"}) {
        times.skip();
        TRY(launch(data, stream));
        TRY_CUDA(driver_, cuStreamSynchronize, (stream));
        times.aside(phase);
    }
    return {};
}

Result<> TransferEnd::prepare(uint64_t bytes, const std::vector<Transport>& list, Times& times) {
    bytes_ = bytes;
    TRY_ASSIGN(host_, HostMemory::map(bytes));
    times.skip();
    if (among(list, "shm")) {
        TRY_ASSIGN(plain_, HostMemory::map(bytes, plain_file_.get()));
        times.aside("shm: map");
    }
    if (among(list, "shm-pinned")) {
        TRY_ASSIGN(pinned_, HostMemory::map(bytes, pinned_file_.get()));
        times.aside("shm-pinned: map");
        TRY_CUDA(driver_, cuMemHostRegister_v2, (pinned_.get(), bytes, 0));
        registered_ = true;
        times.aside("shm-pinned: register");
    }
    return {};
}

Result<> TransferEnd::release(Times& times) {
    times.skip();
    if (std::exchange(registered_, false)) {
        TRY_CUDA(driver_, cuMemHostUnregister, (pinned_.get()));
        times.aside("shm-pinned: unregister");
    }
    pinned_ = {};
    plain_ = {};
    host_ = {};
    return {};
}

Result<Json> TransferEnd::verify(DevicePointer data, uint32_t seed) const {
    host_.wipe();
    TRY_CUDA(driver_, cuMemcpyDtoH_v2, (host_.get(), data, bytes_));
    uint64_t wrong = 0;
    uint32_t value = seed;
    for (const uint32_t word : host_.words()) {
        wrong += word != value;
        value += 2654435761U;
    }
    return Json{{"words", host_.words().size()}, {"wrong", wrong}};
}

Result<> TransferEnd::synchronize() const {
    TRY_CUDA(driver_, cuCtxSynchronize, ());
    return {};
}

Result<> TransferEnd::tell(std::string_view text, const std::vector<int>& fds) {
    const int error = send_message(control_.get(), text, fds);
    if (error == EPIPE || error == ECONNRESET) return gone();
    return error == 0 ? Result<>{} : fail_errno(error, "send to the other GPU worker");
}

Result<std::string> TransferEnd::hear(size_t bytes) {
    std::string text;
    std::vector<int> fds;
    const int error = receive_message(control_.get(), text, fds);
    for (const int fd : fds) const UniqueFd unwanted(fd);
    if (error == EPIPE || error == ECONNRESET) return gone();
    if (error != 0) return fail_errno(error, "receive from the other GPU worker");
    if (text.size() != bytes) return fail("a message between the GPU workers is cut short");
    return text;
}

Result<UniqueFd> TransferEnd::hear_descriptor() {
    std::string text;
    std::vector<int> fds;
    const int error = receive_message(control_.get(), text, fds);
    if (error == EPIPE || error == ECONNRESET) return gone();
    if (error != 0) return fail_errno(error, "receive from the other GPU worker");
    if (fds.size() != 1) return fail("the other GPU worker sent no descriptor");
    return UniqueFd(fds.front());
}

int TransferEnd::stream_of(const Transport& transport) const {
    const UniqueFd& fd = transport.name == "pipe" ? pipe_ : transport.name == "unix" ? unix_ : tcp_;
    return fd.get();
}

const HostMemory& TransferEnd::shared_by(const Transport& transport) const {
    return transport.name == "shm" ? plain_ : pinned_;
}

}  // namespace memplate::gpu
