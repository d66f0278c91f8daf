// SPDX-License-Identifier: Apache-2.0
//
// A program that uses CUDA and knows nothing of memplate: cuda_program LOOKUP STEP…
//
// LOOKUP says how it finds the driver's calls: `dlsym`, `entry-points` (cuGetProcAddress, as the
// CUDA runtime does), or `linked` in the variant that is linked with the driver. Steps are done in
// their order, see steps() below.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "gpu/cuda_api.h"

using namespace memplate::gpu;

#ifdef CUDA_PROGRAM_LINKED
extern "C" {
#define DECLARE(kind, symbol, arguments) CudaResult symbol arguments;
MEMPLATE_CUDA_CALLS(DECLARE)
#undef DECLARE
}
#endif

namespace {

[[noreturn]] void die(const std::string& what) {
    std::fprintf(stderr, "cuda_program: %s\n", what.c_str());
    std::exit(9);
}

int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

struct Program {
    CudaCalls cuda;
    DevicePointer pointer = 0;
    CudaModule module = nullptr;
    CudaFunction function = nullptr;

    void check(CudaResult result, const char* call) const {
        if (result != cuda_success) die(std::string(call) + " failed: " + std::to_string(result));
    }
    void find(const std::string& lookup);
};

#define CALL(name, arguments) program.check(program.cuda.name arguments, #name)

void Program::find(const std::string& lookup) {
#ifdef CUDA_PROGRAM_LINKED
    if (lookup != "linked") die("LOOKUP: linked");
#define FIND(kind, symbol, arguments) cuda.symbol = symbol;
#else
    void* library = ::dlopen("libcuda.so.1", RTLD_NOW);
    if (library == nullptr) die(::dlerror());
    using GetProcAddress = CudaResult (*)(const char*, void**, int, uint64_t, int*);
    const auto get = reinterpret_cast<GetProcAddress>(::dlsym(library, "cuGetProcAddress_v2"));
    const auto address = [&](std::string symbol) -> void* {
        if (lookup == "dlsym") return ::dlsym(library, symbol.c_str());
        if (lookup != "entry-points") die("LOOKUP: dlsym or entry-points");
        void* found = nullptr;
        int status = 0;
        symbol = symbol.substr(0, symbol.find("_v"));
        return get(symbol.c_str(), &found, 13000, 0, &status) == cuda_success ? found : nullptr;
    };
#define FIND(kind, symbol, arguments) \
    cuda.symbol = reinterpret_cast<decltype(cuda.symbol)>(address(#symbol));
#endif
    MEMPLATE_CUDA_CALLS(FIND)
#undef FIND
}

using Step = std::function<void(Program&, const std::string& value)>;

void start(Program& program, const std::string&) {
    CudaDevice device = 0;
    CudaContext context = nullptr;
    CALL(cuInit, (0));
    CALL(cuDeviceGet, (&device, 0));
    CALL(cuDevicePrimaryCtxRetain, (&context, device));
    CALL(cuCtxSetCurrent, (context));
}

void launch(Program& program, const std::string& count) {
    unsigned long long size = 16;
    float value = 5;
    void* parameters[] = {&program.pointer, &size, &value};
    for (int i = 0; i < std::stoi(count); ++i)
        CALL(cuLaunchKernel,
             (program.function, 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr));
    CALL(cuStreamSynchronize, (nullptr));
    std::vector<float> result(size);
    CALL(cuMemcpyDtoH_v2, (result.data(), program.pointer, size * sizeof(float)));
    for (const float one : result)
        if (one != value) die("the kernel has computed something else");
}

/// Arguments by value on the stack come through: cuIpcOpenMemHandle takes 64 bytes so.
void share(Program& program, const std::string&) {
    IpcMemoryHandle handle{};
    CALL(cuIpcGetMemHandle, (&handle, program.pointer));
    DevicePointer opened = 0;
    if (program.cuda.cuIpcOpenMemHandle_v2(&opened, handle, ipc_lazy_peer_access) == cuda_success)
        CALL(cuIpcCloseMemHandle, (opened));
}

void read_file(Program&, const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) die(path);
    std::vector<char> buffer(1 << 20);
    while (::read(fd, buffer.data(), buffer.size()) > 0) {
    }
    ::close(fd);
}

/// Tells how long a cheap call takes, in ns.
void repeat(Program& program, const std::string& count) {
    const int calls = std::stoi(count);
    int version = 0;
    const int64_t begin = now_ns();
    for (int i = 0; i < calls; ++i) CALL(cuDriverGetVersion, (&version));
    std::printf("%.1f\n", static_cast<double>(now_ns() - begin) / calls);
}

const std::map<std::string, Step>& steps() {
    static const std::map<std::string, Step> all = {
        {"start", start},
        {"alloc",
         [](Program& program, const std::string& bytes) {
             CALL(cuMemAlloc_v2, (&program.pointer, std::stoull(bytes)));
         }},
        {"copy",
         [](Program& program, const std::string& bytes) {
             const std::vector<char> data(std::stoull(bytes));
             CALL(cuMemcpyHtoD_v2, (program.pointer, data.data(), data.size()));
         }},
        {"load",
         [](Program& program, const std::string&) {
             CALL(cuModuleLoadData, (&program.module, ".version 8.0"));
             CALL(cuModuleGetFunction, (&program.function, program.module, "memplate_fill"));
         }},
        {"launch", launch},
        {"share", share},
        {"memory",
         [](Program& program, const std::string&) {
             size_t free = 0;
             size_t total = 0;
             CALL(cuMemGetInfo_v2, (&free, &total));
         }},
        {"synchronize", [](Program& program, const std::string&) { CALL(cuCtxSynchronize, ()); }},
        {"repeat", repeat},
        {"read", read_file},
        {"sleep",
         [](Program&, const std::string& ms) {
             std::this_thread::sleep_for(std::chrono::milliseconds(std::stoi(ms)));
         }},
        {"compute",
         [](Program&, const std::string& ms) {
             const int64_t end = now_ns() + std::stoll(ms) * 1'000'000;
             while (now_ns() < end) {
             }
         }},
        // The steps that follow are a child's; its parent waits for it.
        {"fork",
         [](Program&, const std::string&) {
             const pid_t child = ::fork();
             if (child == 0) return;
             int status = 0;
             ::waitpid(child, &status, 0);
             std::_Exit(WEXITSTATUS(status));
         }},
        {"exit", [](Program&, const std::string& status) { std::exit(std::stoi(status)); }},
        {"abort", [](Program&, const std::string&) { std::abort(); }},
    };
    return all;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) die("LOOKUP STEP…");
    Program program;
    program.find(argv[1]);
    for (int i = 2; i < argc; ++i) {
        const std::string word = argv[i];
        const size_t separator = word.find('=');
        const auto step = steps().find(word.substr(0, separator));
        if (step == steps().end()) die("no step " + word);
        step->second(program, separator == word.npos ? "" : word.substr(separator + 1));
    }
    return 0;
}
