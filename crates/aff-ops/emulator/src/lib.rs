//! Runs the CUDA kernels of `aff-ops` on the CPU, compiled as C++: for the tests of that crate, on Unix.
//!
//! What the emulator checks is told in `cpp/emulate.h`.
#![cfg(unix)]

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::ptr;

#[repr(C)]
struct RawMemory {
    _private: [u8; 0],
}

#[repr(C)]
struct RawArgument {
    memory: *const RawMemory,
    writes: c_int,
    value: *const c_void,
    bytes: usize,
}

// SAFETY: as declared in `cpp/memory.h` and `cpp/emulate.cpp`.
#[allow(unsafe_code, reason = "the emulator is C++")]
unsafe extern "C" {
    fn aff_memory_new(bytes: usize) -> *mut RawMemory;
    fn aff_memory_data(memory: *mut RawMemory) -> *mut u8;
    fn aff_memory_free(memory: *mut RawMemory);
    fn aff_emulated_launch(
        name: *const c_char,
        grid: *const c_uint,
        threads: c_uint,
        arguments: *const RawArgument,
        count: usize,
        seed: c_uint,
        error: *mut c_char,
        capacity: usize,
    ) -> c_int;
}

/// Memory of the emulated GPU: words of 32 bits, between pages that no kernel may touch.
#[derive(Debug)]
pub struct Memory {
    raw: *mut RawMemory,
    words: usize,
}

#[allow(unsafe_code, reason = "the memory is C++'s")]
impl Memory {
    /// Memory that nobody has written to: as `f32` it is NaN.
    ///
    /// # Errors
    /// If there is no memory left.
    pub fn new(words: usize) -> Result<Self, String> {
        // SAFETY: any number of bytes may be asked for.
        let raw = unsafe { aff_memory_new(words * size_of::<u32>()) };
        if raw.is_null() {
            return Err(format!("no memory for {words} words"));
        }
        Ok(Self { raw, words })
    }

    /// Memory that holds these words.
    ///
    /// # Errors
    /// If there is no memory left.
    pub fn from_words(words: &[u32]) -> Result<Self, String> {
        let memory = Self::new(words.len())?;
        // SAFETY: the memory has as many words, aligned to 16 bytes.
        unsafe { ptr::copy_nonoverlapping(words.as_ptr(), memory.data(), words.len()) };
        Ok(memory)
    }

    /// What it holds.
    pub fn to_words(&self) -> Vec<u32> {
        let mut words = vec![0; self.words];
        // SAFETY: the memory has as many words, and every bit pattern is one.
        unsafe { ptr::copy_nonoverlapping(self.data(), words.as_mut_ptr(), words.len()) };
        words
    }

    fn data(&self) -> *mut u32 {
        // SAFETY: the pointer came from `aff_memory_new` and was not freed.
        unsafe { aff_memory_data(self.raw) }.cast()
    }
}

// SAFETY: the memory belongs to this value alone; it is written through `&mut` only, and a launch forbids and allows writing for the time
// that it borrows it, which does not change what others read.
#[allow(unsafe_code, reason = "the memory is C++'s")]
unsafe impl Send for Memory {}
// SAFETY: likewise.
#[allow(unsafe_code, reason = "the memory is C++'s")]
unsafe impl Sync for Memory {}

#[allow(unsafe_code, reason = "the memory is C++'s")]
impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `aff_memory_new` and is freed once.
        unsafe { aff_memory_free(self.raw) };
    }
}

/// An argument of a kernel.
#[derive(Debug)]
pub enum Argument<'a> {
    /// Memory that it reads: a pointer to constants.
    Read(&'a Memory),
    /// Memory that it writes.
    Write(&'a mut Memory),
    /// A number or a struct of numbers of 32 bits, by value.
    Value(Vec<u32>),
}

/// Runs a kernel on a grid of blocks of `threads`; `seed` decides the order of blocks and threads.
///
/// # Errors
/// What the kernel does wrong, and where; or that these are not its arguments.
#[allow(unsafe_code, reason = "the kernels are C++")]
pub fn launch(
    kernel: &str,
    grid: [u32; 3],
    threads: u32,
    arguments: &[Argument<'_>],
    seed: u32,
) -> Result<(), String> {
    let raw = |argument: &Argument<'_>| match argument {
        Argument::Read(memory) => RawArgument { memory: memory.raw, writes: 0, value: ptr::null(), bytes: 0 },
        Argument::Write(memory) => {
            RawArgument { memory: memory.raw, writes: 1, value: ptr::null(), bytes: 0 }
        }
        Argument::Value(words) => RawArgument {
            memory: ptr::null(),
            writes: 0,
            value: words.as_ptr().cast(),
            bytes: size_of_val(words.as_slice()),
        },
    };
    let arguments: Vec<RawArgument> = arguments.iter().map(raw).collect();
    let name = CString::new(kernel).map_err(|error| error.to_string())?;
    let mut error = vec![0_u8; 512];
    // SAFETY: the kernels get the arguments that they declare (the emulator compares number, kind and size), all of which outlive the
    // call; what a kernel does to memory that is not its own ends in an error.
    let failed = unsafe {
        aff_emulated_launch(
            name.as_ptr(),
            grid.as_ptr(),
            threads,
            arguments.as_ptr(),
            arguments.len(),
            seed,
            error.as_mut_ptr().cast(),
            error.len(),
        )
    };
    if failed == 0 {
        return Ok(());
    }
    let end = error.iter().position(|&byte| byte == 0).unwrap_or(error.len());
    Err(format!("{kernel}: {}", String::from_utf8_lossy(&error[..end])))
}
