//! Prints the shapes of all that a network computes: `cargo run --release --example features -- MODEL PHOTO`
#![allow(clippy::print_stdout, reason = "the result goes to standard output")]
use autofocusformer::{Device, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [model, photo]: [String; 2] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "MODEL PHOTO")?;
    let model = Model::from_pretrained(model, &Device::Cpu)?;
    for (name, tensor) in model.features(&model.read_pixel_values(photo)?)? {
        println!("{name} {:?}", tensor.dims());
    }
    Ok(())
}
