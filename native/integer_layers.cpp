// Layers of whole numbers, exactly. semhier_ros/codec/integer_network.py says the same with NumPy.
#include "integer_layers.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

#include "clones.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#define SEMHIER_AVX2 1
#include <immintrin.h>
#endif

namespace semhier {
namespace {

constexpr std::size_t TILE = 16;     // outputs at a time
constexpr std::size_t TOGETHER = 4;  // rows at a time

// Sums (TOGETHER,TILE) of products of pairs of inputs: rows[r][2k], rows[r][2k + 1] with their weights.
void sums_plain(const std::int16_t* const* rows, const std::int16_t* weight, std::size_t pairs, std::int32_t* sums) {
  std::fill(sums, sums + TOGETHER * TILE, 0);
  for (std::size_t pair = 0; pair < pairs; ++pair, weight += 2 * TILE)
    for (std::size_t row = 0; row < TOGETHER; ++row) {
      const std::int32_t first = rows[row][2 * pair], second = rows[row][2 * pair + 1];
      for (std::size_t output = 0; output < TILE; ++output)
        sums[row * TILE + output] += first * weight[2 * output] + second * weight[2 * output + 1];
    }
}

#ifdef SEMHIER_AVX2
// The same; seven times as fast as what GCC 12 makes of the lines above for AVX2 (an EPYC of 2021).
__attribute__((target("avx2"))) void sums_avx2(const std::int16_t* const* rows, const std::int16_t* weight,
                                               std::size_t pairs, std::int32_t* sums) {
  __m256i found[TOGETHER][2];
  for (auto& both : found) both[0] = both[1] = _mm256_setzero_si256();
  for (std::size_t pair = 0; pair < pairs; ++pair, weight += 2 * TILE) {
    const __m256i left = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight));
    const __m256i right = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight + TILE));
    for (std::size_t row = 0; row < TOGETHER; ++row) {
      std::int32_t two;
      std::memcpy(&two, rows[row] + 2 * pair, sizeof two);
      const __m256i inputs = _mm256_set1_epi32(two);
      found[row][0] = _mm256_add_epi32(found[row][0], _mm256_madd_epi16(inputs, left));
      found[row][1] = _mm256_add_epi32(found[row][1], _mm256_madd_epi16(inputs, right));
    }
  }
  for (std::size_t row = 0; row < TOGETHER; ++row)
    for (std::size_t half = 0; half < 2; ++half)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + row * TILE + half * 8), found[row][half]);
}
#endif

using Sums = void (*)(const std::int16_t* const*, const std::int16_t*, std::size_t, std::int32_t*);

Sums fastest() {
#ifdef SEMHIER_AVX2
  if (__builtin_cpu_supports("avx2")) return sums_avx2;
#endif
  return sums_plain;
}

const Sums SUMS = fastest();

// One row's outputs of a whole tile, from its sums, where what is added keeps them within 32 bits.
SEMHIER_CLONES void close(const std::int32_t* sums, const std::int32_t* added, int shift, int low, int high,
                          std::int16_t* out) {
  for (std::size_t output = 0; output < TILE; ++output) {
    const std::int32_t total = (sums[output] + added[output]) >> shift;
    out[output] = static_cast<std::int16_t>(std::min(std::max(total, low), high));
  }
}

// The same from the sums of two parts: what lies below the shift is summed by itself.
SEMHIER_CLONES void close_both(const std::int32_t* sums, const std::int32_t* added, int shift, int low, int high,
                               std::int16_t* out) {
  const std::int32_t below = (1 << shift) - 1, *others = sums + TOGETHER * TILE;
  for (std::size_t output = 0; output < TILE; ++output) {
    const std::int32_t rest = (sums[output] & below) + (others[output] & below) + (added[output] & below);
    const std::int32_t total =
        (sums[output] >> shift) + (others[output] >> shift) + (added[output] >> shift) + (rest >> shift);
    out[output] = static_cast<std::int16_t>(std::min(std::max(total, low), high));
  }
}

// The same in doubles, where 32 bits may not do.
SEMHIER_CLONES void close_in_doubles(const std::int32_t* sums, std::size_t parts, const double* added, double scale,
                                     double low, double high, std::int16_t* out) {
  double totals[TILE];
  for (std::size_t output = 0; output < TILE; ++output) totals[output] = added[output] + sums[output] * scale;
  for (std::size_t part = 1; part < parts; ++part) {
    sums += TOGETHER * TILE;
    for (std::size_t output = 0; output < TILE; ++output) totals[output] += sums[output] * scale;
  }
  for (std::size_t output = 0; output < TILE; ++output) {
    double total = std::floor(totals[output]);
    total = total > low ? total : low;
    total = total < high ? total : high;
    out[output] = static_cast<std::int16_t>(static_cast<std::int32_t>(total));
  }
}

}  // namespace

IntegerLayer::IntegerLayer(const Array<std::int16_t>& weight, const Array<double>& bias, int shift, int low, int high,
                           int largest)
    : shift_(shift), low_(low), high_(high) {
  constexpr int most = std::numeric_limits<std::int16_t>::max();
  expect_shape("weight", weight, {ANY, ANY});
  inputs = weight.shape(0), outputs = weight.shape(1);
  expect_shape("bias", bias, {weight.shape(1)});
  if (shift < 0 || shift > 62) throw py::value_error("shift: " + std::to_string(shift) + ", expected 0 to 62");
  if (low < -most || high > most || low > high) throw py::value_error("low, high: expected within 16 bits");
  if (largest < 1 || largest > most) throw py::value_error("largest: expected 1 to 32767");
  bias_.assign(bias.data(), bias.data() + outputs);
  const std::size_t pairs = even(inputs) / 2, tiles = (outputs + TILE - 1) / TILE;
  weight_.assign(tiles * pairs * 2 * TILE, 0);
  for (std::size_t input = 0; input < inputs; ++input)
    for (std::size_t output = 0; output < outputs; ++output)
      weight_[((output / TILE * pairs + input / 2) * TILE + output % TILE) * 2 + input % 2] =
          weight.data()[input * outputs + output];
  std::vector<std::int64_t> reach(outputs, 0);
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    bool full = false;
    std::vector<std::int64_t> alone(outputs, 0);
    for (std::size_t input = 2 * pair; input < std::min(2 * pair + 2, inputs); ++input)
      for (std::size_t output = 0; output < outputs; ++output)
        alone[output] += std::abs(static_cast<std::int64_t>(weight.data()[input * outputs + output])) * largest;
    for (std::size_t output = 0; output < outputs; ++output)
      full = full || reach[output] + alone[output] > std::numeric_limits<std::int32_t>::max();
    if (full) {
      ends_.push_back(pair);
      std::fill(reach.begin(), reach.end(), 0);
    }
    for (std::size_t output = 0; output < outputs; ++output) reach[output] += alone[output];
  }
  ends_.push_back(pairs);
  std::int64_t most_summed = 0;
  for (const std::int64_t sum : reach) most_summed = std::max(most_summed, sum);
  if (ends_.size() == 1 && shift < 32)
    room_ = std::numeric_limits<std::int32_t>::max() - most_summed;
  else if (ends_.size() == 2 && shift >= 2 && shift <= 29)  // three numbers within 2**29 on either side of the shift
    room_ = std::numeric_limits<std::int32_t>::max();
  whole_bias_ = whole(bias_.data(), outputs);
}

std::vector<std::int32_t> IntegerLayer::whole(const double* added, std::size_t count) const {
  std::vector<std::int32_t> found;
  if (room_ < 0) return found;
  const double times = std::ldexp(1.0, shift_), most = static_cast<double>(room_);
  found.resize(count);
  bool fits = true;
  for (std::size_t place = 0; place < count; ++place) {
    const double value = added[place] * times;
    const bool within = value >= -most && value <= most;
    found[place] = within ? static_cast<std::int32_t>(value) : 0;
    fits &= within && static_cast<double>(found[place]) == value;
  }
  if (!fits) found.clear();
  return found;
}

void IntegerLayer::run(const std::int16_t* rows, std::size_t pitch, std::size_t count, const Added& added,
                       std::int16_t* out, std::size_t out_pitch) const {
  const std::size_t pairs = even(inputs) / 2;
  const double scale = std::ldexp(1.0, -shift_);
  std::vector<std::int32_t> sums(ends_.size() * TOGETHER * TILE);
  for (std::size_t tile = 0; tile < outputs; tile += TILE) {
    const std::size_t width = std::min(TILE, outputs - tile);
    for (std::size_t first = 0; first < count; first += TOGETHER) {
      std::size_t begin = 0;
      for (std::size_t part = 0; part < ends_.size(); ++part) {
        const std::int16_t* some[TOGETHER];  // the last one more than once, where fewer are left
        for (std::size_t row = 0; row < TOGETHER; ++row)
          some[row] = rows + std::min(first + row, count - 1) * pitch + 2 * begin;
        SUMS(some, weight_.data() + (tile * pairs + begin * TILE) * 2, ends_[part] - begin,
             sums.data() + part * TOGETHER * TILE);
        begin = ends_[part];
      }
      for (std::size_t row = first; row < std::min(first + TOGETHER, count); ++row) {
        const std::int32_t* own = sums.data() + (row - first) * TILE;
        const Added more = added.from(row);
        std::int16_t* outputs_here = out + row * out_pitch + tile;
        std::int16_t all[TILE], *whole_tile = width == TILE ? outputs_here : all;
        if (more.whole) {
          std::int32_t padded[TILE] = {};
          if (width < TILE) std::copy_n(more.whole + tile, width, padded);
          (ends_.size() == 1 ? close : close_both)(own, width == TILE ? more.whole + tile : padded, shift_, low_, high_,
                                                   whole_tile);
        } else {
          double padded[TILE] = {};
          if (width < TILE) std::copy_n(more.real + tile, width, padded);
          close_in_doubles(own, ends_.size(), width == TILE ? more.real + tile : padded, scale, low_, high_, whole_tile);
        }
        if (width < TILE) std::copy_n(all, width, outputs_here);
      }
    }
  }
}

LayerRun::LayerRun(const IntegerLayers& layers) : layers_(layers) {
  std::size_t widest = 0;
  for (const IntegerLayer* layer : layers) widest = std::max(widest, even(layer->outputs));
  for (auto& buffer : buffers_) buffer.assign(ROWS * widest, 0);
}

const std::int16_t* LayerRun::operator()(const std::int16_t* rows, std::size_t pitch, std::size_t count) {
  std::size_t side = 0;
  for (const IntegerLayer* layer : layers_) {
    const bool last = layer == layers_.back();
    const std::size_t out_pitch = last ? layer->outputs : even(layer->outputs);
    layer->run(rows, pitch, count, buffers_[side].data(), out_pitch);
    rows = buffers_[side].data(), pitch = out_pitch, side = 1 - side;
  }
  return rows;
}

namespace {

Array<std::int32_t> run_layers(const IntegerLayers& layers, const Array<std::int16_t>& inputs) {
  check_layers(layers, inputs.ndim() == 2 ? inputs.shape(1) : 0);
  expect_shape("inputs", inputs, {ANY, static_cast<py::ssize_t>(layers.front()->inputs)});
  const std::size_t count = inputs.shape(0), width = inputs.shape(1), outputs = layers.back()->outputs;
  Array<std::int32_t> found({inputs.shape(0), static_cast<py::ssize_t>(outputs)});
  std::vector<std::int16_t> rows(LayerRun::ROWS * even(width), 0);
  LayerRun run(layers);
  for (std::size_t first = 0; first < count; first += LayerRun::ROWS) {
    const std::size_t some = std::min(LayerRun::ROWS, count - first);
    for (std::size_t row = 0; row < some; ++row)
      std::copy_n(inputs.data() + (first + row) * width, width, rows.data() + row * even(width));
    const std::int16_t* out = run(rows.data(), even(width), some);
    std::copy_n(out, some * outputs, found.mutable_data() + first * outputs);
  }
  return found;
}

}  // namespace

void check_layers(const IntegerLayers& layers, std::size_t inputs) {
  if (layers.empty()) throw py::value_error("layers: none");
  for (const IntegerLayer* layer : layers) {
    if (layer == nullptr || layer->inputs != inputs) throw py::value_error("layers: they do not fit each other");
    inputs = layer->outputs;
  }
}

void bind_integer_layers(py::module_& module) {
  py::class_<IntegerLayer>(module, "IntegerLayer")
      .def(py::init<const Array<std::int16_t>&, const Array<double>&, int, int, int, int>(),
           py::arg("weight"), py::arg("bias"), py::arg("shift"), py::arg("low"),
           py::arg("high"), py::arg("largest"));
  module.def("run_layers", &run_layers, py::arg("layers"), py::arg("inputs"));
}

}  // namespace semhier
