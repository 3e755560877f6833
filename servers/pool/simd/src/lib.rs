//! The pool's arithmetic on bytes that is worth wide registers: fletcher4 sums and raidz parity.
//!
//! Apart from `pool` so that the pool itself may forbid unsafe code. Each file has one function that is safe Rust, written so that
//! the compiler makes vectors of it, compiled twice: for any x86-64, and for AVX2. The only unsafe step is to call the second after
//! the CPU (and the system, which must save the registers) was found to have it. Scalar twins say in the tests what is right.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod fletcher4;
pub mod raidz;

cpufeatures::new!(has_avx2, "avx2");
