// SPDX-License-Identifier: Apache-2.0
#include "fake/gate.h"

#include <condition_variable>
#include <mutex>

namespace fake_gpu {
namespace {

struct State {
    std::mutex mutex;
    std::condition_variable changed;
    int inside = 0;
    bool closed = false;
};
State& state() {
    static auto& one = *new State;  // calls may come while the process ends
    return one;
}
thread_local int depth = 0;

}  // namespace

Gate::Pass::Pass() {
    if (depth++ > 0) return;
    std::unique_lock lock(state().mutex);
    state().changed.wait(lock, [] { return !state().closed; });
    ++state().inside;
}

Gate::Pass::~Pass() {
    if (--depth > 0) return;
    const std::lock_guard lock(state().mutex);
    --state().inside;
    state().changed.notify_all();
}

bool Gate::close(std::chrono::milliseconds timeout) {
    std::unique_lock lock(state().mutex);
    state().closed = true;
    if (state().changed.wait_for(lock, timeout, [] { return state().inside == 0; })) return true;
    state().closed = false;
    state().changed.notify_all();
    return false;
}

void Gate::open() {
    const std::lock_guard lock(state().mutex);
    state().closed = false;
    state().changed.notify_all();
}

}  // namespace fake_gpu
