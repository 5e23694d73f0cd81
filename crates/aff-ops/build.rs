//! Compiles the kernels to PTX in builds with the feature `cuda`; does nothing otherwise.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

/// The oldest compute capability that is supported by default; a GPU's driver translates for its own.
const CAPABILITY: u32 = 80;

fn main() {
    println!("cargo:rerun-if-changed=kernels");
    for variable in ["NVCC", "CUDA_HOME", "CUDA_PATH", "CUDA_COMPUTE_CAP"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    if let Err(problem) = compile() {
        println!("cargo::error={problem}");
    }
}

/// The compiler: `NVCC`, that of `CUDA_HOME` or `CUDA_PATH`, or the one in the path.
fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    let of_home = |name| env::var_os(name).map(|home| PathBuf::from(home).join("bin").join("nvcc"));
    ["CUDA_HOME", "CUDA_PATH"].into_iter().find_map(of_home).unwrap_or_else(|| "nvcc".into())
}

/// Older than [`CAPABILITY`] if `CUDA_COMPUTE_CAP` says so, as for Candle's own kernels.
fn capability() -> Result<u32, String> {
    match env::var("CUDA_COMPUTE_CAP") {
        Ok(text) => {
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            let found = digits.parse::<u32>();
            found
                .map(|found| found.min(CAPABILITY))
                .map_err(|_| format!("CUDA_COMPUTE_CAP is {text:?}; expected a number such as 80, 86 or 90"))
        }
        Err(_) => Ok(CAPABILITY),
    }
}

fn compile() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo names no OUT_DIR")?).join("kernels.ptx");
    let compiler = nvcc();
    let result = Command::new(&compiler)
        .args(["--ptx", "-O3", "-std=c++17", &format!("-arch=compute_{}", capability()?), "-o"])
        .arg(&out)
        .arg("kernels/all.cu")
        .output()
        .map_err(|error| {
            format!(
                "the feature `cuda` needs the CUDA toolkit: cannot run {} ({error}); put nvcc into the path or set CUDA_HOME, \
                 and see docs/cuda.md",
                compiler.display()
            )
        })?;
    if !result.status.success() {
        let text = String::from_utf8_lossy(&result.stderr).replace('\n', " | ");
        return Err(format!("{} failed on kernels/all.cu: {text}", compiler.display()));
    }
    fs::metadata(&out)
        .map_err(|error| format!("{} wrote no {}: {error}", compiler.display(), out.display()))?;
    Ok(())
}
