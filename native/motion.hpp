// Arrays of the living scene's filters, as `_State` of semhier_ros/scene/forecast.py has them.
#pragma once

#include <cstddef>
#include <vector>

#include "arrays.hpp"

namespace semhier {

constexpr double MOST_SURPRISE = 9.0;
constexpr py::ssize_t AXES = 2, PARTS = 4;

using Doubles = Array<double>;

struct Sizes {
  py::ssize_t models, objects, width;  // width: numbers of a state's axis
};

inline Sizes sizes_of(const Doubles& mean, const Doubles& cov) {
  expect_shape("mean", mean, {ANY, AXES, ANY});
  const Sizes sizes{mean.shape(0), (mean.shape(2) - 1) / 2, mean.shape(2)};
  if (sizes.width != 1 + 2 * sizes.objects) throw py::value_error("mean: expected m,2,1+2n");
  expect_shape("cov", cov, {sizes.models, AXES, sizes.width, sizes.width});
  return sizes;
}

// `forecast.Seen`: of k things centre and log sides, with their variances.
struct SeenThings {
  py::ssize_t count;
  const double* parts[4];

  explicit SeenThings(const std::vector<Doubles>& seen) : count(0) {
    if (seen.size() != 4) throw py::value_error("seen: expected four arrays");
    expect_shape("seen", seen[0], {ANY, AXES});
    count = seen[0].shape(0);
    for (std::size_t part = 0; part < 4; ++part) {
      expect_shape("seen", seen[part], {count, AXES});
      parts[part] = seen[part].data();
    }
  }

  double value(py::ssize_t part, py::ssize_t k) const { return parts[part < AXES ? 0 : 2][AXES * k + part % AXES]; }
  double variance(py::ssize_t part, py::ssize_t k) const { return parts[part < AXES ? 1 : 3][AXES * k + part % AXES]; }
};

}  // namespace semhier
