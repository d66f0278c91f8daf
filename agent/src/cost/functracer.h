// SPDX-License-Identifier: Apache-2.0
//
// The file formats and the single-run report of functracer, for those who script against them: raw
// CSV (time of day to the millisecond, bytes, and the limit where one is set; first and last row
// are the start and the end, with 0 bytes), .dat rows, and the report. Their numbers are formed as
// functracer forms them, to the last digit printed; across midnight they are right.
#pragma once

#include "cost/price.h"
#include "cost/trace.h"
#include "cost/trace_file.h"

namespace memplate::cost {

[[nodiscard]] Result<Trace> parse_functracer_trace(std::string_view text,
                                                   const std::string& origin);

class FunctracerWriter : public TraceSink {
  public:
    /// `day_ms`: local time of day, milliseconds since midnight, at `start_ns`.
    static Result<std::unique_ptr<FunctracerWriter>> create(const std::string& path,
                                                            int64_t start_ns, int64_t day_ms);
    FunctracerWriter(LineFile file, int64_t start_ns, int64_t day_ms)
        : file_(std::move(file)), start_ns_(start_ns), day_ms_(day_ms) {}
    void add(const Sample& sample) override;
    void add(const Event& event) override;
    [[nodiscard]] Result<> finish() { return file_.finish(); }

  private:
    void row(int64_t time_ns, const std::string& values);
    LineFile file_;
    int64_t start_ns_;
    int64_t day_ms_;
    bool started_ = false;
};

/// Milliseconds of the local day at a wall time.
[[nodiscard]] int64_t local_day_ms(int64_t wall_ns);

/// "3652 774 37   832 50.298000000    46.20…    4.09…\n"
[[nodiscard]] std::string functracer_row(const Bill& bill);
[[nodiscard]] std::string functracer_report(const Bill& bill, uint64_t memory_bytes);

}  // namespace memplate::cost
