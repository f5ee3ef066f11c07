use super::*;

#[test]
fn a_missing_model_or_program_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let said = |settings: &EngineSettings| {
        let launch = Launch::of(settings, folder.path());
        format!("{:#}", launch.unwrap_err())
    };
    let mut settings = EngineSettings::new(EngineKind::LlamaCpp);
    settings.model = Some(missing.clone());
    assert!(said(&settings).contains("model file"));
    settings.model = None;
    settings.binary = Some(missing);
    assert!(said(&settings).contains("program"));
}

#[cfg(unix)]
#[tokio::test]
async fn an_engine_ends_when_nobody_holds_it() {
    let mut child = guarded(Path::new("sleep"))
        .arg("600")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let hold = child.stdin.take();
    assert!(child.try_wait().unwrap().is_none());
    drop(hold);
    let ended = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(128 + 9));
}

#[cfg(unix)]
#[tokio::test]
async fn an_engine_that_ends_by_itself_tells_its_code() {
    let mut child = guarded(Path::new("sh"))
        .args(["-c", "exit 3"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Waiting would close it.
    let _hold = child.stdin.take();
    let ended = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(3));
}
