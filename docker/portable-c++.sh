#!/bin/sh
# A C++ compiler for DeepSpeed's build, which asks for the processor it is built on: the image must run on others.
# AVX2 (x86-64-v3) is what every host of a GPU since 2015 has.
for argument; do
  shift
  case $(uname -m)$argument in
    x86_64-march=native) argument=-march=x86-64-v3 ;;
    x86_64-D__AVX512__) argument=-D__AVX256__ ;;
    aarch64-march=native) argument=-march=armv8-a ;;
  esac
  set -- "$@" "$argument"
done
exec g++ "$@"
