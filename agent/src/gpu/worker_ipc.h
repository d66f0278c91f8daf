// SPDX-License-Identifier: Apache-2.0
//
// The two ends of a transfer, for worker_ipc*.cpp. memplate tells both which message comes next;
// the messages themselves, and what they need, go from process to process.
#pragma once

#include <span>

#include "gpu/device_memory.h"
#include "gpu/stream.h"
#include "gpu/transport.h"
#include "gpu/virtual_memory.h"
#include "gpu/worker.h"

namespace memplate::gpu {

/// Host memory of a message: anonymous, or a file that the other end has mapped, too.
class HostMemory {
  public:
    HostMemory() = default;
    static Result<HostMemory> map(uint64_t bytes, int fd = -1);
    HostMemory(HostMemory&& other) noexcept
        : address_(std::exchange(other.address_, nullptr)), bytes_(other.bytes_) {}
    HostMemory& operator=(HostMemory&& other) noexcept {
        std::swap(address_, other.address_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~HostMemory();
    [[nodiscard]] void* get() const { return address_; }
    [[nodiscard]] std::span<std::byte> bytes() const {
        return {static_cast<std::byte*>(address_), bytes_};
    }
    [[nodiscard]] std::span<uint32_t> words() const {
        return {static_cast<uint32_t*>(address_), bytes_ / sizeof(uint32_t)};
    }
    void wipe() const;

  private:
    void* address_ = nullptr;
    uint64_t bytes_ = 0;
};

/// When the steps of a message ended, and how long those took that come after it or before the
/// first one.
class Times {
  public:
    Times();
    /// A step on the way of the message has ended.
    void mark(const char* phase);
    /// Another step, which began when the one before ended.
    void aside(const char* phase);
    /// The next aside() begins now.
    void skip();
    /// {"start", "marks": [{"phase", "ns" (CLOCK_MONOTONIC)}], "aside": [{"phase", "ns"}]}
    [[nodiscard]] Json json() const;

  private:
    int64_t start_ = 0;
    int64_t last_ = 0;
    Json marks_ = Json::array();
    Json aside_ = Json::array();
};

/// What both ends have.
class TransferEnd {
  public:
    TransferEnd(const Driver& driver, CudaDevice device) : driver_(driver), device_(device) {}
    TransferEnd(const TransferEnd&) = delete;
    TransferEnd& operator=(const TransferEnd&) = delete;
    virtual ~TransferEnd() = default;

    /// What comes before the first message: {"free_bytes", "no_kernels": why, "no_ipc": why}.
    [[nodiscard]] Result<Json> begin(std::vector<UniqueFd> descriptors);
    /// Memory for messages of that size by these transports. The steps it took go into `times`.
    [[nodiscard]] virtual Result<> prepare(uint64_t bytes, const std::vector<Transport>& list,
                                           Times& times);
    /// One message; {"words", "wrong"} at the end that can tell.
    [[nodiscard]] virtual Result<Json> transfer(const Transport& transport, uint32_t seed,
                                                Times& times) = 0;
    /// Gives back what prepare() got.
    [[nodiscard]] virtual Result<> release(Times& times);

  protected:
    [[nodiscard]] Result<> tell(std::string_view text = ".", const std::vector<int>& fds = {});
    [[nodiscard]] Result<std::string> hear(size_t bytes = 1);
    [[nodiscard]] Result<UniqueFd> hear_descriptor();
    [[nodiscard]] int stream_of(const Transport& transport) const;
    [[nodiscard]] const HostMemory& shared_by(const Transport& transport) const;
    /// Three kernels read what came, one after the other.
    [[nodiscard]] Result<> run_kernels(DevicePointer data, CudaStream stream, Times& times);
    /// {"words", "wrong"}: compares with the pattern that write_pattern() makes of the seed.
    [[nodiscard]] Result<Json> verify(DevicePointer data, uint32_t seed) const;
    [[nodiscard]] Result<> synchronize() const;

    const Driver& driver_;
    CudaDevice device_;
    uint64_t bytes_ = 0;
    HostMemory host_;  ///< of one message

  private:
    [[nodiscard]] Result<> load_kernels();
    [[nodiscard]] Result<> launch(DevicePointer data, CudaStream stream);

    UniqueFd control_;
    UniqueFd pipe_;
    UniqueFd unix_;
    UniqueFd tcp_;
    UniqueFd plain_file_;
    UniqueFd pinned_file_;
    HostMemory plain_;
    HostMemory pinned_;
    bool registered_ = false;
    CudaFunction reader_ = nullptr;  ///< null: there are no kernels
    DeviceMemory counter_;
};

class Sender : public TransferEnd {
  public:
    using TransferEnd::TransferEnd;
    Result<> prepare(uint64_t bytes, const std::vector<Transport>& list, Times& times) override;
    Result<Json> transfer(const Transport& transport, uint32_t seed, Times& times) override;
    Result<> release(Times& times) override;

  private:
    [[nodiscard]] DevicePointer source_of(const Transport& transport) const;
    [[nodiscard]] Result<> send(const Transport& transport, Times& times);
    [[nodiscard]] Result<Json> within(uint32_t seed, Times& times);
    DeviceMemory plain_;  ///< a handle of it is opened and closed for each message
    DeviceMemory kept_;   ///< a handle of it stays open
    VirtualMemory virtual_;
    DeviceMemory other_;  ///< of the other function of the same process
    Event event_;
    Event local_event_;
    Stream stream_;
    Stream other_stream_;
};

class Receiver : public TransferEnd {
  public:
    using TransferEnd::TransferEnd;
    Result<> prepare(uint64_t bytes, const std::vector<Transport>& list, Times& times) override;
    Result<Json> transfer(const Transport& transport, uint32_t seed, Times& times) override;
    Result<> release(Times& times) override;

  private:
    [[nodiscard]] Result<> receive(const Transport& transport, Times& times);
    [[nodiscard]] Result<> take_over(DevicePointer data, CudaStream stream, Times& times);
    DeviceMemory own_;
    DevicePointer kept_ = 0;  ///< the sender's memory, opened
    Event event_;             ///< the sender's
    Stream stream_;
};

void write_pattern(std::span<uint32_t> words, uint32_t seed);

}  // namespace memplate::gpu
