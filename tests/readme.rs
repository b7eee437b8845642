//! The README shows what the program says.

mod support;

use support::{Folder, Run};

/// Returns the command line and the text of every fence that opens with `$ llmbatch … --help`.
fn help_blocks(readme: &str) -> Vec<(&str, &str)> {
    let fences = readme.split("```text\n$ llmbatch ").skip(1);
    fences
        .filter_map(|rest| rest.split_once("\n```")?.0.split_once('\n'))
        .filter(|(command, _)| command.ends_with("--help"))
        .collect()
}

/// Drops blanks at line ends and around the whole.
fn trimmed(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

#[test]
fn the_readme_shows_the_help_as_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("there is a README.md");
    let blocks = help_blocks(&readme);
    for command in [
        "run --help",
        "validate --help",
        "estimate --help",
        "models --help",
        "simulate --help",
    ] {
        assert!(
            blocks.iter().any(|(shown, _)| *shown == command),
            "README.md has no block for `llmbatch {command}`"
        );
    }
    for (command, shown) in blocks {
        let words: Vec<_> = command.split(' ').collect();
        let done = Run::command(&Folder::new(), &words)
            .env("COLUMNS", "100")
            .run();
        assert_eq!(trimmed(shown), trimmed(&done.stdout), "llmbatch {command}");
    }
}

#[test]
fn help_blocks_are_found_by_their_first_line() {
    let readme =
        "a\n```text\n$ llmbatch run --help\nx\n\ny\n```\n```text\n$ llmbatch run f\nz\n```\n";
    assert_eq!(help_blocks(readme), [("run --help", "x\n\ny")]);
}

/// Returns all files below a folder, one after the other.
fn source_of(folder: &std::path::Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let text = |path: std::path::PathBuf| match path.is_dir() {
        true => source_of(&path),
        false => std::fs::read_to_string(path).unwrap_or_default(),
    };
    paths.map(text).collect()
}

/// A promise must not name a test that is gone.
#[test]
fn every_test_that_the_security_page_names_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let tests = ["tests", "src"].map(|folder| source_of(&root.join(folder)));
    let tests = tests.concat();
    let quoted = page.split('`').skip(1).step_by(2);
    let names: Vec<_> = quoted
        .filter(|word| word.matches('_').count() >= 3)
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("fn {name}()")), "{name}");
    }
}
