//! `docs/contract.md` is made from the tables of this crate. Run with
//! `UPDATE_DOCS=1` to write it anew.

use orchion_contract::streams::Full;
use orchion_contract::{ErrorCode, buckets, rpc, stores, streams, subjects};
use std::fmt::Write;
use std::path::PathBuf;

#[test]
fn the_document_says_what_the_code_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/contract.md");
    let expected = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, expected,
        "docs/contract.md is out of date: run this test with UPDATE_DOCS=1"
    );
}

fn document() -> String {
    let mut out = String::from(
        "# The contract\n\nWhat crosses the wire. This page is made from `libs/contract`; payloads are documented there, \
         beside their samples.\n\n## Subjects\n\n| subject | stored in |\n|---|---|\n",
    );
    for pattern in subjects::ALL {
        let wild = wildcard(pattern);
        let stream = streams::ALL
            .iter()
            .find(|stream| stream.subjects.contains(&wild.as_str()));
        let _ = writeln!(
            out,
            "| `{pattern}` | {} |",
            stream.map_or("-".to_owned(), |s| format!("`{}`", s.name))
        );
    }
    out.push_str("\n## Questions\n\n| subject |\n|---|\n");
    for pattern in rpc::ALL {
        let _ = writeln!(out, "| `{pattern}` |");
    }
    out.push_str(
        "\n## Streams\n\n| stream | kept | limit | when full | why |\n|---|---|---|---|---|\n",
    );
    for stream in streams::ALL {
        let full = match stream.full {
            Full::RefuseNew => "new messages are refused",
            Full::DropOldest => "the oldest go",
        };
        let (hours, mib) = (
            stream.max_age.as_secs() / 3600,
            stream.max_bytes / 1024 / 1024,
        );
        let _ = writeln!(
            out,
            "| `{}` | {hours} h | {mib} MiB | {full} | {} |",
            stream.name, stream.why
        );
    }
    out.push_str("\n## Buckets\n\n| bucket | limit | what |\n|---|---|---|\n");
    for bucket in buckets::ALL {
        let _ = writeln!(
            out,
            "| `{}` | {} MiB | {} |",
            bucket.name,
            bucket.max_bytes / 1024 / 1024,
            bucket.why
        );
    }
    out.push_str("\n## Object stores\n\n| store | kept | limit | what |\n|---|---|---|---|\n");
    for store in stores::ALL {
        let _ = writeln!(
            out,
            "| `{}` | {} h | {} MiB | {} |",
            store.name,
            store.max_age.as_secs() / 3600,
            store.max_bytes / 1024 / 1024,
            store.why
        );
    }
    out.push_str("\n## Errors\n\n| code | HTTP | retry may help |\n|---|---|---|\n");
    for code in ErrorCode::ALL {
        let retry = if code.retriable() { "yes" } else { "no" };
        let _ = writeln!(out, "| `{code}` | {} | {retry} |", code.http_status());
    }
    out
}

fn wildcard(pattern: &str) -> String {
    pattern
        .split('.')
        .map(|token| if token.starts_with('{') { "*" } else { token })
        .collect::<Vec<_>>()
        .join(".")
}
