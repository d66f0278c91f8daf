// SPDX-License-Identifier: Apache-2.0
//
// Real sandboxes on this machine, with a bridge and subnet of the test's own.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>

#include "sandbox/sandbox.h"
#include "util/fs.h"
#include "util/json.h"
#include "util/lock.h"
#include "util/text.h"

namespace memplate::sandbox {

inline bool eventually(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
}

inline bool path_exists(const std::string& path) {
    return ::access(path.c_str(), F_OK) == 0;
}

/// The directory of a sandbox and its lock.
struct Place {
    std::string directory;
    UniqueFd lock;
};

class NativeSandbox : public testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "sandboxes need root";
        if (std::getenv("MEMPLATE_KEEPER") == nullptr)
            GTEST_SKIP() << "MEMPLATE_KEEPER does not name the keeper (ctest sets it)";
        folder_ = TemporaryDirectory::create("/tmp", "memplate-sandbox").value();
        // Tests run side by side: each process has its own bridge and subnet.
        context_.settings.state_dir = folder_.path() + "/state";
        context_.settings.bridge = fmt::format("mpt{}", ::getpid());
        context_.settings.subnet =
            fmt::format("10.{}.{}.0/24", 220 + ::getpid() / 256 % 16, ::getpid() % 256);
    }
    void TearDown() override {
        if (folder_.path().empty()) return;
        EXPECT_TRUE(remove_unused_bridge(context_));
        EXPECT_FALSE(path_exists("/sys/class/net/" + context_.settings.bridge));
    }

    Place make_place(const std::string& name) {
        Place place{folder_.path() + "/state/instances/" + name, {}};
        EXPECT_TRUE(make_directories(place.directory));
        place.lock = open_at(AT_FDCWD, place.directory + "/lock", O_RDWR | O_CREAT, 0600).value();
        EXPECT_TRUE(try_lock_range(place.lock.get(), LockMode::exclusive, 0, 1).value());
        return place;
    }
    [[nodiscard]] std::string unique_id(const std::string& name) const {
        return fmt::format("test-{}-{}", ::getpid(), name);
    }
    [[nodiscard]] Spec make_spec(const std::string& name) const {
        Spec spec;
        spec.id = unique_id(name);
        spec.network = false;
        return spec;
    }
    Sandbox make_sandbox(const Spec& spec, const Place& place) {
        auto sandbox = Sandbox::create(context_, spec, place.directory, place.lock);
        if (!sandbox) throw std::runtime_error(sandbox.error().message);
        return std::move(*sandbox);
    }

    static SpawnRequest shell(const std::string& script) {
        SpawnRequest request;
        request.argv = {"/bin/sh", "-c", script};
        request.environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
        request.output = "/tmp/output";
        return request;
    }
    /// Runs a script inside to its end; what it wrote.
    static std::string run(Sandbox& sandbox, const SpawnRequest& request) {
        const auto pid = sandbox.spawn(request);
        if (!pid) return "spawn: " + pid.error().message;
        for (;;) {
            const auto ended = sandbox.wait_exit(10'000);
            if (!ended) return "wait: " + ended.error().message;
            if (!*ended) return "does not end";
            if ((*ended)->pid == *pid) break;
        }
        return read_inside(sandbox, request.output);
    }
    static std::string run(Sandbox& sandbox, const std::string& script) {
        return run(sandbox, shell(": > /tmp/output; " + script));
    }
    static std::string read_inside(const Sandbox& sandbox, const std::string& path) {
        const auto file = sandbox.open_inside(path, O_RDONLY);
        if (!file) return file.error().message;
        return read_file(fmt::format("/proc/self/fd/{}", file->get())).value_or("(unreadable)");
    }
    /// Groups of that id in any hierarchy.
    static std::vector<std::string> cgroups_of(const std::string& id) {
        std::vector<std::string> found;
        const auto add = [&](const std::string& path) {
            if (path_exists(path)) found.push_back(path);
        };
        add("/sys/fs/cgroup/memplate/" + id);
        for (const auto& name :
             list_directory(AT_FDCWD, "/sys/fs/cgroup").value_or(std::vector<std::string>()))
            add("/sys/fs/cgroup/" + name + "/memplate/" + id);
        return found;
    }
    static bool process_exists(pid_t pid) { return path_exists(fmt::format("/proc/{}", pid)); }

    TemporaryDirectory folder_;
    Context context_;
};

}  // namespace memplate::sandbox
