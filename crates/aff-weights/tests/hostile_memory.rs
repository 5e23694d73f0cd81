//! What hostile files may take: memory in proportion to their size.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::Cursor;
use std::sync::{Mutex, PoisonError};

use aff_weights::{Checkpoint, CheckpointError};
use common::{pickle_tensor, pickle_text, torch_archive};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;
/// Tests take turns, so that each measures its own memory.
static TURN: Mutex<()> = Mutex::new(());

/// Reads a file that lies in memory already; also the most memory that this takes besides.
fn read(file: &[u8]) -> (usize, Result<Checkpoint, CheckpointError>) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = Checkpoint::read_from(Cursor::new(file));
    (ALLOCATOR.peak_usage() - before, result)
}

#[test]
fn a_class_of_a_long_name_is_named_any_number_of_times() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // One text of 600 KB, and 150,000 classes of that module and name.
    let mut pickle = b"\x80\x04".to_vec();
    pickle_text(&mut pickle, &"a".repeat(600_000));
    pickle.extend(b"\x94");
    pickle.extend(b"h\0h\0\x930".repeat(150_000));
    pickle.extend(b".");
    let (peak, result) = read(&pickle);
    assert!(matches!(result, Err(CheckpointError::Structure(_))), "{result:?}");
    assert!(peak < 32 * pickle.len(), "{peak} bytes for {}", pickle.len());
}

#[test]
fn a_configuration_repeats_a_long_text() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pickle = b"\x80\x02}".to_vec();
    pickle_text(&mut pickle, "model");
    pickle.extend(b"}s");
    pickle_text(&mut pickle, "config");
    pickle.extend(b"](");
    pickle_text(&mut pickle, &"a".repeat(600_000));
    pickle.extend(b"q\0");
    pickle.extend(b"h\0".repeat(10_000));
    pickle.extend(b"es.");
    let archive = torch_archive(&pickle, &[]);
    let (peak, result) = read(&archive);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("`config` repeats texts"), "{error}");
    assert!(peak < 32 * archive.len(), "{peak} bytes for {}", archive.len());
}

#[test]
fn a_configuration_nests_deep_or_holds_itself() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let deep = [&b"]".repeat(100_000)[..], &b"a".repeat(99_999)].concat();
    let wide = [&b"]q\0"[..], &b"0](h\0h\0h\0h\0h\0h\0h\0h\0eq\0".repeat(20)].concat();
    for (config, part) in
        [(deep.as_slice(), "nests more than 32 deep"), (b"]q\0h\0a", "nests"), (&wide, "repeats values")]
    {
        let mut pickle = b"\x80\x02}".to_vec();
        pickle_text(&mut pickle, "model");
        pickle.extend(b"}s");
        pickle_text(&mut pickle, "config");
        pickle.extend(config);
        pickle.extend(b"s.");
        let archive = torch_archive(&pickle, &[]);
        let (peak, result) = read(&archive);
        let error = result.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(peak < (2 << 20) + 160 * archive.len(), "{peak} bytes for {}", archive.len());
    }
}

#[test]
fn many_tensors_share_one_storage() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let storage = vec![0; 8 << 20];
    let archive = |tensors: usize| {
        let mut pickle = b"\x80\x02}".to_vec();
        pickle_text(&mut pickle, "model");
        pickle.extend(b"}");
        for index in 0..tensors {
            pickle_text(&mut pickle, &index.to_string());
            pickle_tensor(&mut pickle, "FloatStorage", "0", &[2 << 20]);
            pickle.push(b's');
        }
        pickle.extend(b"s.");
        torch_archive(&pickle, &[("0", &storage)])
    };
    // Tied weights are ordinary.
    assert_eq!(read(&archive(2)).1.unwrap().tensors.len(), 2);
    let many = archive(2000);
    let (peak, result) = read(&many);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("more than 2 times the file"), "{error}");
    assert!(peak < 5 * many.len(), "{peak} bytes for {}", many.len());
}

/// The densest pickles: a value, a mark or a remembered value for each byte.
#[test]
fn dense_pickles_take_their_share() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for unit in ["]", "}", "N", "]\u{14}", "(l", "2", ")a", "NNs"] {
        for length in [10_000, 3_000_000] {
            let unit = unit.replace('\u{14}', "p0\n");
            let mut pickle = b"\x80\x02}".to_vec();
            pickle.extend(unit.bytes().cycle().take(length));
            let (peak, result) = read(&pickle);
            assert!(result.is_err(), "{unit}");
            assert!(peak < (2 << 20) + 160 * pickle.len().min(3 << 19), "{unit}: {peak} bytes for {length}");
        }
    }
    let memo = [&b"\x80\x02}"[..], &b"\x94".repeat(3_000_000)].concat();
    let (peak, result) = read(&memo);
    assert!(result.unwrap_err().to_string().contains("more than 1048576 values"));
    assert!(peak < (2 << 20) + 160 * memo.len(), "{peak}");
}
