//! Who gets in, and what every answer carries.

use bytes::Bytes;
use hyper::Method;
use orchion_gateway::Tokens;
use orchion_service::Secret;
use orchion_testkit::HttpClient;
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::http::{chat, shown};

#[tokio::test]
async fn a_token_is_asked_for_everywhere_but_at_the_open_doors() {
    let mut cluster = Cluster::start().await;
    let tokens = Tokens::from_iter([Secret::new("sesame")]);
    let gateway = cluster
        .gateway_with(|config| config.gateway.tokens = tokens)
        .await;

    let missing = gateway.http.get("/v1/models").await.unwrap();
    insta::assert_snapshot!(shown(&missing), @r#"401 {"error":{"code":"MISSING_TOKEN","message":"a token is needed: send the header `Authorization: Bearer TOKEN`; `orchion-gateway token` prints it","param":null,"retriable":false,"type":"authentication_error"}}"#);
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    let wrong = HttpClient::new(&gateway.url)
        .bearer("sesam")
        .get("/api/nodes")
        .await
        .unwrap();
    insta::assert_snapshot!(shown(&wrong), @r#"401 {"code":"BAD_TOKEN","message":"this token is not known here; `orchion-gateway token` prints the right one","retriable":false}"#);

    for path in ["/healthz", "/readyz", "/version"] {
        assert_eq!(gateway.http.get(path).await.unwrap().status, 200, "{path}");
    }
    for opened in [
        HttpClient::new(&gateway.url).bearer("sesame"),
        HttpClient::new(&gateway.url).header("x-api-key", "sesame"),
    ] {
        assert_eq!(opened.get("/v1/models").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn every_answer_carries_a_correlation_id() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let unknown = "/v1/tasks/01900000-0000-7000-8000-000000000001/cancel";
    for (method, path) in [
        (Method::GET, "/healthz"),
        (Method::GET, "/v1/models"),
        (Method::GET, "/nope"),
        (Method::DELETE, "/api/nodes"),
        (Method::POST, "/v1/chat/completions"),
        (Method::POST, unknown),
        (Method::OPTIONS, "/v1/models"),
    ] {
        let given = gateway.http.send(
            method.clone(),
            path,
            Bytes::new(),
            &[("x-correlation-id", "mine-1")],
        );
        assert_eq!(
            given.await.unwrap().header("x-correlation-id"),
            Some("mine-1"),
            "{path}"
        );
        let made = gateway
            .http
            .send(method, path, Bytes::new(), &[])
            .await
            .unwrap();
        let made = made.header("x-correlation-id").expect("an id");
        assert_eq!(
            Uuid::parse_str(made).unwrap().get_version_num(),
            4,
            "{path}"
        );
        let long = "x".repeat(129);
        let headers = [("x-correlation-id", long.as_str())];
        let replaced = gateway.http.send(Method::GET, path, Bytes::new(), &headers);
        assert_ne!(
            replaced.await.unwrap().header("x-correlation-id"),
            Some(long.as_str())
        );
    }
}

#[tokio::test]
async fn the_correlation_id_goes_with_the_job_and_the_stream() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let client = HttpClient::new(&gateway.url).header("x-correlation-id", "mine-2");
    let body = chat(true);
    let opened = client.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        cluster.agent(&submit).completes().await;
        submit
    };
    let (stream, submit) = tokio::join!(opened, told);
    assert_eq!(submit.correlation_id, "mine-2");
    assert_eq!(stream.unwrap().headers["x-correlation-id"], "mine-2");
}

#[tokio::test]
async fn listed_web_pages_may_use_all_that_official_clients_send() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let wanted = "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,\
         x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version";
    let ask = |origin: &'static str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", wanted),
        ];
        let http = gateway.http.clone();
        async move {
            http.send(
                Method::OPTIONS,
                "/v1/chat/completions",
                Bytes::new(),
                &headers,
            )
            .await
            .unwrap()
        }
    };
    let listed = ask("http://localhost:5173").await;
    assert_eq!(listed.status, 204);
    assert_eq!(
        listed.header("access-control-allow-origin"),
        Some("http://localhost:5173")
    );
    let allowed: Vec<_> = listed
        .header("access-control-allow-headers")
        .unwrap()
        .split(", ")
        .collect();
    for header in wanted.split(',') {
        assert!(allowed.contains(&header.trim()), "{header} of {allowed:?}");
    }
    let stranger = ask("http://evil.example").await;
    assert_eq!(stranger.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_strange_web_page_cannot_even_send() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let get = |headers: &'static [(&'static str, &'static str)]| {
        let http = gateway.http.clone();
        async move {
            http.send(Method::GET, "/v1/models", Bytes::new(), headers)
                .await
                .unwrap()
        }
    };
    let listed = get(&[("origin", "http://localhost:5173")]).await;
    assert_eq!(listed.status, 200);
    assert!(
        listed
            .header("access-control-expose-headers")
            .unwrap()
            .contains("x-correlation-id")
    );
    let stranger = get(&[("origin", "http://evil.example")]).await;
    insta::assert_snapshot!(shown(&stranger), @r#"403 {"error":{"code":"FORBIDDEN","message":"web pages of this origin may not use the gateway; add it to gateway.cors_origins","param":null,"retriable":false,"type":"permission_error"}}"#);
    let rebound = get(&[
        ("host", "evil.example:8080"),
        ("origin", "http://evil.example:8080"),
    ])
    .await;
    insta::assert_snapshot!(shown(&rebound), @r#"403 {"error":{"code":"FORBIDDEN","message":"the host name evil.example:8080 is not this machine's; set gateway.tokens to be reached under any name","param":null,"retriable":false,"type":"permission_error"}}"#);
    let own = get(&[
        ("host", "localhost:8080"),
        ("origin", "http://localhost:8080"),
    ])
    .await;
    assert_eq!(own.status, 200);
}
