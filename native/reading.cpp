// What the blocks of a scene say of each object: semhier_ros/scene/reader.py says in NumPy what is computed here, in
// one pass over each object instead of some thirty calls for all of them.

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "clones.hpp"
#include "records.hpp"

namespace semhier {
namespace {

constexpr double FRACTION = 16, LEAST_OTHER = 0.005;
constexpr std::size_t MOST_OTHERS = 8;
constexpr py::ssize_t BOX_OUTPUTS = 5;

using Layer = std::pair<Array<double>, Array<double>>;

/// out (outputs) = values (inputs) @ weight + bias; what is 0, as most of a one-hot name is, costs nothing.
SEMHIER_CLONES void pass(const double* values, std::size_t inputs, const double* weight, const double* bias, double* out,
                         std::size_t outputs) {
  std::fill(out, out + outputs, 0.0);
  for (std::size_t input = 0; input < inputs; ++input, weight += outputs) {
    const double value = values[input];
    if (value == 0.0) continue;
    for (std::size_t place = 0; place < outputs; ++place) out[place] += value * weight[place];
  }
  for (std::size_t place = 0; place < outputs; ++place) out[place] += bias[place];
}

/// Corners n,4 of objects and what each probably is, n,nodes: `reader.read_objects`.
std::tuple<Array<double>, Array<double>> read_objects(const Array<std::int32_t>& told, const std::vector<Layer>& layers,
                                                      const Array<double>& boxes, const Array<double>& down_to) {
  expect_shape("told", told, {ANY, ANY});
  const py::ssize_t count = told.shape(0);
  expect_shape("boxes", boxes, {count, 4});
  expect_shape("down_to", down_to, {ANY, ANY});
  py::ssize_t width = told.shape(1);
  for (const Layer& layer : layers) {
    expect_shape("weight", layer.first, {width, ANY});
    width = layer.first.shape(1);
    expect_shape("bias", layer.second, {width});
  }
  const py::ssize_t leaves = down_to.shape(0), nodes = down_to.shape(1);
  if (leaves < 1 || width != leaves + BOX_OUTPUTS) throw py::value_error("layers: outputs that down_to does not fit");
  Array<double> corners({count, py::ssize_t{4}}), every({count, nodes});
  double *corner = corners.mutable_data(), *chance = every.mutable_data();
  const std::int32_t* given = told.data();
  std::vector<double> values, next;
  for (py::ssize_t i = 0; i < count; ++i, given += told.shape(1), corner += 4, chance += nodes) {
    values.assign(given, given + told.shape(1));
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      for (double& value : values) value = layer > 0 ? std::max(value, 0.0) : value / FRACTION;
      const auto& [weight, bias] = layers[layer];
      next.resize(static_cast<std::size_t>(bias.size()));
      pass(values.data(), values.size(), weight.data(), bias.data(), next.data(), next.size());
      values.swap(next);
    }
    const double most = *std::max_element(values.begin(), values.begin() + leaves);
    double sum = 0.0;
    for (py::ssize_t leaf = 0; leaf < leaves; ++leaf) sum += values[leaf] = std::exp(values[leaf] - most);
    const double present = 1 / (1 + std::exp(-values[leaves + 4]));
    std::fill(chance, chance + nodes, 0.0);
    for (py::ssize_t leaf = 0; leaf < leaves; ++leaf) {
      const double *below = down_to.data() + leaf * nodes, share = values[leaf] / sum;
      for (py::ssize_t node = 0; node < nodes; ++node) chance[node] += share * below[node];
    }
    for (py::ssize_t node = 0; node < nodes; ++node) chance[node] *= present;
    const double *box = boxes.data() + 4 * i, *shift = values.data() + leaves;
    for (int axis = 0; axis < 2; ++axis) {
      const double side = box[2 + axis], middle = box[axis] + shift[axis] / 4 * side;
      const double half = side * std::exp(std::min(std::max(shift[2 + axis] / 4, -1.0), 1.0)) / 2;
      corner[axis] = middle - half, corner[2 + axis] = middle + half;
    }
  }
  return {corners, every};
}

/// Calibrated probabilities of raw scores: `reader.Curve`, which asks np.interp.
class Curve {
 public:
  explicit Curve(const std::pair<Array<double>, Array<double>>& points) : grid_(points.first), values_(points.second) {
    expect_shape("grid", grid_, {ANY});
    expect_shape("values", values_, {grid_.size()});
    if (grid_.size() < 1) throw py::value_error("grid: no points");
    for (std::size_t place = 0; place < last(); ++place)
      slopes_.push_back((values(place + 1) - values(place)) / (grid(place + 1) - grid(place)));
  }

  double operator()(double raw) const {
    if (last() == 0) return values(0);
    if (std::isnan(raw)) return raw;
    if (raw <= grid(0)) return values(0);
    if (raw >= grid(last())) return values(last());
    auto place = static_cast<std::size_t>(
        std::min(std::max(raw * static_cast<double>(last()), 0.0), static_cast<double>(last() - 1)));
    while (place > 0 && grid(place) > raw) --place;
    while (place + 1 < last() && grid(place + 1) <= raw) ++place;
    if (grid(place) == raw) return values(place);
    double found = slopes_[place] * (raw - grid(place)) + values(place);
    if (std::isnan(found)) found = slopes_[place] * (raw - grid(place + 1)) + values(place + 1);
    if (std::isnan(found) && values(place) == values(place + 1)) found = values(place);
    return found;
  }

 private:
  std::size_t last() const { return static_cast<std::size_t>(grid_.size()) - 1; }
  double grid(std::size_t place) const { return grid_.data()[place]; }
  double values(std::size_t place) const { return values_.data()[place]; }

  Array<double> grid_, values_;
  std::vector<double> slopes_;
};

/// How objects are told by words: `reader.tell_objects`.
class ObjectTeller {
 public:
  using Points = std::pair<Array<double>, Array<double>>;
  using Chances = py::array_t<double, 0>;  // n,nodes: columns of a wider array, read in place
  using Seen = std::tuple<Array<float>, Array<std::int64_t>, std::vector<Chances>>;

  ObjectTeller(const std::vector<std::tuple<py::tuple, Points, Points>>& told, float stride, const py::type& made)
      : stride_(stride), made_(made) {
    for (const auto& [names, own, other] : told) told_.push_back({names, Curve(own), Curve(other)});
  }

  py::object tell(const std::vector<Array<std::int32_t>>& path, const Seen& seen, const py::object& canvas,
                  const Array<double>& said) const {
    const Array<float>& boxes = std::get<0>(seen);
    const Array<std::int64_t>& named = std::get<1>(seen);
    const std::vector<Chances>& chances = std::get<2>(seen);
    expect_shape("named", named, {ANY});
    const py::ssize_t count = named.size();
    expect_shape("boxes", boxes, {count, 4});
    expect_shape("said", said, {count});
    const std::size_t most = std::min({told_.size(), path.size(), chances.size()});
    const auto levels = count == 0 ? std::size_t{0} : 1 + static_cast<std::size_t>(expect_range(
        "named", named.data(), static_cast<std::size_t>(count), static_cast<py::ssize_t>(most)).second);
    for (std::size_t level = 0; level < levels; ++level) {
      expect_shape("path", path[level], {count});
      if (chances[level].ndim() != 2 || chances[level].shape(0) != count ||
          chances[level].shape(1) != static_cast<py::ssize_t>(told_[level].names.size()))
        throw py::value_error("levels: not a chance for each object and node");
    }
    static const Field scale_of("scale"), source_of("source");
    const auto scale = scale_of.of(canvas).cast<float>();
    const auto source = source_of.of(canvas).cast<std::pair<float, float>>();
    const DetectionFields& of = DetectionFields::get();
    std::vector<std::int64_t> nodes;
    std::vector<double> scores;
    std::vector<Other> found;
    std::vector<py::object> others;
    return tuple_of(static_cast<std::size_t>(count), [&](std::size_t object) {
      const auto row = static_cast<py::ssize_t>(object);
      double least = 1.0;
      nodes.clear(), scores.clear(), others.clear();
      for (std::size_t level = 0; level <= static_cast<std::size_t>(named.data()[object]); ++level) {
        const Level& told = told_[level];
        const auto chance = chances[level].unchecked<2>();
        const std::int64_t own = path[level].data()[object];
        if (own < 0 || own >= chance.shape(1)) throw py::value_error("path: a node outside of its level");
        least = std::min(least, told.own(chance(row, own)));
        if (level == 0) {
          found.clear();
        } else {
          find_others([&](py::ssize_t node) { return told.other(chance(row, node)); }, chance.shape(1), own, found);
        }
        nodes.push_back(own), scores.push_back(least), others.push_back(others_of(found));
      }
      const float* corners = boxes.data() + 4 * object;
      const auto placed = [&](std::size_t side) {
        const float value = corners[side] * stride_ / scale, limit = side % 2 ? source.second : source.first;
        return static_cast<double>(value < 0 ? 0.0F : value > limit ? limit : value);
      };
      const std::size_t depth = nodes.size();
      return make_record(
          made_, {{of.id, number(static_cast<std::int64_t>(object))},
                  {of.box, numbers_of({placed(0), placed(1), placed(2), placed(3)})},
                  {of.path, tuple_of(depth, [&](std::size_t level) { return number(nodes[level]); })},
                  {of.names, tuple_of(depth, [&](std::size_t level) {
                     const PyObject* names = told_[level].names.ptr();
                     return py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(names, nodes[level]));
                   })},
                  {of.scores, tuple_of(depth, [&](std::size_t level) { return number(scores[level]); })},
                  {of.others, tuple_of(depth, [&](std::size_t level) { return others[level]; })},
                  {of.velocity, py::none()},
                  {of.said, number(said.data()[object])}});
    });
  }

 private:
  struct Level {
    py::tuple names;
    Curve own, other;
  };

  /// The likeliest nodes but `own`, of equally likely ones the first first.
  template <class Chance>
  static void find_others(const Chance& chance, py::ssize_t nodes, std::int64_t own, std::vector<Other>& found) {
    found.clear();
    for (py::ssize_t node = 0; node < nodes; ++node) {
      const double value = chance(node);
      if (!(value >= LEAST_OTHER)) continue;
      const auto after = std::find_if(found.begin(), found.end(), [&](const Other& one) { return one.second < value; });
      found.insert(after, {node, value});
      if (found.size() > MOST_OTHERS + 1) found.pop_back();
    }
    const auto itself = std::find_if(found.begin(), found.end(), [&](const Other& one) { return one.first == own; });
    if (itself != found.end()) found.erase(itself);
  }

  float stride_;
  py::type made_;
  std::vector<Level> told_;
};

/// What objects cover of the cells of a picture: `reader.meaning_map`.
Array<float> meaning_map(const Array<float>& boxes, const std::optional<Array<std::int32_t>>& groups,
                         const std::pair<py::ssize_t, py::ssize_t>& shape, py::ssize_t planes, std::int64_t stride) {
  expect_shape("boxes", boxes, {ANY, 4});
  const auto [rows, columns] = shape;
  if (rows < 1 || columns < 1 || planes < 1 || stride < 1) throw py::value_error("shape, planes, stride: less than 1");
  if (groups) expect_shape("groups", *groups, {boxes.shape(0)});
  Array<float> found({planes, rows, columns});
  std::fill_n(found.mutable_data(), found.size(), 0.0F);
  const auto side = static_cast<double>(stride);
  // Where along an axis a box covers cells, and what share of each.
  const auto covered = [&](double low, double high, py::ssize_t cells, std::vector<double>& shares) {
    const auto last = static_cast<double>(cells);
    const auto within = [&](double cell) { return static_cast<py::ssize_t>(cell > 0 ? std::min(cell, last) : 0.0); };
    const py::ssize_t begin = within(low / side - 1), end = within(high / side + 2);  // none too few by rounding
    shares.clear();
    for (py::ssize_t cell = begin; cell < end; ++cell) {
      const double from = static_cast<double>(cell) * side;
      shares.push_back(std::min(std::max(std::min(from + side, high) - std::max(from, low), 0.0), side) / side);
    }
    return begin;
  };
  std::vector<double> across, down;
  for (py::ssize_t object = 0; object < boxes.shape(0); ++object) {
    const float* box = boxes.data() + 4 * object;
    const py::ssize_t left = covered(box[0], box[2], columns, across), top = covered(box[1], box[3], rows, down);
    const std::int64_t group = groups ? groups->data()[object] : -1;
    if (group < -1 || group >= planes - 1) throw py::value_error("groups: outside of the planes");
    for (const std::int64_t plane : {std::int64_t{0}, group + 1})
      for (std::size_t row = 0; row < down.size(); ++row) {
        float* cell = found.mutable_data() + (plane * rows + top + static_cast<py::ssize_t>(row)) * columns + left;
        for (const double share : across) {
          *cell = std::max(*cell, static_cast<float>(down[row] * share));
          ++cell;
        }
      }
  }
  return found;
}

}  // namespace

void bind_reading(py::module_& module) {
  module.def("meaning_map", &meaning_map, py::arg("boxes"), py::arg("groups"), py::arg("shape"), py::arg("planes"),
             py::arg("stride"));
  py::class_<ObjectTeller>(module, "ObjectTeller")
      .def(py::init<const std::vector<std::tuple<py::tuple, ObjectTeller::Points, ObjectTeller::Points>>&, float,
                    const py::type&>(),
           py::arg("told"), py::arg("stride"), py::arg("made"))
      .def("tell", &ObjectTeller::tell, py::arg("path"), py::arg("seen"), py::arg("canvas"),
           py::arg("said"));
  module.def("read_objects", &read_objects, py::arg("told"), py::arg("layers"),
             py::arg("boxes"), py::arg("down_to"));
}

}  // namespace semhier
