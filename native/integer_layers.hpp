#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "arrays.hpp"

namespace semhier {

// A layer of codec.integer_network in 16-bit integers: y = clip(floor(x @ weight * 2^-shift + added), low, high).
// Products are summed in 32 bits over as many inputs as cannot exceed them. Where that is all of them, what is added
// within, y follows in 32 bits; elsewhere from these sums in doubles, where they are exact. So y is what any exact
// arithmetic gives, as long as no |x| exceeds `largest`.
class IntegerLayer {
 public:
  // weight (inputs,outputs). bias (outputs), 2^-shift within.
  IntegerLayer(const Array<std::int16_t>& weight, const Array<double>& bias, int shift, int low, int high, int largest);

  // What is added to a row's outputs, the same to all rows (`pitch` 0) or to each its own: in doubles, 2^-shift within,
  // and as whole numbers of 32 bits, none where sums could exceed these.
  struct Added {
    const double* real;
    const std::int32_t* whole;
    std::size_t pitch;

    Added from(std::size_t row) const { return {real + row * pitch, whole ? whole + row * pitch : nullptr, pitch}; }
  };

  // What `Added` says of `count` numbers in doubles; empty where there are no such whole numbers.
  std::vector<std::int32_t> whole(const double* added, std::size_t count) const;

  // Outputs of `count` rows, `pitch` numbers from one to the next; what each input row holds beyond its inputs up to an
  // even number is read and weighs nothing. added: the bias, or another one for each row.
  void run(const std::int16_t* rows, std::size_t pitch, std::size_t count, const Added& added, std::int16_t* out,
           std::size_t out_pitch) const;
  void run(const std::int16_t* rows, std::size_t pitch, std::size_t count, std::int16_t* out,
           std::size_t out_pitch) const {
    run(rows, pitch, count, {bias_.data(), whole_bias_.empty() ? nullptr : whole_bias_.data(), 0}, out, out_pitch);
  }

  std::size_t inputs, outputs;

 private:
  std::vector<std::int16_t> weight_;  // by 16 outputs, by 2 inputs: output after output, the two inputs side by side
  std::vector<double> bias_;
  std::vector<std::int32_t> whole_bias_;
  std::vector<std::size_t> ends_;  // of parts that are summed in 32 bits, in pairs of inputs
  std::int64_t room_ = -1;           // how large what is added may be in 32 bits, negative: it may not
  int shift_, low_, high_;
};

using IntegerLayers = std::vector<const IntegerLayer*>;

constexpr std::size_t even(std::size_t size) { return size + size % 2; }

// Runs rows through layers, a few at a time; the buffers are kept between calls of one object.
class LayerRun {
 public:
  explicit LayerRun(const IntegerLayers& layers);

  // Outputs (count, outputs of the last layer) of rows; the memory is this object's own, until it runs again.
  const std::int16_t* operator()(const std::int16_t* rows, std::size_t pitch, std::size_t count);

  static constexpr std::size_t ROWS = 48;  // at most; with their products they stay in a core's own cache

 private:
  const IntegerLayers& layers_;
  std::vector<std::int16_t> buffers_[2];
};

// Raises ValueError unless there are layers and each takes what the one before gives, the first this many numbers.
void check_layers(const IntegerLayers& layers, std::size_t inputs);

}  // namespace semhier
