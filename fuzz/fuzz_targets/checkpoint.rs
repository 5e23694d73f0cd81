//! Zip archives and pickles: whatever the bytes are, they are read or refused.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = aff_weights::Checkpoint::read_from(Cursor::new(bytes));
});
