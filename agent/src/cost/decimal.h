// SPDX-License-Identifier: Apache-2.0
//
// Money is counted in decimal: an exact integer of 10^-20 units in 128 bits. Prices have at most 20
// decimals; a sum or a product with an integer is exact, a quotient is cut or rounded where it is
// asked for. A result that does not fit (1.7e18) marks itself, and whatever is computed from it, as
// not valid: one check at the end of a formula is enough.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace memplate::cost {

__extension__ typedef __int128 Int128;  // NOLINT(modernize-use-using): not with __extension__

class Decimal {
  public:
    static constexpr int digits = 20;
    enum class Rounding { down, half_up };

    Decimal() = default;
    explicit Decimal(int64_t whole);
    /// "0.20", "1.667e-5"; nothing if it is not a number or has more than 20 decimals.
    static std::optional<Decimal> parse(std::string_view text);

    [[nodiscard]] bool valid() const { return valid_; }
    [[nodiscard]] bool is_zero() const { return units_ == 0; }

    friend Decimal operator+(Decimal a, Decimal b);
    friend Decimal operator-(Decimal a, Decimal b);
    /// Only meaningful while both are valid.
    friend std::strong_ordering operator<=>(Decimal a, Decimal b) { return a.units_ <=> b.units_; }
    friend bool operator==(Decimal a, Decimal b) = default;

    /// this × numerator / denominator, as if with unlimited digits between.
    [[nodiscard]] Decimal times(Int128 numerator, Int128 denominator = 1,
                                Rounding rounding = Rounding::down) const;
    /// this / divisor; not valid when that is zero.
    [[nodiscard]] Decimal divided_by(Decimal divisor) const;
    [[nodiscard]] Decimal rounded(int decimals) const;  ///< half up, away from zero

    /// With exactly that many decimals, rounded half up.
    [[nodiscard]] std::string text(int decimals) const;
    /// With no more decimals than it has.
    [[nodiscard]] std::string text() const;
    [[nodiscard]] double to_double() const;

  private:
    static Decimal of_units(Int128 units, bool valid = true);
    Int128 units_ = 0;
    bool valid_ = true;
};

}  // namespace memplate::cost
