// Arrays as kernels take them: NumPy's, of one type, row after row without gaps, and of the size that is expected.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

namespace semhier {

namespace py = pybind11;

// What lies otherwise, or holds numbers that this type holds too, is copied; other types are refused. An argument that a
// kernel writes to is bound with py::arg("name").noconvert(), or the copy would be written to.
template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// An expected size that may be any.
constexpr py::ssize_t ANY = -1;

// Raises ValueError naming `name` unless `values` has this shape.
template <typename T>
void expect_shape(const char* name, const Array<T>& values, std::initializer_list<py::ssize_t> shape) {
  bool right = values.ndim() == static_cast<py::ssize_t>(shape.size());
  py::ssize_t axis = 0;
  for (const py::ssize_t size : shape) {
    right = right && (size == ANY || values.shape(axis) == size);
    ++axis;
  }
  if (right) return;
  std::string found, wanted;
  for (axis = 0; axis < values.ndim(); ++axis) found += std::to_string(values.shape(axis)) + ",";
  for (const py::ssize_t size : shape) wanted += (size == ANY ? std::string("any") : std::to_string(size)) + ",";
  throw py::value_error(std::string(name) + ": shape (" + found + "), expected (" + wanted + ")");
}

// Raises ValueError naming `name` unless all values are within 0..end-1. The least and the largest, of one or more.
inline std::pair<std::int64_t, std::int64_t> expect_range(const char* name, const std::int64_t* values,
                                                          std::size_t count, py::ssize_t end) {
  std::int64_t low = values[0], high = values[0];
  for (std::size_t place = 1; place < count; ++place) {
    low = std::min(low, values[place]);
    high = std::max(high, values[place]);
  }
  if (low < 0 || high >= end)
    throw py::value_error(std::string(name) + ": " + std::to_string(low) + ".." + std::to_string(high) +
                          ", expected 0.." + std::to_string(end - 1));
  return {low, high};
}

// Raises ValueError unless these are numbers of `count` things.
inline void expect_numbers(const char* name, const Array<std::int64_t>& values, py::ssize_t count) {
  if (values.size() > 0) expect_range(name, values.data(), static_cast<std::size_t>(values.size()), count);
}

}  // namespace semhier
