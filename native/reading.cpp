// What the blocks of a scene say of each object: semhier_ros/scene/reader.py says in NumPy what is computed here, in
// one pass over each object instead of some thirty calls for all of them.

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace semhier {
namespace {

constexpr double FRACTION = 16;
constexpr py::ssize_t BOX_OUTPUTS = 5;

using Layer = std::pair<Array<double>, Array<double>>;

/// out = values @ weight + bias; what is 0, as most of a one-hot name is, costs nothing.
void pass(const std::vector<double>& values, const Layer& layer, std::vector<double>& out) {
  const double *weight = layer.first.data(), *bias = layer.second.data();
  out.assign(layer.second.shape(0), 0.0);
  for (const double value : values) {
    if (value != 0.0) {
      for (std::size_t place = 0; place < out.size(); ++place) out[place] += value * weight[place];
    }
    weight += out.size();
  }
  for (std::size_t place = 0; place < out.size(); ++place) out[place] += bias[place];
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
      pass(values, layers[layer], next);
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

}  // namespace

void bind_reading(py::module_& module) {
  module.def("read_objects", &read_objects, py::arg("told"), py::arg("layers"),
             py::arg("boxes"), py::arg("down_to"));
}

}  // namespace semhier
