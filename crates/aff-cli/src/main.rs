//! The `aff` command.
fn main() {}
