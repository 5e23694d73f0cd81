//! Prints the classes of a photo: `cargo run --release --example classify -- MODEL PHOTO`
#![allow(clippy::print_stdout, reason = "the result goes to standard output")]
use autofocusformer::{Classifier, Device, vision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [model, photo]: [String; 2] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "MODEL PHOTO")?;
    for class in Classifier::from_pretrained(model, &Device::Cpu)?.classify(&vision::open(photo)?, 5)? {
        println!("{:.1}% {}", 100.0 * class.score, class.label);
    }
    Ok(())
}
