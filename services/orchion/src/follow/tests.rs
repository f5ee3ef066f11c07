//! Following over gateways that are cut, away, slow or wrong.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use orchion_contract::JobId;
use tokio::task::JoinSet;

use super::*;

/// What a gateway does with one request for the stream.
#[derive(Clone, Copy)]
enum Does {
    /// Sends the pieces behind `Last-Event-ID` up to this index, then cuts.
    CutBefore(u64),
    /// Sends the rest, and the end.
    Finish,
    /// Sends everything from 0, whatever was asked, and the end.
    Repeat,
    /// Leaves out the piece with this index.
    Lose(u64),
    /// Ends with an error event: the job has failed.
    Break,
    /// Ends with an error event while the job goes on.
    Stumble,
    /// Answers with this status and our envelope.
    Refuse(u16, &'static str),
}

const PIECES: u64 = 8;

struct Script {
    steps: Vec<Does>,
    asked: Vec<Option<u64>>,
    state: &'static str,
}

type Shared = Arc<Mutex<Script>>;

#[tokio::test]
async fn an_undisturbed_answer_is_whole() {
    let (answer, asked) = follow_all(&[&[Does::Finish]]).await;
    assert_eq!(answer.unwrap(), "0 1 2 3 4 5 6 7 ");
    assert_eq!(asked, [None]);
}

#[tokio::test]
async fn a_cut_stream_goes_on_where_it_was_cut() {
    let (answer, asked) = follow_all(&[&[
        Does::CutBefore(3),
        Does::CutBefore(3),
        Does::CutBefore(5),
        Does::Finish,
    ]])
    .await;
    assert_eq!(answer.unwrap(), "0 1 2 3 4 5 6 7 ");
    assert_eq!(asked, [None, Some(3), Some(3), Some(5)]);
}

#[tokio::test]
async fn another_gateway_takes_over() {
    let (answer, asked) = follow_all(&[&[Does::CutBefore(4)], &[Does::Finish]]).await;
    assert_eq!(answer.unwrap(), "0 1 2 3 4 5 6 7 ");
    assert_eq!(asked, [None, Some(4)]);
}

#[tokio::test]
async fn what_comes_twice_is_shown_once() {
    let (answer, _) = follow_all(&[&[Does::CutBefore(4), Does::Repeat]]).await;
    assert_eq!(answer.unwrap(), "0 1 2 3 4 5 6 7 ");
}

#[tokio::test]
async fn a_missing_piece_is_never_passed_over() {
    let (answer, _) = follow_all(&[&[Does::Lose(5)]]).await;
    let failure = answer.unwrap_err();
    assert_eq!(failure.kind, Kind::Internal);
    assert!(
        failure.message.contains("jumps from piece 5 to 6"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_gateway_that_cannot_yet_is_asked_again() {
    let away = Does::Refuse(503, r#"{"code":"POOL_UNREADY","message":"no scheduler"}"#);
    let (answer, asked) = follow_all(&[&[away, away, Does::Finish]]).await;
    assert_eq!(answer.unwrap(), "0 1 2 3 4 5 6 7 ");
    assert_eq!(asked.len(), 3);
}

#[tokio::test]
async fn an_unknown_job_is_not_asked_for_again() {
    let gone = Does::Refuse(404, r#"{"code":"NOT_FOUND","message":"no such job"}"#);
    let (answer, asked) = follow_all(&[&[gone]]).await;
    assert_eq!(answer.unwrap_err().kind, Kind::NotFound);
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn an_error_ends_the_stream() {
    let (answer, _) = follow_all(&[&[Does::CutBefore(2), Does::Break]]).await;
    assert_eq!(answer.unwrap(), "0 1 DECODE_TIMEOUT");
}

#[tokio::test]
async fn trouble_of_a_gateway_is_not_the_end_of_the_job() {
    let (answer, asked) = follow_all(&[&[Does::CutBefore(2), Does::Stumble, Does::Finish]]).await;
    assert_eq!(answer.unwrap(), "0 1 2 3 4 5 6 7 ");
    assert_eq!(asked, [None, Some(2), Some(2)]);
}

#[tokio::test]
async fn a_gateway_that_never_answered_is_asked_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let gateway = Gateway::new(&[url], None)
        .unwrap()
        .with_patience(Duration::from_secs(3600));
    let failure = read(&gateway).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Unavailable);
    assert!(failure.next.unwrap().contains("orchion up"));
}

#[tokio::test]
async fn a_gateway_that_goes_away_is_waited_for_and_that_is_told_once() {
    let mut servers = JoinSet::new();
    let script = Arc::new(Mutex::new(Script {
        steps: vec![Does::CutBefore(3)],
        asked: Vec::new(),
        state: "running",
    }));
    let url = serve(&mut servers, script).await;
    let gateway = Gateway::new(&[url], None)
        .unwrap()
        .with_patience(Duration::from_millis(1500));
    let mut follow = Follow::new(&gateway, JobId::now());
    assert!(!follow.is_known());
    let mut waits = Vec::new();
    let failure = loop {
        match follow.next().await {
            Ok(Some(Happening::Token(token))) if token.i == 2 => servers.shutdown().await,
            Ok(Some(Happening::Waiting { reason })) => waits.push(reason),
            Ok(happening) => assert!(happening.is_some()),
            Err(failure) => break failure,
        }
    };
    assert!(follow.is_known());
    assert_eq!(failure.kind, Kind::Unavailable);
    assert_eq!(
        waits,
        ["lost the gateway; trying again for 1 s, Ctrl-C leaves"]
    );
}

/// Follows a job over gateways that each play a script; the text of the answer
/// and the `Last-Event-ID` of every request, in order.
async fn follow_all(gateways: &[&[Does]]) -> (Result<String>, Vec<Option<u64>>) {
    let mut servers = JoinSet::new();
    let mut urls = Vec::new();
    let mut scripts = Vec::new();
    for steps in gateways {
        let script = Arc::new(Mutex::new(Script {
            steps: steps.to_vec(),
            asked: Vec::new(),
            state: "running",
        }));
        urls.push(serve(&mut servers, script.clone()).await);
        scripts.push(script);
    }
    let gateway = Gateway::new(&urls, None)
        .unwrap()
        .with_patience(Duration::from_secs(10));
    let answer = read(&gateway).await;
    let asked = scripts
        .iter()
        .flat_map(|script| script.lock().unwrap().asked.clone())
        .collect();
    (answer, asked)
}

async fn read(gateway: &Gateway) -> Result<String> {
    let mut follow = Follow::new(gateway, JobId::now());
    let mut text = String::new();
    while let Some(happening) = follow.next().await? {
        match happening {
            Happening::Token(token) => text.push_str(&token.t),
            Happening::Error(error) => text.push_str(error.code.as_str()),
            Happening::Started(_)
            | Happening::Metrics(_)
            | Happening::Restart
            | Happening::End(_)
            | Happening::Reconnecting { .. }
            | Happening::Waiting { .. } => {}
        }
    }
    Ok(text)
}

async fn serve(servers: &mut JoinSet<()>, script: Shared) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/v1/tasks/{id}/stream", get(play))
        .route("/api/jobs/{id}", get(job))
        .with_state(script);
    servers.spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn play(State(script): State<Shared>, headers: HeaderMap) -> Response {
    let behind = headers
        .get("last-event-id")
        .map(|id| id.to_str().unwrap().parse().unwrap());
    let mut script = script.lock().unwrap();
    script.asked.push(behind);
    let step = if script.steps.len() > 1 {
        script.steps.remove(0)
    } else {
        script.steps[0]
    };
    let from = behind.unwrap_or(0);
    match step {
        Does::CutBefore(to) => cut(pieces(from..to)),
        Does::Finish => whole(pieces(from..PIECES) + END),
        Does::Repeat => whole(pieces(0..PIECES) + END),
        Does::Lose(lost) => whole(pieces(from..lost) + &pieces(lost + 1..PIECES) + END),
        Does::Break => {
            script.state = "failed";
            whole(ERROR.to_owned())
        }
        Does::Stumble => whole(ERROR.to_owned()),
        Does::Refuse(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
    }
}

async fn job(State(script): State<Shared>) -> String {
    format!("{{\"state\":\"{}\"}}", script.lock().unwrap().state)
}

const ERROR: &str = "event: error\ndata: {\"code\":\"DECODE_TIMEOUT\",\"message\":\"silent\"}\n\n";
const END: &str = "event: end\ndata: {\"tokens_out\":8,\"decode_ms\":1}\n\n";

fn pieces(range: std::ops::Range<u64>) -> String {
    let mut text =
        "event: started\ndata: {\"queue_position\":0,\"predicted_start_ms\":0}\n\n".to_owned();
    for i in range {
        text += &format!(
            "id: {}\nevent: token\ndata: {{\"t\":\"{i} \",\"i\":{i}}}\n\n",
            i + 1
        );
        text += "event: metrics\ndata: {}\n\n: still here\n\n";
    }
    text
}

fn whole(text: String) -> Response {
    ([("content-type", "text/event-stream")], text).into_response()
}

/// The connection breaks in mid-body, behind what was sent.
fn cut(text: String) -> Response {
    let broken = async {
        // The server flushes what it has when there is nothing more for now.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("killed"))
    };
    let sent = stream::iter([Ok(Bytes::from(text))]);
    let body = Body::from_stream(sent.chain(stream::once(broken)));
    ([("content-type", "text/event-stream")], body).into_response()
}
