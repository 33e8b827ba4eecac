//! The kernels for x86-64.

#![expect(
    unsafe_code,
    reason = "vectors are loaded and stored through pointers, and features proved at run time"
)]

use super::simd::kernel;
use super::{NIBBLES, Term, lanes};
use crate::grid::PARITY;
use crate::ids::SIXTEEN;
use core::arch::x86_64::*;

/// AVX-512 with the multiplication of GFNI, whose polynomial is the grid's.
pub(super) mod avx512_gfni {
    use super::*;

    pub(in super::super) const BYTES: usize = 64;
    type Vector = __m512i;

    kernel! {
        features: "avx512f,avx512bw,gfni",
        has: is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("gfni"),
        wide: 2,
        grid: 4
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    fn zero() -> Vector {
        _mm512_setzero_si512()
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    fn xor(a: Vector, b: Vector) -> Vector {
        _mm512_xor_si512(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    fn load(bytes: &[u8; BYTES]) -> Vector {
        // SAFETY: the reference is to as many bytes as are read, and any alignment will do.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    fn store(bytes: &mut [u8; BYTES], vector: Vector) {
        // SAFETY: the reference is to as many bytes as are written, and any alignment will do.
        unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    fn split(vector: Vector) -> Vector {
        vector
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    fn times(vector: Vector, factor: u8) -> Vector {
        _mm512_gf2p8mul_epi8(vector, _mm512_set1_epi8(factor.cast_signed()))
    }
}

/// What the two kernels with vectors of 32 bytes share.
mod ymm {
    use super::*;

    pub(super) const BYTES: usize = 32;
    pub(super) type Vector = __m256i;

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn zero() -> Vector {
        _mm256_setzero_si256()
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn xor(a: Vector, b: Vector) -> Vector {
        _mm256_xor_si256(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn load(bytes: &[u8; BYTES]) -> Vector {
        // SAFETY: the reference is to as many bytes as are read, and any alignment will do.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn store(bytes: &mut [u8; BYTES], vector: Vector) {
        // SAFETY: the reference is to as many bytes as are written, and any alignment will do.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
    }
}

/// AVX2 with the multiplication of GFNI: for processors that have no AVX-512.
pub(super) mod avx2_gfni {
    use super::ymm::{Vector, load, store, xor, zero};
    use super::*;

    pub(in super::super) const BYTES: usize = ymm::BYTES;

    kernel! {
        features: "avx2,gfni",
        has: is_x86_feature_detected!("avx2") && is_x86_feature_detected!("gfni"),
        wide: 1,
        grid: 2
    }

    #[inline]
    #[target_feature(enable = "avx2,gfni")]
    fn split(vector: Vector) -> Vector {
        vector
    }

    #[inline]
    #[target_feature(enable = "avx2,gfni")]
    fn times(vector: Vector, factor: u8) -> Vector {
        _mm256_gf2p8mul_epi8(vector, _mm256_set1_epi8(factor.cast_signed()))
    }
}

/// AVX2 with products looked up by shuffles, half a byte at a time.
pub(super) mod avx2 {
    use super::ymm::{Vector, load, store, xor, zero};
    use super::*;

    pub(in super::super) const BYTES: usize = ymm::BYTES;

    kernel! { features: "avx2", has: is_x86_feature_detected!("avx2"), wide: 1, grid: 2 }

    /// The low halves of the bytes, and the high ones.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn split(vector: Vector) -> [Vector; 2] {
        let half = _mm256_set1_epi8(0x0F);
        [_mm256_and_si256(vector, half), _mm256_and_si256(_mm256_srli_epi16::<4>(vector), half)]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn times([low, high]: [Vector; 2], factor: u8) -> Vector {
        let [of_low, of_high] = &NIBBLES[usize::from(factor)];
        xor(_mm256_shuffle_epi8(twice(of_low), low), _mm256_shuffle_epi8(twice(of_high), high))
    }

    /// The table in both halves of a register: shuffles do not cross them.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn twice(table: &[u8; 16]) -> Vector {
        // SAFETY: the reference is to as many bytes as are read, and any alignment will do.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
    }
}
