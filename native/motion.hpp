// Arrays of the living scene's filters, as `_State` of semhier_ros/scene/forecast.py has them.
#pragma once

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

}  // namespace semhier
