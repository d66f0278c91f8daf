// SPDX-License-Identifier: Apache-2.0
//
// What a process finds inside a sandbox.
#include <sys/stat.h>

#include <fstream>

#include "sandbox_fixture.h"

namespace memplate::sandbox {
namespace {

using testing::HasSubstr;
using testing::Not;

class Inside : public NativeSandbox {};

TEST_F(Inside, TheKeeperIsTheFirstProcess) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    EXPECT_EQ(run(sandbox, "cat /proc/1/comm"), "memplate-keeper\n");
    EXPECT_EQ(run(sandbox, "hostname"), unique_id("a") + "\n");
    EXPECT_EQ(run(sandbox, "cat /etc/hostname"), unique_id("a") + "\n");
    EXPECT_THAT(run(sandbox, "cat /etc/hosts"), HasSubstr("127.0.1.1 " + unique_id("a")));
    EXPECT_EQ(run(sandbox, "set -- /proc/[0-9]*; echo $#"), "2\n") << "the keeper and sh";
    EXPECT_EQ(run(sandbox, "ls /sys/class/net"), "lo\n");
    EXPECT_EQ(run(sandbox,
                  "cat /sys/class/net/lo/operstate /proc/self/loginuid > /dev/null; "
                  "stat -c %a /tmp; ls /tmp"),
              "1777\noutput\n");
}

TEST_F(Inside, PidsStartWhereAsked) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    SpawnRequest request = shell("echo $$; ps -o sid= -p $$");
    request.minimum_pid = 5000;
    const auto first = sandbox.spawn(request);
    ASSERT_TRUE(first) << first.error().message;
    EXPECT_EQ(*first, 5000);
    const auto second = sandbox.spawn(request);
    ASSERT_TRUE(second);
    EXPECT_GT(*second, 5000) << "at least the minimum, not exactly";
    request.minimum_pid = 1 << 30;
    EXPECT_FALSE(sandbox.spawn(request));
}

TEST_F(Inside, FunctionsHaveTheDefaultCapabilities) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    const auto capabilities = [](const std::string& status, const std::string& set) {
        const size_t at = status.find(set + ":\t");
        return at == std::string::npos
                   ? 0
                   : std::stoull(status.substr(at + set.size() + 2), nullptr, 16);
    };
    const uint64_t ours = capabilities(read_file("/proc/self/status").value(), "CapBnd");
    constexpr uint64_t container_default = 0xa80425fb;  // docker run: grep Cap /proc/1/status
    const std::string restricted = run(sandbox, "cat /proc/self/status");
    EXPECT_EQ(capabilities(restricted, "CapBnd"), container_default & ours);
    EXPECT_EQ(capabilities(restricted, "CapPrm"), container_default & ours);
    EXPECT_EQ(capabilities(restricted, "CapEff"), container_default & ours);
    EXPECT_EQ(capabilities(restricted, "CapInh"), 0U);
    EXPECT_EQ(capabilities(restricted, "CapAmb"), 0U);
    EXPECT_THAT(restricted, HasSubstr("NoNewPrivs:\t0"));
    SpawnRequest request = shell(": > /tmp/output; cat /proc/self/status");
    request.restrict_capabilities = false;
    EXPECT_EQ(capabilities(run(sandbox, request), "CapBnd"), ours);
}

TEST_F(Inside, TheKernelAndTheKeeperAreOutOfReach) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    EXPECT_THAT(run(sandbox, "echo x > /proc/sys/kernel/core_pattern"), HasSubstr("Read-only"));
    EXPECT_THAT(run(sandbox, "echo 1 > /sys/kernel/mm/ksm/run"), HasSubstr("Read-only"));
    EXPECT_THAT(run(sandbox, "cat /proc/1/fd/2"), HasSubstr("Permission denied"));
    EXPECT_THAT(run(sandbox, "ls /proc/1/root/"), HasSubstr("Permission denied"));
    EXPECT_EQ(run(sandbox, "kill -KILL 1; echo alive"), "alive\n");
    // A node of a real device can be made, but not opened.
    EXPECT_THAT(run(sandbox, "mknod /tmp/memory c 1 1; cat /tmp/memory"),
                HasSubstr("Permission denied"));
    EXPECT_THAT(run(sandbox, "mknod /dev/memory c 1 1"), HasSubstr("Read-only"));
    EXPECT_EQ(run(sandbox,
                  "head -c 3 /dev/zero | od -An -tx1; echo > /dev/null && echo ok; "
                  "readlink /dev/fd; test -c /dev/ptmx && echo terminal"),
              " 00 00 00\nok\n/proc/self/fd\nterminal\n");
    EXPECT_EQ(run(sandbox, "echo x > /dev/shm/f && cat /dev/shm/f; ls -d /dev/mqueue"),
              "x\n/dev/mqueue\n");
    EXPECT_EQ(run(sandbox, "ls /sys/fs/cgroup | wc -l"), "0\n");
}

TEST_F(Inside, WritesStayInside) {
    const std::string name = "memplate-test-" + std::to_string(::getpid());
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    EXPECT_EQ(run(sandbox, fmt::format("for d in /etc /tmp /var/tmp /run /dev/shm /; do "
                                       "echo x > $d/{0} && cat $d/{0}; done",
                                       name)),
              "x\nx\nx\nx\nx\nx\n");
    for (const char* folder : {"/etc/", "/tmp/", "/var/tmp/", "/run/", "/dev/shm/", "/"})
        EXPECT_FALSE(path_exists(folder + name)) << folder;
    const std::string mounts = read_file("/proc/self/mounts").value();
    EXPECT_THAT(mounts, Not(HasSubstr(place.directory)));
}

TEST_F(Inside, ScratchIsLimited) {
    const Place place = make_place("a");
    Spec spec = make_spec("a");
    spec.scratch_bytes = 1 << 20;
    Sandbox sandbox = make_sandbox(spec, place);
    SpawnRequest request = shell("head -c 3000000 /dev/zero > /var/tmp/big");
    request.output = "/run/output";  // not on the scratch file system, which is full then
    EXPECT_THAT(run(sandbox, request), HasSubstr("No space left"));
}

TEST_F(Inside, BindsOnARootWithAnOddName) {
    // All characters that separate or escape something in mount options.
    const std::string root = folder_.path() + "/a root: b,c\\d=e";
    for (const char* name : {"/usr", "/etc"}) ASSERT_TRUE(make_directories(root + name));
    for (const char* name : {"bin", "lib", "lib64", "sbin"})
        std::filesystem::create_symlink(std::string("usr/") + name, root + "/" + name);
    const std::string data = folder_.path() + "/data,x:y";
    ASSERT_TRUE(make_directories(data));
    std::ofstream(data + "/file") << "content";

    const Place place = make_place("a");
    Spec spec = make_spec("a");
    spec.root = root;
    spec.binds = {{"/usr", "/usr", false},
                  {data, "/data/read", false},
                  {data, "/run/write", true},
                  {data + "/file", "/one/file", false}};
    Sandbox sandbox = make_sandbox(spec, place);
    EXPECT_EQ(run(sandbox, "cat /data/read/file /run/write/file /one/file"),
              "contentcontentcontent");
    EXPECT_THAT(run(sandbox, "echo x > /data/read/new"), HasSubstr("Read-only"));
    EXPECT_THAT(run(sandbox, "echo x > /one/file"), HasSubstr("Read-only"));
    EXPECT_EQ(run(sandbox, "echo x > /run/write/new"), "");
    EXPECT_EQ(read_file(data + "/new").value_or(""), "x\n");
    EXPECT_FALSE(path_exists(root + "/data")) << "mount points are made in the upper layer";
}

TEST_F(Inside, DescriptorsArriveUnderTheirNumbersAndNoOthers) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    ASSERT_TRUE(sandbox.lend_descriptor(reader.get()));
    // Numbers that the keeper itself uses for something else.
    SpawnRequest request = shell("echo five >&5; echo three >&3; ls -1 /proc/self/fd");
    request.descriptors = {{3, writer.get()}, {5, writer.get()}};
    EXPECT_EQ(run(sandbox, request), "0\n1\n2\n3\n4\n5\n") << "4 is of ls itself";
    writer.reset();
    EXPECT_EQ(read_file(fmt::format("/proc/self/fd/{}", reader.get())).value(), "five\nthree\n");
}

TEST_F(Inside, FailureToStartIsExplained) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    SpawnRequest request = shell("");
    request.argv = {"no-such-program"};
    const auto missing = sandbox.spawn(request);
    ASSERT_FALSE(missing);
    EXPECT_THAT(missing.error().message, HasSubstr("no-such-program"));
    EXPECT_EQ(missing.error().code, ENOENT);
    request = shell("");
    request.working_directory = "/no/such";
    EXPECT_THAT(sandbox.spawn(request).error().message, HasSubstr("working directory"));
    EXPECT_FALSE(sandbox.wait_exit(20).value()) << "what never ran has no end to report";
    request = shell("");
    request.argv = {"sh", "-c", "exit 3"};  // found by the environment's PATH
    const auto pid = sandbox.spawn(request);
    ASSERT_TRUE(pid) << pid.error().message;
    const auto ended = sandbox.wait_exit(10'000).value();
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->pid, *pid);
    EXPECT_EQ(WEXITSTATUS(ended->status), 3);
}

TEST_F(Inside, LongEnvironmentsFit) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    SpawnRequest request = shell("env | grep -c ^LONG");
    for (int i = 0; i < 10; ++i)
        request.environment.push_back(fmt::format("LONG{}={}", i, std::string(100'000, 'x')));
    EXPECT_EQ(run(sandbox, request), "10\n");
}

TEST_F(Inside, FilesAreWrittenAndReadSafely) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    const std::string data("binary\0\xff", 8);
    ASSERT_TRUE(sandbox.write_file("/run/memplate/new/entropy", data, 0400));
    EXPECT_EQ(read_inside(sandbox, "/run/memplate/new/entropy"), data);
    EXPECT_EQ(run(sandbox, "stat -c %a /run/memplate/new/entropy"), "400\n");
    // A FIFO in the way would block, a link would lead elsewhere.
    EXPECT_EQ(run(sandbox, "mkfifo /tmp/fifo; ln -s /etc/passwd /tmp/link"), "");
    EXPECT_TRUE(sandbox.write_file("/tmp/fifo", "a"));
    EXPECT_TRUE(sandbox.write_file("/tmp/link", "b"));
    EXPECT_EQ(run(sandbox, "cat /tmp/fifo /tmp/link; grep -c root: /etc/passwd"), "ab1\n");
    // A link inside is followed inside.
    const std::string outside = folder_.path() + "/outside";
    std::ofstream(outside) << "secret of the host";
    EXPECT_EQ(run(sandbox, fmt::format("ln -s {} /tmp/leak", outside)), "");
    EXPECT_FALSE(sandbox.open_inside("/tmp/leak", O_RDONLY));
    EXPECT_EQ(sandbox.write_file("relative", "x").error().kind, ErrorKind::usage);
    EXPECT_FALSE(sandbox.write_file("/proc/x", "x"));
}

TEST_F(Inside, SignalsReachProcessesButNotTheKeeper) {
    const Place place = make_place("a");
    Sandbox sandbox = make_sandbox(make_spec("a"), place);
    const auto pid = sandbox.spawn(shell("exec sleep 1000"));
    ASSERT_TRUE(pid);
    ASSERT_TRUE(sandbox.signal(*pid, SIGTERM));
    const auto ended = sandbox.wait_exit(10'000).value();
    ASSERT_TRUE(ended);
    EXPECT_EQ(WTERMSIG(ended->status), SIGTERM);
    EXPECT_FALSE(sandbox.signal(*pid, SIGTERM));
    EXPECT_FALSE(sandbox.signal(1, SIGKILL));
    EXPECT_FALSE(sandbox.signal(-1, SIGKILL));
}

TEST_F(Inside, BadRequestsAreRefused) {
    const Place place = make_place("a");
    Spec spec = make_spec("a");
    for (const char* id : {"", "UPPER", "a/b", "..", "a_b"}) {
        spec.id = id;
        const auto made = Sandbox::create(context_, spec, place.directory, place.lock);
        ASSERT_FALSE(made) << id;
        EXPECT_EQ(made.error().kind, ErrorKind::usage);
    }
    spec = make_spec("a");
    spec.root = "/no/such/root";
    const auto made = Sandbox::create(context_, spec, place.directory, place.lock);
    ASSERT_FALSE(made);
    EXPECT_THAT(made.error().message, HasSubstr("/no/such/root"));
    EXPECT_TRUE(cgroups_of(spec.id).empty());
    spec.root = "/";
    spec.binds = {{"/no/such/source", "/x", false}};
    EXPECT_THAT(Sandbox::create(context_, spec, place.directory, place.lock).error().message,
                HasSubstr("/no/such/source"));
}

}  // namespace
}  // namespace memplate::sandbox
