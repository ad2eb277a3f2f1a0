// The compiled part of semhier_ros: what is computed is said in Python, beside each call (semhier_ros/native.py).
#include <pybind11/pybind11.h>

namespace semhier {
void bind_ground(pybind11::module_& module);
void bind_integer_layers(pybind11::module_& module);
void bind_motion(pybind11::module_& module);
void bind_picture_walk(pybind11::module_& module);
void bind_range_coder(pybind11::module_& module);
void bind_reading(pybind11::module_& module);
}

PYBIND11_MODULE(_native, module) {
  module.doc() = "Compiled kernels of semhier_ros; semhier_ros.native says what they are.";
  semhier::bind_ground(module);
  semhier::bind_integer_layers(module);
  semhier::bind_motion(module);
  semhier::bind_picture_walk(module);
  semhier::bind_range_coder(module);
  semhier::bind_reading(module);
}
