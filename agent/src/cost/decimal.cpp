// SPDX-License-Identifier: Apache-2.0
#include "cost/decimal.h"

#include <charconv>
#include <cstdlib>
#include <limits>

namespace memplate::cost {
namespace {

constexpr Int128 power_of_ten(int exponent) {
    Int128 result = 1;
    while (exponent-- > 0) result *= 10;
    return result;
}
constexpr Int128 one = power_of_ten(Decimal::digits);

Int128 absolute(Int128 value) {
    return value < 0 ? -value : value;
}

Int128 common_divisor(Int128 a, Int128 b) {
    a = absolute(a);
    b = absolute(b);
    while (b != 0) {
        const Int128 rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

}  // namespace

Decimal::Decimal(int64_t whole) {
    valid_ = !__builtin_mul_overflow(static_cast<Int128>(whole), one, &units_);
}

Decimal Decimal::of_units(Int128 units, bool valid) {
    Decimal result;
    result.units_ = units;
    // The least value has no opposite: leave it out.
    result.valid_ = valid && units != std::numeric_limits<Int128>::min();
    return result;
}

std::optional<Decimal> Decimal::parse(std::string_view text) {
    const bool negative = text.starts_with('-');
    if (negative) text.remove_prefix(1);
    int exponent = 0;
    if (const size_t e = text.find_first_of("eE"); e != text.npos) {
        const std::string_view tail = text.substr(e + 1);
        const auto [end, error] = std::from_chars(tail.data(), tail.data() + tail.size(), exponent);
        if (error != std::errc() || end != tail.data() + tail.size() || exponent < -40 ||
            exponent > 40)
            return std::nullopt;
        text = text.substr(0, e);
    }
    Int128 value = 0;
    bool point = false;
    bool any = false;
    for (const char c : text) {
        if (c == '.' && !point) {
            point = true;
            continue;
        }
        if (!is_digit(c) || __builtin_mul_overflow(value, Int128{10}, &value) ||
            __builtin_add_overflow(value, Int128{c - '0'}, &value))
            return std::nullopt;
        any = true;
        if (point) exponent--;
    }
    if (!any) return std::nullopt;
    exponent += digits;
    for (; exponent > 0 && value != 0; exponent--)
        if (__builtin_mul_overflow(value, Int128{10}, &value)) return std::nullopt;
    for (; exponent < 0 && value != 0; exponent++) {
        if (value % 10 != 0) return std::nullopt;
        value /= 10;
    }
    return of_units(negative ? -value : value);
}

Decimal operator+(Decimal a, Decimal b) {
    Int128 sum = 0;
    const bool fits = !__builtin_add_overflow(a.units_, b.units_, &sum);
    return Decimal::of_units(sum, fits && a.valid_ && b.valid_);
}

Decimal operator-(Decimal a, Decimal b) {
    return a + Decimal::of_units(-b.units_, b.valid_);
}

Decimal Decimal::times(Int128 numerator, Int128 denominator, Rounding rounding) const {
    if (denominator <= 0 || !valid_) return of_units(0, false);
    Int128 value = units_;
    const Int128 first = common_divisor(numerator, denominator);
    numerator /= first;
    denominator /= first;
    const Int128 second = common_divisor(value, denominator);
    if (second > 1) {
        value /= second;
        denominator /= second;
    }
    Int128 product = 0;
    if (__builtin_mul_overflow(value, numerator, &product)) {
        // Longhand: whole part and rest apart.
        const Int128 whole = value / denominator;
        const Int128 rest = value % denominator;
        Int128 high = 0;
        Int128 low = 0;
        if (__builtin_mul_overflow(whole, numerator, &high) ||
            __builtin_mul_overflow(rest, numerator, &low) ||
            __builtin_add_overflow(high, low / denominator, &high))
            return of_units(0, false);
        return of_units(high);
    }
    Int128 quotient = product / denominator;
    const Int128 rest = absolute(product % denominator);
    if (rounding == Rounding::half_up && rest >= denominator - rest)
        quotient += product < 0 ? -1 : 1;
    return of_units(quotient);
}

Decimal Decimal::divided_by(Decimal divisor) const {
    if (!valid_ || !divisor.valid_ || divisor.units_ == 0) return of_units(0, false);
    const bool negative = (units_ < 0) != (divisor.units_ < 0);
    const Int128 by = absolute(divisor.units_);
    Int128 quotient = absolute(units_) / by;
    Int128 rest = absolute(units_) % by;
    bool fits = true;
    for (int i = 0; i < digits && fits; i++) {
        fits = !__builtin_mul_overflow(rest, Int128{10}, &rest) &&
               !__builtin_mul_overflow(quotient, Int128{10}, &quotient) &&
               !__builtin_add_overflow(quotient, rest / by, &quotient);
        rest %= by;
    }
    return of_units(negative ? -quotient : quotient, fits);
}

Decimal Decimal::rounded(int decimals) const {
    if (decimals >= digits) return *this;
    const Int128 step = power_of_ten(digits - decimals);
    const Int128 rest = absolute(units_ % step);
    Int128 cut = units_ / step;
    if (rest >= step - rest) cut += units_ < 0 ? -1 : 1;
    Int128 result = 0;
    const bool fits = !__builtin_mul_overflow(cut, step, &result);
    return of_units(result, valid_ && fits);
}

std::string Decimal::text(int decimals) const {
    if (!valid_) return "too large";
    const Decimal value = rounded(decimals);
    Int128 rest = absolute(value.units_);
    std::string reversed;
    for (int place = 0; place <= digits || rest != 0; place++) {
        if (place == digits && decimals > 0) reversed += '.';
        if (place >= digits - decimals)
            reversed += static_cast<char>('0' + static_cast<int>(rest % 10));
        rest /= 10;
    }
    if (value.units_ < 0) reversed += '-';
    return {reversed.rbegin(), reversed.rend()};
}

std::string Decimal::text() const {
    std::string result = text(digits);
    if (result.find('.') == result.npos) return result;
    result.erase(result.find_last_not_of('0') + 1);
    if (result.ends_with('.')) result.pop_back();
    return result;
}

double Decimal::to_double() const {
    return valid_ ? std::strtod(text(digits).c_str(), nullptr)
                  : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace memplate::cost
