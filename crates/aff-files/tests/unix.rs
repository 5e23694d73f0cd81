//! Links, devices, rights and processes, as Unix has them.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aff_files::{
    FileError, FolderLock, open_regular, read, read_to_string, write_atomically, write_atomically_with,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn rights_are_those_of_a_new_file_or_of_the_one_that_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (ordinary, ours) = (folder.path().join("ordinary"), folder.path().join("ours"));
    fs::write(&ordinary, "").unwrap();
    write_atomically(&ours, b"1").unwrap();
    assert_eq!(mode(&ours), mode(&ordinary), "the umask decides");
    for rights in [0o600, 0o640, 0o664, 0o755] {
        fs::set_permissions(&ours, fs::Permissions::from_mode(rights)).unwrap();
        write_atomically_with(&ours, |file| {
            let temporary = names(folder.path()).into_iter().find(|name| name.starts_with(".aff-")).unwrap();
            assert_eq!(mode(&folder.path().join(temporary)), 0o600, "nobody reads along");
            file.write_all(b"2")
        })
        .unwrap();
        assert_eq!(mode(&ours), rights);
    }
}

#[test]
fn links_stay_and_lead_to_the_new_contents() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("elsewhere")).unwrap();
    fs::write(at("elsewhere/file"), "old").unwrap();
    symlink("elsewhere/file", at("link")).unwrap();
    symlink("link", at("link-to-link")).unwrap();
    symlink("elsewhere/new", at("dangling")).unwrap();
    for (link, file) in [("link", "file"), ("link-to-link", "file"), ("dangling", "new")] {
        write_atomically(at(link), link.as_bytes()).unwrap();
        assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
        assert_eq!(fs::read_to_string(at("elsewhere").join(file)).unwrap(), link);
    }
    symlink("round", at("round")).unwrap();
    assert!(write_atomically(at("round"), b"").is_err());
    assert_eq!(names(&at("elsewhere")), ["file", "new"]);
}

#[test]
fn devices_and_pipes_take_what_is_written_and_stay() {
    let before = fs::metadata("/dev/null").unwrap().ino();
    write_atomically("/dev/null", b"nothing").unwrap();
    let after = fs::symlink_metadata("/dev/null").unwrap();
    assert!(after.file_type().is_char_device() && after.ino() == before);

    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let read = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    write_atomically(&pipe, b"through").unwrap();
    assert_eq!(read.join().unwrap(), b"through");
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
}

#[test]
fn folders_sockets_and_protected_files_are_refused_as_targets() {
    let folder = tempfile::tempdir().unwrap();
    let error = write_atomically(&folder, b"").unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::IsADirectory, "it is a folder; name a file")
    );
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(write_atomically(&socket, b"").unwrap_err().to_string().contains("a socket"));
    let protected = folder.path().join("protected");
    fs::write(&protected, "old").unwrap();
    fs::set_permissions(&protected, fs::Permissions::from_mode(0o444)).unwrap();
    // Nothing is protected from root.
    if fs::OpenOptions::new().write(true).open(&protected).is_err() {
        assert_eq!(write_atomically(&protected, b"").unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(fs::read(&protected).unwrap(), b"old");
    }
    assert_eq!(names(folder.path()), ["protected", "socket"]);
}

#[test]
fn a_full_disk_is_called_that() {
    if Path::new("/dev/full").exists() {
        assert_eq!(write_atomically("/dev/full", b"bytes").unwrap_err().kind(), ErrorKind::StorageFull);
    }
}

#[test]
fn what_has_no_end_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    symlink("/dev/zero", folder.path().join("link")).unwrap();
    for (path, kind) in [
        (Path::new("/dev/zero"), "a device"),
        (&pipe, "a pipe"),
        (folder.path(), "a folder"),
        (&folder.path().join("link"), "a device"),
    ] {
        for error in [
            open_regular(path).unwrap_err(),
            read(path, 10).unwrap_err(),
            read_to_string(path, 10).unwrap_err(),
        ] {
            assert!(matches!(&error, FileError::NotAFile { found, .. } if *found == kind), "{error}");
        }
    }
    // A regular file with a length of 0 that gives bytes all the same.
    let status = Path::new("/proc/self/status");
    if status.exists() {
        assert!(matches!(read(status, 10), Err(FileError::TooLarge { found: 11, limit: 10, .. })));
    }
    let text = folder.path().join("text");
    fs::write(&text, b"ab\xff").unwrap();
    assert!(matches!(read_to_string(&text, 3), Err(FileError::NotText { at: 2, .. })));
    let missing = read(folder.path().join("missing"), 3).unwrap_err().to_string();
    assert!(missing.contains("missing\": cannot read it: No such file"), "{missing}");
}

/// Not a test by itself: the process that the tests below start and kill.
#[test]
fn child() {
    let Some(folder) = std::env::var_os("AFF_FILES_TEST_FOLDER") else { return };
    let _lock = FolderLock::acquire(&folder).unwrap();
    let file = Path::new(&folder).join("file");
    write_atomically_with(file, |file| {
        file.write_all(&[7; 100_000])?;
        println!("\nwriting");
        std::io::stdin().read_to_end(&mut Vec::new()).map(drop)
    })
    .unwrap();
}

fn start_child(folder: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env("AFF_FILES_TEST_FOLDER", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "writing"));
    child
}

#[test]
fn what_a_killed_process_leaves_is_removed_and_its_folder_is_free() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "old").unwrap();
    let mut killed = start_child(folder.path());
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(names(folder.path()).len(), 3, "the file, a lock and half a file: {:?}", names(folder.path()));
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"old");

    let mut living = start_child(folder.path());
    let left = names(folder.path());
    assert_eq!(left.len(), 3, "one half of a file, the living one's: {left:?}");
    let error = FolderLock::acquire(&folder).unwrap_err().to_string();
    assert!(error.contains(&format!("process {} (for ", living.id())), "{error}");
    write_atomically(folder.path().join("other"), b"").unwrap();
    assert_eq!(names(folder.path()).len(), 4, "a living process keeps its file");
    drop(living.stdin.take());
    assert!(living.wait().unwrap().success());
    assert_eq!(names(folder.path()), ["file", "other"]);
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), [7; 100_000]);
    FolderLock::acquire(&folder).unwrap();
}
