// One phase of the walk over picture latents (docs/bitstream.md, "Picture blocks"), of many pictures at once.
// semhier_ros/codec/picture_walk.py says the same with NumPy.
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "integer_layers.hpp"

namespace semhier {
namespace {

constexpr std::ptrdiff_t MARGIN = 2, UNIT = 16, LATENT_BOUND = 4095;

// Positions coded together, as picture_walk.Phase: top, left, step, reach.
using Phase = std::tuple<std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t>;

// Where the positions of a phase stand in pictures of h rows and w columns.
struct Places {
  Places(const Phase& phase, py::ssize_t height, py::ssize_t width) : width(width) {
    std::ptrdiff_t reach;
    std::tie(top, left, step, reach) = phase;
    if (top < 0 || left < 0 || step < 1 || reach < 0 || reach > MARGIN) throw py::value_error("phase: out of range");
    down = std::max<std::ptrdiff_t>(0, (height - top + step - 1) / step);
    across = std::max<std::ptrdiff_t>(0, (width - left + step - 1) / step);
    count = static_cast<std::size_t>(down * across);
  }
  std::ptrdiff_t row(std::size_t place) const { return top + static_cast<std::ptrdiff_t>(place) / across * step; }
  std::ptrdiff_t column(std::size_t place) const { return left + static_cast<std::ptrdiff_t>(place) % across * step; }
  // Which position of a picture it is, and which of one with a margin.
  std::size_t bare(std::size_t place) const { return row(place) * width + column(place); }
  std::size_t wide(std::size_t place) const {
    return (row(place) + MARGIN) * (width + 2 * MARGIN) + column(place) + MARGIN;
  }

  std::ptrdiff_t top, left, step, down, across, width;
  std::size_t count;
};

void expect_pictures(const Array<std::int16_t>& seen, const Array<std::int16_t>& known) {
  expect_shape("known", known, {ANY, ANY, ANY, ANY});
  expect_shape("seen", seen, {known.shape(0), known.shape(1) + 2 * MARGIN, known.shape(2) + 2 * MARGIN, ANY});
}

// Means and table rows (n,stop - start,positions) of a phase's latents. seen: features (n,h,w,planes) with a margin.
// known: latents (n,h,w,known). first: of the network, for the features at `taps` (of 3x3), then the position's own
// latents or none. added (positions,width): what it adds at each position.
py::tuple expect_latents(const Array<std::int16_t>& seen, const Array<std::int16_t>& known, const Phase& phase,
                         const std::vector<std::size_t>& taps, const IntegerLayer& first, const Array<double>& added,
                         const IntegerLayers& rest, std::size_t start, std::size_t stop, int table_rows) {
  expect_pictures(seen, known);
  const Places places(phase, known.shape(1), known.shape(2));
  const std::size_t planes = seen.shape(3), own = known.shape(3), width = first.outputs, channels = stop - start;
  const std::size_t around = taps.size() * planes;
  if (!rest.empty()) check_layers(rest, width);
  expect_shape("added", added, {static_cast<py::ssize_t>(places.count), static_cast<py::ssize_t>(width)});
  if (start > stop || stop > own || (rest.empty() ? width : rest.back()->outputs) != 2 * channels || table_rows < 1 || table_rows > 256 ||
      (first.inputs != around && first.inputs != around + own))
    throw py::value_error("layers: they do not fit latents and features");
  const std::ptrdiff_t reach = std::get<3>(phase), pitch_down = known.shape(2) + 2 * MARGIN;
  std::vector<std::ptrdiff_t> away;
  for (const std::size_t tap : taps) {
    if (tap >= 9) throw py::value_error("taps: expected 0 to 8");
    const std::ptrdiff_t down = static_cast<std::ptrdiff_t>(tap / 3) - 1, across = static_cast<std::ptrdiff_t>(tap % 3) - 1;
    away.push_back((down * pitch_down + across) * reach);
  }
  const std::vector<py::ssize_t> shape{known.shape(0), static_cast<py::ssize_t>(channels),
                                       static_cast<py::ssize_t>(places.count)};
  Array<std::int16_t> means(shape);
  Array<std::uint8_t> rows(shape);
  std::int16_t* mean = means.mutable_data();
  std::uint8_t* row = rows.mutable_data();
  const std::size_t pitch = even(first.inputs), hidden = even(width);
  std::vector<std::int16_t> patches(LayerRun::ROWS * pitch, 0), sums(LayerRun::ROWS * hidden, 0);
  LayerRun run(rest);
  const std::vector<std::int32_t> whole = first.whole(added.data(), places.count * width);
  const IntegerLayer::Added more{added.data(), whole.empty() ? nullptr : whole.data(), width};
  const std::size_t all = known.shape(1) * known.shape(2), all_wide = seen.shape(1) * seen.shape(2);
  {
    py::gil_scoped_release others_may_run;
    for (py::ssize_t picture = 0; picture < known.shape(0); ++picture) {
      const std::int16_t* features = seen.data() + picture * all_wide * planes;
      const std::int16_t* latents = known.data() + picture * all * own;
      for (std::size_t begin = 0; begin < places.count; begin += LayerRun::ROWS) {
        const std::size_t count = std::min(LayerRun::ROWS, places.count - begin);
        for (std::size_t place = 0; place < count; ++place) {
          std::int16_t* patch = patches.data() + place * pitch;
          const std::ptrdiff_t centre = static_cast<std::ptrdiff_t>(places.wide(begin + place));
          for (const std::ptrdiff_t far : away)
            patch = std::copy_n(features + (centre + far) * static_cast<std::ptrdiff_t>(planes), planes, patch);
          if (first.inputs > around) std::copy_n(latents + places.bare(begin + place) * own, own, patch);
        }
        first.run(patches.data(), pitch, count, more.from(begin), sums.data(), hidden);
        const std::int16_t* out = run(sums.data(), hidden, count);
        for (std::size_t channel = 0; channel < channels; ++channel)
          for (std::size_t place = 0; place < count; ++place) {
            const std::int16_t* own_out = out + place * 2 * channels + channel;
            const int had = latents[places.bare(begin + place) * own + start + channel];
            const std::size_t where = channel * places.count + begin + place;
            mean[where] = static_cast<std::int16_t>(
                std::clamp<int>(had + own_out[0], -static_cast<int>(LATENT_BOUND), LATENT_BOUND));
            row[where] =
                static_cast<std::uint8_t>(std::clamp<int>((own_out[channels] + UNIT / 2) >> 4, 0, table_rows - 1));
          }
      }
      mean += channels * places.count;
      row += channels * places.count;
    }
  }
  return py::make_tuple(std::move(means), std::move(rows));
}

// Writes the latents that a phase's symbols (n,channels,positions) tell into `known` from channel `start` on.
// offsets (table rows,alphabet): how far from the mean each lies. Which pictures thereby have a latent beyond the bound:
// all that the phase tells of them is 0.
Array<bool> tell_latents(Array<std::int16_t>& known, const Phase& phase, std::size_t start,
                         const Array<std::int16_t>& means, const Array<std::uint8_t>& rows,
                         const Array<std::int32_t>& symbols, const Array<std::int32_t>& offsets) {
  expect_shape("known", known, {ANY, ANY, ANY, ANY});
  const Places places(phase, known.shape(1), known.shape(2));
  const std::size_t own = known.shape(3), all = known.shape(1) * known.shape(2);
  expect_shape("means", means, {known.shape(0), ANY, static_cast<py::ssize_t>(places.count)});
  expect_shape("rows", rows, {means.shape(0), means.shape(1), means.shape(2)});
  expect_shape("symbols", symbols, {means.shape(0), means.shape(1), means.shape(2)});
  expect_shape("offsets", offsets, {ANY, ANY});
  const std::size_t channels = means.shape(1), alphabet = offsets.shape(1), table_rows = offsets.shape(0);
  if (start + channels > own) throw py::value_error("start: latents that there are not");
  Array<bool> outside(known.shape(0));
  std::int16_t* latents = known.mutable_data();
  for (py::ssize_t picture = 0; picture < known.shape(0); ++picture, latents += all * own) {
    bool beyond = false;
    std::size_t from = picture * channels * places.count;
    for (std::size_t channel = 0; channel < channels; ++channel)
      for (std::size_t place = 0; place < places.count; ++place, ++from) {
        const std::size_t row = rows.data()[from], symbol = static_cast<std::uint32_t>(symbols.data()[from]);
        if (row >= table_rows || symbol >= alphabet) throw py::value_error("symbols: beyond the table");
        const std::int32_t value = means.data()[from] + offsets.data()[row * alphabet + symbol];
        beyond = beyond || value < -LATENT_BOUND || value > LATENT_BOUND;
        latents[places.bare(place) * own + start + channel] = static_cast<std::int16_t>(value);
      }
    outside.mutable_data()[picture] = beyond;
    for (std::size_t place = 0; beyond && place < places.count; ++place)
      std::fill_n(latents + places.bare(place) * own + start, channels, std::int16_t{0});
  }
  return outside;
}

// Writes the features of a phase's positions into `seen`, less those in `blank` (planes).
void see_latents(Array<std::int16_t>& seen, const Array<std::int16_t>& known, const Phase& phase,
                 const IntegerLayers& features, const Array<std::int16_t>& blank) {
  expect_pictures(seen, known);
  const Places places(phase, known.shape(1), known.shape(2));
  const std::size_t planes = seen.shape(3), own = known.shape(3);
  check_layers(features, own);
  expect_shape("blank", blank, {seen.shape(3)});
  if (features.back()->outputs != planes) throw py::value_error("layers: they do not fit the features");
  std::vector<std::int16_t> rows(LayerRun::ROWS * even(own), 0);
  LayerRun run(features);
  const std::size_t all = known.shape(1) * known.shape(2), all_wide = seen.shape(1) * seen.shape(2);
  for (py::ssize_t picture = 0; picture < known.shape(0); ++picture) {
    std::int16_t* found = seen.mutable_data() + picture * all_wide * planes;
    const std::int16_t* latents = known.data() + picture * all * own;
    for (std::size_t begin = 0; begin < places.count; begin += LayerRun::ROWS) {
      const std::size_t count = std::min(LayerRun::ROWS, places.count - begin);
      for (std::size_t place = 0; place < count; ++place)
        std::copy_n(latents + places.bare(begin + place) * own, own, rows.data() + place * even(own));
      const std::int16_t* out = run(rows.data(), even(own), count);
      for (std::size_t place = 0; place < count; ++place) {
        std::int16_t* here = found + places.wide(begin + place) * planes;
        for (std::size_t plane = 0; plane < planes; ++plane)
          here[plane] = static_cast<std::int16_t>(*out++ - blank.data()[plane]);
      }
    }
  }
}

// Symbols (channels,positions) for latents `wanted`, in units of 1/16: of the two nearest towards the mean the cheaper
// one, by squared error and bits. bits (table rows,alphabet). nearer (table rows): by what part of a step a latent lies
// nearer to its mean than its symbol says. price (positions): of a bit, in squared steps.
Array<std::int32_t> weigh_latents(const Array<double>& wanted, const Array<std::int32_t>& means,
                                  const Array<std::uint8_t>& rows, const Array<double>& bits,
                                  const Array<double>& nearer, const Array<double>& price, int step) {
  expect_shape("wanted", wanted, {ANY, ANY});
  expect_shape("means", means, {wanted.shape(0), wanted.shape(1)});
  expect_shape("rows", rows, {wanted.shape(0), wanted.shape(1)});
  expect_shape("bits", bits, {ANY, ANY});
  expect_shape("nearer", nearer, {bits.shape(0)});
  expect_shape("price", price, {wanted.shape(1)});
  if (step < 1 || bits.shape(1) < 1) throw py::value_error("step, bits: expected at least 1");
  const int half = static_cast<int>((bits.shape(1) - 1) / 2), bound = LATENT_BOUND;
  Array<std::int32_t> symbols({wanted.shape(0), wanted.shape(1)});
  const std::size_t positions = wanted.shape(1), all = wanted.size();
  for (std::size_t place = 0; place < all; ++place) {
    const std::int32_t row = rows.data()[place], mean = means.data()[place];
    if (row >= bits.shape(0) || mean < -bound || mean > bound) throw py::value_error("rows, means: beyond the table");
    const double* cost = bits.data() + row * bits.shape(1) + half;
    const double steps = (wanted.data()[place] - mean) / step, size = std::abs(steps);
    const int limit = std::min(half, (bound - std::abs(mean)) / step);
    const double rounded = std::nearbyint(size);
    const int far = rounded < limit ? static_cast<int>(rounded) : limit, near = std::max(far - 1, 0);
    const double worth = price.data()[place % positions], shift = nearer.data()[row];
    double costs[2];
    for (const int other : {0, 1}) {
      const int number = other ? near : far;
      const double error = size - number + (number ? shift : 0.0);
      costs[other] = error * error + worth * cost[number];
    }
    const int number = costs[1] < costs[0] ? near : far;
    symbols.mutable_data()[place] = (steps < 0 ? -number : number) + half;
  }
  return symbols;
}

}  // namespace

void bind_picture_walk(py::module_& module) {
  module.def("expect_latents", &expect_latents, py::arg("seen"), py::arg("known"),
             py::arg("phase"), py::arg("taps"), py::arg("first"), py::arg("added"), py::arg("rest"),
             py::arg("start"), py::arg("stop"), py::arg("table_rows"));
  module.def("tell_latents", &tell_latents, py::arg("known").noconvert(), py::arg("phase"), py::arg("start"),
             py::arg("means"), py::arg("rows"), py::arg("symbols"),
             py::arg("offsets"));
  module.def("see_latents", &see_latents, py::arg("seen").noconvert(), py::arg("known"), py::arg("phase"),
             py::arg("features"), py::arg("blank"));
  module.def("weigh_latents", &weigh_latents, py::arg("wanted"), py::arg("means"),
             py::arg("rows"), py::arg("bits"), py::arg("nearer"),
             py::arg("price"), py::arg("step"));
}

}  // namespace semhier
