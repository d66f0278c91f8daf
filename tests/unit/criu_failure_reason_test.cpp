// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "criu/worker.h"

namespace memplate::criu {
namespace {

using ::testing::HasSubstr;

TEST(CriuFailureReason, FirstErrorIsTheReason) {
    EXPECT_EQ(
        failure_reason("(00.000001) Version: 4.1 (gitid 0)\n"
                       "(00.012345)     17: Error (criu/mem.c:12): Can't map it \n"
                       "(00.012346)     17: Error (criu/mem.c:99): Something that followed\n"),
        "Can't map it");
}

TEST(CriuFailureReason, LogsWithoutErrorsGiveNone) {
    EXPECT_EQ(failure_reason(""), "");
    EXPECT_EQ(failure_reason("(00.1) Version: 4.1\n(00.2) Warn  (criu/x.c:1): careful\n"), "");
}

TEST(CriuFailureReason, ErrorsThatAreNoCauseAreSkipped) {
    EXPECT_EQ(failure_reason("(00.01) Error (criu/cr-restore.c:1): rlimit: Can't setup for 5\n"
                             "(00.02) Error (criu/cr-restore.c:2): 17 exited, status=1\n"
                             "(00.03) Error (criu/cr-restore.c:3): 17 killed by signal 9\n"
                             "(00.04) Error (criu/files.c:4): Can't open /data/x\n"
                             "(00.05) Error (criu/cr-restore.c:5): Restoring FAILED.\n"),
              "Can't open /data/x");
    EXPECT_EQ(failure_reason("(00.05) Error (criu/cr-dump.c:5): Dumping FAILED.\n"
                             "(00.06) Error (criu/x.c:1): Restorer fail 17\n"),
              "");
}

TEST(CriuFailureReason, WellKnownCausesAreExplained) {
    const std::pair<const char*, const char*> cases[]{
        {"Can't dump half of stream unix connection.", "whose other end is outside"},
        {"sk unix: External socket is used. Consider using --ext-unix-sk", "unix socket"},
        {"inet: Connected TCP socket, consider using --tcp-established option.",
         "open TCP connection"},
        {"inet: In-flight connection (l) for 5", "was being accepted"},
        {"Some file locks are hold by dumping tasks! Unlock and retry: a file lock", "file lock"},
        {"Can't dump ghost file /tmp/x of 9 size", "deleted file"},
        {"fd 5: anon_inode:[io_uring] unknown", "io_uring"},
        {"pid 17 is already traced by 18", "debugger"},
        {"Found corked UDP socket", "corked"},
        {"Can't fork for 17: File exists", "runs in the sandbox already"},
    };
    for (const auto& [message, explanation] : cases)
        EXPECT_THAT(
            failure_reason(fmt::format(
                "(00.01) 17: Error (criu/x.c:12): {}\n(00.02) Error (c:1): later\n", message)),
            HasSubstr(explanation))
            << message;
}

TEST(CriuFailureReason, WellKnownCauseBeatsAnEarlierError) {
    EXPECT_THAT(failure_reason("(00.01) Error (criu/x.c:1): Dump of a file failed\n"
                               "(00.02) Error (criu/x.c:2): Connected TCP socket\n"),
                HasSubstr("open TCP connection"));
}

TEST(CriuFailureReason, CausesThatSpeakForThemselvesAreQuoted) {
    EXPECT_EQ(failure_reason("(00.01) Error (criu/x.c:1): first\n"
                             "(00.02) Error (criu/x.c:2): Can't dump fd 7: weird file\n"),
              "Can't dump fd 7: weird file");
}

TEST(CriuFailureReason, RawMessageWithoutALogIsUnderstood) {
    EXPECT_EQ(failure_reason("no such process"), "no such process");
    EXPECT_THAT(failure_reason("inet: Connected TCP socket"), HasSubstr("open TCP connection"));
    EXPECT_EQ(failure_reason("(00.02) Error (criu/x.c:2): one line only"), "one line only");
}

}  // namespace
}  // namespace memplate::criu
