//! Compiles the kernels of `aff-ops` as C++, together with the emulator that runs them.

fn main() {
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-changed=../kernels");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").as_deref() != Ok("unix") {
        return;
    }
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .opt_level(1)
        // Rounds as the kernels say; a GPU's contraction is switched off there likewise, where it matters.
        .flag("-ffp-contract=off")
        .flag_if_supported("-Wno-unknown-pragmas")
        .include("cpp")
        .include("../kernels")
        .file("cpp/kernels.cpp")
        .file("cpp/memory.cpp")
        .compile("aff_emulated_kernels");
}
