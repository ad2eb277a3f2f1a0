// What a sender compares its forecast by, and says of objects where it is too far off: semhier_ros/scene/remembering.py
// says the same in NumPy, to the bit.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <tuple>

#include "arrays.hpp"
#include "state.hpp"

namespace semhier {
namespace {

using Ends = std::array<std::int64_t, 2>;

constexpr double SHARE_OF_FITTED = 0.5, SURE = 2.0, SPEED_GAIN = 0.3, AHEAD_MS = 400, ENOUGH = 0.85;

/// What an object's forecast goes by: every length that sides may have, how far the whole picture moved, how much time
/// went by in ms, and the largest coordinates of a centre.
struct Foretelling {
  const Array<std::int64_t>& sides;
  const Ends away, edge;
  const std::int64_t elapsed;

  Foretelling(const Array<std::int64_t>& sides_, const Ends& away_, const Ends& edge_, std::int64_t elapsed_)
      : sides(sides_), away(away_), edge(edge_), elapsed(elapsed_) {
    expect_shape("sides", sides, {ANY});
    if (sides.size() < 1) throw py::value_error("sides: none");
  }

  std::int64_t side(std::int64_t log) const { return sides.data()[side_place(log, sides.size())]; }

  /// `remembering._led` along one axis.
  std::int64_t led(const std::int64_t* object, int axis, std::int64_t speed) const {
    return within(object[X + axis] + away[axis] + (speed * elapsed >> 10), 0, edge[axis]);
  }
};

/// What two boxes share, from middles and sides along both axes: `remembering._overlap`.
double share(const double* middle, const double* side, const double* other, const double* other_side) {
  double inner = 1.0;
  for (int axis = 0; axis < 2; ++axis) {
    const double half = side[axis] / 2, others = other_side[axis] / 2;
    inner *= std::max(std::min(middle[axis] + half, other[axis] + others) -
                          std::max(middle[axis] - half, other[axis] - others),
                      0.0);
  }
  return inner / std::max(side[0] * side[1] + other_side[0] * other_side[1] - inner, 1e-9);
}

double clipped(double value) { return std::min(std::max(value, -63.0), 63.0); }

/// `remembering._foretold_overlaps`.
Array<double> foretold_overlaps(const Array<std::int64_t>& sides, const Array<std::int64_t>& table,
                                const Array<double>& boxes, const Ends& away, const Ends& edge, std::int64_t elapsed) {
  const Foretelling forecast(sides, away, edge, elapsed);
  expect_shape("table", table, {ANY, ANY});
  const py::ssize_t count = table.shape(0), width = table.shape(1);
  if (width < static_cast<py::ssize_t>(PATH)) throw py::value_error("table: no state's");
  expect_shape("boxes", boxes, {count, 4});
  Array<double> shared(count);
  for (py::ssize_t i = 0; i < count; ++i) {
    const std::int64_t* object = table.data() + i * width;
    double middle[2], side[2], box[4];
    for (int part = 0; part < 4; ++part) box[part] = boxes.data()[4 * i + part] * CELL;
    for (int axis = 0; axis < 2; ++axis) {
      middle[axis] = static_cast<double>(forecast.led(object, axis, object[ACROSS + axis]));
      side[axis] = static_cast<double>(forecast.side(object[WIDTH + axis]));
    }
    shared.mutable_data()[i] = share(middle, side, box, box + 2);
  }
  return shared;
}

/// Of the residuals `every` that put an object right the cheapest subset: `remembering._cheapest`. box: in lengths.
void cheapest(const Foretelling& forecast, const double* box, const std::int64_t* centre, const std::int64_t* object,
              const std::int64_t* every, std::int64_t* told) {
  constexpr int SUBSETS = 16;
  double shared[SUBSETS], most = 0.0;
  std::int64_t cost[SUBSETS];
  for (int subset = 0; subset < SUBSETS; ++subset) {
    double middle[2], side[2];
    cost[subset] = 0;
    for (int axis = 0; axis < 2; ++axis) {
      const std::int64_t log = object[WIDTH + axis];
      const std::int64_t away = subset >> axis & 1 ? every[axis] : 0;
      const std::int64_t grown = subset >> (2 + axis) & 1 ? every[2 + axis] : 0;
      cost[subset] += std::abs(away) + std::abs(grown) + 2 * ((away != 0) + (grown != 0));
      middle[axis] = static_cast<double>(centre[axis] + (away * forecast.side(log) * PLACE_STEP >> 8));
      side[axis] = static_cast<double>(forecast.side(log + grown * LOG_STEP));
    }
    shared[subset] = share(middle, side, box, box + 2);
    most = std::max(most, shared[subset]);
  }
  int best = -1;
  for (int subset = 0; subset < SUBSETS; ++subset)
    if (shared[subset] >= std::min(ENOUGH, most) && (best < 0 || cost[subset] < cost[best])) best = subset;
  for (int part = 0; part < 4; ++part) told[part] = best >> part & 1 ? every[part] : 0;
}

/// `remembering._residuals`. logs: of the boxes' sides.
std::tuple<Array<std::int64_t>, Array<bool>, Array<std::int64_t>> residuals(
    const Array<std::int64_t>& sides, const Array<std::int64_t>& table, const Array<double>& boxes,
    const Array<double>& logs, const Array<double>& velocity, const Array<double>& error, const Ends& away,
    const Ends& edge, std::int64_t elapsed) {
  const Foretelling forecast(sides, away, edge, elapsed);
  expect_shape("table", table, {ANY, ANY});
  const py::ssize_t count = table.shape(0), width = table.shape(1);
  if (width < static_cast<py::ssize_t>(PATH)) throw py::value_error("table: no state's");
  expect_shape("boxes", boxes, {count, 4});
  for (const auto* one : {&logs, &velocity, &error}) expect_shape("logs, velocity, error", *one, {count, 2});
  Array<std::int64_t> told({count, py::ssize_t{4}}), turned({count, py::ssize_t{2}});
  Array<bool> steered(count);
  for (py::ssize_t i = 0; i < count; ++i) {
    const std::int64_t* object = table.data() + i * width;
    std::int64_t* speed = turned.mutable_data() + 2 * i;
    bool gains = false;
    for (int axis = 0; axis < 2; ++axis) {
      const std::int64_t side = forecast.side(object[WIDTH + axis]);
      const double wanted = SHARE_OF_FITTED * velocity.data()[2 * i + axis] * CELL * 1024 -
                            static_cast<double>(object[ACROSS + axis]);
      const bool sure = std::abs(wanted) > SURE * error.data()[2 * i + axis] * CELL * 1024;
      const auto step = static_cast<double>(std::max<std::int64_t>(side * SPEED_STEP >> 8, 1));
      speed[axis] = sure ? static_cast<std::int64_t>(clipped(std::nearbyint(wanted / step))) : 0;
      gains |= sure && std::abs(wanted) * AHEAD_MS / 1024 / static_cast<double>(side) > SPEED_GAIN;
    }
    const bool tells = steered.mutable_data()[i] = gains && (speed[0] || speed[1]);
    double box[4];
    std::int64_t centre[2], every[4];
    for (int part = 0; part < 4; ++part) box[part] = boxes.data()[4 * i + part] * CELL;
    for (int axis = 0; axis < 2; ++axis) {
      if (!tells) speed[axis] = 0;
      const std::int64_t side = forecast.side(object[WIDTH + axis]);
      centre[axis] = forecast.led(object, axis, object[ACROSS + axis] + (speed[axis] * side * SPEED_STEP >> 8));
      const double off = (box[axis] - static_cast<double>(centre[axis])) * 256 / static_cast<double>(side * PLACE_STEP);
      const double grown = (logs.data()[2 * i + axis] * 1024 - static_cast<double>(object[WIDTH + axis])) / LOG_STEP;
      every[axis] = static_cast<std::int64_t>(clipped(std::nearbyint(off)));
      every[2 + axis] = static_cast<std::int64_t>(clipped(std::nearbyint(grown)));
    }
    cheapest(forecast, box, centre, object, every, told.mutable_data() + 4 * i);
  }
  return {told, steered, turned};
}

/// Where tracks are at `now`, n,4: `Tracks._pairs`.
Array<double> tracks_now(const Array<std::int64_t>& times, const Array<double>& boxes, const Array<std::int64_t>& count,
                         const Array<double>& velocity, const std::array<double, 2>& shift, std::int64_t now) {
  expect_shape("times", times, {ANY, ANY});
  const py::ssize_t tracks = times.shape(0), most = times.shape(1);
  expect_shape("boxes", boxes, {tracks, most, 4});
  expect_shape("count", count, {tracks});
  expect_shape("velocity", velocity, {tracks, 2});
  Array<double> told({tracks, py::ssize_t{4}});
  for (py::ssize_t row = 0; row < tracks; ++row) {
    const std::int64_t known = count.data()[row], last = row * most + known - 1;
    if (known < 1 || known > most) throw py::value_error("count: outside of what is kept");
    double* box = told.mutable_data() + 4 * row;
    std::copy_n(boxes.data() + 4 * last, 4, box);
    for (int axis = 0; axis < 2; ++axis) {
      box[axis] += SHARE_OF_FITTED * velocity.data()[2 * row + axis] * static_cast<double>(now - times.data()[last]);
      box[axis] += shift[axis];
    }
  }
  return told;
}

}  // namespace

void bind_telling(py::module_& module) {
  module.def("foretold_overlaps", &foretold_overlaps, py::arg("sides"), py::arg("table"), py::arg("boxes"),
             py::arg("away"), py::arg("edge"), py::arg("elapsed"));
  module.def("residuals", &residuals, py::arg("sides"), py::arg("table"), py::arg("boxes"), py::arg("logs"),
             py::arg("velocity"), py::arg("error"), py::arg("away"), py::arg("edge"), py::arg("elapsed"));
  module.def("tracks_now", &tracks_now, py::arg("times"), py::arg("boxes"), py::arg("count"), py::arg("velocity"),
             py::arg("shift"), py::arg("now"));
}

}  // namespace semhier
