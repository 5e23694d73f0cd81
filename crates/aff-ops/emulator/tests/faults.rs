//! Mistakes in kernels are found and named.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use aff_emulator::{Argument, Memory, launch};

fn memory(words: usize) -> Memory {
    Memory::new(words).unwrap()
}

/// Column sums of 100 rows of 70 ones, by a kernel like `column_sum`.
fn column_sums(kernel: &str, seed: u32) -> Vec<f32> {
    let ones = Memory::from_words(&[1_f32.to_bits(); 7000]).unwrap();
    let mut sums = memory(70);
    let arguments = [
        Argument::Read(&ones),
        Argument::Write(&mut sums),
        Argument::Value(vec![100]),
        Argument::Value(vec![70]),
    ];
    launch(kernel, [3, 1, 1], 256, &arguments, seed).unwrap();
    sums.to_words().into_iter().map(f32::from_bits).collect()
}

#[test]
fn a_missing_barrier_shows_in_every_order_of_threads() {
    for seed in 0..8 {
        assert_eq!(column_sums("column_sum", seed), [100.0; 70]);
        assert!(column_sums("fault_missing_barrier", seed).iter().any(|sum| sum.is_nan()));
    }
}

#[track_caller]
fn assert_found(kernel: &str, threads: u32, arguments: &[Argument<'_>], expected: &str) {
    let error = launch(kernel, [1; 3], threads, arguments, 1).unwrap_err();
    assert!(error.contains(kernel) && error.contains(expected), "{error}");
}

#[test]
fn a_warp_that_parts_is_found() {
    let mut x = Memory::from_words(&[0; 32]).unwrap();
    assert_found("fault_divergence", 32, &[Argument::Write(&mut x)], "faults.cu:");
    assert_found("fault_two_shuffles", 32, &[Argument::Write(&mut x)], "different collectives: ");
}

#[test]
fn a_block_that_parts_is_found() {
    assert_found("fault_two_barriers", 64, &[Argument::Write(&mut memory(64))], "different barriers: ");
}

#[test]
fn accesses_outside_are_found() {
    // 64 words end on a page: what is read past them faults.
    let read = Memory::from_words(&[0; 32]).unwrap();
    let arguments = [Argument::Read(&read), Argument::Write(&mut memory(32))];
    assert_found("fault_reads_past_the_end", 32, &arguments, "argument 0: 0 bytes past its end");
    let expected = "argument 0: 0 bytes past its end";
    assert_found("fault_writes_past_the_end", 32, &[Argument::Write(&mut memory(32))], expected);
    // Between these and the page are bytes that must stay as they are.
    let expected = "argument 0: a write beside its memory";
    assert_found("fault_writes_past_the_end", 32, &[Argument::Write(&mut memory(31))], "argument 0");
    assert_found("fault_writes_before_the_start", 32, &[Argument::Write(&mut memory(32))], expected);
}

#[test]
fn accesses_that_are_not_aligned_are_found() {
    let x = Memory::from_words(&[0; 64]).unwrap();
    let arguments = [Argument::Read(&x), Argument::Write(&mut memory(32))];
    assert_found("fault_misaligned", 32, &arguments, "an access of 16 bytes that are not aligned");
}

#[test]
fn inputs_stay_as_they_are() {
    let x = Memory::from_words(&[7; 32]).unwrap();
    let arguments = [Argument::Read(&x), Argument::Write(&mut memory(32))];
    assert_found("fault_writes_an_input", 32, &arguments, "argument 0: a write to what it may only read");
    assert_eq!(x.to_words(), [7; 32]);
}

#[test]
fn shared_memory_starts_as_nan() {
    let mut y = Memory::from_words(&[0; 32]).unwrap();
    launch("fault_reads_unwritten_shared_memory", [1; 3], 32, &[Argument::Write(&mut y)], 1).unwrap();
    assert!(y.to_words().into_iter().all(|word| f32::from_bits(word).is_nan()));
}

#[test]
fn other_arguments_are_refused() {
    let (x, mut y) = (memory(32), memory(32));
    assert_found("no_such_kernel", 32, &[], "no such kernel");
    assert_found("fault_divergence", 64, &[Argument::Write(&mut y)], "blocks of 64 threads");
    assert_found("fault_divergence", 32, &[], "0 arguments; it takes 1");
    assert_found("fault_divergence", 32, &[Argument::Read(&x)], "argument 0 is read and should be written");
    assert_found("fault_divergence", 32, &[Argument::Value(vec![1])], "argument 0 is memory and should be");
    let short =
        [Argument::Read(&x), Argument::Write(&mut y), Argument::Value(vec![1, 2]), Argument::Value(vec![1])];
    assert_found("column_sum", 256, &short, "argument 2 has 8 bytes; it takes 4");
}
