//! Damaged files by the thousand: checkpoints, model folders and configurations are read or refused, in time and within their
//! share of memory, and never a panic.
//!
//! The cases are the same in every run. `cargo xtask mutate --minutes N` goes on with others for that long.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aff_weights::{Checkpoint, ConfigSource, ConvertOptions, ModelFolder, Overwrite, convert};
use candle_core::{DType, Device};
use common::{fixture, tiny_segmenter, write_torch};
use peak_alloc::PeakAlloc;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Cases of an ordinary run.
const CASES: u64 = 6000;
/// What reading may take: so much at all, so much for each byte of the file, and so long.
const MEMORY: usize = 4 << 20;
const MEMORY_PER_BYTE: usize = 160;
const TIME: Duration = Duration::from_secs(5);

#[test]
fn damaged_files_are_read_or_refused() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let first = number("AFF_MUTATE_FIRST").unwrap_or(0);
    let until = number("AFF_MUTATE_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let targets = [Target::checkpoint(), Target::model_folder(), Target::yaml()];
    let (mut case, mut read) = (first, 0_u64);
    while until.map_or(case < first + CASES, |until| Instant::now() < until) {
        // Checkpoints have most that can go wrong.
        let target = &targets[[0, 0, 1, 0, 0, 2][case as usize % 6]];
        let mut random = ChaCha8Rng::seed_from_u64(case);
        let file = mutated(&target.seeds, &mut random);
        read += u64::from(check(target, &file, case));
        case += 1;
    }
    let cases = case - first;
    // Neither all nor none: else nothing is being tested.
    assert!(read > cases / 100 && read < cases, "{read} of {cases} files were read");
}

/// Runs one case; whether the file was read.
fn check(target: &Target, file: &[u8], case: u64) -> bool {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.read)(file)));
    let (time, memory) = (start.elapsed(), ALLOCATOR.peak_usage().saturating_sub(before));
    let limit = MEMORY + MEMORY_PER_BYTE * file.len();
    let fault = match result {
        Err(_) => "panics".to_owned(),
        Ok(_) if time > TIME => format!("takes {time:?}"),
        Ok(_) if memory > limit => format!("takes {memory} bytes for a file of {}", file.len()),
        Ok(Err(message)) if message.len() > 2048 + 256 => format!("has a message of {} bytes", message.len()),
        Ok(result) => return result.is_ok(),
    };
    let path = std::env::temp_dir().join(format!("aff-mutate-{case}-{}", target.name));
    std::fs::write(&path, file).unwrap();
    panic!("case {case} ({}) {fault}; the file is {}", target.name, path.display());
}

/// Reads a file; the message of its error otherwise.
type Read = Box<dyn Fn(&[u8]) -> Result<(), String>>;

/// Something that reads files.
struct Target {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    read: Read,
}

impl Target {
    fn checkpoint() -> Self {
        let mut seeds = files_in(&root().join("fuzz/seeds/checkpoint"));
        seeds.push(std::fs::read(fixture("pickled-tensors/layouts.pkl")).unwrap());
        seeds.push(std::fs::read(fixture("pickled-tensors/layouts-protocol2.pkl")).unwrap());
        let read = |file: &[u8]| {
            Checkpoint::read_from(Cursor::new(file)).map(|_| ()).map_err(|error| error.to_string())
        };
        Self { name: "checkpoint", seeds, read: Box::new(read) }
    }

    fn model_folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let read = move |file: &[u8]| {
            let length = file.first_chunk().map_or(0, |length| usize::from(u16::from_le_bytes(*length)));
            let rest = file.get(2..).unwrap_or(&[]);
            let (config, weights) = rest.split_at(length.min(rest.len()));
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
            let tensors =
                ModelFolder::open(folder.path()).and_then(|folder| folder.tensors(DType::F32, &Device::Cpu));
            tensors.map(|_| ()).map_err(|error| error.to_string())
        };
        let seeds = files_in(&root().join("fuzz/seeds/model_folder"));
        Self { name: "model_folder", seeds, read: Box::new(read) }
    }

    /// Everything of a conversion but writing the folder.
    fn yaml() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint.pth");
        write_torch(&checkpoint, &tiny_segmenter(19, true));
        std::fs::copy(fixture("segment-nano/base.yaml"), folder.path().join("base.yaml")).unwrap();
        let read = move |file: &[u8]| {
            let yaml = folder.path().join("model.yaml");
            std::fs::write(&yaml, file).unwrap();
            let options = ConvertOptions {
                checkpoint: checkpoint.clone(),
                backbone: None,
                output: checkpoint.join("cannot be made"),
                config: ConfigSource::Yaml(yaml),
                overwrite: Overwrite::Refuse,
                verify: false,
            };
            match convert(&options).unwrap_err().to_string() {
                message if message.contains("cannot be made") => Ok(()),
                message => Err(message),
            }
        };
        let small = "DATASETS: {TEST: ('cityscapes_fine_panoptic_val',)}\nMODEL:\n  AFF: {SHEPARD_POWER: 6.0}\n  \
                     MASK_FORMER: {NHEADS: 2, TEST: {PANOPTIC_ON: True}}\n";
        let seeds =
            vec![std::fs::read(fixture("segment-nano/model.yaml")).unwrap(), small.into(), small.into()];
        Self { name: "yaml", seeds, read: Box::new(read) }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files of a folder in the order of their names.
fn files_in(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One of the seeds, changed in a few places.
fn mutated(seeds: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut file = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(0..5) {
        if file.is_empty() {
            return file;
        }
        let at = random.random_range(0..file.len());
        let length = random.random_range(1..=64).min(file.len() - at);
        match random.random_range(0..9) {
            0 => file[at] ^= 1 << random.random_range(0..8),
            1 => file[at] = random.random(),
            2 => number(&mut file[at..], random),
            3 => file.truncate(at),
            4 => drop(file.drain(at..at + length)),
            5 => {
                let piece = file[at..at + length].to_vec();
                let to = random.random_range(0..=file.len());
                drop(file.splice(to..to, piece));
            }
            6 => {
                let times = random.random_range(1..2000);
                let piece = file[at..at + length].repeat(times);
                drop(file.splice(at..at, piece));
            }
            7 => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..other.len());
                let piece = &other[from..(from + length).min(other.len())];
                drop(file.splice(at..at, piece.iter().copied()));
            }
            _ => {
                file[at] =
                    *b"(.0hjRbQ\x93\x94\x81]}[{\":,-9&*!#".get(random.random_range(0..26)).unwrap_or(&b'e');
            }
        }
    }
    file
}

/// Writes a number that sizes and offsets trip over.
fn number(file: &mut [u8], random: &mut ChaCha8Rng) {
    let numbers =
        [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, u64::MAX >> 1, u64::MAX];
    let number = numbers[random.random_range(0..numbers.len())].wrapping_sub(random.random_range(0..2));
    let width = [1, 2, 4, 8][random.random_range(0..4)].min(file.len());
    file[..width].copy_from_slice(&number.to_le_bytes()[..width]);
}
