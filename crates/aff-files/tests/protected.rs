//! Outputs that are inputs in disguise.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use aff_files::{FileError, Protected};

#[cfg(unix)]
#[test]
fn one_file_is_recognised_under_all_its_names() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("in")).unwrap();
    std::fs::write(at("in/photo.png"), b"...").unwrap();
    symlink(at("in"), at("linked-folder")).unwrap();
    symlink("in/photo.png", at("linked.png")).unwrap();
    symlink("linked.png", at("twice.png")).unwrap();
    std::fs::hard_link(at("in/photo.png"), at("hard.png")).unwrap();
    symlink("in/not-yet.png", at("dangling.png")).unwrap();

    let mut files = Protected::default();
    files.protect(at("linked.png"));
    for name in [
        "in/photo.png",
        "in/../in/./photo.png",
        "in/PHOTO.Png",
        "linked-folder/photo.png",
        "linked-folder/Photo.PNG",
        "linked.png",
        "LINKED-folder/../in/photo.png",
        "twice.png",
        "hard.png",
    ] {
        let refused = files.check(at(name));
        // A folder of another case exists on no Linux.
        if name.starts_with("LINKED") && refused.is_ok() {
            continue;
        }
        assert!(matches!(refused, Err(FileError::OverwritesInput { .. })), "{name}");
    }
    files.claim(at("in/photo.overlay.png")).unwrap();
    files.claim(at("dangling.png")).unwrap();
    for name in ["in/Photo.overlay.PNG", "in/not-yet.png"] {
        assert!(matches!(files.claim(at(name)), Err(FileError::OverwritesOutput { .. })), "{name}");
    }
}

#[test]
fn relative_paths_and_folders_that_do_not_exist_yet_are_understood() {
    let here = std::env::current_dir().unwrap();
    let mut files = Protected::default();
    files.protect("Cargo.toml");
    assert!(files.check(here.join("cargo.TOML")).is_err());
    files.claim("no/such/folder/a.png").unwrap();
    assert!(files.claim(here.join("no/such/Folder/A.png")).is_err());
    files.claim("no/such/a.png").unwrap();
    files.protect("no/such/input.png");
    assert!(files.check("./no/such/input.png").is_err());
}

#[test]
fn nothing_is_written_into_a_protected_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("model/deeper")).unwrap();
    let mut files = Protected::default();
    files.protect_folder(folder.path().join("model"));
    for name in ["model/model.safetensors", "model/deeper/a", "model/new/a", "model/../model/a"] {
        let error = files.check(folder.path().join(name)).unwrap_err().to_string();
        assert!(error.contains("which is read"), "{error}");
    }
    files.claim(folder.path().join("models")).unwrap();
}

#[cfg(unix)]
#[test]
fn devices_may_be_named_twice() {
    let mut files = Protected::default();
    files.claim("/dev/null").unwrap();
    files.claim(Path::new("/dev/null")).unwrap();
}
