//! Downloads a model of the hub, or finds it in the cache, and prints its folder: `hub_fetch ORGANISATION/NAME [REVISION]`.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let id = arguments.next().ok_or("which model? expected ORGANISATION/NAME")?;
    let revision = arguments.next().unwrap_or_else(|| "main".to_owned());
    println!("{}", aff_weights::Hub::from_env().fetch(&id, &revision)?.display());
    Ok(())
}
