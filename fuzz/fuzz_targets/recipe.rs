//! Recipes of training runs: read or refused, and what is read describes a network.
#![no_main]

use std::io::Write;

use aff_train::Recipe;
use aff_train::data::Category;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    if file.write_all(bytes).is_err() {
        return;
    }
    let Ok(recipe) = Recipe::read(file.path()) else { return };
    let _ = recipe.preprocessor();
    let _ = recipe.model_config(&[Category::thing(1, "one"), Category::thing(2, "two")]);
});
