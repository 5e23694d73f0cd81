//! Bad values for every option of every command, and command lines of random parts: no panic, a documented exit code, and
//! a message that names what was wrong.
//!
//! The cases are drawn from a seed. `AFF_ATTACK_CASES` and `AFF_ATTACK_SEED` ask for more and for others.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use aff_cli::Arguments;
use clap::CommandFactory;
use common::{aff, convert_classifier, data, fixture, recipe, root, write_picture};
use tempfile::TempDir;

/// What a user, a script or an attacker gives for a number, a path, a name.
const VALUES: [&str; 30] = [
    "",
    " ",
    "-1",
    "0",
    "1",
    "7",
    "1e400",
    "-0.0",
    "nan",
    "inf",
    "0x10",
    "3.5",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "no/such",
    "no/such/deeper.png",
    ".",
    "..",
    "/dev/zero/x",
    "/dev/full",
    "\n",
    "a\tb\r\nc",
    "☃",
    "'; true",
    "$(true)",
    "%n%s",
    ",,,",
    "sky,,sky",
    "random:",
];

/// splitmix64: the same cases on every machine.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn value(&mut self) -> OsString {
        match self.below(VALUES.len() + 2) {
            0 => OsString::from("x".repeat(5000)),
            #[cfg(unix)]
            1 => std::os::unix::ffi::OsStringExt::from_vec(vec![0xFF, b'a', 0xFE]),
            index => OsString::from(VALUES[index % VALUES.len()]),
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A folder with all that the commands need, and for each command the arguments with which it works.
struct Ground {
    data: TempDir,
    work: TempDir,
}

impl Ground {
    fn new() -> Self {
        let ground = Self { data: data(), work: tempfile::tempdir().unwrap() };
        write_picture(ground.path("photo.png"));
        convert_classifier(&ground.path("classifier"));
        recipe(&ground.data, 1);
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Positional arguments and options of a command that succeeds quickly.
    fn arguments(&self, command: &str, folder: &Path) -> (Vec<OsString>, BTreeMap<&'static str, OsString>) {
        let photo = self.path("photo.png").into_os_string();
        let output = |name: &str| folder.join(name).into_os_string();
        let text = |value: &str| OsString::from(value);
        let data = self.data.path().as_os_str().to_owned();
        match command {
            "predict" => (vec![photo], [("output", output("out")), ("size", text("32"))].into()),
            "classify" => (vec![photo], [("model", self.path("classifier").into())].into()),
            "tokens" => (vec![photo], [("output", output("t.png"))].into()),
            "features" => (vec![photo], [("output", output("f.safetensors"))].into()),
            "convert" => (
                vec![fixture("classify-nano/checkpoint.pth").canonicalize().unwrap().into()],
                [("output", output("model"))].into(),
            ),
            "bench" => (vec![], [("size", text("32")), ("runs", text("1"))].into()),
            "eval" => (vec![], [("data", data), ("split", text("val"))].into()),
            "train" => (
                vec![],
                [
                    ("config", self.data.path().join("recipe.yaml").into()),
                    ("data", data),
                    ("output", output("run")),
                ]
                .into(),
            ),
            "completions" => (vec![text("bash")], BTreeMap::new()),
            _ => (vec![], BTreeMap::new()),
        }
    }
}

/// The options of every command that take a value, as the command itself knows them.
fn options() -> Vec<(String, String)> {
    let arguments = Arguments::command();
    let of = |command: &clap::Command| -> Vec<(String, String)> {
        let name = command.get_name().to_owned();
        let valued = command.get_arguments().filter(|option| option.get_action().takes_values());
        valued.filter_map(|option| Some((name.clone(), option.get_long()?.to_owned()))).collect()
    };
    arguments.get_subcommands().flat_map(of).collect()
}

/// Runs the command in a folder of its own; what it says must make sense.
fn run(folder: &Path, arguments: &[OsString]) -> (i32, String) {
    let output = aff().args(arguments).current_dir(folder).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code();
    assert!(
        code.is_some_and(|code| (0..=3).contains(&code)),
        "{code:?} is no documented exit code: {arguments:?}\n{error}"
    );
    assert!(!error.contains("panicked"), "{arguments:?}\n{error}");
    assert!(code == Some(0) || error.contains("error: "), "{arguments:?} fails without a word");
    (code.unwrap(), error)
}

#[test]
fn every_option_refuses_what_it_cannot_use() {
    let ground = Ground::new();
    let mut draws = Draws(setting("AFF_ATTACK_SEED", 1));
    let options = options();
    assert!(options.len() > 30, "{options:?}");
    let cases = setting("AFF_ATTACK_CASES", 2 * options.len() as u64) as usize;
    let mut refused = 0;
    for case in 0..cases {
        let (command, option) = &options[case % options.len()];
        let folder = ground.path(&format!("{case}/{case}"));
        std::fs::create_dir_all(&folder).unwrap();
        let (positional, mut valued) = ground.arguments(command, &folder);
        let value = draws.value();
        valued.remove(option.as_str());
        let mut arguments = vec![OsString::from(command)];
        arguments.extend(positional);
        for (option, value) in valued {
            arguments.extend([OsString::from(format!("--{option}")), value]);
        }
        let mut bad = OsString::from(format!("--{option}="));
        bad.push(&value);
        arguments.push(bad);
        let (code, error) = run(&folder, &arguments);
        if code != 0 {
            refused += 1;
            // As messages show paths: bytes that are no text are escaped.
            let escaped = format!("{value:?}").trim_matches('"').to_owned();
            let value = value.to_string_lossy();
            // Long values are cut in messages.
            let beginning: String = value.chars().take(100).collect();
            let shown = [
                beginning,
                format!("--{option}"),
                value.to_string(),
                escaped,
                // What a value that is no text is replaced by.
                "invalid UTF-8".to_owned(),
            ];
            assert!(
                shown.iter().any(|shown| !shown.is_empty() && error.contains(shown.as_str())),
                "the message names neither --{option} nor {value:?}: {error}"
            );
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
    assert!(refused > cases / 3, "{refused} of {cases}");
}

#[test]
fn command_lines_of_random_parts_are_understood_or_refused() {
    let ground = Ground::new();
    let mut draws = Draws(setting("AFF_ATTACK_SEED", 2));
    let commands: Vec<String> =
        Arguments::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let flags: Vec<String> = Arguments::command()
        .get_subcommands()
        .flat_map(|command| {
            command
                .get_arguments()
                .filter_map(|option| Some(format!("--{}", option.get_long()?)))
                .collect::<Vec<_>>()
        })
        .collect();
    let photo = root().join("assets/tower.jpg").canonicalize().unwrap();
    for case in 0..setting("AFF_ATTACK_CASES", 60) {
        let folder = ground.path(&format!("random-{case}/{case}"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut arguments = vec![OsString::from(&commands[draws.below(commands.len())])];
        for _ in 0..1 + draws.below(6) {
            arguments.push(match draws.below(5) {
                0 => photo.clone().into_os_string(),
                1 => ground.path("photo.png").into_os_string(),
                2 => draws.value(),
                _ => OsString::from(&flags[draws.below(flags.len())]),
            });
        }
        run(&folder, &arguments);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
