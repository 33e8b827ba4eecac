//! The kernel for 64-bit Arm: products are looked up in tables of a register, half a byte at a time.

#![expect(
    unsafe_code,
    reason = "vectors are loaded and stored through pointers, and features proved at run time"
)]

use super::simd::kernel;
use super::{NIBBLES, Term, lanes};
use crate::grid::PARITY;
use crate::ids::SIXTEEN;
use core::arch::aarch64::{
    uint8x16_t, vandq_u8, vdupq_n_u8, veorq_u8, vld1q_u8, vqtbl1q_u8, vshrq_n_u8, vst1q_u8,
};

pub(super) const BYTES: usize = 16;
type Vector = uint8x16_t;

kernel! { features: "neon", has: std::arch::is_aarch64_feature_detected!("neon"), wide: 2, grid: 4 }

#[inline]
#[target_feature(enable = "neon")]
fn zero() -> Vector {
    vdupq_n_u8(0)
}

#[inline]
#[target_feature(enable = "neon")]
fn xor(a: Vector, b: Vector) -> Vector {
    veorq_u8(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; BYTES]) -> Vector {
    // SAFETY: the reference is to as many bytes as are read, and any alignment will do.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(bytes: &mut [u8; BYTES], vector: Vector) {
    // SAFETY: the reference is to as many bytes as are written, and any alignment will do.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), vector) }
}

/// The low halves of the bytes, and the high ones.
#[inline]
#[target_feature(enable = "neon")]
fn split(vector: Vector) -> [Vector; 2] {
    [vandq_u8(vector, vdupq_n_u8(0x0F)), vshrq_n_u8::<4>(vector)]
}

#[inline]
#[target_feature(enable = "neon")]
fn times([low, high]: [Vector; 2], factor: u8) -> Vector {
    let [of_low, of_high] = &NIBBLES[usize::from(factor)];
    xor(vqtbl1q_u8(load(of_low), low), vqtbl1q_u8(load(of_high), high))
}
