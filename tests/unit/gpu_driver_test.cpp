// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <type_traits>

#include "gpu/driver.h"

#ifdef MEMPLATE_CUDA_HEADERS
// Every version of a call under its own name, and no macros that rename them.
#define __CUDA_API_VERSION_INTERNAL  // NOLINT(bugprone-reserved-identifier)
#include <cublas_api.h>
#include <cuda.h>
#include <cudnn.h>

#include "gpu/math_libraries.h"
#endif

namespace memplate::gpu {
namespace {

#ifdef MEMPLATE_CUDA_HEADERS

/// What a calling convention sees of a type.
template <class T>
constexpr int kind = std::is_pointer_v<T>                         ? 1
                     : std::is_integral_v<T> || std::is_enum_v<T> ? 2
                     : std::is_floating_point_v<T>                ? 3
                     : std::is_class_v<T>                         ? 4
                                                                  : 0;
// NOLINTBEGIN(bugprone-sizeof-expression): of pointers, where the arguments are pointers
template <class A, class B>
constexpr bool same_type = sizeof(A) == sizeof(B) && alignof(A) == alignof(B) && kind<A> == kind<B>;
// NOLINTEND(bugprone-sizeof-expression)

template <class Ours, class Theirs>
constexpr bool same_call = false;
template <class R, class... A, class S, class... B>
    requires(sizeof...(A) == sizeof...(B))
constexpr bool same_call<R (*)(A...), S (*)(B...)> = same_type<R, S> && (same_type<A, B> && ...);

#define COMPARE(symbol) \
    static_assert(same_call<decltype(CudaCalls::symbol), decltype(&::symbol)>, #symbol);
#define COMPARE_CALL(need, symbol, arguments) COMPARE(symbol)
MEMPLATE_CUDA_CALLS(COMPARE_CALL)

#define COMPARE_LIBRARY(symbol, result, arguments) \
    static_assert(same_call<result(*) arguments, decltype(&::symbol)>, #symbol);
MEMPLATE_BLAS_CALLS(COMPARE_LIBRARY)
MEMPLATE_DNN_CALLS(COMPARE_LIBRARY)
static_assert(blas_not_transposed == CUBLAS_OP_N);

template <class Ours, class Theirs>
constexpr bool same_layout = sizeof(Ours) == sizeof(Theirs) && alignof(Ours) == alignof(Theirs);
#define SAME_PLACE(Ours, our, Theirs, their) \
    static_assert(offsetof(Ours, our) == offsetof(Theirs, their), #Ours "::" #our)

static_assert(same_layout<CudaUuid, CUuuid>);
static_assert(same_layout<IpcMemoryHandle, CUipcMemHandle>);
static_assert(same_layout<IpcEventHandle, CUipcEventHandle>);
static_assert(same_layout<MemoryLocation, CUmemLocation>);
SAME_PLACE(MemoryLocation, type, CUmemLocation, type);
SAME_PLACE(MemoryLocation, id, CUmemLocation, id);
static_assert(same_layout<AllocationProperties, CUmemAllocationProp>);
SAME_PLACE(AllocationProperties, type, CUmemAllocationProp, type);
SAME_PLACE(AllocationProperties, requested_handle_types, CUmemAllocationProp, requestedHandleTypes);
SAME_PLACE(AllocationProperties, location, CUmemAllocationProp, location);
SAME_PLACE(AllocationProperties, windows_metadata, CUmemAllocationProp, win32HandleMetaData);
SAME_PLACE(AllocationProperties, compression, CUmemAllocationProp, allocFlags);
static_assert(same_layout<AccessDescription, CUmemAccessDesc>);
SAME_PLACE(AccessDescription, location, CUmemAccessDesc, location);
SAME_PLACE(AccessDescription, flags, CUmemAccessDesc, flags);
static_assert(same_layout<CheckpointLockArguments, CUcheckpointLockArgs>);
SAME_PLACE(CheckpointLockArguments, timeout_ms, CUcheckpointLockArgs, timeoutMs);
static_assert(sizeof(CheckpointArguments) >= sizeof(CUcheckpointCheckpointArgs));
static_assert(sizeof(CheckpointArguments) >= sizeof(CUcheckpointRestoreArgs));
static_assert(sizeof(CheckpointArguments) >= sizeof(CUcheckpointUnlockArgs));

static_assert(cuda_success == CUDA_SUCCESS);
static_assert(cuda_not_initialized == CUDA_ERROR_NOT_INITIALIZED);
static_assert(cuda_out_of_memory == CUDA_ERROR_OUT_OF_MEMORY);
static_assert(cuda_no_device == CUDA_ERROR_NO_DEVICE);
static_assert(cuda_not_ready == CUDA_ERROR_NOT_READY);
static_assert(cuda_not_supported == CUDA_ERROR_NOT_SUPPORTED);
static_assert(attribute_multiprocessors == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
static_assert(attribute_compute_mode == CU_DEVICE_ATTRIBUTE_COMPUTE_MODE);
static_assert(attribute_capability_major == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
static_assert(attribute_capability_minor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
static_assert(attribute_virtual_memory == CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
static_assert(attribute_posix_handle ==
              CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
static_assert(attribute_ipc_event == CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED);
static_assert(attribute_mps == CU_DEVICE_ATTRIBUTE_MPS_ENABLED);
static_assert(compute_mode_exclusive_process == CU_COMPUTEMODE_EXCLUSIVE_PROCESS);
static_assert(loading_eager == CU_MODULE_EAGER_LOADING);
static_assert(loading_lazy == CU_MODULE_LAZY_LOADING);
static_assert(process_running == CU_PROCESS_STATE_RUNNING);
static_assert(process_locked == CU_PROCESS_STATE_LOCKED);
static_assert(process_checkpointed == CU_PROCESS_STATE_CHECKPOINTED);
static_assert(process_failed == CU_PROCESS_STATE_FAILED);
static_assert(stream_non_blocking == CU_STREAM_NON_BLOCKING);
static_assert(event_disable_timing == CU_EVENT_DISABLE_TIMING);
static_assert(event_interprocess == CU_EVENT_INTERPROCESS);
static_assert(ipc_lazy_peer_access == CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);

#endif  // MEMPLATE_CUDA_HEADERS

/// The fake driver, found by its name because it is loaded already.
class DriverTest : public testing::Test {
  protected:
    static void SetUpTestSuite() {
        const std::string path =
            testing::TempDir() + "gpu-driver-" + std::to_string(::getpid()) + ".json";
        std::ofstream(path) << R"({"devices": [{}, {}], "calls": {
            "cuMemAlloc_v2": {"result": 2}, "cuStreamCreate": {"result": 4242}}})";
        ::setenv("FAKE_GPU", path.c_str(), 1);
        ASSERT_NE(::dlopen(MEMPLATE_FAKE_GPU "/libcuda.so.1", RTLD_NOW), nullptr) << ::dlerror();
    }
    static void TearDownTestSuite() {
        const std::string path = ::getenv("FAKE_GPU");
        std::filesystem::remove(path);
        std::filesystem::remove_all(path + ".state");
    }
};

TEST_F(DriverTest, SaysWhichCallFailedAndWhy) {
    auto driver = Driver::load();
    ASSERT_TRUE(driver) << driver.error().message;
    ASSERT_TRUE(driver->initialize());
    const auto device = driver->device(0);
    ASSERT_TRUE(device);
    const auto context = PrimaryContext::retain(*driver, *device);
    ASSERT_TRUE(context);
    const auto allocate = [&]() -> Result<> {
        DevicePointer pointer = 0;
        TRY_CUDA(*driver, cuMemAlloc_v2, (&pointer, 4096));
        return {};
    };
    const auto done = allocate();
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().message, "cuMemAlloc_v2: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)");
    EXPECT_EQ(done.error().code, 2);
}

TEST_F(DriverTest, SaysNumbersThatTheDriverDoesNotName) {
    auto driver = Driver::load();
    ASSERT_TRUE(driver);
    const auto done = driver->check(4242, "cuStreamCreate");
    ASSERT_FALSE(done);
    EXPECT_NE(done.error().message.find("(unknown, 4242)"), std::string::npos)
        << done.error().message;
}

TEST_F(DriverTest, NotesTheCallWhileItRuns) {
    auto driver = Driver::load();
    ASSERT_TRUE(driver);
    char note[64] = "";
    driver->note_calls_in(note);
    driver->enter("cuInit");
    EXPECT_STREQ(note, "cuInit");
    EXPECT_TRUE(driver->check(cuda_success, "cuInit"));
    EXPECT_STREQ(note, "");
}

TEST_F(DriverTest, KnowsItsDevices) {
    auto driver = Driver::load();
    ASSERT_TRUE(driver);
    ASSERT_TRUE(driver->initialize());
    const auto second = driver->device(1);
    ASSERT_TRUE(second);
    EXPECT_EQ(driver->uuid(*second).value_or(""), "GPU-00000000-0000-0000-0000-000000000001");
    const auto third = driver->device(2);
    ASSERT_FALSE(third);
    EXPECT_EQ(third.error().kind, ErrorKind::usage);
    EXPECT_EQ(third.error().message, "device 2: there are 2, counted from 0");
    EXPECT_EQ(driver->version().value_or(0), 13000);
}

TEST(CudaVersionText, IsThePublicOne) {
    EXPECT_EQ(cuda_version_text(12080), "12.8");
    EXPECT_EQ(cuda_version_text(13000), "13.0");
    EXPECT_EQ(cuda_version_text(11020), "11.2");
}

}  // namespace
}  // namespace memplate::gpu
