//! Damaged images by the thousand: each is a picture or refused, in time and within its share of memory, and never a panic.
//!
//! The cases are the same in every run. `cargo xtask mutate --minutes N` goes on with others for that long.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aff_vision::{DecodeLimits, RgbImage, VisionError, decode, decode_within};
use image::{DynamicImage, ImageFormat, Rgb, Rgba};
use peak_alloc::PeakAlloc;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;
/// Tests take turns, so that each measures its own memory.
static TURN: Mutex<()> = Mutex::new(());

const CASES: u64 = 4000;
const MAX_PIXELS: u64 = 20_000;
const TIME: Duration = Duration::from_secs(2);

/// What a decoder may hold whatever the image is: tables of codes and windows of compression.
const FIXED_BYTES: usize = 3 << 20;
/// What it may hold of a damaged one: a lossless WebP may say that it has 65,536 groups of codes, for which room is made.
const FIXED_DAMAGED_BYTES: usize = 32 << 20;

/// Decodes within limits; also the most memory that this takes beside the file.
fn measured(bytes: &[u8], limits: &DecodeLimits) -> (usize, Result<RgbImage, VisionError>) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = decode_within(bytes, limits);
    (ALLOCATOR.peak_usage().saturating_sub(before), result)
}

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A picture with some detail everywhere.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7 + y * 3) as u8, (x ^ y) as u8, ((x * y) >> 4) as u8]))
}

#[test]
fn damaged_images_are_decoded_or_refused() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let first = number("AFF_MUTATE_FIRST").unwrap_or(0);
    let until = number("AFF_MUTATE_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut seeds: Vec<Vec<u8>> = [
        "plain.bmp",
        "plain.jpg",
        "rotated.jpg",
        "cmyk.jpg",
        "plain.tiff",
        "lossless.webp",
        "animated.webp",
        "palette.png",
        "grey.png",
        "grey16.png",
        "alpha.png",
    ]
    .map(data)
    .to_vec();
    seeds.push(interlaced_png(&picture(13, 11)));
    let limits = DecodeLimits::default().with_max_pixels(MAX_PIXELS);
    let (mut case, mut decoded) = (first, 0);
    while until.map_or(case < first + CASES, |until| Instant::now() < until) {
        let mut random = ChaCha8Rng::seed_from_u64(case);
        let file = mutated(&seeds[random.random_range(0..seeds.len())], &mut random);
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| measured(&file, &limits)));
        let most = FIXED_DAMAGED_BYTES + 12 * MAX_PIXELS as usize + 4 * file.len();
        let fault = match result {
            Err(_) => "panics".to_owned(),
            Ok(_) if start.elapsed() > TIME => format!("takes {:?}", start.elapsed()),
            Ok((memory, _)) if memory > most => format!("takes {memory} bytes"),
            Ok((_, Err(error))) if error.to_string().len() > 2048 => "has a long message".to_owned(),
            Ok((_, result)) => {
                decoded += u64::from(result.is_ok());
                case += 1;
                continue;
            }
        };
        let path = std::env::temp_dir().join(format!("aff-mutate-{case}-image"));
        std::fs::write(&path, file).unwrap();
        panic!("case {case} {fault}; the file is {}", path.display());
    }
    let cases = case - first;
    // Neither all nor none: else nothing is being tested.
    assert!(decoded > cases / 100 && decoded < cases, "{decoded} of {cases} were decoded");
}

/// Some bytes changed, taken out or repeated, or the end cut off. The checksums of a PNG's chunks are made right half of the time, so
/// that what is behind them is reached.
fn mutated(seed: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 | 1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF][random.random_range(0..6)],
            3 => bytes.truncate(at.max(1)),
            4 => {
                let end = (at + random.random_range(1..16)).min(bytes.len());
                let copied = bytes[at..end].to_vec();
                bytes.splice(at..at, copied);
            }
            _ => {
                let end = (at + random.random_range(1..16)).min(bytes.len() - 1).max(at);
                bytes.drain(at..end);
            }
        }
    }
    if bytes.starts_with(b"\x89PNG") && random.random() {
        mend_checksums(&mut bytes);
    }
    bytes
}

fn mend_checksums(png: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = png.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let end = at.saturating_add(8).saturating_add(length);
        if end.saturating_add(4) > png.len() {
            return;
        }
        let checksum = crc32(&png[at + 4..end]);
        png[end..end + 4].copy_from_slice(&checksum.to_be_bytes());
        at = end + 4;
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// A PNG that comes in seven passes, not compressed: no encoder here writes such.
fn interlaced_png(image: &RgbImage) -> Vec<u8> {
    let (width, height) = image.dimensions();
    let mut rows = Vec::new();
    for (left, top, across, down) in
        [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    {
        for y in (top..height).step_by(down).filter(|_| left < width) {
            rows.push(0);
            for x in (left..width).step_by(across) {
                rows.extend(image.get_pixel(x, y).0);
            }
        }
    }
    let length = rows.len() as u16;
    let (a, b) = rows.iter().fold((1_u32, 0_u32), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    let mut zlib = vec![0x78, 0x01, 0x01];
    zlib.extend(length.to_le_bytes());
    zlib.extend((!length).to_le_bytes());
    zlib.extend(rows);
    zlib.extend((b << 16 | a).to_be_bytes());
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 1]].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in [(b"IHDR", header), (b"IDAT", zlib), (b"IEND", Vec::new())] {
        png.extend((content.len() as u32).to_be_bytes());
        let chunk = [&kind[..], &content].concat();
        png.extend(&chunk);
        png.extend(crc32(&chunk).to_be_bytes());
    }
    png
}

#[test]
fn interlaced_pictures_are_whole() {
    for (width, height) in [(13, 11), (1, 1), (2, 5), (8, 8), (3, 1)] {
        let image = picture(width, height);
        assert_eq!(decode(&interlaced_png(&image)).unwrap(), image, "{width} x {height}");
    }
}

#[test]
fn memory_is_in_proportion_to_the_pixels_that_are_allowed() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (width, height) = (1600, 1200);
    let pixels = u64::from(width * height);
    let plain = DynamicImage::ImageRgb8(picture(width, height));
    let alpha = DynamicImage::ImageRgba8(plain.to_rgba8());
    let deep: image::ImageBuffer<Rgba<u16>, _> = plain.to_rgba16();
    let deep = DynamicImage::ImageRgba16(deep);
    let limits = DecodeLimits::default().with_max_pixels(pixels);
    // Bytes for each pixel beside the file, of which a decoder may hold a copy.
    for (image, format, most) in [
        (&plain, ImageFormat::Png, 3),
        (&alpha, ImageFormat::Png, 3),
        (&deep, ImageFormat::Png, 3),
        (&plain, ImageFormat::Jpeg, 9),
        (&plain, ImageFormat::Bmp, 6),
        (&plain, ImageFormat::Tiff, 6),
        (&alpha, ImageFormat::Tiff, 8),
        (&plain, ImageFormat::WebP, 12),
        (&alpha, ImageFormat::WebP, 12),
    ] {
        let file = encoded(image, format);
        let (memory, result) = measured(&file, &limits);
        result.unwrap();
        let most = most * pixels as usize + file.len() + FIXED_BYTES;
        assert!(memory <= most, "{format:?} {:?}: {memory} bytes, expected at most {most}", image.color());
        // One pixel too many is refused before it is decoded.
        let (memory, result) = measured(&file, &limits.with_max_pixels(pixels - 1));
        assert!(matches!(result, Err(VisionError::TooLarge { .. })), "{format:?}: {result:?}");
        assert!(memory <= file.len() + FIXED_BYTES, "{format:?}: {memory} bytes for a refusal");
    }
    let file = encoded(&deep, ImageFormat::Tiff);
    let error = decode_within(&file, &limits).unwrap_err().to_string();
    assert!(error.contains("by the memory that decoding it takes"), "{error}");
}

#[test]
fn a_jpeg_that_was_cut_and_given_an_end_is_refused() {
    let whole = encoded(&DynamicImage::ImageRgb8(picture(120, 90)), ImageFormat::Jpeg);
    for file in [data("plain.jpg"), data("rotated.jpg"), whole] {
        decode(&file).unwrap();
        let scan = file.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).unwrap() + 14;
        let end = file.windows(2).rposition(|pair| pair == [0xFF, 0xD9]).unwrap();
        for part in [1, 4, 9] {
            let mut cut = file[..scan + (end - scan) * part / 10].to_vec();
            // Half of a pair in the compressed data would be another marker.
            while cut.last() == Some(&0xFF) {
                cut.pop();
            }
            cut.extend([0xFF, 0xD9]);
            let error = decode(&cut).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("the file ends before the picture does"), "{part}: {error}");
        }
    }
}

#[test]
fn formats_that_are_not_read_are_named() {
    for (start, name) in [
        (&b"GIF89a\x01\0"[..], "GIF is"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC is"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF is"),
    ] {
        let error = decode(start).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("save it as PNG or JPEG first"), "{error}");
    }
}

#[test]
fn a_stream_without_an_end_ends() {
    let png = data("grey16.png");
    let endless = std::io::Read::chain(&png[..], std::io::repeat(0));
    let limits = DecodeLimits::default().with_max_pixels(40);
    let error = aff_vision::read_from(endless, "it", &limits).unwrap_err().to_string();
    assert!(error.contains("bytes or more exceeds the limit of"), "{error}");
}
