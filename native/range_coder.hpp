// The range coder of docs/bitstream.md. semhier_ros/codec/plain_coder.py says the same in Python.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace semhier {

constexpr int PRECISION = 20;        // of tables
constexpr int CODER_PRECISION = 24;  // of what their rows are scaled to
constexpr std::uint64_t WORD = 0xFFFFFFFF;
constexpr std::size_t LONG_CALL = 2048;  // symbols, from which on other threads may run meanwhile

// Rows of whole cumulatives of 2**24, with what each symbol costs in bits.
class RangeTables {
 public:
  RangeTables(const Array<std::int32_t>& frequencies, const Array<double>& bits) {
    expect_shape("frequencies", frequencies, {ANY, ANY});
    rows = frequencies.shape(0), alphabet = frequencies.shape(1);
    expect_shape("bits", bits, {rows, alphabet});
    if (alphabet > 1 << 16) throw py::value_error("frequencies: more than 65536 symbols");
    bits_.assign(bits.data(), bits.data() + rows * alphabet);
    cumulative_.reserve(rows * (alphabet + 1));
    for (py::ssize_t row = 0; row < rows; ++row) {
      const std::int32_t* entry = frequencies.data() + row * alphabet;
      std::int64_t sum = 0;
      cumulative_.push_back(0);
      for (py::ssize_t symbol = 0; symbol < alphabet; ++symbol) {
        sum += entry[symbol];
        if (entry[symbol] < 1 || sum > 1 << PRECISION) throw py::value_error("frequencies: not 1 to 2**20");
        cumulative_.push_back(static_cast<std::uint32_t>(sum << (CODER_PRECISION - PRECISION)));
      }
      if (sum != 1 << PRECISION) throw py::value_error("frequencies: a sum other than 2**20");
    }
  }

  const std::uint32_t* row(std::int64_t number) const { return cumulative_.data() + number * (alphabet + 1); }
  double bits(std::int64_t number, std::int32_t symbol) const { return bits_[number * alphabet + symbol]; }

  // The symbol of a quantile below 2**24.
  std::int32_t symbol(std::int64_t number, std::uint32_t quantile) const {
    const std::uint32_t* begins = row(number);
    return static_cast<std::int32_t>(std::upper_bound(begins + 1, begins + alphabet, quantile) - begins - 1);
  }

  py::ssize_t rows, alphabet;

 private:
  std::vector<std::uint32_t> cumulative_;
  std::vector<double> bits_;
};

// Places of one or more rows in coding order: ascending row, those of one row in the order given.
inline std::vector<std::uint32_t> coding_order(const std::int64_t* rows, std::size_t count,
                                               const RangeTables& tables) {
  if (count >> 32) throw py::value_error("rows: more than 2**32 of them");
  const auto [low, high] = expect_range("rows", rows, count, tables.rows);
  std::vector<std::uint32_t> order(count);
  if (low == high) {
    for (std::size_t place = 0; place < count; ++place) order[place] = static_cast<std::uint32_t>(place);
    return order;
  }
  std::vector<std::uint32_t> next(high - low + 2);
  for (std::size_t place = 0; place < count; ++place) ++next[rows[place] - low + 1];
  for (std::size_t row = 1; row < next.size(); ++row) next[row] += next[row - 1];
  for (std::size_t place = 0; place < count; ++place)
    order[next[rows[place] - low]++] = static_cast<std::uint32_t>(place);
  return order;
}

inline void carry(std::vector<std::uint32_t>& words) {
  for (std::size_t place = words.size(); place-- > 0 && ++words[place] == 0;) {
  }
}

// The shortest bytes that, followed by zeros, are a number of the interval of `words` and `low`, `range` wide.
inline py::bytes shortest(std::vector<std::uint32_t> words, std::uint64_t low, std::uint64_t range) {
  int cut = 56;
  while (range >> cut == 0) cut -= 8;
  // of the multiples of the largest power of 256 the smallest; one of 256 times that power is the only one
  for (const int bits : {cut + 8, cut}) {
    const std::uint64_t below = bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
    const std::uint64_t more = -low & below;
    if (more >= range) continue;
    if (low + more < low) carry(words);
    low += more;
    break;
  }
  std::string found;
  found.reserve(4 * words.size() + 8);
  words.push_back(static_cast<std::uint32_t>(low >> 32));
  words.push_back(static_cast<std::uint32_t>(low));
  for (const std::uint32_t word : words)
    for (const int shift : {24, 16, 8, 0}) found.push_back(static_cast<char>(word >> shift & 0xFF));
  found.erase(found.find_last_not_of('\0') + 1);
  return py::bytes(found);
}

class RangeEncoder {
 public:
  void put(const RangeTables& tables, const Array<std::int64_t>& symbols, const Array<std::int64_t>& rows) {
    expect_shape("symbols", symbols, {ANY});
    expect_shape("rows", rows, {symbols.shape(0)});
    put(tables, symbols.data(), rows.data(), static_cast<std::size_t>(symbols.shape(0)));
  }

  void put_list(const RangeTables& tables, const std::vector<std::int64_t>& symbols,
                const std::vector<std::int64_t>& rows) {
    if (symbols.size() != rows.size()) throw py::value_error("symbols: not as many as rows");
    put(tables, symbols.data(), rows.data(), symbols.size());
  }

  py::bytes finish() const { return shortest(words_, low_, range_); }

  void put(const RangeTables& tables, const std::int64_t* symbols, const std::int64_t* rows, std::size_t count) {
    if (count == 0) return;
    const std::vector<std::uint32_t> order = coding_order(rows, count, tables);
    expect_range("symbols", symbols, count, tables.alphabet);
    std::optional<py::gil_scoped_release> others_may_run;
    if (count >= LONG_CALL) others_may_run.emplace();
    for (const std::uint32_t place : order) {
      const std::uint32_t* begins = tables.row(rows[place]) + symbols[place];
      const std::uint64_t scale = range_ >> CODER_PRECISION, more = scale * begins[0];
      low_ += more;
      if (low_ < more) carry(words_);
      range_ = scale * (begins[1] - begins[0]);
      if (range_ <= WORD) {
        words_.push_back(static_cast<std::uint32_t>(low_ >> 32));
        low_ <<= 32;
        range_ <<= 32;
      }
    }
  }

 private:
  std::vector<std::uint32_t> words_;
  std::uint64_t low_ = 0, range_ = ~std::uint64_t{0};
};

class RangeDecoder {
 public:
  explicit RangeDecoder(const py::bytes& bytes) {
    const std::string_view data = bytes;
    words_.resize((data.size() + 3) / 4);
    for (std::size_t place = 0; place < data.size(); ++place)
      words_[place / 4] |= static_cast<std::uint32_t>(static_cast<unsigned char>(data[place])) << (24 - place % 4 * 8);
    above_ = static_cast<std::uint64_t>(word(0)) << 32 | word(1);
  }

  py::tuple get(const RangeTables& tables, const Array<std::int64_t>& rows) {
    expect_shape("rows", rows, {ANY});
    Array<std::int32_t> found(rows.shape(0));
    const double bits = get(tables, rows.data(), static_cast<std::size_t>(rows.shape(0)), found.mutable_data());
    return py::make_tuple(std::move(found), bits);
  }

  std::pair<std::vector<std::int32_t>, double> get_list(const RangeTables& tables,
                                                        const std::vector<std::int64_t>& rows) {
    std::vector<std::int32_t> found(rows.size());
    const double bits = get(tables, rows.data(), rows.size(), found.data());
    return {std::move(found), bits};
  }

  py::bytes told() const {
    std::vector<std::uint32_t> words(next_);
    for (std::size_t place = 0; place < next_; ++place) words[place] = word(place);
    const std::uint64_t read = static_cast<std::uint64_t>(words[next_ - 2]) << 32 | words[next_ - 1];
    words.resize(next_ - 2);
    if (read < above_)
      for (std::size_t place = words.size(); place-- > 0 && words[place]-- == 0;) {
      }
    return shortest(std::move(words), read - above_, range_);
  }

  double get(const RangeTables& tables, const std::int64_t* rows, std::size_t count, std::int32_t* found) {
    if (count == 0) return 0.0;
    const std::vector<std::uint32_t> order = coding_order(rows, count, tables);
    std::optional<py::gil_scoped_release> others_may_run;
    if (count >= LONG_CALL) others_may_run.emplace();
    double bits = 0.0;
    for (const std::uint32_t place : order) {
      const std::int64_t row = rows[place];
      const std::uint64_t scale = range_ >> CODER_PRECISION, quantile = above_ / scale;
      if (quantile >> CODER_PRECISION) throw std::overflow_error("no symbol fits");
      const std::int32_t symbol = tables.symbol(row, static_cast<std::uint32_t>(quantile));
      const std::uint32_t* begins = tables.row(row) + symbol;
      above_ -= scale * begins[0];
      range_ = scale * (begins[1] - begins[0]);
      if (range_ <= WORD) {
        above_ = above_ << 32 | word(next_++);
        range_ <<= 32;
      }
      found[place] = symbol;
      bits += tables.bits(row, symbol);
    }
    return bits;
  }

 private:
  std::uint32_t word(std::size_t place) const { return place < words_.size() ? words_[place] : 0; }

  std::vector<std::uint32_t> words_;
  std::size_t next_ = 2;
  std::uint64_t above_, range_ = ~std::uint64_t{0};
};

}  // namespace semhier
