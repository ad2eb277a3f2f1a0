// How the sender follows its detections: what semhier_ros/scene/tracks.py says in NumPy, to the bit.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace semhier {
namespace {

constexpr py::ssize_t FITTED = 6;
constexpr double SHARE_OF_SPEED = 0.5, STEADY = 0.9, NAME_MEMORY = 0.3;
constexpr int NEARBY = 6;  // steps of 1/16 cell that a common shift is looked for, either way

/// Of a box cx, cy, w, h: its first corner along an axis, or with `end` 1 its last.
double corner(const double* box, int axis, int end) {
  return end ? box[axis] + box[2 + axis] / 2 : box[axis] - box[2 + axis] / 2;
}

/// `budget.overlaps` of boxes n,4 and k,4.
Array<double> box_overlaps(const Array<double>& first, const Array<double>& second) {
  expect_shape("first", first, {ANY, 4});
  expect_shape("second", second, {ANY, 4});
  const py::ssize_t rows = first.shape(0), columns = second.shape(0);
  Array<double> shared({rows, columns});
  for (py::ssize_t row = 0; row < rows; ++row) {
    const double* one = first.data() + 4 * row;
    for (py::ssize_t column = 0; column < columns; ++column) {
      const double* other = second.data() + 4 * column;
      double inner = 1.0;
      for (int axis = 0; axis < 2; ++axis)
        inner *= std::max(std::min(corner(one, axis, 1), corner(other, axis, 1)) -
                              std::max(corner(one, axis, 0), corner(other, axis, 0)),
                          0.0);
      const double area = one[2] * one[3] + other[2] * other[3] - inner;
      shared.mutable_data()[row * columns + column] = inner / std::max(area, 1e-9);
    }
  }
  return shared;
}

/// `tracks._common_shift` of boxes n,4.
std::pair<std::array<double, 2>, double> common_shift(const Array<double>& first, const Array<double>& second) {
  expect_shape("first", first, {ANY, 4});
  const py::ssize_t count = first.shape(0);
  expect_shape("second", second, {count, 4});
  if (count < 1) throw py::value_error("first: no box");
  constexpr int STEPS = 2 * NEARBY + 1;
  std::array<double, 2> middle{};
  std::vector<double> apart(count), good(STEPS * STEPS);
  for (int axis = 0; axis < 2; ++axis) {
    for (py::ssize_t i = 0; i < count; ++i) apart[i] = second.data()[4 * i + axis] - first.data()[4 * i + axis];
    std::sort(apart.begin(), apart.end());
    middle[axis] = (apart[(count - 1) / 2] + apart[count / 2]) / 2;
  }
  for (py::ssize_t i = 0; i < count; ++i) {
    const double *one = first.data() + 4 * i, *other = second.data() + 4 * i;
    double within[2][STEPS];
    for (int axis = 0; axis < 2; ++axis) {
      for (int step = 0; step < STEPS; ++step) {
        const double away = (step - NEARBY) / 16.0 + middle[axis];
        within[axis][step] = std::max(std::min(corner(one, axis, 1) + away, corner(other, axis, 1)) -
                                          std::max(corner(one, axis, 0) + away, corner(other, axis, 0)),
                                      0.0);
      }
    }
    const double areas = one[2] * one[3] + other[2] * other[3];
    for (int x = 0; x < STEPS; ++x) {
      for (int y = 0; y < STEPS; ++y) {
        const double inner = within[0][x] * within[1][y];
        good[x * STEPS + y] += inner / (areas - inner);
      }
    }
  }
  const auto best = std::max_element(good.begin(), good.end());
  const int place = static_cast<int>(best - good.begin());
  return {{(place / STEPS - NEARBY) / 16.0 + middle[0], (place % STEPS - NEARBY) / 16.0 + middle[1]}, *best};
}

/// `tracks.fit_velocities` of one track: velocity, then its standard error.
std::array<double, 4> fit_velocity(const std::int64_t* times, const double* boxes, py::ssize_t count) {
  constexpr double UNKNOWN = std::numeric_limits<double>::infinity();
  double moments[FITTED][3], mean[3] = {}, products[3] = {}, rest[2] = {}, speed[2];
  for (py::ssize_t k = 0; k < count; ++k) {
    moments[k][0] = boxes[4 * k], moments[k][1] = boxes[4 * k + 1], moments[k][2] = static_cast<double>(times[k]);
    for (int part = 0; part < 3; ++part) mean[part] += moments[k][part];
  }
  for (double& one : mean) one /= static_cast<double>(count);
  for (py::ssize_t k = 0; k < count; ++k) {
    for (int part = 0; part < 3; ++part) moments[k][part] -= mean[part];
    for (int part = 0; part < 3; ++part) products[part] += moments[k][2] * moments[k][part];
  }
  const double spread = products[2];
  if (count < 3 || !(spread > 0)) return {0.0, 0.0, UNKNOWN, UNKNOWN};
  std::array<double, 4> found;
  for (int axis = 0; axis < 2; ++axis) {
    speed[axis] = products[axis] / spread;
    for (py::ssize_t k = 0; k < count; ++k) {
      const double left = moments[k][axis] - moments[k][2] * speed[axis];
      rest[axis] += left * left;
    }
    const double least = 0.02 * boxes[4 * (count - 1) + 2 + axis];
    const double unsure = std::max(rest[axis] / static_cast<double>(std::max<py::ssize_t>(count - 2, 1)), least * least);
    found[axis] = speed[axis], found[2 + axis] = std::sqrt(unsure / spread);
  }
  return found;
}

/// `Tracks._see`: writes to the tracks' arrays, those of `TrackRows` but for its numbers.
void see_tracks(Array<std::int64_t>& times, Array<double>& boxes, Array<std::int64_t>& count, Array<double>& leaves,
                Array<std::int64_t>& hits, Array<std::int64_t>& misses, Array<std::int64_t>& streak,
                Array<double>& velocity, Array<double>& error, Array<double>& steady,
                const Array<std::int64_t>& found, const Array<double>& chances, const Array<double>& still,
                std::int64_t now) {
  const py::ssize_t tracks = count.size();
  expect_shape("times", times, {tracks, FITTED});
  expect_shape("boxes", boxes, {tracks, FITTED, 4});
  for (const auto* one : {&count, &hits, &misses, &streak}) expect_shape("count", *one, {tracks});
  expect_shape("leaves", leaves, {tracks, ANY});
  const py::ssize_t types = leaves.shape(1);
  for (const auto* one : {&velocity, &error}) expect_shape("velocity", *one, {tracks, 2});
  expect_shape("steady", steady, {tracks, 4});
  expect_shape("found", found, {ANY});
  expect_shape("chances", chances, {found.size(), types});
  expect_shape("still", still, {found.size(), 4});
  for (py::ssize_t i = 0; i < found.size(); ++i) {
    const std::int64_t row = found.data()[i];
    if (row < 0 || row >= tracks) throw py::value_error("found: no such track");
    std::int64_t &known = count.mutable_data()[row], &missed = misses.mutable_data()[row],
                 &lasting = streak.mutable_data()[row], *when = times.mutable_data() + row * FITTED;
    if (known < 0 || known > FITTED) throw py::value_error("count: outside of what is kept");
    double *where = boxes.mutable_data() + row * FITTED * 4, *steadied = steady.mutable_data() + row * 4;
    const double* box = still.data() + 4 * i;
    const bool fresh = known == 0;
    const std::int64_t since = fresh ? 0 : now - when[known - 1];
    if (known == FITTED) {
      std::copy(when + 1, when + FITTED, when);
      std::copy(where + 4, where + 4 * FITTED, where);
      --known;
    }
    when[known] = now;
    std::copy(box, box + 4, where + 4 * known);
    ++known;
    lasting = missed > 1 ? 1 : lasting + 1;
    missed = 0;
    ++hits.mutable_data()[row];
    const std::array<double, 4> fitted = fit_velocity(when, where, known);
    for (int axis = 0; axis < 2; ++axis) {
      velocity.mutable_data()[2 * row + axis] = fitted[axis];
      error.mutable_data()[2 * row + axis] = fitted[2 + axis];
      if (fresh) {
        steadied[axis] = box[axis], steadied[2 + axis] = box[2 + axis];
        continue;
      }
      const double told = steadied[axis] + SHARE_OF_SPEED * fitted[axis] * static_cast<double>(since);
      steadied[axis] = told + STEADY * (box[axis] - told);
      steadied[2 + axis] *= std::pow(box[2 + axis] / steadied[2 + axis], STEADY);
    }
    double* averaged = leaves.mutable_data() + row * types;
    for (py::ssize_t leaf = 0; leaf < types; ++leaf) {
      const double chance = chances.data()[i * types + leaf];
      averaged[leaf] = fresh ? chance : NAME_MEMORY * averaged[leaf] + (1 - NAME_MEMORY) * chance;
    }
  }
}

}  // namespace

void bind_tracks(py::module_& module) {
  const auto written = [](const char* name) { return py::arg(name).noconvert(); };
  module.def("box_overlaps", &box_overlaps, py::arg("first"), py::arg("second"));
  module.def("common_shift", &common_shift, py::arg("first"), py::arg("second"));
  module.def("see_tracks", &see_tracks, written("times"), written("boxes"), written("count"), written("leaves"),
             written("hits"), written("misses"), written("streak"), written("velocity"), written("error"),
             written("steady"), py::arg("found"), py::arg("chances"), py::arg("still"), py::arg("now"));
}

}  // namespace semhier
