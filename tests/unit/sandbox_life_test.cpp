// SPDX-License-Identifier: Apache-2.0
//
// How sandboxes end, and what is left of them: nothing.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "sandbox/kdat.h"
#include "sandbox_fixture.h"

namespace memplate::sandbox {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class Life : public NativeSandbox {
  protected:
    static bool lock_is_free(const std::string& directory) {
        const auto lock = open_at(AT_FDCWD, directory + "/lock", O_RDWR).value();
        return !range_is_locked(lock.get(), LockMode::exclusive, 0, 0).value();
    }
    static Json status_of(const std::string& directory) {
        return Json::parse(read_file(directory + "/status.json").value_or("null"));
    }
    [[nodiscard]] std::vector<std::string> links() const {
        std::vector<std::string> found;
        const auto names = list_directory(AT_FDCWD, "/sys/class/net").value();
        for (const auto& name : names) {
            const auto link = "/sys/class/net/" + name + "/master";
            std::error_code error;
            if (std::filesystem::read_symlink(link, error).filename() == context_.settings.bridge)
                found.push_back(name);
        }
        return found;
    }
};

TEST_F(Life, DestructionLeavesNothing) {
    const Place place = make_place("a");
    Spec spec = make_spec("a");
    spec.network = true;
    pid_t keeper = 0;
    std::vector<pid_t> processes;
    {
        Sandbox sandbox = make_sandbox(spec, place);
        keeper = sandbox.keeper();
        ASSERT_TRUE(sandbox.spawn(shell("sleep 1000 & setsid sleep 1000 & wait")));
        ASSERT_TRUE(eventually([&] {
            processes = sandbox.processes().value();
            return processes.size() == 3;
        }));
        EXPECT_THAT(processes, testing::Not(testing::Contains(keeper)));
        EXPECT_THAT(links(), SizeIs(1));
        EXPECT_THAT(cgroups_of(spec.id), testing::Not(IsEmpty()));
    }
    EXPECT_TRUE(eventually([&] { return !process_exists(keeper); })) << "init has reaped it";
    for (const pid_t pid : processes) EXPECT_FALSE(process_exists(pid)) << pid;
    EXPECT_THAT(links(), IsEmpty());
    EXPECT_THAT(cgroups_of(spec.id), IsEmpty());
    EXPECT_THAT(list_directory(AT_FDCWD, place.directory).value(),
                testing::ElementsAre("keeper.log", "lock"));
    EXPECT_EQ(read_file(place.directory + "/keeper.log").value(), "");
}

TEST_F(Life, DeathOfTheAgentEndsEverything) {
    const std::string directory = folder_.path() + "/state/instances/a";
    const std::string id = unique_id("a");
    Spec spec = make_spec("a");
    spec.network = true;
    auto* keeper = static_cast<pid_t*>(
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    const pid_t agent = ::fork();
    ASSERT_GE(agent, 0);
    if (agent == 0) {
        Place place = make_place("a");
        auto sandbox = Sandbox::create(context_, spec, place.directory, place.lock);
        if (!sandbox || !sandbox->spawn(shell("sleep 1000"))) ::_exit(1);
        *keeper = sandbox->keeper();
        ::raise(SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(agent, &status, 0), agent);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_TRUE(eventually([&] { return lock_is_free(directory); }));
    EXPECT_THAT(cgroups_of(id), testing::Not(IsEmpty())) << "left for the sweep";
    ASSERT_TRUE(destroy_remains(context_, directory, false));
    EXPECT_THAT(cgroups_of(id), IsEmpty());
    EXPECT_THAT(links(), IsEmpty());
    EXPECT_FALSE(path_exists(directory + "/status.json"));
    EXPECT_TRUE(destroy_remains(context_, directory, false)) << "a second time is fine";
    ::munmap(keeper, 4096);
}

TEST_F(Life, AReleasedSandboxRecordsItsEnd) {
    const Place second = make_place("b");
    pid_t root = 0;
    std::string go;
    {
        Sandbox sandbox = make_sandbox(make_spec("b"), second);
        SpawnRequest request = shell("until test -e /tmp/go; do sleep 0.01; done; exit 42");
        request.minimum_pid = 700;
        root = sandbox.spawn(request).value();
        ASSERT_TRUE(sandbox.spawn(shell("exec sleep 1000")));
        ASSERT_TRUE(sandbox.release(root));
        go = sandbox.host_path("/tmp/go");
        EXPECT_FALSE(sandbox.spawn(shell("true"))) << "not ours any more";
    }
    EXPECT_TRUE(status_of(second.directory).is_null()) << "still running";
    open_at(AT_FDCWD, go, O_WRONLY | O_CREAT, 0644).value().reset();
    ASSERT_TRUE(eventually([&] { return !status_of(second.directory).is_null(); }));
    const Json status = status_of(second.directory);
    EXPECT_EQ(status.value("pid", 0), root);
    EXPECT_EQ(status.value("status", 0), 42);
    EXPECT_EQ(status.value("signal", -1), 0);
    EXPECT_GT(status.value("time", int64_t{0}), 1'700'000'000);
    ASSERT_TRUE(destroy_remains(context_, second.directory, false));
    EXPECT_THAT(cgroups_of(unique_id("b")), IsEmpty());
}

TEST_F(Life, ReleaseAfterTheEndRecordsItToo) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    const pid_t pid = sandbox.spawn(shell("kill -USR1 $$")).value();
    ASSERT_TRUE(sandbox.wait_exit(10'000).value());
    EXPECT_FALSE(sandbox.release(4000)) << "no such process";
    ASSERT_TRUE(sandbox.release(pid));
    ASSERT_TRUE(eventually([&] { return !status_of(place.directory).is_null(); }));
    EXPECT_EQ(status_of(place.directory).value("status", 0), -1);
    EXPECT_EQ(status_of(place.directory).value("signal", 0), SIGUSR1);
    ASSERT_TRUE(destroy_remains(context_, place.directory, false));
}

TEST_F(Life, AReleasedRootNeedNotBeTheKeepersChild) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    // The orphan is adopted by the keeper when its parent has ended.
    const std::string pid_text =
        run(sandbox, "setsid sh -c 'sleep 0.3; exit 9' > /dev/null 2>&1 & echo $!");
    const auto orphan = parse_unsigned(std::string(trim(pid_text)));
    ASSERT_TRUE(orphan) << pid_text;
    ASSERT_TRUE(sandbox.release(static_cast<pid_t>(*orphan)));
    ASSERT_TRUE(eventually([&] { return !status_of(place.directory).is_null(); }));
    EXPECT_EQ(status_of(place.directory).value("status", 0), 9);
    ASSERT_TRUE(destroy_remains(context_, place.directory, false));
}

TEST_F(Life, StoppingARunningInstanceLeavesNothing) {
    const std::string directory = folder_.path() + "/state/instances/a";
    Spec spec = make_spec("a");
    spec.network = true;
    pid_t keeper = 0;
    {
        Place place = make_place("a");
        Sandbox sandbox = make_sandbox(spec, place);
        ASSERT_TRUE(sandbox.release(sandbox.spawn(shell("exec sleep 1000")).value()));
        keeper = sandbox.keeper();
    }
    EXPECT_FALSE(lock_is_free(directory)) << "the keeper holds it, and nobody else";
    EXPECT_THAT(links(), SizeIs(1));
    const auto stopped = destroy_remains(context_, directory, true);
    ASSERT_TRUE(stopped) << stopped.error().message;
    EXPECT_TRUE(lock_is_free(directory));
    EXPECT_THAT(links(), IsEmpty());
    EXPECT_THAT(cgroups_of(spec.id), IsEmpty());
    EXPECT_TRUE(eventually([&] { return !process_exists(keeper); })) << "init has reaped it";
}

TEST_F(Life, RemainsOfAnAddressGivenToAnotherLeaveThatOneAlone) {
    Place dead = make_place("dead");
    const Place live = make_place("live");
    Spec spec = make_spec("live");
    spec.network = true;
    Sandbox sandbox = make_sandbox(spec, live);
    ASSERT_TRUE(write_file_atomic(AT_FDCWD, dead.directory + "/address", sandbox.address()));
    ASSERT_TRUE(write_file_atomic(AT_FDCWD, dead.directory + "/sandbox.json",
                                  R"({"id":"long-dead","keeper":999999999,"start_time":1})"));
    dead.lock.reset();
    ASSERT_TRUE(destroy_remains(context_, dead.directory, false));
    EXPECT_THAT(links(), SizeIs(1));
}

TEST_F(Life, LimitsAreSetWhenAsked) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    Limits limits;
    limits.memory_bytes = uint64_t{64} << 20;
    const auto applied = sandbox.apply_limits(limits);
    if (!applied && applied.error().kind == ErrorKind::unsupported)
        GTEST_SKIP() << applied.error().message;
    ASSERT_TRUE(applied) << applied.error().message;
    EXPECT_THAT(run(sandbox, "dd if=/dev/zero of=/dev/null bs=100M count=1; echo status $?"),
                HasSubstr("status 137"));
}

class WithCriu : public Life {
  protected:
    void SetUp() override {
        Life::SetUp();
        if (IsSkipped()) return;
        const char* home = std::getenv("HOME");
        root_ = std::string(home != nullptr ? home : "/root") + "/.cache/memplate/criu";
        if (!path_exists(root_ + "/usr/sbin/criu")) root_ = "/";
        if (!path_exists(root_ + "/usr/sbin/criu")) GTEST_SKIP() << "no CRIU on this machine";
    }
    std::string root_;
};

TEST_F(WithCriu, SwrkAnswersInside) {
    const Place place = make_place("a");
    Spec spec = make_spec("a");
    spec.criu_root = root_;
    Sandbox sandbox = make_sandbox(spec, place);
    const auto socket = sandbox.spawn_criu({{6, place.lock.get()}});
    ASSERT_TRUE(socket) << socket.error().message;
    // criu_req { type = VERSION }, answered by criu_resp { type = VERSION, success = true, … }.
    ASSERT_EQ(::send(socket->get(), "\x08\x0a", 2, 0), 2);
    std::array<unsigned char, 256> answer{};
    ASSERT_GE(::recv(socket->get(), answer.data(), answer.size(), 0), 4);
    EXPECT_THAT(std::vector<int>(answer.begin(), answer.begin() + 4),
                testing::ElementsAre(0x08, 0x0a, 0x10, 0x01));
    ucred peer{};
    socklen_t size = sizeof peer;
    ASSERT_EQ(::getsockopt(socket->get(), SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
    EXPECT_EQ(peer.pid, sandbox.keeper()) << "pid 1 made the pair: its descriptors are meant";
    EXPECT_THAT(run(sandbox, "touch /run/memplate/criu/usr/x"), HasSubstr("Read-only"));
    EXPECT_EQ(run(sandbox, "ls /run/memplate/criu"), "usr\n");
}

TEST_F(WithCriu, TheKernelCacheIsWarmFromTheSecondSandboxOn) {
    Spec spec = make_spec("a");
    spec.criu_root = root_;
    const auto path = warm_kdat_path(context_, root_);
    ASSERT_TRUE(path) << path.error().message;
    EXPECT_FALSE(path_exists(*path));
    {
        const Place place = make_place("a");
        const Sandbox sandbox = make_sandbox(spec, place);
        EXPECT_TRUE(path_exists(*path));
    }
    const Place place = make_place("b");
    Sandbox sandbox = make_sandbox(spec, place);
    EXPECT_EQ(read_inside(sandbox, "/run/criu.kdat"), read_file(*path).value());
}

TEST_F(WithCriu, AReleasedInstanceDoesNotSeeIt) {
    Place place = make_place("a");
    Spec spec = make_spec("a");
    spec.criu_root = root_;
    Sandbox sandbox = make_sandbox(spec, place);
    const pid_t pid = sandbox.spawn(shell("exec sleep 1000")).value();
    ASSERT_TRUE(sandbox.release(pid));
    EXPECT_THAT(list_directory(AT_FDCWD, sandbox.host_path("/run/memplate/criu/usr")).value(),
                IsEmpty());
    place.lock.reset();
    EXPECT_TRUE(destroy_remains(context_, place.directory, true));
}

}  // namespace
}  // namespace memplate::sandbox
