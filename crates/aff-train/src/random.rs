//! Random numbers that depend on what they are for alone.
//!
//! Nothing carries a generator along: every use makes its own from the run's seed, its purpose and its place (a step, a sample,
//! a layer). So a run that is resumed draws what it would have drawn, with any number of threads, and there is no state of a
//! generator to save.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What random numbers are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Purpose {
    /// First values of a parameter; the place is a hash of its name.
    Initialization = 1,
    /// Order of the samples; the place is the epoch.
    Shuffle = 2,
    /// Augmentation; the place is the number of the sample in the run.
    Augmentation = 3,
    /// Points that losses are taken at; the place is the step.
    Points = 4,
    /// Branches that stochastic depth drops; the place is the step.
    DropPath = 5,
    /// Mixing of images; the place is the number of the batch in the run.
    Mix = 6,
    /// Pictures that are made up.
    Shapes = 7,
}

/// The generator for a purpose at a place.
pub(crate) fn generator(seed: u64, purpose: Purpose, place: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(mix(mix(seed, purpose as u64), place))
}

/// A number that every bit of both arguments has its part in (SplitMix64).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut bits = a.rotate_left(32) ^ b.wrapping_add(0x9E37_79B9_7F4A_7C15);
    for (shift, factor) in [(30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB)] {
        bits = (bits ^ (bits >> shift)).wrapping_mul(factor);
    }
    bits ^ (bits >> 31)
}

/// A number for a name (FNV-1a), the same on every machine.
pub(crate) fn hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}
