// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gpu/driver.h"

namespace memplate::gpu {

/// A stream; destroyed when it goes out of scope.
class Stream {
  public:
    Stream() = default;
    static Result<Stream> create(const Driver& driver) {
        Stream stream;
        TRY_CUDA(driver, cuStreamCreate, (&stream.stream_, 0));
        stream.driver_ = &driver;
        return stream;
    }
    Stream(Stream&& other) noexcept
        : driver_(std::exchange(other.driver_, nullptr)), stream_(other.stream_) {}
    Stream& operator=(Stream&& other) noexcept {
        std::swap(driver_, other.driver_);
        std::swap(stream_, other.stream_);
        return *this;
    }
    ~Stream() {
        if (driver_ != nullptr) (void)driver_->calls.cuStreamDestroy_v2(stream_);
    }
    [[nodiscard]] CudaStream get() const { return stream_; }

  private:
    const Driver* driver_ = nullptr;
    CudaStream stream_ = nullptr;
};

/// An event, of this process or of another one; destroyed when it goes out of scope.
class Event {
  public:
    Event() = default;
    static Result<Event> create(const Driver& driver, unsigned flags) {
        Event event;
        TRY_CUDA(driver, cuEventCreate, (&event.event_, flags));
        event.driver_ = &driver;
        return event;
    }
    static Result<Event> open(const Driver& driver, const IpcEventHandle& handle) {
        Event event;
        TRY_CUDA(driver, cuIpcOpenEventHandle, (&event.event_, handle));
        event.driver_ = &driver;
        return event;
    }
    Event(Event&& other) noexcept
        : driver_(std::exchange(other.driver_, nullptr)), event_(other.event_) {}
    Event& operator=(Event&& other) noexcept {
        std::swap(driver_, other.driver_);
        std::swap(event_, other.event_);
        return *this;
    }
    ~Event() {
        if (driver_ != nullptr) (void)driver_->calls.cuEventDestroy_v2(event_);
    }
    [[nodiscard]] CudaEvent get() const { return event_; }

  private:
    const Driver* driver_ = nullptr;
    CudaEvent event_ = nullptr;
};

}  // namespace memplate::gpu
